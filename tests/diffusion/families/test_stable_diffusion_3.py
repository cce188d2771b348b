"""Stable Diffusion 3.5: what it has beyond tests/diffusion/families/test_parity.py."""

from __future__ import annotations

import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import save_file
from torch import Tensor

from catalog_pipeline.diffusion.families.stable_diffusion_3 import StableDiffusion3
from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer, trigger_word
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.errors import PromptError
from tests.tiny_families import write_tiny_stable_diffusion_3
from tests.tiny_model import open_tiny_engine

TOKENS = placeholder_tokens("mug", 2)
PROMPT = f"a photo of a {' '.join(TOKENS)} mug"
PLAN = SamplingPlan(3, 2.5, 40, 24, "euler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_stable_diffusion_3(tmp_path_factory.mktemp("sd3") / "model")


@pytest.fixture
def engine(folder: Path) -> DiffusionEngine:
    return open_tiny_engine(folder)


def open_pipeline(folder: Path) -> Any:
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def learn_rows(engine: DiffusionEngine) -> Tensor:
    engine.text.start(TOKENS, "mug", torch.Generator().manual_seed(0))
    rows = engine.text.parameters_of(TOKENS)
    with torch.no_grad():
        for row in rows:
            row += 0.5 * torch.randn(row.shape, generator=torch.Generator().manual_seed(1))
    return torch.stack([row.detach().clone() for row in rows])


@pytest.mark.parametrize(
    "options", [{"shift": True}, {"dual": 0, "qk_norm": None}], ids=["dynamic_shift", "sd3"]
)
def test_other_schedules_and_transformers_give_the_pipelines_latents(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = write_tiny_stable_diffusion_3(tmp_path / "model", **options)
    engine = open_tiny_engine(folder)
    ours = engine.sample([RegionalPrompt(("a mug on a table",), (None,))], [7], PLAN)
    theirs = open_pipeline(folder)(
        "a mug on a table",
        negative_prompt="",
        height=PLAN.height,
        width=PLAN.width,
        num_inference_steps=PLAN.steps,
        guidance_scale=PLAN.guidance,
        latents=engine.initial_noise([7], PLAN),
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_picture_is_made_of_patches(engine: DiffusionEngine) -> None:
    base = engine.base
    assert isinstance(base, StableDiffusion3)
    assert (base.vae_scale_factor, base.size_step_px, base.sample_size_px) == (4, 8, 32)
    assert base.image_positions(40, 24) == base.map_positions(10, 6) == 15
    assert engine.initial_noise([1], PLAN).shape == (1, 4, 6, 10)


def test_latents_are_shifted_and_scaled(engine: DiffusionEngine) -> None:
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        mean = engine.base.parts["vae"].encode(pixels).latent_dist.mean
        latents = engine.base.encode(pixels)
    torch.testing.assert_close(latents, (mean - 0.06) * 1.5)


def test_the_clips_read_rows_and_t5_a_word(folder: Path, engine: DiffusionEngine) -> None:
    """As plain diffusers with the exported rows: ``prompt_3`` is what T5 reads."""
    rows = learn_rows(engine)
    pipeline = open_pipeline(folder)
    words = engine.base.product_words("mug", TOKENS, beside_lora=True)
    exported = engine.base.inversion_state_dict(words, rows)
    assert {key: tuple(value.shape) for key, value in exported.items()} == {
        "clip_l": (2, 16),
        "clip_g": (2, 24),
    }
    assert torch.equal(engine.base.inversion_rows(exported), rows)
    file = folder / "learned_embeds.safetensors"
    save_file(exported, file)
    code = textwrap.dedent(f"    {engine.base.inversion_code(str(file), words)}")
    exec(code, {"pipe": pipeline})
    call = engine.base.prompt_code(f"a photo of a {words} mug")
    assert trigger_word("mug") in call
    encode = partial(pipeline.encode_prompt, prompt_2=None, do_classifier_free_guidance=False)
    scope: dict[str, Any] = {"encode": encode}
    with torch.no_grad():
        exec(f"texts, _, pooled, _ = encode({call})", scope)
        ours = engine.text.encode([PROMPT])
    texts, pooled = scope["texts"], scope["pooled"]
    torch.testing.assert_close(ours[:, :-1], texts, atol=1e-5, rtol=1e-5)
    width = pooled.shape[-1]
    torch.testing.assert_close(ours[:, -1, :width], pooled, atol=1e-5, rtol=1e-5)
    assert (ours[:, -1, width:] == 0).all()
    plain = engine.text.encode(["a photo of a mug"])
    assert (plain[:, -1] - ours[:, -1]).abs().max() > 1e-3


def test_rows_are_trained_through_both_clips(engine: DiffusionEngine) -> None:
    learn_rows(engine)
    encoded = engine.text.encode([PROMPT])[:, None]
    latents = torch.randn(1, 4, 8, 8)
    engine.base.predict(latents, torch.tensor([400.0]), encoded, None).square().mean().backward()
    for row in engine.text.parameters_of(TOKENS):
        assert row.grad is not None
        assert (row.grad[:16] != 0).any()
        assert (row.grad[16:] != 0).any()
    assert all(p.grad is None for p in engine.base.parts["text_encoder_3"].parameters())


def test_a_whole_pipeline_holds_the_rows(tmp_path: Path, engine: DiffusionEngine) -> None:
    rows = learn_rows(engine)
    want = engine.text.encode([PROMPT])
    fresh = open_tiny_engine(write_tiny_stable_diffusion_3(tmp_path / "fresh")).base
    for encoder in ("text_encoder", "text_encoder_2"):  # as a base without a conditioner has it
        fresh.parts[encoder].set_input_embeddings(fresh.parts[encoder].get_input_embeddings().base)
    fresh.add_tokens(dict(zip(TOKENS, rows, strict=True)))
    fresh.save_pipeline(fresh.make_scheduler("euler", 2, 32, 32), tmp_path / "out")
    with torch.no_grad():
        texts, *_ = open_pipeline(tmp_path / "out").encode_prompt(
            PROMPT, None, f"a photo of a {trigger_word('mug')} mug",
            do_classifier_free_guidance=False,
        )  # fmt: skip
    torch.testing.assert_close(texts, want[:, :-1], atol=1e-5, rtol=1e-5)


def test_of_several_regions_the_mean_pooled_text_is_read(engine: DiffusionEngine) -> None:
    first, second = engine.text.encode(["a red mug", "a blue clock on a table"])
    middle = first.clone()
    middle[-1] = (first[-1] + second[-1]) / 2
    other = first.clone()
    other[-1] = second[-1]
    masks = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])[None]
    latents, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([400.0])
    with torch.no_grad():
        split = engine.base.predict(latents, timesteps, torch.stack([first, other])[None], masks)
        whole = engine.base.predict(latents, timesteps, middle[None, None], None)
        plain = engine.base.predict(latents, timesteps, first[None, None], None)
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-5)
    assert (whole - plain).abs().max() > 1e-4


def test_prompts_are_counted_as_the_clips_read_them(folder: Path, engine: DiffusionEngine) -> None:
    reads = open_prompt_tokenizer(folder)
    assert reads.length == engine.text.prompts.length == 48
    assert engine.text.length == 48 + 256
    assert engine.text.positions("a red mug", "red mug") == (2, 3)
    with pytest.raises(PromptError, match="reads 48"):
        engine.text.encode(["mug " * 60])
    with pytest.raises(PromptError, match="reads 256"):  # T5 here spells what it does not know
        engine.text.encode(["hippopotamus " * 30])


@pytest.mark.parametrize(
    ("part", "changes", "why"),
    [
        ("transformer", {"in_channels": 33}, "in_channels 33, the latents have 16"),
        ("transformer", {"pooled_projection_dim": 5000}, "expected at most"),
    ],
)
def test_other_models_are_refused(part: str, changes: dict[str, int], why: str) -> None:
    configs = {"transformer": {"in_channels": 16}, "vae": {"latent_channels": 16}}
    assert StableDiffusion3.find_misfit(configs) is None
    found = StableDiffusion3.find_misfit({**configs, part: {**configs[part], **changes}})
    assert found is not None
    assert why in found
