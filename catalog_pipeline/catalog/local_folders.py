"""Product folders on a disk or a share, written so that a listing meets whole ones.

A new folder is built in ``.import-feed`` in the root, which listings pass over and which lies on
the same disk, and appears by one rename. In a folder that exists each file is replaced by a
rename; until all are, the folder has just changed and does not count as settled.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from catalog_pipeline.catalog.file_kinds import kind_of
from catalog_pipeline.catalog.listing import no_such_place
from catalog_pipeline.catalog.product_folders import (
    CARD_NAME,
    RECORD_NAME,
    FolderChanges,
    FolderRecord,
    FolderRefusedError,
    FolderState,
    PhotoFile,
    WrittenPhoto,
)
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.plain_text import shown

BUILD_FOLDER = ".import-feed"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CHUNK_BYTES = 1 << 20


class LocalProductFolders:
    """See :class:`~catalog_pipeline.catalog.product_folders.ProductFolders`.

    ``make_root`` says whether the root may be made where it is absent: an unmounted share must
    not be written beside.
    """

    def __init__(self, root: Path, *, make_root: bool = False) -> None:
        self._root = Path(os.path.realpath(root))
        self._make_root = make_root
        if not self._root.is_dir() and not (make_root and not self._root.exists()):
            raise no_such_place(str(root), "root")

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._root)

    def location(self, sku: str, name: str) -> str:
        """The absolute path."""
        return f"{self._root}{os.sep}{sku}{os.sep}{name}"

    def states(self, skus: Sequence[str]) -> Iterator[FolderState | FolderRefusedError]:
        """See :class:`ProductFolders`."""
        for sku in skus:
            try:
                yield self._state(sku)
            except FolderRefusedError as error:
                yield error
            except OSError as error:
                yield FolderRefusedError(
                    f"{self._root / sku} cannot be read ({error.strerror or error}); give this "
                    "user read permission"
                )

    def is_same(self, photo: PhotoFile, sku: str, name: str) -> bool:
        """See :class:`ProductFolders`."""
        there = self._root / sku / name
        try:
            if there.stat().st_size != photo.size_bytes:
                return False
            return filecmp.cmp(photo.location, there, shallow=False)
        except FileNotFoundError:
            return False

    def is_as_written(self, sku: str, name: str, written: WrittenPhoto) -> bool:
        """See :class:`ProductFolders`."""
        try:
            with (self._root / sku / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == written.content
        except FileNotFoundError:
            return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See :class:`ProductFolders`."""
        build = self._root / BUILD_FOLDER
        try:
            if self._make_root:
                self._root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(build, ignore_errors=True)
            build.mkdir(exist_ok=True)
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise CatalogError(
                f"cannot write into {self._root} ({error.strerror or error}); give this user "
                "write permission"
            ) from error
        try:
            yield
        finally:
            shutil.rmtree(build, ignore_errors=True)

    def write(self, changes: FolderChanges) -> None:
        """See :class:`ProductFolders`."""
        try:
            (self._build if changes.is_new else self._update)(changes)
        except FileNotFoundError as error:
            raise FolderRefusedError(
                f"{error.filename} went away meanwhile; expected it to stay; run the import again"
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise FolderRefusedError(
                f"{error.filename or self._root / changes.sku} cannot be used "
                f"({error.strerror or error}); give this user the permission, and run the import "
                "again"
            ) from error

    def _state(self, sku: str) -> FolderState:
        folder = self._root / sku
        if folder.is_symlink() and self._root not in Path(os.path.realpath(folder)).parents:
            raise FolderRefusedError(
                f"{folder} is a symlink out of the catalog; expected a folder; put one in its place"
            )
        if not os.path.lexists(folder):
            return FolderState(sku)
        if not folder.is_dir():
            raise FolderRefusedError(f"{folder} is a file; expected a folder; move the file away")
        photos: dict[str, str] = {}
        cards: dict[str, bytes] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = kind_of(entry.name, sku)
                if kind == "photo" and entry.is_file():
                    photos[entry.name] = stamp_of(entry.stat())
                elif kind == "card" and entry.is_file():
                    cards[entry.name] = Path(entry.path).read_bytes()
        record_path = folder / RECORD_NAME
        record = None
        if record_path.exists():
            record = FolderRecord.decode(record_path.read_bytes(), str(record_path))
        return FolderState(sku, True, photos, cards, record)

    def _build(self, changes: FolderChanges) -> None:
        folder = self._root / BUILD_FOLDER / changes.sku
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        written = {
            name: _copy(photo, folder / name) for name, photo in sorted(changes.photos.items())
        }
        if changes.card is not None:
            _write(folder / CARD_NAME, changes.card)
        _write(folder / RECORD_NAME, changes.record(written).encode())
        try:
            folder.rename(self._root / changes.sku)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise FolderRefusedError(
                f"{shown(changes.sku)} appeared in {self._root} meanwhile; run the import again"
            ) from error
        _flush(self._root)

    def _update(self, changes: FolderChanges) -> None:
        folder = self._root / changes.sku
        self._replace(folder / RECORD_NAME, changes.record().encode())
        written: dict[str, WrittenPhoto] = {}
        for name, photo in sorted(changes.photos.items()):
            beside = self._root / BUILD_FOLDER / name
            written[name] = _copy(photo, beside)
            beside.replace(folder / name)
        for name in (*changes.removed, *changes.removed_cards):
            (folder / name).unlink(missing_ok=True)
        if changes.card is not None:
            self._replace(folder / CARD_NAME, changes.card)
        self._replace(folder / RECORD_NAME, changes.record(written).encode())
        _flush(folder)

    def _replace(self, path: Path, data: bytes) -> None:
        beside = self._root / BUILD_FOLDER / path.name
        _write(beside, data)
        beside.replace(path)


def stamp_of(details: os.stat_result) -> str:
    """Changes with the content of a file, as far as its size and its date do."""
    return f"{details.st_size}-{details.st_mtime_ns}"


def _copy(photo: PhotoFile, target: Path) -> WrittenPhoto:
    digest = hashlib.sha256()
    with open(photo.location, "rb") as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        stamp = stamp_of(os.fstat(file.fileno()))
    return WrittenPhoto(photo.location, photo.stamp, stamp, digest.hexdigest())


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
