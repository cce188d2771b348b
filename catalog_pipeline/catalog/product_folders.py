"""Product folders that a program writes: what is in one, what belongs in it, and the difference.

What an import wrote is noted in ``.feed.json`` in the folder, which a listing passes over. By it
a later import tells its own photos and card from those of a person, which it leaves alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Protocol

from catalog_pipeline.catalog.card import CARD_NAMES
from catalog_pipeline.errors import CatalogError

RECORD_NAME = ".feed.json"
CARD_NAME = CARD_NAMES[0]
_RECORD_SCHEMA = 1
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')
_MAX_STEM_BYTES = 120


class FolderRefusedError(CatalogError):
    """One product cannot be written; the others can."""


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo to put into a product's folder.

    ``location`` is an absolute path or ``s3://bucket/key``; ``stamp`` changes with the content:
    size and time of a file, the ETag of an object.
    """

    name: str
    location: str
    stamp: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WrittenPhoto:
    """A photo that an import wrote.

    ``source`` and ``source_stamp`` are of the file that it came from, ``stamp`` of the one that was
    written: empty while it is being written. ``content`` is the written file's SHA-256, or ETag.
    """

    source: str
    source_stamp: str
    stamp: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class FolderRecord:
    """What imports wrote: SHA-256 of cards (two while one replaces the other), photos by name."""

    cards: tuple[str, ...] = ()
    photos: Mapping[str, WrittenPhoto] = field(default_factory=dict)

    def encode(self) -> bytes:
        """JSON bytes."""
        photos = {name: asdict(photo) for name, photo in self.photos.items()}
        content = {"schema": _RECORD_SCHEMA, "cards": list(self.cards), "photos": photos}
        return json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, what: str) -> FolderRecord:
        """The record of :meth:`encode`; FolderRefusedError when it is not one."""
        try:
            content = json.loads(data)
            if content["schema"] != _RECORD_SCHEMA:
                raise ValueError(f"schema {content['schema']!r}, expected {_RECORD_SCHEMA}")
            photos = {name: WrittenPhoto(**photo) for name, photo in content["photos"].items()}
            return cls(tuple(content["cards"]), photos)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderRefusedError(
                f"{what} cannot be read ({error}); expected what an import wrote; delete it, and "
                "the folder's photos and card count as a person's"
            ) from error


@dataclass(frozen=True, slots=True)
class FolderState:
    """What is in a product's folder: photos with their stamps, cards with their bytes.

    ``unfinished``: a killed import of a new product left a mark that holds it back.
    """

    sku: str
    exists: bool = False
    photos: Mapping[str, str] = field(default_factory=dict)
    cards: Mapping[str, bytes] = field(default_factory=dict)
    record: FolderRecord | None = None
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class FolderChanges:
    """What to write so that a folder holds what the feed says.

    Attributes:
        is_new: there is no such folder.
        photos: name -> file to copy under it.
        replaced: those of ``photos`` that take the place of an earlier import's.
        removed: photos of an earlier import that the feed names no more.
        card: bytes of the card to write; ``None`` where it stays.
        removed_cards: cards of other names that would stand beside it.
        kept: photos that a person added or edited, which stay.
        ours: the import's photos that stay as they are.
        cards: SHA-256 of the cards that count as the import's: the written and the wanted one.
        all_photos: names of the photos that the folder has in the end.
        unfinished: the folder has no card yet, or a killed import left its mark.
    """

    sku: str
    is_new: bool
    photos: Mapping[str, PhotoFile]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    card: bytes | None
    removed_cards: tuple[str, ...]
    kept: tuple[str, ...]
    ours: Mapping[str, WrittenPhoto]
    cards: tuple[str, ...]
    all_photos: tuple[str, ...]
    unfinished: bool

    @property
    def any(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.photos or self.removed or self.card is not None or self.unfinished)

    def record(self, written: Mapping[str, WrittenPhoto] | None = None) -> FolderRecord:
        """The record to write ahead, or, with what was ``written``, the one to write at the end."""
        if written is not None:
            return FolderRecord(self.cards[-1:], {**self.ours, **written})
        under_way = {
            name: WrittenPhoto(photo.location, photo.stamp) for name, photo in self.photos.items()
        }
        # A killed import is still to remove these.
        going = {name: WrittenPhoto("", "") for name in self.removed}
        return FolderRecord(self.cards, {**going, **self.ours, **under_way})


class ProductFolders(Protocol):
    """A watched folder or bucket into which products are written, one at a time.

    A listing never sees half a new product, and sees a changed one only once it has settled.
    Everything may be killed and done again.
    """

    @property
    def where(self) -> str:
        """What to call the place in messages."""
        ...

    def location(self, sku: str, name: str) -> str:
        """Where a photo of ``sku`` is, as :attr:`PhotoFile.location`."""
        ...

    def states(self, skus: Sequence[str]) -> Iterator[FolderState | FolderRefusedError]:
        """What is there of each of ``skus``, in their order, or why that cannot be told."""
        ...

    def is_same(self, photo: PhotoFile, sku: str, name: str) -> bool:
        """Whether the photo ``name`` of ``sku`` holds the bytes of ``photo``."""
        ...

    def is_as_written(self, sku: str, name: str, written: WrittenPhoto) -> bool:
        """Whether the photo ``name`` of ``sku`` holds what an import wrote, whatever its dates."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """To be held while writing, by one process; clears what a killed one left."""
        ...

    def write(self, changes: FolderChanges) -> None:
        """Carry ``changes`` out.

        Raises:
            FolderRefusedError: this product could not be written; the next may be.
            CatalogError: nothing can be written.
        """
        ...


def safe_name(name: str) -> str:
    """``name`` as every disk and listing takes it: composed, not hidden, without signs of paths."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode("utf-8")
    stem, ending = os.path.splitext(_UNSAFE.sub("_", text))
    stem = stem.lstrip(".~ $").strip() or "photo"
    return stem.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore").rstrip() + ending


def sha256(data: bytes) -> str:
    """Of ``data``, as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()
