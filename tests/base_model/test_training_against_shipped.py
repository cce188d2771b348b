"""The shipped weights know the program's own pictures, captions and objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.diffusion import DiffusionObjective
from catalog_pipeline.base_model.training.latent_bank import (
    LatentBank,
    read_latent_bank,
    write_latent_bank,
)
from catalog_pipeline.base_model.training.presets import FULL
from catalog_pipeline.base_model.training.tokenizer import tokenize
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog

SCENES = 16


@pytest.fixture(scope="module")
def shipped() -> Any:
    return StableDiffusionPipeline.from_pretrained(
        EMBEDDED_WEIGHTS, dtype=torch.float32, local_files_only=True
    )


@pytest.fixture(scope="module")
def bank(shipped: Any, build: Any, tmp_path_factory: pytest.TempPathFactory) -> LatentBank:
    """Scenes of the full recipe through the shipped VAE and tokenizer."""
    folder = tmp_path_factory.mktemp("bank")
    corpus = replace(FULL.corpus, sprite_designs=8, views_per_design=1, backgrounds_per_kind=1)
    preset = replace(FULL, corpus=corpus, bank=replace(FULL.bank, pictures=SCENES))
    scenes: Corpus = build(preset, folder / "corpus")
    assert write_latent_bank(
        shipped.vae,
        shipped.tokenizer,
        scenes,
        preset,
        folder=folder,
        seed=3,
        log=TrainingLog(),
        deadline=Deadline(),
    )
    return read_latent_bank(folder)


def mean_loss(shipped: Any, bank: LatentBank) -> float:
    """The objective of the full recipe, every caption kept, at fixed noise and timesteps."""
    objective = DiffusionObjective(
        shipped.unet,
        shipped.text_encoder,
        bank,
        tokenize(shipped.tokenizer, [""]),
        shipped.scheduler.alphas_cumprod,
        replace(FULL.diffusion, batch_size=SCENES, caption_dropout=0.0),
    )
    with torch.no_grad():
        loss, _ = objective(0, torch.Generator().manual_seed(0))
    return loss.item()


def test_the_bank_asks_for_the_shipped_scaling_factor(shipped: Any, bank: LatentBank) -> None:
    assert bank.scaling_factor == pytest.approx(shipped.vae.config.scaling_factor, rel=0.15)


def test_scenes_are_predicted_well_and_better_with_their_own_captions(
    shipped: Any, bank: LatentBank
) -> None:
    bank = replace(bank, scaling_factor=shipped.vae.config.scaling_factor)
    own = mean_loss(shipped, bank)
    others = mean_loss(shipped, replace(bank, tokens=bank.tokens.roll(5, 0)))
    assert own < 0.2
    assert own < 0.9 * others


def test_captions_fit_the_shipped_vocabulary(shipped: Any, tmp_path: Path, build: Any) -> None:
    few = replace(
        FULL.corpus, sprite_px=8, sprite_designs=58, views_per_design=1, backgrounds_per_kind=1
    )
    corpus: Corpus = build(replace(FULL, corpus=few), tmp_path)
    words = {w for text in corpus.captions(1500, np.random.default_rng(0)) for w in text.split()}
    split = {w for w in words if len(shipped.tokenizer.tokenize(w.strip(","))) > 1}
    assert split <= {"two-tone", "t-shirt"}
