"""Sets of photos with bad ones among them, and what curation makes of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from catalog_pipeline.catalog.decoding import decode_photo
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.photo_curation import Fault, Limits, pick_photos
from catalog_pipeline.evaluation.photo_signs import PhotoSigns, read_signs
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Photo, Pixels
from catalog_pipeline.settings import CatalogSettings
from tests.benchmarks.curation.pollution import HANDS, HARMLESS, KINDS, Lent, View

SEED = 2711
TOGETHER = 3
"""Bad photos in one set: no more than good ones."""
ASKED_ELSEWHERE = {"hand", "several", "not_found"}
"""Of photos taken in a shop: a hand and neighbours are in all of them, and no room is empty."""

Views = Mapping[str, Sequence[View]]


@dataclass(frozen=True)
class Verdict:
    """One photo in one trial; ``expected`` and ``found`` name faults, empty for none."""

    product: str
    kind: str
    expected: str
    found: str
    reason: str
    recalled: bool
    pixels: Pixels


@cache
def _models() -> tuple[ProductMasker, object]:
    return ProductMasker(), open_encoder()


def read_views(
    folders: Mapping[str, Sequence[Path]], settings: CatalogSettings
) -> dict[str, list[View]]:
    """The clean photos of each product, and where its product is seen."""
    masker, _ = _models()
    views: dict[str, list[View]] = {}
    for product, files in folders.items():
        for path in files:
            decoded = decode_photo(path.read_bytes(), settings)
            mask = decoded.mask if decoded.mask is not None else masker.mask(decoded.pixels).mask
            views.setdefault(product, []).append(View(decoded.pixels, mask))
    return views


def signs_of(key: str, pixels: Pixels) -> PhotoSigns:
    masker, encoder = _models()
    return read_signs(Photo(key, "", pixels), masker, encoder)


def clean_trials(views: Views, settings: CatalogSettings) -> Iterator[Verdict]:
    """Each product's own photos alone: nothing should be left out."""
    for product, photos in views.items():
        photos = list(photos)
        signs = [signs_of(f"{index:02d}", view.pixels) for index, view in enumerate(photos)]
        kinds = [("clean", "")] * len(signs)
        yield from _judged(product, signs, kinds, [v.pixels for v in photos], settings)


def polluted_trials(
    views: Views, hands: Sequence[View], settings: CatalogSettings, rounds: int
) -> Iterator[Verdict]:
    """Every kind once a round and product, three in a set; a harmless one replaces its photo."""
    for number, (product, photos) in enumerate(views.items()):
        others = [view for name in views if name != product for view in views[name]]
        clean = [signs_of(f"clean-{index:02d}", view.pixels) for index, view in enumerate(photos)]
        asked = [
            kind
            for kind in (*KINDS, *HARMLESS)
            if not (product.startswith("grocery") and KINDS.get(kind, ("",))[0] in ASKED_ELSEWHERE)
        ]
        for turn in range(rounds):
            chance = np.random.default_rng([SEED, number, turn])
            order = [asked[place] for place in chance.permutation(len(asked))]
            for start in range(0, len(order), TOGETHER):
                signs, pixels = list(clean), [view.pixels for view in photos]
                kinds = [("clean", "")] * len(clean)
                for place, kind in enumerate(order[start : start + TOGETHER]):
                    made = _spoilt(kind, photos, others, hands, chance)
                    if made is None:
                        continue
                    source, spoilt = made
                    if kind in HARMLESS:
                        signs[source] = signs_of(clean[source].key, spoilt)
                        pixels[source], kinds[source] = spoilt, (kind, "")
                    else:
                        signs.append(signs_of(f"spoilt-{place}", spoilt))
                        pixels.append(spoilt)
                        kinds.append((kind, KINDS[kind][0]))
                yield from _judged(product, signs, kinds, pixels, settings)


def _spoilt(
    kind: str,
    photos: Sequence[View],
    others: Sequence[View],
    hands: Sequence[View],
    chance: np.random.Generator,
) -> tuple[int, Pixels] | None:
    """Which photo was spoilt, and how it looks; ``None`` where none of the product's can be."""
    spoil = HARMLESS[kind] if kind in HARMLESS else KINDS[kind][1]
    for source in chance.permutation(len(photos)):
        lent = Lent(others[chance.integers(len(others))], hands[chance.integers(len(hands))])
        made = spoil(photos[source], chance, lent)
        if made is not None:
            return int(source), made
    return None


def _judged(
    product: str,
    signs: Sequence[PhotoSigns],
    kinds: Sequence[tuple[str, str]],
    pixels: Sequence[Pixels],
    settings: CatalogSettings,
) -> Iterator[Verdict]:
    asked = settings.curation
    picks = pick_photos(
        signs,
        Limits(asked.near_duplicate, asked.max_blur, asked.min_likeness),
        fewest=settings.min_photos,
        most=settings.max_photos,
    )
    left_out = dict(picks.left_out)
    for key, out in picks.left_out.items():
        # Of a photo and its own copy either may stay; it is the copy that counts as found.
        twin = out.reason.partition(" as ")[2].partition(";")[0]
        if out.fault is Fault.NEAR_DUPLICATE and twin.startswith("spoilt") and "clean" in key:
            left_out[twin] = left_out.pop(key)
    recalled = {out.key: out for out in picks.recalled}
    for one, (kind, expected), shown in zip(signs, kinds, pixels, strict=True):
        out = left_out.get(one.key) or recalled.get(one.key)
        found = out.fault.name.lower() if out else ""
        reason = out.reason if out else ""
        yield Verdict(product, kind, expected, found, reason, one.key in recalled, shown)


def hand_views(views: Views, names: Mapping[str, Sequence[Path]]) -> list[View]:
    """The photos of :data:`HANDS` among the real products."""
    return [
        view
        for product, files in names.items()
        for path, view in zip(files, views[product], strict=True)
        if f"{product}/{path.name}" in HANDS
    ]
