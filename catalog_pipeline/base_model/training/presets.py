"""What one run trains and for how long: ``full`` is the recipe of the embedded weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MAX_TOKENS = 48
"""Length of every tokenised caption, start and end tokens included."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the three networks; the block types are the same in every preset."""

    image_px: int = 128
    vae_channels: tuple[int, ...] = (32, 64, 128)
    unet_channels: tuple[int, ...] = (64, 128, 192)
    unet_layers: int = 2
    text_width: int = 256
    text_layers: int = 4

    @property
    def latent_px(self) -> int:
        """Side of the latents; every VAE level but the last halves the image."""
        return self.image_px >> (len(self.vae_channels) - 1)


@dataclass(frozen=True)
class CorpusSettings:
    """What the scenes are made of. ``families = ()`` means every family of the studio."""

    sprite_px: int = 112
    sprite_designs: int = 7_000
    views_per_design: int = 2
    families: tuple[str, ...] = ()
    backgrounds_per_kind: int = 180
    background_kinds: tuple[str, ...] = ()
    product_count_weights: tuple[float, ...] = (0.02, 0.48, 0.42, 0.08)
    emoji_share: float = 0.28


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with linear warm-up, a plateau and a cosine to zero.

    ``plateau`` is the fraction of all steps at which the cosine begins.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    plateau: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    max_grad_norm: float = 1.0
    ema_decay: float | None = None
    checkpoint_every: int = 500


@dataclass(frozen=True)
class AutoencoderSettings:
    """The VAE stage; two thirds of a batch are scenes, one third photos where there are any."""

    batch_size: int = 144
    kl_weight: float = 2e-4
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(
            steps=3_000, learning_rate=8e-4, warmup_steps=100, weight_decay=1e-4
        )
    )


@dataclass(frozen=True)
class BankSettings:
    """The encoded pictures that the UNet learns from; ``photo_share`` of them are photos."""

    pictures: int = 400_000
    photo_share: float = 0.2
    shard_pictures: int = 8_192
    batch_size: int = 512


@dataclass(frozen=True)
class DiffusionSettings:
    """The UNet and text-encoder stage. ``snr_gamma`` is that of arXiv:2303.09556."""

    batch_size: int = 512
    caption_dropout: float = 0.1
    snr_gamma: float = 5.0
    preview_every: int = 1_000
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(
            steps=8_242,
            learning_rate=5e-4,
            warmup_steps=300,
            weight_decay=1e-2,
            plateau=0.55,
            ema_decay=0.9995,
        )
    )


@dataclass(frozen=True)
class Preset:
    """One named recipe."""

    name: str
    architecture: Architecture = Architecture()
    corpus: CorpusSettings = CorpusSettings()
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    vocabulary_limit: int = 3_072
    tokenizer_captions: int = 40_000
    bank: BankSettings = BankSettings()
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    preview_steps: int = 30

    def as_json(self) -> dict[str, Any]:
        """Every number of the recipe, JSON-ready; equal presets give equal values."""
        plain: dict[str, Any] = _lists(asdict(self))
        return plain


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, (list, tuple)) else value


FULL = Preset(name="full")

SMOKE = Preset(
    name="smoke",
    architecture=Architecture(
        image_px=64,
        vae_channels=(16, 32, 64),
        unet_channels=(32, 64, 96),
        unet_layers=1,
        text_width=128,
        text_layers=2,
    ),
    corpus=CorpusSettings(
        sprite_px=56,
        sprite_designs=120,
        families=("mug", "vase", "backpack", "book", "teapot", "bottle"),
        backgrounds_per_kind=10,
        background_kinds=(
            "on a white background",
            "on a gray background",
            "on a wooden table",
            "on a sandy beach",
            "on green grass",
            "on pink fabric",
            "on a stone floor",
        ),
        product_count_weights=(0.0, 0.85, 0.15, 0.0),
    ),
    autoencoder=AutoencoderSettings(
        batch_size=4,
        optimizer=OptimizerSettings(
            steps=800,
            learning_rate=3e-3,
            warmup_steps=20,
            weight_decay=1e-4,
            plateau=0.5,
            checkpoint_every=100,
        ),
    ),
    tokenizer_captions=4_000,
    bank=BankSettings(pictures=2_048, shard_pictures=256, batch_size=32),
    diffusion=DiffusionSettings(
        batch_size=12,
        preview_every=0,
        optimizer=OptimizerSettings(
            steps=1_200,
            learning_rate=1e-3,
            warmup_steps=30,
            weight_decay=1e-2,
            plateau=0.55,
            ema_decay=0.99,
            checkpoint_every=100,
        ),
    ),
)
"""Six families on seven backgrounds at half the size, in narrow networks: shows that all
stages work together, within minutes. Its samples are coarse."""

PRESETS = {preset.name: preset for preset in (FULL, SMOKE)}
