"""When products of a study come, and when the line takes them in. Pure.

A delivery brings photos of one product on a day; an update is a run of the line over what has come
since the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from catalog_pipeline.workflows.evaluate.study_products import StudyProduct

PERIODS: Mapping[str, int] = {"each": 0, "nightly": 1, "weekly": 7}
"""Frequency -> days that an update gathers; 0: an update for every delivery."""

LONGEST_GAP_DAYS = 5
"""Within which the rest of a product's photos follows."""


@dataclass(frozen=True)
class Delivery:
    """Photos of ``sku`` that come on ``day``, by their keys in the catalog."""

    day: int
    sku: str
    photos: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """A run of the line at the end of ``day`` over ``deliveries``."""

    day: int
    deliveries: tuple[Delivery, ...]


def in_waves(products: Sequence[StudyProduct], waves: int) -> list[Delivery]:
    """Every product whole, in ``waves`` a day each; families and categories are spread over them.

    So that a concept of several products is learned, and learned anew when more of them come.
    """
    order = sorted(products, key=lambda product: (product.category, product.family, product.sku))
    return sorted(
        (
            Delivery(place % waves, product.sku, tuple(photo.key for photo in product.photos))
            for place, product in enumerate(order)
        ),
        key=lambda delivery: (delivery.day, delivery.sku),
    )


def in_a_stream(
    products: Sequence[StudyProduct], days: int, later_share: float, min_photos: int, seed: int
) -> list[Delivery]:
    """Each product on a day of its own; of ``later_share`` of them some photos follow.

    Those come with half of their photos, ``min_photos`` at least, and the rest follows within
    :data:`LONGEST_GAP_DAYS`, also after ``days``. The same seed gives the same days.
    """
    rng = np.random.default_rng(seed)
    found = []
    later = set(rng.permutation(len(products))[: round(later_share * len(products))].tolist())
    for place, product in enumerate(products):
        day, gap = int(rng.integers(days)), int(rng.integers(1, LONGEST_GAP_DAYS + 1))
        keys = tuple(photo.key for photo in product.photos)
        first = max(min_photos, math.ceil(len(keys) / 2)) if place in later else len(keys)
        found.append(Delivery(day, product.sku, keys[:first]))
        if keys[first:]:
            found.append(Delivery(day + gap, product.sku, keys[first:]))
    return sorted(found, key=lambda delivery: (delivery.day, delivery.sku))


def gather(deliveries: Sequence[Delivery], period: int) -> tuple[Update, ...]:
    """The updates that take ``deliveries`` in, at the end of every ``period`` of days; 0: each."""
    if not period:
        return tuple(Update(delivery.day, (delivery,)) for delivery in deliveries)
    return tuple(
        Update((number + 1) * period - 1, tuple(found))
        for number, found in groupby(deliveries, key=lambda delivery: delivery.day // period)
    )


def waited_days(updates: Sequence[Update]) -> dict[str, float]:
    """SKU -> mean days from a delivery to the update that took it in; 0: the same day."""
    waits: dict[str, list[int]] = {}
    for update in updates:
        for delivery in update.deliveries:
            waits.setdefault(delivery.sku, []).append(update.day - delivery.day)
    return {sku: sum(days) / len(days) for sku, days in waits.items()}
