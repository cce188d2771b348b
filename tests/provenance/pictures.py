"""Pictures to mark: packshots on pure white, and scenes with texture everywhere."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from catalog_pipeline.provenance.origin import COMPOSITE, GENERATED, Origin
from catalog_pipeline.records import Pixels

ORIGIN = Origin(
    job_id="3f9a" * 16,
    source_type=GENERATED,
    base_model_hash="ba5e" * 16,
    adapter_versions=("0123456789abcdef", "fedcba9876543210"),
    version="1.2.3",
)
PLACED = Origin("4b" * 32, COMPOSITE, "ba5e" * 16, ("0123456789abcdef",), "1.2.3")


def packshot(side: int, seed: int = 0) -> Pixels:
    """A mug with a shadow in the middle of pure white."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    unit = side / 16
    draw.ellipse((4 * unit, 11 * unit, 13 * unit, 13 * unit), fill=(226, 226, 228))
    image = image.filter(ImageFilter.GaussianBlur(unit / 3))
    draw = ImageDraw.Draw(image)
    hue = tuple(int(value) for value in rng.integers(40, 220, 3))
    draw.rounded_rectangle((5 * unit, 4 * unit, 11 * unit, 12 * unit), unit, fill=hue)
    draw.ellipse((5 * unit, 3.5 * unit, 11 * unit, 5 * unit), fill=(245, 240, 235))
    draw.line((6 * unit, 7 * unit, 10 * unit, 9 * unit), fill="white", width=max(1, side // 64))
    return np.asarray(image)


def scene(side: int, seed: int = 0) -> Pixels:
    """Soft colours with grain: every block has texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (6, 6, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (side, side, 3))
    return np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)


def encoded(pixels: Pixels, form: str, **options: Any) -> bytes:
    """The file of a picture as another program would write it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise ratio in dB."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
