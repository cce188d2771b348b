"""From the usable photos of a product to those that it is learned from.

Nothing is stored: the same photos, card and settings give the same choice. ``photos_hash`` of
what was learned is over the photos that were picked; a product that was learned from every
usable photo stays current, so that a home of a version without curation learns nothing anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from catalog_pipeline.catalog.listing import KnownDigests
from catalog_pipeline.errors import IntegrityError, PhotoSetError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import Photo, PhotoSet, RefusedFile, names_photo
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.workflows.catalog.refresh_index import read_digests
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import product_masker

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.photo_curation import Picks

_SPARE = 2
"""Photos beyond ``max_photos`` that are looked at, as a multiple of it."""


def spare_photos(settings: CatalogSettings) -> int:
    """How many photos beyond ``max_photos`` a choice is made from."""
    return _SPARE * settings.max_photos if settings.curation.enabled else 0


def curate(photo_set: PhotoSet, settings: CatalogSettings) -> PhotoSet:
    """``photo_set`` with the picked photos; ``refused`` says why each other one is left out.

    Loads mask and feature models on first use, .3 s a photo on a free core. With ``enabled:
    false`` the set stays as it is.

    Raises:
        PhotoSetError: fewer than ``min_photos`` show the product; names each photo and reason.
    """
    if not settings.curation.enabled:
        return photo_set
    usable = sorted([*photo_set.photos, *photo_set.spare], key=lambda photo: photo.key)
    picks = _picks(photo_set, usable, settings)
    kept = set(picks.kept)
    reasons = {key: out.reason for key, out in picks.left_out.items()}
    spare = _beyond(len(usable) - len(reasons), settings)
    refused = [
        *(file for file in photo_set.refused if file.key not in {photo.key for photo in usable}),
        *(
            RefusedFile(photo.key, reasons.get(photo.key, spare))
            for photo in usable
            if photo.key not in kept
        ),
    ]
    refused.sort(key=lambda file: file.key)
    if len(kept) < settings.min_photos:
        raise PhotoSetError(_too_few(photo_set, len(kept), settings.min_photos, refused))
    return replace(
        photo_set,
        photos=tuple(photo for photo in usable if photo.key in kept),
        refused=tuple(refused),
        spare=(),
        warnings=(*photo_set.warnings, *_recalled(picks, settings)),
    )


def _picks(photo_set: PhotoSet, usable: Sequence[Photo], settings: CatalogSettings) -> Picks:
    from catalog_pipeline.evaluation.photo_curation import Limits, pick_photos
    from catalog_pipeline.evaluation.photo_signs import read_signs

    asked = settings.curation
    encoder = _encoder()
    return pick_photos(
        [read_signs(photo, product_masker(), encoder) for photo in usable],
        Limits(asked.near_duplicate, asked.max_blur, asked.min_likeness),
        fewest=settings.min_photos,
        most=settings.max_photos,
        preferred=[photo.key for photo in photo_set.photos],
        always=[
            photo.key
            for photo in usable
            if any(names_photo(name, photo.key) for name in photo_set.sku.use_photos)
        ],
    )


@lru_cache(maxsize=1)
def _encoder() -> FeatureEncoder:
    from catalog_pipeline.evaluation.features import open_encoder

    return open_encoder()


def _beyond(good: int, settings: CatalogSettings) -> str:
    return (
        f"is left out: {good} photos are good and the {settings.max_photos} that differ most are "
        "used (max_photos)"
    )


def _recalled(picks: Picks, settings: CatalogSettings) -> list[str]:
    """A line for each photo that is used in spite of what is wrong with it."""
    return [
        f"{shown(out.key)} is used although it {out.reason} (min_photos: {settings.min_photos})"
        for out in picks.recalled
    ]


def _too_few(
    photo_set: PhotoSet, good: int, min_photos: int, refused: Sequence[RefusedFile]
) -> str:
    reasons = "".join(f"\n  {shown(file.key)} {file.reason}" for file in refused[:50])
    more = f"\n  and {len(refused) - 50} more" if len(refused) > 50 else ""
    return (
        f"{photo_set.sku.sku}: {good} photos to learn from, of {good + len(refused)}; expected at "
        f"least {min_photos}; add photos of the product alone, or name good ones in the card's "
        f"use_photos{reasons}{more}"
    )


def told_of_shared(home: Home, photo_set: PhotoSet) -> PhotoSet:
    """``photo_set``, with what is said of photos that another SKU has as well, byte for byte.

    By the digests of the last listing. Of a photo that is left out it stands in its reason: one
    that is unlike the others and the very file of another product was put into the wrong folder.
    """
    others: dict[str, str] = {}
    own: dict[str, str] = {}
    digests: KnownDigests = {}
    with suppress(IntegrityError):  # `index` reports a damaged cache; no product fails by it.
        digests = read_digests(home.objects)
    for key, (_, sha256) in sorted(digests.items()):
        if key.partition("/")[0] == photo_set.sku.sku:
            own[key] = sha256
        else:
            others.setdefault(sha256, key)
    warnings = [
        f"{shown(photo.key)} is the same file as {shown(others[photo.sha256])}; expected another "
        "photo of another product; delete one, or name it in the card's leave_out"
        for photo in photo_set.photos
        if photo.sha256 in others
    ]
    refused = [
        replace(
            file, reason=f"{file.reason}; it is the same file as {shown(others[own[file.key]])}"
        )
        if own.get(file.key) in others
        else file
        for file in photo_set.refused
    ]
    return replace(photo_set, refused=tuple(refused), warnings=(*photo_set.warnings, *warnings))
