"""A recipe so small that every training stage runs in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog_pipeline.base_model.training.corpus import Corpus, build_corpus
from catalog_pipeline.base_model.training.presets import (
    Architecture,
    AutoencoderSettings,
    BankSettings,
    CorpusSettings,
    DiffusionSettings,
    OptimizerSettings,
    Preset,
)
from catalog_pipeline.base_model.training.training_log import TrainingLog


def short(steps: int, ema_decay: float | None = None) -> OptimizerSettings:
    return OptimizerSettings(
        steps=steps,
        learning_rate=2e-3,
        warmup_steps=2,
        weight_decay=1e-4,
        plateau=0.5,
        ema_decay=ema_decay,
        checkpoint_every=3,
    )


@pytest.fixture(scope="session")
def tiny_preset() -> Preset:
    return Preset(
        name="tiny",
        architecture=Architecture(
            image_px=32,
            vae_channels=(16, 16, 16),
            unet_channels=(32, 32, 32),
            unet_layers=1,
            text_width=32,
            text_layers=1,
        ),
        corpus=CorpusSettings(
            sprite_px=24,
            sprite_designs=4,
            families=("mug", "book"),
            backgrounds_per_kind=1,
            background_kinds=("on a white background", "on green grass"),
        ),
        autoencoder=AutoencoderSettings(batch_size=3, optimizer=short(8)),
        tokenizer_captions=200,
        bank=BankSettings(pictures=20, shard_pictures=8, batch_size=4),
        diffusion=DiffusionSettings(
            batch_size=4, preview_every=0, optimizer=short(8, ema_decay=0.9)
        ),
        preview_steps=1,
    )


BuildCorpus = Callable[..., Corpus]


@pytest.fixture(scope="session")
def build() -> BuildCorpus:
    """``build(preset, cache, emoji_dir=None, photo_dirs=())``: its corpus, made in this process."""

    def build_one(
        preset: Preset,
        cache: Path,
        emoji_dir: Path | None = None,
        photo_dirs: tuple[Path, ...] = (),
    ) -> Corpus:
        return build_corpus(
            preset.corpus,
            preset.architecture.image_px,
            cache=cache,
            emoji_dir=emoji_dir,
            photo_dirs=photo_dirs,
            workers=0,
            log=TrainingLog(),
        )

    return build_one


@pytest.fixture(scope="session")
def tiny_corpus(
    tiny_preset: Preset, build: BuildCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Corpus:
    return build(tiny_preset, tmp_path_factory.mktemp("corpus"))
