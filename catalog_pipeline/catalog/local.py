"""SKU folders on a disk or a network share."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from catalog_pipeline.catalog.file_kinds import (
    FOLDER_REASON,
    is_passed_over,
    kind_of,
    printable,
    why_not_read,
)
from catalog_pipeline.catalog.keys import validate_sku
from catalog_pipeline.catalog.listing import (
    HELD_BACK,
    NOTHING_KNOWN,
    KnownDigests,
    ListingResult,
    ScannedFolder,
    finish_listing,
    no_such_place,
    outside_folder,
)
from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import PhotoRef, RefusedFile

DEFAULT_MAX_BYTES = 50_000_000
RACY_SECONDS = 2.0
"""A file younger than this may change again within one tick of the disk's clock."""

_FIRST_SECOND = 0.0
_LAST_SECOND = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class _RefusedEntryError(Exception):
    """An entry of the tree that must not be followed; its text is the reason."""


class LocalPhotoSource:
    """A folder of SKU folders.

    Symlinks are followed only while they stay inside the root. A file counts as
    modified when it got its content or its name, whichever the disk says is earlier,
    so that a camera whose clock runs ahead does not hold a set back for ever; a
    folder counts as modified when an entry came or went.
    """

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._configured_root = root
        self._max_bytes = max_bytes

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._configured_root)

    def list_skus(
        self,
        known: KnownDigests = NOTHING_KNOWN,
        *,
        only: Collection[str] | None = None,
        read: bool = True,
    ) -> ListingResult:
        """Every SKU folder, or those in ``only``; see :class:`PhotoSource`."""
        started_ns = time.time_ns()
        root = self._root()
        refused: list[RefusedFile] = []
        folders: list[ScannedFolder] = []
        names = self._names(root) if only is None else sorted({validate_sku(n) for n in only})
        for name in names:
            try:
                folder = self._scan_entry(root, name, refused)
            except (_RefusedEntryError, InvalidSkuError) as error:
                refused.append(RefusedFile(printable(name), str(error)))
                continue
            if folder is not None:
                folders.append(folder)

        def may_remember(ref: PhotoRef) -> bool:
            changed_ns = int(ref.etag.rpartition("-")[2])
            return changed_ns < started_ns - RACY_SECONDS * 1e9

        return finish_listing(
            folders,
            refused,
            known=known,
            read=read,
            max_bytes=self._max_bytes,
            digest=lambda ref: _digest(root / ref.key),
            may_remember=may_remember,
        )

    def read(self, key: str) -> bytes:
        """The file under ``key``; see :class:`PhotoSource`."""
        path = self._path(key)
        try:
            with _open_regular(path) as file:
                data = file.read(self._max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PhotoSetError(f"{shown(key)} is gone; list the catalog again") from error
        except OSError as error:
            raise CatalogError(f"{shown(key)} in {self.where} cannot be read: {error}") from error
        if len(data) > self._max_bytes:
            raise PhotoSetError(f"{shown(key)} is larger than {self._max_bytes:,} bytes")
        return data

    def _root(self) -> Path:
        try:
            root = self._configured_root.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise no_such_place(self.where, "root") from error
        if not root.is_dir():
            raise CatalogError(f"{self.where} is a file; expected the folder of SKU folders")
        return root

    def _names(self, root: Path) -> list[str]:
        try:
            return sorted(name for name in os.listdir(root) if not is_passed_over(name))
        except OSError as error:
            raise CatalogError(f"cannot list {self.where}: {error}") from error

    def _scan_entry(
        self, root: Path, name: str, refused: list[RefusedFile]
    ) -> ScannedFolder | None:
        """One entry of the root; ``None`` when it is no folder or gone."""
        path = root / name
        try:
            details = _stat_inside(path, root)
            if not stat.S_ISDIR(details.st_mode):
                if kind_of(name) == "photo":
                    refused.append(outside_folder(name))
                return None
            folder = ScannedFolder(validate_sku(name), modified=_modified(details))
            with os.scandir(path) as entries:
                self._scan_folder(root, folder, entries)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _RefusedEntryError(
                f"cannot be read ({error.strerror or error}); {HELD_BACK}"
            ) from error
        return folder

    def _scan_folder(
        self, root: Path, folder: ScannedFolder, entries: Iterable[os.DirEntry[str]]
    ) -> None:
        for entry in entries:
            if is_passed_over(entry.name):
                continue
            kind = kind_of(entry.name, folder.sku)
            is_card = kind in ("card", "misnamed_card")
            try:
                if kind in ("ignored", "unknown", "other_picture"):
                    if _is_folder(entry):
                        folder.refuse(f"{entry.name}/", FOLDER_REASON)
                    elif kind != "ignored":
                        folder.refuse(entry.name, why_not_read(entry.name, kind))
                    continue
                _require_utf8(entry.name)
                details = (
                    _stat_inside(Path(entry.path), root) if entry.is_symlink() else entry.stat()
                )
                if not stat.S_ISREG(details.st_mode):
                    raise _RefusedEntryError("is not a file; put the file itself here")
            except FileNotFoundError:
                if _is_listed_but_absent(entry):
                    folder.refuse(entry.name, "is listed but cannot be opened; rename it")
                else:
                    folder.still_moving()
            except _RefusedEntryError as error:
                folder.refuse(entry.name, str(error), hold_back=is_card)
            except OSError as error:
                reason = f"cannot be read ({error.strerror or error})"
                folder.refuse(entry.name, reason, hold_back=True)
            else:
                key = f"{folder.sku}/{entry.name}"
                ref = PhotoRef(key, details.st_size, _modified(details), _etag(details))
                folder.add(kind, ref)

    def _path(self, key: str) -> Path:
        """Where ``key`` is, symlinks followed, inside the root."""
        root = self._root()
        try:
            path = (root / key).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise CatalogError(f"{shown(key)} cannot be followed: {error}") from error
        if not path.is_relative_to(root) or path == root:
            raise CatalogError(f"{shown(key)} leads out of the catalog {self.where}")
        return path


def _is_listed_but_absent(entry: os.DirEntry[str]) -> bool:
    """Whether a share lists a name (one that ends in a space, say) that it does not open."""
    return entry.name in os.listdir(os.path.dirname(entry.path)) and not os.path.lexists(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _stat_inside(path: Path, root: Path) -> os.stat_result:
    """``stat`` of ``path``, which may be a symlink only to something inside ``root``."""
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise _RefusedEntryError(
                "is a symlink that leads nowhere or in a circle; put the files themselves here"
            ) from error
        if root not in target.parents:
            raise _RefusedEntryError(
                "is a symlink out of the catalog; put the files themselves here"
            )
    return path.stat()


def _open_regular(path: Path) -> BufferedReader:
    """Open a file, never a pipe or a device: those would keep the reader waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return open(descriptor, "rb")


def _digest(path: Path) -> str:
    with _open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_utf8(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RefusedEntryError("has a name that is not UTF-8; rename it") from error


def _modified(details: os.stat_result) -> datetime:
    """Disks know dates that no calendar here does: they count as its first or last."""
    seconds = min(details.st_mtime, details.st_ctime)
    return datetime.fromtimestamp(min(max(seconds, _FIRST_SECOND), _LAST_SECOND), tz=UTC)


def _etag(details: os.stat_result) -> str:
    """Changes whenever the content does; the last part is the change time in ns."""
    return f"{details.st_size}-{details.st_mtime_ns}-{details.st_ctime_ns}"
