"""Two ways to tell one picture saved twice from two views: thumbnails, and a perceptual hash.

``thumbnail`` is what loading a set refuses (``catalog/photo_set.py``), ``hash`` what curation
leaves out, ``plain hash`` the library's alone, without frames, at the same limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.catalog.decoding import DecodedPhoto, RefusedPhotoError
from catalog_pipeline.catalog.photo_set import _new_thumbnail
from catalog_pipeline.evaluation.photo_signs import _hashes
from catalog_pipeline.records import Pixels
from tests.benchmarks.curation.pollution import KINDS, Lent, View

SAVED_TWICE = ("copy", "saved again", "cropped by 2 %", "brightened")
_SEED = 2712

Same = Callable[[Pixels, Pixels], bool]


def compare_duplicates(views: Mapping[str, Sequence[View]], limit: float) -> list[dict[str, Any]]:
    """A row a way: of each kind the share found, and how many pairs of views it takes for one."""
    frames = {id(view): _frames(view.pixels) for photos in views.values() for view in photos}
    made = {kind: _made(views, kind) for kind in SAVED_TWICE}
    pairs = [pair for photos in views.values() for pair in combinations(photos, 2)]

    def found(same: Callable[[View, Pixels], bool]) -> dict[str, float]:
        return {
            kind: sum(same(view, pixels) for view, pixels in spoilt) / len(spoilt)
            for kind, spoilt in made.items()
        }

    def by_hash(one: np.ndarray, other: np.ndarray, count: int) -> bool:
        near = (one[0] != other[:count]).mean(axis=1).min()
        return bool(min(near, (other[0] != one[:count]).mean(axis=1).min()) <= limit)

    rows = [{
        "way": "thumbnail",
        **found(lambda view, pixels: _one_thumbnail(view.pixels, pixels)),
        "views_for_one": sum(_one_thumbnail(one.pixels, other.pixels) for one, other in pairs),
        "pairs": len(pairs),
    }]  # fmt: skip
    for way, count in (("plain hash", 1), ("hash", 10)):

        def same(view: View, pixels: Pixels, count: int = count) -> bool:
            return by_hash(frames[id(view)], _frames(pixels), count)

        rows.append({
            "way": way,
            **found(same),
            "views_for_one": sum(
                by_hash(frames[id(one)], frames[id(other)], count) for one, other in pairs
            ),
            "pairs": len(pairs),
        })  # fmt: skip
    return rows


def _made(views: Mapping[str, Sequence[View]], kind: str) -> list[tuple[View, Pixels]]:
    spoilt = []
    for number, photos in enumerate(views.values()):
        for place, view in enumerate(photos):
            chance = np.random.default_rng([_SEED, number, place])
            pixels = KINDS[kind][1](view, chance, Lent(view, view))
            assert pixels is not None
            spoilt.append((view, pixels))
    return spoilt


def _frames(pixels: Pixels) -> np.ndarray:
    return np.array(list(_hashes(Image.fromarray(pixels))))


def _one_thumbnail(one: Pixels, other: Pixels) -> bool:
    first = {"one": _new_thumbnail(DecodedPhoto(one, None), {})}
    try:
        _new_thumbnail(DecodedPhoto(other, None), first)
    except RefusedPhotoError:
        return True
    return False
