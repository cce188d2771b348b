"""One product on nothing: a cut-out picture and the words that describe it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.studio.camera import View
from catalog_pipeline.studio.families import FAMILIES, build_parts
from catalog_pipeline.studio.palette import PALETTE
from catalog_pipeline.studio.patterns import BASE_PATTERNS
from catalog_pipeline.studio.product import Product
from catalog_pipeline.studio.render import Rgba, render_product

SPRITE_SIDE_PX = 112

_PATTERN_SHARES = (0.45, 0.18, 0.14, 0.12, 0.11)  # of BASE_PATTERNS, in order
_MATTE_GLOSS, _GLOSSY_GLOSS = 0.05, 0.8
_CLOSE_UP = 1.32
_VISIBLE_ALPHA = 8


@dataclass(frozen=True)
class SpriteLabel:
    """What a caption may say about a sprite.

    A picture that was not rendered here (an emoji) has a ``name`` only.
    """

    name: str
    color: str = ""
    secondary_color: str = ""
    pattern: str = ""
    finish: str = ""


@dataclass(frozen=True)
class Sprite:
    """A square cut-out ``(side, side, 4)``, standing on the lower edge, and its label."""

    rgba: Rgba
    label: SpriteLabel


def visible_box(rgba: Rgba) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is visible; the latter two exclusive.

    Raises:
        GenerationError: nothing is visible.
    """
    visible = rgba[..., 3] > _VISIBLE_ALPHA
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    if not rows.size:
        raise GenerationError("the sprite is empty; expected a product inside the frame")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def stand_in_square(rgba: Rgba, side_px: int = SPRITE_SIDE_PX) -> Rgba:
    """Crop to what is visible, centre it on the lower edge of a square, and scale that.

    Raises:
        GenerationError: nothing is visible.
    """
    image = Image.fromarray(rgba).crop(visible_box(rgba))
    side = max(image.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(image, ((side - image.width) // 2, side - image.height))
    return np.asarray(square.resize((side_px, side_px), Image.Resampling.LANCZOS))


def product_sprites(
    seed: int,
    *,
    side_px: int = SPRITE_SIDE_PX,
    families: Sequence[str] = tuple(FAMILIES),
    views: int = 2,
) -> Iterator[Sprite]:
    """The random product number ``seed``, wearing a pattern that the base may know.

    Consecutive seeds go through ``families`` in turn. Yields one sprite per view;
    the same arguments give the same pixels.

    Raises:
        ConfigurationError: no such family.
    """
    rng = np.random.default_rng(seed)
    family = families[seed % len(families)]
    primary, secondary = (str(c) for c in rng.choice(list(PALETTE), 2, replace=False))
    pattern = BASE_PATTERNS[rng.choice(len(BASE_PATTERNS), p=_PATTERN_SHARES)]
    gloss = float(rng.choice([_MATTE_GLOSS, _GLOSSY_GLOSS]))
    parts = build_parts(family, rng, PALETTE[primary], PALETTE[secondary])
    cameras = [
        View(rng.uniform(-1.2, 1.2), rng.uniform(0.05, 0.7), rng.uniform(-1.2, 1.2), _CLOSE_UP)
        for _ in range(views)
    ]
    finish = "glossy" if gloss == _GLOSSY_GLOSS else "matte"
    label = SpriteLabel(family, primary, secondary, pattern, finish)
    for camera in cameras:
        product = Product(parts, pattern, PALETTE[secondary], gloss, rng.uniform(5, 8))
        yield Sprite(stand_in_square(render_product(product, camera, side_px), side_px), label)
