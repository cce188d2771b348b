"""A further family is one class and one line: Stable Diffusion XL with flow matching.

The family is written here, registered for the test alone, and taken from a folder to
the files that plain diffusers reads. Nothing else knows of it. Stable Diffusion XL itself goes
the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.families import FAMILIES
from catalog_pipeline.diffusion.families.stable_diffusion_xl import StableDiffusionXL
from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import open_engine
from catalog_pipeline.workflows.upkeep.export_concept import export_concept
from tests.builders import make_adapter_version, make_concept, promote
from tests.tiny_model import write_tiny_xl

PLAN = SamplingPlan(steps=3, guidance=1.0, width=16, height=16, sampler="euler")
TOKENS = placeholder_tokens("mug", 2)
PROMPT = f"a photo of a {' '.join(TOKENS)} mug on a white background"
WIDTHS = (16, 24)
"""Of the two text encoders."""


class FlowMatchingXL(StableDiffusionXL):
    """``noisy_latents = (1 - sigma) z + sigma eps``, ``target = eps - z``, ``t = 1000 sigma``."""

    title = "Stable Diffusion XL with flow matching"
    part_classes: ClassVar[Mapping[str, type]] = {
        **StableDiffusionXL.part_classes,
        "scheduler": FlowMatchEulerDiscreteScheduler,
    }
    solvers: ClassVar[Mapping[str, Any]] = {"euler": FlowMatchEulerDiscreteScheduler}

    def timesteps_at(self, shares: Tensor) -> Tensor:
        return shares * 1000

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        sigma = (timesteps / 1000)[:, None, None, None]
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - latents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_xl(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture
def settings(make_settings, folder: Path) -> Settings:
    return make_settings(
        base_model={"base_model": str(folder), "dtype": "float32", "threads": 1},
        learning={"adapter": {"rank": 2, "initial_scale": 1.0}},
        generation={
            "steps": PLAN.steps,
            "guidance": 1.0,
            "width": 16,
            "height": 16,
            "sampler": PLAN.sampler,
        },
    )


def train(engine: DiffusionEngine, steps: int = 1) -> list[float]:
    """Steps on one noise picture with a fresh slot and tokens, as any family's are."""
    base, generator = engine.base, torch.Generator().manual_seed(0)
    engine.adapter.add_slot("mug", generator)
    start = engine.text.initial_vector("mug")
    assert start.shape == (sum(WIDTHS),)
    for token in TOKENS:
        engine.text.table.add(token, start + 0.1 * torch.randn(start.shape, generator=generator))
    rows = [engine.text.table.parameter_of(token) for token in TOKENS]
    parameters = [*engine.adapter.parameters_of("mug"), *rows]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    latents = engine.encode_images([picture]).repeat(4, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = base.draw_timesteps(4, generator)
    noisy_latents = base.add_noise(latents, noise, timesteps)
    target = base.target(latents, noise, timesteps)
    losses = []
    for _ in range(steps):
        encoded = engine.text.encode([PROMPT] * 4)[:, None]
        model_pred = engine.predict(
            noisy_latents, timesteps, encoded, None, whole_image(["mug"] * 4)
        )
        loss = (model_pred - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(row.grad.abs().sum() > 0 for row in rows)
        optimizer.step()
        engine.adapter.parameters_changed()
        losses.append(loss.item())
    return losses


def publish(settings: Settings, engine: DiffusionEngine) -> None:
    store = open_home(settings).adapters("default")
    data = encode_part(slot_part(engine, "mug") | token_part(engine, TOKENS))
    concept = make_concept("mug", 1, placeholder_tokens=TOKENS)
    parts = {"concept/mug": store.write_part(data)}
    base = engine.base.content_hash
    promote(store, make_adapter_version(concept, parts=parts, base_model_hash=base))


def sample(engine: DiffusionEngine, prompt: str, slot: str | None, plan: SamplingPlan = PLAN):
    return engine.sample([RegionalPrompt((prompt,), (slot,))], [7], plan)


def theirs(pipeline: StableDiffusionXLPipeline, prompt: str, noise: Tensor, guidance: float = 1.0):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt,
        negative_prompt="",
        height=16,
        width=16,
        num_inference_steps=PLAN.steps,
        guidance_scale=guidance,
        latents=noise.clone(),
        output_type="latent",
    ).images


def test_sdxl_from_the_folder_to_the_files_of_diffusers(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    engine = open_engine(settings)
    noise = engine.initial_noise([7], PLAN)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32)
    guided = SamplingPlan(PLAN.steps, 4.0, 16, 16, "euler")  # as the folder's scheduler
    torch.testing.assert_close(
        sample(engine, "a red mug", None, guided),
        theirs(pipeline, "a red mug", noise, 4.0),
        atol=1e-3,
        rtol=1e-3,
    )
    train(engine)
    publish(settings, engine)
    want = sample(engine, PROMPT, "mug")
    assert not torch.allclose(want, sample(engine, PROMPT, None), atol=1e-3)

    whole = export_concept(open_home(settings), ["mug"], tmp_path / "whole", form="pipeline")
    assert "StableDiffusionXLPipeline.from_pretrained" in (whole.folder / "README.txt").read_text()
    exported = StableDiffusionXLPipeline.from_pretrained(whole.folder)
    got = theirs(exported, whole.prompts["mug"], noise)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)

    files = export_concept(open_home(settings), ["mug"], tmp_path / "lora")
    assert "pipe is a StableDiffusionXLPipeline" in (files.folder / "README.txt").read_text()
    lora, _ = StableDiffusionXLPipeline.lora_state_dict(files.folder)
    assert {name.partition(".lora_")[0] for name in lora} == {
        f"unet.{name}" for name in engine.adapter.layers_of("mug")
    }


def test_sdxl_is_routed_by_region(settings: Settings) -> None:
    engine = open_engine(settings)
    train(engine)
    data = encode_part(slot_part(engine, "mug") | token_part(engine, TOKENS))
    install_part(engine, data, slot="again", tokens=TOKENS)
    latents, texts = torch.randn(1, 4, 4, 4), engine.text.encode([PROMPT]).expand(1, 2, -1, -1)
    masks = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])[None]
    with torch.no_grad():
        split = engine.predict(
            latents, torch.tensor([300]), texts, masks, Route((("again", None),), masks)
        )
        whole = engine.predict(
            latents, torch.tensor([300]), texts[:, :1], None, whole_image(["mug"])
        )
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-4)


def test_flow_matching_trains_and_samples(
    settings: Settings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "StableDiffusionXLPipeline", FlowMatchingXL)
    engine = open_engine(settings)
    losses = train(engine, steps=30)
    assert losses[-1] < 0.9 * losses[0]
    picture = sample(engine, PROMPT, "mug", SamplingPlan(PLAN.steps, 3.0, 16, 16, "euler"))
    assert picture.isfinite().all()
    publish(settings, engine)
    report = export_concept(open_home(settings), ["mug"], tmp_path / "out", form="pipeline")
    assert "scheduler/scheduler_config.json" in report.files
