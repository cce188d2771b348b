"""Products, their photos, and the index of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from catalog_pipeline.records.arrays import Pixels
from catalog_pipeline.records.generation import Region


class SkuStatus(StrEnum):
    """Where a SKU stands in the index."""

    NEW = "new"
    CHANGED = "changed"
    LEARNED = "learned"
    FAILED = "failed"
    RETIRED = "retired"


@dataclass(frozen=True)
class Sku:
    """A product card: ``sku.yaml`` with every gap filled.

    ``names`` maps a language code (``en``, ``ja``) to the product's name in it. Sizes are
    the real product's, 0 where the card has none. ``mode`` is how scenes of it are made,
    empty where the settings decide; ``anchor_photos`` names the photo files that may stand
    in scenes (:func:`names_photo`): ``None`` for all, none where the card says ``false``.
    ``typed_noun`` is the class noun as the card has it, in any language; empty without one.
    ``use_photos`` names those that are learned from whatever is found wrong with them,
    ``leave_out`` those that are not used at all.
    """

    sku: str
    name: str
    class_noun: str
    names: Mapping[str, str] = field(default_factory=dict)
    category: str = ""
    collection: str = "default"
    tags: tuple[str, ...] = ()
    height_cm: float = 0.0
    width_cm: float = 0.0
    depth_cm: float = 0.0
    mode: str = ""
    anchor_photos: tuple[str, ...] | None = None
    typed_noun: str = ""
    use_photos: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


def names_photo(name: str, key: str) -> bool:
    """Whether a card means the photo ``key`` by ``name``, with its ending or without.

    File systems compose letters or not as they please, so both sides are composed (NFC).
    """
    path = PurePosixPath(unicodedata.normalize("NFC", key))
    return unicodedata.normalize("NFC", name) in (path.name, path.stem)


@dataclass(frozen=True)
class PhotoRef:
    """A file seen by a listing; ``key`` is relative to the catalog root."""

    key: str
    size_bytes: int
    modified_utc: datetime
    etag: str


@dataclass(frozen=True)
class RefusedFile:
    """A file that was left out, and why, in words for the photographer."""

    key: str
    reason: str


@dataclass(frozen=True)
class PhotoUse:
    """One photo in one attempt at learning: used when ``reason`` is empty, else why not.

    ``sha256`` is of the file; empty for one that was not read.
    """

    key: str
    sha256: str
    reason: str = ""


@dataclass(frozen=True)
class SkuListing:
    """One SKU folder as listed: nothing decoded yet.

    ``content_hash`` changes when any photo or the card changes, and only then; it is empty
    where no file was read. ``refused`` is what the folder holds besides and is not read.
    """

    sku: str
    photos: tuple[PhotoRef, ...]
    card_key: str | None
    content_hash: str
    newest_modified_utc: datetime
    refused: tuple[RefusedFile, ...] = ()


@dataclass(frozen=True)
class Photo:
    """A decoded, upright, RGB photo.

    ``mask`` is the product's opacity when the file itself carried one (a cut-out
    PNG), ``(height, width)`` 0..255; ``None`` when it must be estimated.
    """

    key: str
    sha256: str
    pixels: Pixels
    mask: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class PhotoSet:
    """The usable photos of one SKU, sorted by key, and what was refused.

    ``spare`` are usable ones beyond ``max_photos``, in ``refused`` as well, where they were
    asked for: others to choose from. ``warnings`` say what a person should know of the set.
    """

    sku: Sku
    content_hash: str
    photos: tuple[Photo, ...]
    refused: tuple[RefusedFile, ...] = ()
    spare: tuple[Photo, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def uses(self) -> tuple[PhotoUse, ...]:
        """Every file of the set by key, and whether it is used."""
        used = [PhotoUse(photo.key, photo.sha256) for photo in self.photos]
        left = [PhotoUse(file.key, "", file.reason) for file in self.refused]
        return tuple(sorted((*used, *left), key=lambda use: (use.key, use.reason)))


@dataclass(frozen=True, eq=False)
class Cutout:
    """A product without its room: ``(h, w, 4)`` RGBA cropped to the product.

    ``room`` is what lay behind it, ``(h, w, 3)``, as far as is known: what must not be seen
    at its edge.
    """

    rgba: npt.NDArray[np.uint8]
    room: Pixels | None = None


@dataclass(frozen=True)
class JudgedPhoto:
    """Whether a photo can stand in scenes, in figures alone: no pixel of it is kept.

    Attributes:
        key: relative to the catalog root.
        sha256: of the file.
        reason: why it cannot, in words for the photographer; empty when it can.
        aspect: width of the product's cut-out over its height.
        height_px: of the cut-out, in the photo at the catalog's working size.
        light: mean CIE L*, a*, b* of the photo outside the product: the light it was taken in.
        seen: the box of the product in the photo, in fractions of it.
    """

    key: str
    sha256: str
    reason: str = ""
    aspect: float = 1.0
    height_px: int = 0
    light: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seen: Region | None = None

    @property
    def usable(self) -> bool:
        """The product stands in it alone, whole and sharp, and its mask is sure."""
        return not self.reason


@dataclass(frozen=True)
class ProductPhotos:
    """What a plan knows of a product on sale: its true size, its card's wishes, usable photos.

    ``reason`` says why there is none, in words. Sizes are 0 where the card has none.
    """

    sku: str
    photos: tuple[JudgedPhoto, ...] = ()
    mode: str = ""
    height_cm: float = 0.0
    width_cm: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class IndexRow:
    """One SKU in ``catalog/index.parquet``; grain: one row per SKU ever seen.

    ``photos_used`` and ``left_out`` (photo -> reason) are of the last attempt at learning it.
    """

    sku: str
    collection: str
    name: str
    class_noun: str
    category: str
    content_hash: str
    learned_hash: str
    photo_count: int
    bytes: int
    first_seen_utc: datetime
    newest_modified_utc: datetime
    status: SkuStatus
    reason: str = ""
    learned_version: str = ""
    learned_utc: datetime | None = None
    photos_used: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexReport:
    """What one refresh of the index found.

    ``renamed`` maps an added SKU to one that is gone and had the same photos and card.
    ``settled_utc`` is when the last of ``unsettled`` will have been still for long enough.
    """

    rows: tuple[IndexRow, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    retired: tuple[str, ...]
    refused: tuple[RefusedFile, ...]
    unsettled: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    settled_utc: datetime | None = None
