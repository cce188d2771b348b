"""One SKU's photos: read, decoded, judged one by one; the usable ones kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from catalog_pipeline.catalog.card import ReadNoun, default_card, parse_card, read_no_language
from catalog_pipeline.catalog.decoding import DecodedPhoto, RefusedPhotoError, decode_photo
from catalog_pipeline.catalog.file_kinds import MISNAMED_REASON, kind_of
from catalog_pipeline.catalog.listing import NOTHING_KNOWN, KnownDigests, PhotoSource
from catalog_pipeline.errors import CatalogError, ConfigurationError, PhotoSetError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import (
    Photo,
    PhotoRef,
    PhotoSet,
    RefusedFile,
    Sku,
    SkuListing,
    names_photo,
)
from catalog_pipeline.settings import CatalogSettings

_NAMED_AT_MOST = 50
_THUMBNAIL_SIDE, _COARSE_SIDE = 32, 8
_BLANK_RANGE = 8
"""A picture without a spot, 1/32 of a side, that differs by more is blank; of 255."""

_Thumbnail = tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]
"""Luma (32, 32) and colours (8, 8, 3)."""

_SAME_LUMA, _SAME_COLOUR = 5, 8
"""Largest differences of two thumbnails of one picture, saved twice; of 255.

The most alike of 7,400 pairs of real and rendered views of one product differ by 11 in luma;
photos saved again as JPEG or WebP, quality 50 and more, by 2, renders of 128 px, quality 90, by 4.
"""


def load_photo_set(
    source: PhotoSource,
    listing: SkuListing,
    settings: CatalogSettings,
    known: Callable[[], KnownDigests] = dict,
    read_noun: ReadNoun = read_no_language,
    *,
    spare: int = 0,
) -> PhotoSet:
    """Decode the photos of ``listing``; the same listing gives the same set.

    At most ``max_photos`` are kept, those that the card's ``use_photos`` names before all,
    then evenly spaced by name so that a turntable series keeps all its sides; a photo that is
    refused is replaced by the next one left out. Up to ``spare`` more are decoded besides.
    A picture that was saved twice counts once.
    Every photo is read once: the folder is listed again afterwards, which finds what changed
    meanwhile and takes the digests of what was just read as known. ``listing`` needs
    no content hash. A photo that was archived since the index was written still counts in
    the set's content hash, as it does there: ``known`` is asked for its digest.

    Raises:
        PhotoSetError: fewer than ``min_photos`` usable photos (names each refused file
            and its reason), or a file changed since it was listed.
        ConfigurationError: the card is wrong.
        CatalogError: the source cannot be read.
    """
    card = load_card(source, listing, read_noun)
    photos: dict[str, Photo] = {}
    thumbnails: dict[str, _Thumbnail] = {}
    refused: list[RefusedFile] = []
    digests: dict[str, tuple[str, str]] = {}
    for ref in _in_order(listing.photos, card, settings.max_photos):
        if _is_named(ref.key, card.leave_out):
            refused.append(RefusedFile(ref.key, "is left out by the card (leave_out)"))
            continue
        if len(photos) >= settings.max_photos:
            refused.append(RefusedFile(ref.key, _left_out(listing, settings)))
            if len(photos) >= settings.max_photos + spare:
                continue
        try:
            data = _read_photo(source, ref, settings)
            sha256 = hashlib.sha256(data).hexdigest()
            digests[ref.key] = (ref.etag, sha256)
            if sha256 in photos:
                twin = shown(photos[sha256].key)
                raise RefusedPhotoError(f"has the same bytes as {twin}; delete one")
            decoded = decode_photo(data, settings)
            thumbnails[ref.key] = _new_thumbnail(decoded, thumbnails)
            photos[sha256] = Photo(ref.key, sha256, decoded.pixels, decoded.mask)
        except RefusedPhotoError as error:
            refused = [file for file in refused if file.key != ref.key]
            refused.append(RefusedFile(ref.key, str(error)))
    now = list_one(source, listing.sku, digests)
    if len(now.photos) < len(listing.photos):
        now = list_one(source, listing.sku, {**known(), **digests})
    _require_unchanged(listing, now, digests)
    if load_card(source, now, read_noun) != card:
        raise _changed(str(now.card_key))
    refused = sorted([*listing.refused, *refused], key=lambda file: file.key)
    if len(photos) < settings.min_photos:
        raise PhotoSetError(too_few(listing, len(photos), settings.min_photos, refused))
    decoded_ones = list(photos.values())
    kept, others = decoded_ones[: settings.max_photos], decoded_ones[settings.max_photos :]
    return PhotoSet(
        sku=card,
        content_hash=now.content_hash,
        photos=tuple(sorted(kept, key=lambda photo: photo.key)),
        refused=tuple(refused),
        spare=tuple(sorted(others, key=lambda photo: photo.key)),
    )


def list_one(
    source: PhotoSource, sku: str, known: KnownDigests = NOTHING_KNOWN, *, read: bool = True
) -> SkuListing:
    """The folder of ``sku``; the arguments are those of :meth:`PhotoSource.list_skus`.

    Raises:
        InvalidSkuError: ``sku`` cannot be a SKU.
        CatalogError: there is no such folder, or it cannot be read.
    """
    result = source.list_skus(known, only=[sku], read=read)
    if result.listings:
        return result.listings[0]
    reasons = "".join(f"; {file.key!r} {file.reason}" for file in result.refused)
    raise CatalogError(
        f"no usable folder {sku!r} in {source.where}{reasons}; expected one with photos; "
        "check the name, upper and lower case count"
    )


def load_card(
    source: PhotoSource, listing: SkuListing, read_noun: ReadNoun = read_no_language
) -> Sku:
    """The SKU's card, every gap filled; defaults where there is none.

    ``read_noun`` puts a class noun of another language into English.

    Raises:
        ConfigurationError: the card is wrong, has another name than a card, or names a photo
            that the folder has not; names the file.
        PhotoSetError: the card is gone since it was listed.
        CatalogError: the source cannot be read.
    """
    key = listing.card_key
    if key is None:
        return default_card(listing.sku)
    if kind_of(key.rpartition("/")[2], listing.sku) == "misnamed_card":
        raise ConfigurationError(f"{shown(key)} {MISNAMED_REASON}")
    card = parse_card(listing.sku, key, source.read(key), read_noun)
    _require_named_photos(card, listing)
    return card


def _require_named_photos(card: Sku, listing: SkuListing) -> None:
    """ConfigurationError when a name is of no file of the folder, or asked for and left out."""
    files = [ref.key for ref in listing.photos] + [file.key for file in listing.refused]
    lists = {
        "anchor_photos": card.anchor_photos or (),
        "use_photos": card.use_photos,
        "leave_out": card.leave_out,
    }
    for name, wanted in lists.items():
        unknown = [one for one in wanted if not any(names_photo(one, key) for key in files)]
        if unknown:
            there = ", ".join(shown(ref.key.rpartition("/")[2]) for ref in listing.photos[:5])
            raise ConfigurationError(
                f"{listing.card_key}: {name!r} = {shown(unknown[0])}: the "
                f"folder has no photo of this name; expected names such as {there or 'front.jpg'}"
            )
        if name == "leave_out":
            continue
        both = [k for k in files if _is_named(k, wanted) and _is_named(k, card.leave_out)]
        if both:
            raise ConfigurationError(
                f"{listing.card_key}: {shown(both[0].rpartition('/')[2])} is in {name!r} and in "
                "'leave_out'; expected it in one of them; take it out of the other"
            )


def _is_named(key: str, names: Sequence[str]) -> bool:
    return any(names_photo(name, key) for name in names)


def too_few(
    listing: SkuListing, usable: int, min_photos: int, refused: Sequence[RefusedFile] = ()
) -> str:
    """What is said of a set that cannot be learned."""
    head = (
        f"{listing.sku}: {usable} usable photos of {len(listing.photos)} listed; expected at "
        f"least {min_photos}; add .jpg, .png or .webp files directly to the SKU's folder"
    )
    reasons = [f"\n  {shown(file.key)} {file.reason}" for file in refused[:_NAMED_AT_MOST]]
    if len(refused) > _NAMED_AT_MOST:
        reasons.append(f"\n  and {len(refused) - _NAMED_AT_MOST} more")
    return head + "".join(reasons)


def _read_photo(source: PhotoSource, ref: PhotoRef, settings: CatalogSettings) -> bytes:
    if ref.size_bytes > settings.max_bytes:
        raise RefusedPhotoError(
            f"has {ref.size_bytes:,} bytes; expected at most {settings.max_bytes:,}; reduce it"
        )
    try:
        return source.read(ref.key)
    except PhotoSetError:  # gone, or grown: another set than was listed
        raise
    except CatalogError as error:
        raise RefusedPhotoError(f"cannot be read ({error})") from error


def _new_thumbnail(decoded: DecodedPhoto, others: Mapping[str, _Thumbnail]) -> _Thumbnail:
    """What is left of a photo at a glance; refused when blank, or one of ``others`` again."""
    side = (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
    small = Image.fromarray(decoded.pixels).resize(side, Image.Resampling.BOX)
    rgb = np.asarray(small, np.int16)
    if decoded.mask is None and np.ptp(rgb, axis=(0, 1)).max() <= _BLANK_RANGE:
        raise RefusedPhotoError(
            "is blank (one even colour); use a photo on which the product can be seen"
        )
    coarse = small.resize((_COARSE_SIDE, _COARSE_SIDE), Image.Resampling.BOX)
    thumbnail = np.asarray(small.convert("L"), np.int16), np.asarray(coarse, np.int16)
    for key, (luma, colour) in others.items():
        if (
            np.abs(luma - thumbnail[0]).max() <= _SAME_LUMA
            and np.abs(colour - thumbnail[1]).max() <= _SAME_COLOUR
        ):
            raise RefusedPhotoError(f"shows the same picture as {shown(key)}; delete one")
    return thumbnail


def _require_unchanged(
    before: SkuListing, now: SkuListing, digests: Mapping[str, tuple[str, str]]
) -> None:
    """PhotoSetError when a photo that was read, or which files there are, differs by now."""
    unread = {ref for ref in before.photos if ref.key not in digests}
    changed = {ref.key for ref in (set(before.photos) - unread) ^ (set(now.photos) - unread)}
    changed |= {key for key in {before.card_key} ^ {now.card_key} if key is not None}
    if changed:
        raise _changed(min(changed))


def _changed(key: str) -> PhotoSetError:
    return PhotoSetError(
        f"{shown(key)} changed while it was read, or while its folder was; try again once the "
        "upload has ended"
    )


def _in_order(refs: Sequence[PhotoRef], card: Sku, count: int) -> list[PhotoRef]:
    """``refs`` in the order of preference: those of ``use_photos``, then evenly spaced ones."""
    chosen = [ref for ref in refs if _is_named(ref.key, card.use_photos)]
    never = [ref for ref in refs if _is_named(ref.key, card.leave_out)]
    others = [ref for ref in refs if ref not in chosen and ref not in never]
    rest = max(0, count - len(chosen))
    return never + _evenly_first(chosen, count) + _evenly_first(others, rest)


def _evenly_first(refs: Sequence[PhotoRef], count: int) -> list[PhotoRef]:
    """``refs`` in the order of preference: ``count`` evenly spaced ones, then the rest."""
    if len(refs) <= count:
        return list(refs)
    last = len(refs) - 1
    picked = {round(place * last / max(1, count - 1)) for place in range(count)}
    first = [ref for place, ref in enumerate(refs) if place in picked]
    return first + [ref for place, ref in enumerate(refs) if place not in picked]


def _left_out(listing: SkuListing, settings: CatalogSettings) -> str:
    return (
        f"is left out: the folder has {len(listing.photos)} photos and {settings.max_photos}, "
        "evenly spaced by name, are used (max_photos)"
    )
