"""One HTML page of a night: every picture with its products, scores and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np

from catalog_pipeline.evaluation.html_pages import page_templates, picture_uri
from catalog_pipeline.evaluation.page_texts import PageTexts
from catalog_pipeline.evaluation.retention import fidelity_share
from catalog_pipeline.records import ArchiveRow, Pixels, collections_of, sources_of

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

    ``held_back`` says in words why a picture in quarantine is there; empty otherwise. ``xmp`` is
    what the picture says of itself.
    """

    row: ArchiveRow
    pixels: Pixels
    held_back: str = ""
    xmp: bytes = b""


def render_gallery(
    day: date,
    images: Sequence[GalleryImage],
    products: Mapping[str, GalleryProduct],
    photos: Mapping[str, Pixels] = MappingProxyType({}),
    *,
    language: str = "en",
) -> str:
    """A self-contained HTML page: no link, no script and no picture from elsewhere.

    Args:
        day: the night's date.
        images: in any order; shown by number of products, products, prompt. Those held
            back are in a folded section of their own.
        products: for each SKU that a row names; a SKU that is missing here is
            shown by its key alone.
        photos: SHA-256 -> a photo that stands in pictures, shown beside them.
        language: of the page's own words; what people typed stays as it is.
    """
    texts = PageTexts(language)
    everything = sorted(images, key=lambda image: _order(image.row))
    ordered = [image for image in everything if not image.held_back]
    held = [image for image in everything if image.held_back]
    named = sorted({sku for image in everything for sku in image.row.skus})
    known = [products.get(sku, GalleryProduct(sku, sku)) for sku in named]
    shown = {product.sku: _product(number, product) for number, product in enumerate(known)}
    anchors = {sha256: number for number, sha256 in enumerate(sorted(photos))}
    cards = [_card(number, image, shown, anchors, texts) for number, image in enumerate(ordered)]
    current = [card for card in cards if not card["superseded"]]
    for product in shown.values():
        product["count"] = sum(product["sku"] in card["skus"] for card in current)
        every = sum(product["sku"] in card["skus"] for card in cards)
        product["older"] = every - product["count"]
    shares = [c["share"] for c in current if c["share"] is not None]
    page = page_templates().get_template("gallery.html.j2")
    return page.render(
        day=day,
        texts=texts,
        cards=cards,
        held_back=[_held_card(image, shown, texts) for image in held],
        products=list(shown.values()),
        product_count=len({sku for card in current for sku in card["skus"]}),
        anchor_uris=[picture_uri(photos[sha256], _ANCHOR_PX) for sha256 in anchors],
        layouts=sorted({card["layout"] for card in cards}),
        current_count=len(current),
        superseded_count=len(cards) - len(current),
        mean_share=float(np.mean(shares)) if shares else None,
        versions=sorted({source for i in ordered for source in sources_of(i.row).values()}),
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
    texts: PageTexts,
) -> dict[str, Any]:
    row = image.row
    looks = [
        _look(shown[sku], row.scores, texts) | {"anchor": anchors.get(row.photos.get(sku, ""))}
        for sku in row.skus
    ]
    shares = [look["share"] for look in looks if look["share"] is not None]
    words = [
        row.prompt,
        row.mode,
        texts.term("mode", row.mode),
        row.mode_reason,
        row.layout,
        row.image_id,
        *(text for source in sources_of(row).values() for text in source),
    ]
    words += [f"{look['product']['sku']} {look['product']['name']}" for look in looks]
    return {
        "number": number,
        "row": row,
        "skus": row.skus,
        "layout": row.layout,
        "superseded": row.superseded,
        "why_superseded": _why_superseded(row, texts),
        "picture_uri": picture_uri(image.pixels, xmp=image.xmp),
        "looks": looks,
        "share": min(shares) if shares else None,
        "mode": mode_words(row, texts),
        "judged": judged_words(row, texts),
        "words": " ".join(words).casefold(),
        "details": _details(row, texts),
        "scores": sorted(row.scores.items()),
    }


def _why_superseded(row: ArchiveRow, texts: PageTexts) -> str:
    if not row.superseded:
        return ""
    held = row.verdict == "failed" or row.reason.startswith("held back")
    return texts.say("gallery.superseded_held" if held else "gallery.superseded")


def _held_card(
    image: GalleryImage, shown: Mapping[str, Mapping[str, Any]], texts: PageTexts
) -> dict[str, Any]:
    row = image.row
    return {
        "row": row,
        "picture_uri": picture_uri(image.pixels, xmp=image.xmp),
        "names": texts.listed([shown[sku]["name"] for sku in row.skus]),
        "reason": image.held_back,
        "mode": mode_words(row, texts),
        "judged": judged_words(row, texts),
    }


def mode_words(row: ArchiveRow, texts: PageTexts) -> str:
    """``exact``, or why it is ``learned`` where photos were asked for."""
    mode = texts.term("mode", row.mode)
    return f"{mode}: {row.mode_reason}" if row.mode_reason else mode


def judged_words(row: ArchiveRow, texts: PageTexts) -> str:
    """``2 of 2 found, 2 attempts``; empty for a picture that nobody judged."""
    if row.verdict == "unscored":
        return ""
    found = sum(row.scores.get(_FOUND + sku, 0.0) > 0 for sku in row.skus)
    counted = texts.say("gallery.found", found=found, named=len(row.skus))
    return texts.listed([counted, texts.count("gallery.attempts", max(1, row.attempts))])


def likeness_of(scores: Mapping[str, float], sku: str, ceiling: float | None) -> float | None:
    """How alike a product of a picture is: to the photo in it, or of what its photos reach.

    A whole region says little of a small product, so where a crop was held against its
    photo, that counts. ``None`` where neither was measured.
    """
    if (crop := scores.get(_CROP + sku)) is not None:
        return crop
    fidelity = scores.get(_FIDELITY + sku)
    if fidelity is None or ceiling is None or ceiling <= 0:
        return None
    return fidelity_share(fidelity, ceiling)


def _look(
    product: Mapping[str, Any], scores: Mapping[str, float], texts: PageTexts
) -> dict[str, Any]:
    sku, ceiling = product["sku"], product["ceiling"]
    crop, fidelity = (scores.get(name + sku) for name in (_CROP, _FIDELITY))
    share, says = likeness_of(scores, sku, ceiling), ""
    if crop is not None:
        says = texts.say("gallery.likeness_says", value=f"{crop:.3f}")
    elif share is not None:
        values = {"value": f"{fidelity:.3f}", "ceiling": f"{ceiling:.3f}"}
        says = texts.say("gallery.fidelity_says", **values)
    return {"product": product, "fidelity": fidelity, "share": share, "says": says}


def _details(row: ArchiveRow, texts: PageTexts) -> list[tuple[str, str]]:
    sampler = {"sampler": row.sampler, "steps": row.steps, "guidance": f"{row.guidance:g}"}
    verdict = texts.term("verdict", row.verdict)
    versions = (source.adapter_version for source in sources_of(row).values())
    details = [
        ("image_id", row.image_id),
        ("seed", str(row.seed)),
        ("verdict", texts.count("detail.made", row.attempts, verdict=verdict)),
        ("mode", mode_words(row, texts)),
        ("sampler", texts.say("detail.sampler_value", **sampler)),
        ("size", f"{row.width} × {row.height} px"),
        ("layout", texts.term("layout", row.layout)),
        ("collection", ", ".join(collections_of(row))),
        ("adapter_version", ", ".join(dict.fromkeys(versions))),
        ("memory_version", row.memory_version),
        ("base_model", row.base_model_hash[:16]),
        ("rendered", f"{row.created_utc:%Y-%m-%d %H:%M:%S} UTC"),
        ("sha256", row.sha256),
        ("file", row.path),
    ]
    named = [(texts.say(f"detail.{name}"), value) for name, value in details]
    return [*named[:4], *_photo_details(row, texts), *named[4:]]


def _photo_details(row: ArchiveRow, texts: PageTexts) -> list[tuple[str, str]]:
    if row.mode == "learned":
        return []
    sides = ("left", "top", "right", "bottom")
    boxes = [
        (sku, texts.say("detail.box_value", **dict(zip(sides, box, strict=True))))
        for sku, box in row.boxes.items()
    ]
    return [
        (texts.say("detail.strength"), f"{row.strength:g}"),
        (texts.say("detail.real_pixels"), f"{row.real_pixels:.0%}"),
        *((texts.say("detail.photo", sku=sku), sha256) for sku, sha256 in row.photos.items()),
        *((texts.say("detail.box", sku=sku), box) for sku, box in boxes),
    ]
