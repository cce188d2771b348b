"""Simple drawn products, each seen from a few distances on a few backgrounds."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from catalog_pipeline.records import Pixels

BACKGROUNDS = ("#dfe6ea", "#c9b497", "#8fb37a")


def photos_of(product: str, count: int = 3, side: int = 160) -> list[Pixels]:
    return [photo_of(product, index, side) for index in range(count)]


def photo_of(product: str, index: int = 0, side: int = 160) -> Pixels:
    image = Image.new("RGB", (side, side), BACKGROUNDS[index % len(BACKGROUNDS)])
    draw = ImageDraw.Draw(image)
    unit = side * (0.30 + 0.05 * index)
    left, top = side / 2 - unit / 2 + 6 * index, side / 2 - unit / 2
    box = (left, top, left + unit, top + unit)
    if product == "ball":
        draw.ellipse(box, fill="#c8281e", outline="#5a0f0a", width=4)
        draw.pieslice(box, 20, 80, fill="#f5e9d0")
    elif product == "crate":
        draw.rectangle(box, fill="#2b4fa8", outline="#101d40", width=4)
        for step in range(1, 5):
            y = top + unit * step / 5
            draw.line((left, y, left + unit, y), fill="#f2c200", width=4)
    else:
        draw.polygon(
            [(left, top + unit), (left + unit / 2, top), (left + unit, top + unit)],
            fill="#1f7a43",
            outline="#08331a",
        )
        draw.ellipse((left + unit * 0.4, top + unit * 0.5, left + unit * 0.6, top + unit * 0.7),
                     fill="#ffffff")  # fmt: skip
    return np.asarray(image)
