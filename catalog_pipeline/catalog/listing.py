"""What a photo source promises, and the rules that folders and buckets share.

Layout: ``<root>/<sku>/*.{jpg,jpeg,jfif,png,webp}`` (any case) and one card. Deeper
folders are not read. What a file is, its name says: :mod:`~catalog_pipeline.catalog.file_kinds`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from catalog_pipeline.catalog.card import CARD_NAMES
from catalog_pipeline.catalog.file_kinds import MISNAMED_REASON, FileKind, printable
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import PhotoRef, RefusedFile, SkuListing

KnownDigests = Mapping[str, tuple[str, str]]
"""Key of a file -> (its etag, its SHA-256): what an earlier listing has already read."""

NOTHING_KNOWN: KnownDigests = MappingProxyType({})

_DIGEST_THREADS = 8
_DIGEST_BATCH = 2048
HELD_BACK = "the SKU stays as it is known until it can be read"


class UnreadableFileError(OSError):
    """However often it is tried, this file will not be read; the text is the reason."""


@dataclass(frozen=True)
class ListingResult:
    """What a source holds now.

    ``listings`` is sorted by SKU. A SKU of which a file is in ``refused``, but which
    is not in ``listings``, is there and could not be read. ``digests`` is what to
    pass as ``known`` next time; it forgets files that are gone.
    """

    listings: tuple[SkuListing, ...]
    refused: tuple[RefusedFile, ...]
    digests: KnownDigests = field(default_factory=dict)


class PhotoSource(Protocol):
    """A folder or a bucket of SKU folders. Only reads; nothing is decoded."""

    @property
    def where(self) -> str:
        """What to call the place in messages."""
        ...

    def list_skus(
        self,
        known: KnownDigests = NOTHING_KNOWN,
        *,
        only: Collection[str] | None = None,
        read: bool = True,
    ) -> ListingResult:
        """Every SKU folder, or those named in ``only`` that exist.

        A file is read (for its SHA-256) only when ``known`` has not its etag. Without
        ``read`` none is, and the listings have no content hash. Names that cannot be
        SKUs and files that cannot be photos are refused one by one.

        Raises:
            InvalidSkuError: a name in ``only`` that cannot be a SKU.
            CatalogError: the place itself cannot be listed.
        """
        ...

    def read(self, key: str) -> bytes:
        """The file under ``key``.

        Raises:
            PhotoSetError: it is gone, or larger than the source's byte bound.
            CatalogError: it cannot be read, or ``key`` leads out of the catalog.
        """
        ...


@dataclass
class ScannedFolder:
    """A SKU folder before any byte was read; ``modified`` is of the newest thing in it.

    ``refused`` maps a key to the reason. One that is ``held_back`` is not listed: what could
    not be seen of it might decide what is learned.
    """

    sku: str
    modified: datetime
    photos: list[PhotoRef] = field(default_factory=list)
    cards: list[PhotoRef] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    held_back: bool = False

    def add(self, kind: FileKind, ref: PhotoRef) -> None:
        """Take in a photo or a card."""
        (self.photos if kind == "photo" else self.cards).append(ref)
        self.modified = max(self.modified, ref.modified_utc)

    def refuse(self, name: str, reason: str, *, hold_back: bool = False) -> None:
        """Leave out the entry ``name``, or with it the whole folder."""
        self.refused[f"{self.sku}/{name}"] = reason + (f"; {HELD_BACK}" if hold_back else "")
        self.held_back |= hold_back

    def still_moving(self) -> None:
        """Note that a file went away while the folder was being listed."""
        self.modified = max(self.modified, datetime.now(UTC))


def outside_folder(name: str) -> RefusedFile:
    """The refusal of a photo that lies beside the SKU folders."""
    return RefusedFile(
        printable(name), "lies outside any SKU folder; move it into the folder of its SKU"
    )


def finish_listing(
    folders: list[ScannedFolder],
    refused: list[RefusedFile],
    *,
    known: KnownDigests,
    read: bool,
    max_bytes: int,
    digest: Callable[[PhotoRef], str],
    may_remember: Callable[[PhotoRef], bool],
) -> ListingResult:
    """Digest what is not known yet and put the listing together.

    Args:
        folders: the scanned SKU folders.
        refused: what the scan refused besides the files of these folders.
        known: digests of an earlier listing.
        read: whether to read what is not known; without it there are no content hashes.
        max_bytes: a larger file is not read; its size stands for its content.
        digest: reads a file; ``FileNotFoundError`` when it is gone by now. A photo that it
            may not read, or that is an :class:`UnreadableFileError`, is refused; for any
            other failure, and for a card, the whole SKU is held back.
        may_remember: whether the etag is certain to change with the content.
    """
    for folder in folders:
        _choose_card(folder)
    readable = [
        ref for f in folders for ref in (*f.photos, *f.cards) if ref.size_bytes <= max_bytes
    ]
    digests = {
        ref.key: known[ref.key][1]
        for ref in readable
        if ref.key in known and known[ref.key][0] == ref.etag
    }
    unread = [ref for ref in readable if read and ref.key not in digests]
    failures = _digest_all(unread, digest, digests)
    for folder in folders:
        _note_failures(folder, failures)
    listings = [
        _listing(folder, digests if read else None, skip=failures.keys())
        for folder in folders
        if not folder.held_back
    ]
    refused = [*refused, *(file for folder in folders for file in _refused(folder))]
    return ListingResult(
        listings=tuple(sorted(listings, key=lambda listing: listing.sku)),
        refused=tuple(sorted(refused, key=lambda file: (file.key, file.reason))),
        digests={
            ref.key: (ref.etag, digests[ref.key])
            for ref in readable
            if ref.key in digests and may_remember(ref)
        },
    )


def _choose_card(folder: ScannedFolder) -> None:
    """Keep the preferred card, or where there is none a misnamed one; refuse the others."""
    folder.cards.sort(key=lambda ref: (_card_rank(ref), ref.key))
    for ref in folder.cards[1:]:
        chosen = folder.cards[0]
        folder.refuse(
            _name(ref),
            MISNAMED_REASON
            if _card_rank(chosen) == len(CARD_NAMES)
            else f"a second card; {_name(chosen)} is used, delete one",
        )
    folder.cards = folder.cards[:1]


def _card_rank(ref: PhotoRef) -> int:
    name = _name(ref).lower()
    return CARD_NAMES.index(name) if name in CARD_NAMES else len(CARD_NAMES)


def _note_failures(folder: ScannedFolder, failures: Mapping[str, OSError]) -> None:
    """Refuse what could not be read, and hold the folder back where that could pass."""
    for ref in (*folder.photos, *folder.cards):
        error = failures.get(ref.key)
        if error is None:
            continue
        if isinstance(error, FileNotFoundError):
            folder.still_moving()
            continue
        lasting = isinstance(error, PermissionError | UnreadableFileError)
        folder.refuse(_name(ref), _unreadable(error), hold_back=not lasting or ref in folder.cards)


def _refused(folder: ScannedFolder) -> Iterator[RefusedFile]:
    for key in sorted(folder.refused):
        yield RefusedFile(printable(key), folder.refused[key])


def _digest_all(
    refs: list[PhotoRef], digest: Callable[[PhotoRef], str], digests: dict[str, str]
) -> dict[str, OSError]:
    """Fill ``digests``; the files that could not be read, and why."""

    def attempt(ref: PhotoRef) -> str | OSError:
        try:
            return digest(ref)
        except OSError as error:
            return error

    failures: dict[str, OSError] = {}
    if not refs:
        return failures
    with ThreadPoolExecutor(_DIGEST_THREADS, thread_name_prefix="digest") as pool:
        for start in range(0, len(refs), _DIGEST_BATCH):
            batch = refs[start : start + _DIGEST_BATCH]
            for ref, result in zip(batch, pool.map(attempt, batch), strict=True):
                if isinstance(result, OSError):
                    failures[ref.key] = result
                else:
                    digests[ref.key] = result
    return failures


def _unreadable(error: OSError) -> str:
    if isinstance(error, UnreadableFileError):
        return str(error)
    reason = f"cannot be read ({error.strerror or error})"
    if isinstance(error, PermissionError):
        return f"{reason}; give the pipeline's user read permission"
    return reason


def _listing(
    folder: ScannedFolder, digests: Mapping[str, str] | None, skip: Collection[str]
) -> SkuListing:
    photos = sorted((ref for ref in folder.photos if ref.key not in skip), key=lambda r: r.key)
    cards = [ref for ref in folder.cards if ref.key not in skip]
    content_hash = ""
    if digests is not None:
        content = [
            [_name(ref), ref.size_bytes, digests.get(ref.key, "too large to be read")]
            for ref in (*photos, *cards)
        ]
        content_hash = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return SkuListing(
        sku=folder.sku,
        photos=tuple(photos),
        card_key=cards[0].key if cards else None,
        content_hash=content_hash,
        newest_modified_utc=folder.modified,
        refused=tuple(_refused(folder)),
    )


def _name(ref: PhotoRef) -> str:
    return ref.key.rpartition("/")[2]


def no_such_place(where: str, setting: str) -> CatalogError:
    """The error of a catalog that is not there."""
    return CatalogError(
        f"no catalog at {where}; expected a place with one folder a SKU; create or mount it, or "
        f"set {setting} in catalogs.yaml"
    )
