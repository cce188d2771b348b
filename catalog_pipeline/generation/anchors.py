"""How each scene of a plan is made: its mode, and which photos stand in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice

from catalog_pipeline.generation.draws import Slot, hash_number
from catalog_pipeline.generation.true_sizes import fit_boxes, height_of
from catalog_pipeline.records import (
    Anchor,
    Concept,
    JudgedPhoto,
    ProductPhotos,
    RenderJob,
    collections_of,
)
from catalog_pipeline.settings import GenerationSettings

FindPhotos = Callable[[str], ProductPhotos]
"""SKU -> what is known of its photos."""

BETWEEN_REASONS = " | "
"""Stands in no reason; a semicolon does."""

SPARE_SETS = 2
"""Other photos of the same products that a job carries for further attempts."""


def choose_mode(
    slot: Slot,
    products: Sequence[ProductPhotos],
    settings: GenerationSettings,
    collections: Sequence[str],
) -> tuple[str, str]:
    """The mode of a picture, and why it is ``learned`` where another was asked for.

    A card's word counts before the scene's, that before the policy's and the night's. Of
    several cards the one that keeps most to itself decides: ``learned`` before ``exact``
    before ``anchored``.
    """
    asked = settings.policies.modes.get(slot.policy.partition("/")[0], settings.mode)  # type: ignore[call-overload]
    asked = slot.scene.mode or asked
    cards = [product.mode for product in products if product.mode]
    asked = next((m for m in ("learned", "exact", "anchored") if m in cards), asked)
    if asked == "learned":
        return asked, ""
    for collection in collections:
        if not settings.allows_photos(collection):
            return "learned", f"anchor_photos is off for collection {collection!r}"
    without = [f"{p.sku}: {p.reason}" for p in products if not p.photos]
    return ("learned", BETWEEN_REASONS.join(without)) if without else (asked, "")


def anchor_job(
    job: RenderJob,
    slot: Slot,
    concepts: Sequence[Concept],
    settings: GenerationSettings,
    find_photos: FindPhotos,
    draw: str,
) -> RenderJob:
    """``job`` with its mode, its photos and where they stand, drawn by ``draw``."""
    products = [find_photos(sku) for sku in job.skus]
    mode, reason = choose_mode(slot, products, settings, collections_of(job))
    if mode == "learned":
        return replace(job, mode_reason=reason)
    orders = [_drawn_order(product, slot, draw) for product in products]
    sets = []
    for turn in range(1 + min(SPARE_SETS, max(map(len, orders)) - 1)):
        chosen: list[JudgedPhoto] = []
        for order in orders:
            place = turn % len(order)
            chosen.append(_nearest_light(order[place:] + order[:place], chosen))
        sets.append(_stand(job, products, concepts, chosen))
    anchoring, control = settings.anchoring, job.attention
    if settings.attention.method == "auto":  # photos hold their places without it
        control = replace(control, method="none")
    return replace(
        job,
        mode=mode,
        attention=control,
        anchors=sets[0],
        spare_anchors=tuple(sets[1:]),
        strength=anchoring.strength,
        backdrop_steps=anchoring.backdrop_steps,
        output_scale=anchoring.output_scale,
    )


def _drawn_order(product: ProductPhotos, slot: Slot, draw: str) -> list[JudgedPhoto]:
    """The photos of a product, each night and each turn of the same products another first."""
    drawn = sorted(
        product.photos,
        key=lambda photo: hash_number(draw, "photo", *sorted(slot.skus), product.sku, photo.sha256),
    )
    return list(islice(cycle(drawn), slot.turn % len(drawn), slot.turn % len(drawn) + len(drawn)))


def _nearest_light(photos: Sequence[JudgedPhoto], beside: Sequence[JudgedPhoto]) -> JudgedPhoto:
    """The first photo; beside others that of the first half whose light is nearest to theirs."""
    if not beside:
        return photos[0]
    own = photos[: (len(photos) + 1) // 2]
    first = beside[0].light
    return min(own, key=lambda p: sum((a - b) ** 2 for a, b in zip(p.light, first, strict=True)))


def _stand(
    job: RenderJob,
    products: Sequence[ProductPhotos],
    concepts: Sequence[Concept],
    chosen: Sequence[JudgedPhoto],
) -> tuple[Anchor, ...]:
    aspects = [photo.aspect for photo in chosen]
    heights = [
        height_of(product, concept.class_noun, aspect)
        for product, concept, aspect in zip(products, concepts, aspects, strict=True)
    ]
    boxes = fit_boxes(heights, aspects, job.regions, picture_aspect=job.width / job.height)
    return tuple(
        Anchor(product.sku, photo.key, photo.sha256, box, photo.seen)
        for product, photo, box in zip(products, chosen, boxes, strict=True)
    )
