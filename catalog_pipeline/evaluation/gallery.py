"""One HTML page of a night: every picture with its products, scores and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np

from catalog_pipeline.evaluation.html_pages import page_templates, picture_uri
from catalog_pipeline.evaluation.retention import fidelity_share
from catalog_pipeline.records import ArchiveRow, Pixels

_THUMBNAIL_PX = 96
_ANCHOR_PX = 144
_FIDELITY = "fidelity/"
_CROP = "crop_likeness/"
_FOUND = "found/"


@dataclass(frozen=True)
class GalleryProduct:
    """How a SKU is shown beside its pictures.

    ``photo`` is its first photo, ``None`` when the catalog has none any more;
    ``ceiling`` is how alike its photos are among themselves, ``None`` when unknown.
    """

    sku: str
    name: str
    photo: Pixels | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class GalleryImage:
    """One picture of the night and its manifest row.

    ``held_back`` says in words why a picture in quarantine is there; empty otherwise.
    """

    row: ArchiveRow
    pixels: Pixels
    held_back: str = ""


def render_gallery(
    day: date,
    images: Sequence[GalleryImage],
    products: Mapping[str, GalleryProduct],
    photos: Mapping[str, Pixels] = MappingProxyType({}),
) -> str:
    """A self-contained HTML page: no link, no script and no picture from elsewhere.

    Args:
        day: the night's date.
        images: in any order; shown by number of products, products, prompt. Those held
            back are in a folded section of their own.
        products: for each SKU that a row names; a SKU that is missing here is
            shown by its key alone.
        photos: SHA-256 -> a photo that stands in pictures, shown beside them.
    """
    everything = sorted(images, key=lambda image: _order(image.row))
    ordered = [image for image in everything if not image.held_back]
    held = [image for image in everything if image.held_back]
    named = sorted({sku for image in everything for sku in image.row.skus})
    known = [products.get(sku, GalleryProduct(sku, sku)) for sku in named]
    shown = {product.sku: _product(number, product) for number, product in enumerate(known)}
    anchors = {sha256: number for number, sha256 in enumerate(sorted(photos))}
    cards = [_card(number, image, shown, anchors) for number, image in enumerate(ordered)]
    for product in shown.values():
        product["count"] = sum(product["sku"] in card["skus"] for card in cards)
    current = [card for card in cards if not card["superseded"]]
    shares = [c["share"] for c in current if c["share"] is not None]
    page = page_templates().get_template("gallery.html.j2")
    return page.render(
        day=day.isoformat(),
        weekday=day.strftime("%A"),
        cards=cards,
        held_back=[_held_card(image, shown) for image in held],
        products=list(shown.values()),
        anchor_uris=[picture_uri(photos[sha256], _ANCHOR_PX) for sha256 in anchors],
        layouts=sorted({card["layout"] for card in cards}),
        current_count=len(current),
        superseded_count=len(cards) - len(current),
        mean_share=float(np.mean(shares)) if shares else None,
        versions=sorted({(i.row.collection, i.row.adapter_version) for i in ordered}),
    )


def _order(row: ArchiveRow) -> tuple[Any, ...]:
    return (row.superseded, len(row.skus), row.skus, row.prompt, row.image_id)


def _product(number: int, product: GalleryProduct) -> dict[str, Any]:
    photo = product.photo
    return {
        "number": number,
        "sku": product.sku,
        "name": product.name,
        "ceiling": product.ceiling,
        "photo_uri": None if photo is None else picture_uri(photo, _THUMBNAIL_PX),
        "initial": (product.name or product.sku)[:1].upper(),
    }


def _card(
    number: int,
    image: GalleryImage,
    shown: Mapping[str, Mapping[str, Any]],
    anchors: Mapping[str, int],
) -> dict[str, Any]:
    row = image.row
    looks = [
        _look(shown[sku], row.scores) | {"anchor": anchors.get(row.photos.get(sku, ""))}
        for sku in row.skus
    ]
    shares = [look["share"] for look in looks if look["share"] is not None]
    words = [
        row.prompt,
        row.mode,
        row.mode_reason,
        row.layout,
        row.image_id,
        row.adapter_version,
        row.collection,
    ]
    words += [f"{look['product']['sku']} {look['product']['name']}" for look in looks]
    return {
        "number": number,
        "row": row,
        "skus": row.skus,
        "layout": row.layout,
        "superseded": row.superseded,
        "picture_uri": picture_uri(image.pixels),
        "looks": looks,
        "share": min(shares) if shares else None,
        "mode": _mode(row),
        "judged": _judged(row),
        "words": " ".join(words).casefold(),
        "details": _details(row),
        "scores": sorted(row.scores.items()),
    }


def _held_card(image: GalleryImage, shown: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    row = image.row
    return {
        "row": row,
        "picture_uri": picture_uri(image.pixels),
        "names": ", ".join(shown[sku]["name"] for sku in row.skus),
        "reason": image.held_back,
        "mode": _mode(row),
        "judged": _judged(row),
    }


def _mode(row: ArchiveRow) -> str:
    """``exact``, or why it is ``learned`` where photos were asked for."""
    return f"{row.mode}: {row.mode_reason}" if row.mode_reason else row.mode


def _judged(row: ArchiveRow) -> str:
    """``2 of 2 found, attempt 2``; empty for a picture that nobody judged."""
    if row.verdict == "unscored":
        return ""
    found = sum(row.scores.get(_FOUND + sku, 0.0) > 0 for sku in row.skus)
    tried = f"{row.attempts} attempts" if row.attempts > 1 else "1 attempt"
    return f"{found} of {len(row.skus)} found, {tried}"


def _look(product: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, Any]:
    """A product of a picture; ``share`` is to the photo in it, or to what the photos reach.

    A whole region says little of a small product, so where a crop was held against its
    photo, that counts.
    """
    crop, fidelity = (scores.get(name + product["sku"]) for name in (_CROP, _FIDELITY))
    ceiling = product["ceiling"]
    look = {"product": product, "fidelity": fidelity, "share": None, "says": ""}
    if crop is not None:
        return look | {"share": crop, "says": f"likeness {crop:.3f} to the photo in the picture"}
    if fidelity is None or ceiling is None or ceiling <= 0:
        return look
    says = f"fidelity {fidelity:.3f}, photos among themselves {ceiling:.3f}"
    return look | {"share": fidelity_share(fidelity, ceiling), "says": says}


def _details(row: ArchiveRow) -> list[tuple[str, str]]:
    return [
        ("image id", row.image_id),
        ("seed", str(row.seed)),
        ("verdict", f"{row.verdict}, {row.attempts} made"),
        ("mode", _mode(row)),
        *_photo_details(row),
        ("sampler", f"{row.sampler}, {row.steps} steps, guidance {row.guidance:g}"),
        ("size", f"{row.width} × {row.height} px"),
        ("layout", row.layout),
        ("collection", row.collection),
        ("adapter version", row.adapter_version),
        ("memory version", row.memory_version),
        ("base model", row.base_model_hash[:16]),
        ("rendered", f"{row.created_utc:%Y-%m-%d %H:%M:%S} UTC"),
        ("SHA-256", row.sha256),
        ("file", row.path),
    ]


def _photo_details(row: ArchiveRow) -> list[tuple[str, str]]:
    if row.mode == "learned":
        return []
    return [
        ("strength", f"{row.strength:g}"),
        ("real pixels", f"{row.real_pixels:.0%}"),
        *((f"photo of {sku}", sha256) for sku, sha256 in row.photos.items()),
        *((f"box of {sku}", "{}, {} to {}, {} px".format(*box)) for sku, box in row.boxes.items()),
    ]
