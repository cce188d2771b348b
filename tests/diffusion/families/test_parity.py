"""Where a family should equal plain diffusers, it does: pictures, losses, exported files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    Flux2KleinPipeline,
    QwenImagePipeline,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import save_file
from torch import Tensor

from catalog_pipeline.diffusion.export import layer_factors, lora_state_dict
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)
from tests.tiny_model import fill_slot, open_tiny_engine, write_tiny_xl

PROMPT = "a photo of a red mug on a wooden table"
STEPS, GUIDANCE, SIDE = 4, 3.0, 32
PLAN = SamplingPlan(STEPS, GUIDANCE, SIDE, SIDE, "euler")


def sd_picture(pipeline: Any, prompt: str, noise: Tensor, guidance: float) -> Tensor:
    return pipeline(
        prompt, negative_prompt="", height=SIDE, width=SIDE, num_inference_steps=STEPS,
        guidance_scale=guidance, latents=noise, output_type="pt",
    ).images  # fmt: skip


def klein_picture(pipeline: Any, prompt: str, noise: Tensor, guidance: float) -> Tensor:
    return pipeline(
        prompt=prompt, height=SIDE, width=SIDE, num_inference_steps=STEPS,
        guidance_scale=guidance, latents=noise, output_type="pt",
        text_encoder_out_layers=(1, 2, 3),
    ).images  # fmt: skip


def qwen_picture(pipeline: Any, prompt: str, noise: Tensor, guidance: float) -> Tensor:
    return pipeline(
        prompt, negative_prompt="", height=SIDE, width=SIDE, num_inference_steps=STEPS,
        true_cfg_scale=guidance, latents=noise.flatten(2).mT, output_type="pt",
    ).images  # fmt: skip


@dataclass(frozen=True)
class Family:
    """How the tests make and call one."""

    write: Callable[[Path], Path]
    pipeline: type[DiffusionPipeline]
    picture: Callable[[Any, str, Tensor, float], Tensor]
    rows: bool = False


FAMILIES = {
    "xl": Family(write_tiny_xl, StableDiffusionXLPipeline, sd_picture, rows=True),
    "sd3": Family(write_tiny_stable_diffusion_3, StableDiffusion3Pipeline, sd_picture),
    "klein": Family(write_tiny_klein, Flux2KleinPipeline, klein_picture),
    "qwen": Family(write_tiny_qwen_image, QwenImagePipeline, qwen_picture),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.write(tmp_path_factory.mktemp("family") / "model")


@pytest.fixture
def engine(folder: Path) -> DiffusionEngine:
    return open_tiny_engine(folder)


@pytest.fixture
def pipeline(family: Family, folder: Path) -> Any:
    opened = family.pipeline.from_pretrained(folder, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    return opened


def ours(engine: DiffusionEngine, slot: str | None = None, plan: SamplingPlan = PLAN) -> Tensor:
    latents = engine.sample([RegionalPrompt((PROMPT,), (slot,))], [7], plan)
    with torch.no_grad():
        return (engine.base.decode(latents) / 2 + 0.5).clamp(0, 1)


def test_base_only_picture_is_the_pipelines(
    family: Family, engine: DiffusionEngine, pipeline: Any
) -> None:
    noise = engine.initial_noise([7], PLAN)
    theirs = family.picture(pipeline, PROMPT, noise, GUIDANCE)
    torch.testing.assert_close(ours(engine), theirs, atol=2e-5, rtol=1e-4)
    assert theirs.std() > 1e-3  # a picture, not one grey


def test_fresh_slot_changes_no_picture(engine: DiffusionEngine) -> None:
    engine.adapter.add_slot("mug", torch.Generator().manual_seed(0))
    assert torch.equal(ours(engine, "mug"), ours(engine, None))


def test_exported_lora_gives_our_picture(
    family: Family, engine: DiffusionEngine, pipeline: Any, tmp_path: Path
) -> None:
    plan = SamplingPlan(STEPS, 1.0, SIDE, SIDE, "euler")
    fill_slot(engine, "mug", seed=1, scale=0.5)
    factors = layer_factors(engine.adapter.slot_tensors("mug"), pipeline.components[
        engine.base.denoiser_part
    ])  # fmt: skip
    weights = lora_state_dict(factors, engine.base.denoiser_part)
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")
    noise = engine.initial_noise([7], plan)
    before = family.picture(pipeline, PROMPT, noise, 1.0)
    pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    after = family.picture(pipeline, PROMPT, noise, 1.0)
    torch.testing.assert_close(ours(engine, "mug", plan), after, atol=5e-5, rtol=1e-3)
    assert (after - before).abs().max() > 3e-3


def test_loss_is_that_of_the_scripts(family: Family, engine: DiffusionEngine) -> None:
    """The formulas of ``train_dreambooth_lora_{sdxl,sd3,flux2_klein,qwen_image}.py``."""
    base, generator = engine.base, torch.Generator().manual_seed(0)
    latents = torch.randn(3, base.latent_channels, 8, 8, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = base.draw_timesteps(3, generator)
    noisy_latents = base.add_noise(latents, noise, timesteps)
    target = base.target(latents, noise, timesteps)
    if family.rows:
        from diffusers import DDPMScheduler

        theirs = DDPMScheduler.from_config(base.scheduler_config)
        torch.testing.assert_close(noisy_latents, theirs.add_noise(latents, noise, timesteps))
        torch.testing.assert_close(target, noise)
        return
    sigmas = (timesteps / 1000)[:, None, None, None]
    torch.testing.assert_close(noisy_latents, (1.0 - sigmas) * latents + sigmas * noise)
    torch.testing.assert_close(target, noise - latents)
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    for weighting in ("none", "sigma_sqrt", "cosmap"):
        torch.testing.assert_close(
            base.loss_weights(timesteps, weighting),
            compute_loss_weighting_for_sd3(weighting, timesteps / 1000),
        )
