"""Objects as files under one folder, on one machine or a shared file system.

Atomic: bytes go to a temporary file in ``.tmp/``, are flushed to the disk, and appear
under the key by one ``rename`` or ``link``; the target's folder is flushed afterwards.
A process killed anywhere leaves the old object or the new one, and at most a file in
``.tmp/``: readers of a published folder, some of which open hidden files too, never meet
one. Where another file system is mounted at a folder of the home, the temporary file has
to lie in it, hidden, beside the target.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from catalog_pipeline.errors import (
    AccessDeniedError,
    ConflictError,
    LockTimeoutError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
)
from catalog_pipeline.stores.keys import check_digest, check_key, check_prefix, sha256_hex
from catalog_pipeline.stores.leases import LeaseObject, LeaseRecord, own_name
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore, StoredObject

LOCK_FOLDER = ".locks"
TEMPORARY_FOLDER = ".tmp"
TEMPORARY_PREFIX = ".tmp-"
_LOCK_SECONDS = 60.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class LocalObjectStore(ObjectStore):
    """Objects in ``root``.

    A version is the SHA-256 of the content. Writers of one key take turns by a
    lock file under ``root/.locks``; keys share 256 of them, so that a million
    images do not make a million locks. Readers take no lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str) -> StoredObject:
        """See :class:`ObjectStore`."""
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectNotFoundError(f"no object {key!r} in {self.root}") from error
        except OSError as error:
            raise _read_error(f"cannot read {self._path(key)}", error) from error
        found = sha256_hex(data)
        check_digest(key, found, self.uri(key))
        return StoredObject(data, found)

    def exists(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        path = f"{self.root}/{check_key(key)}"  # a night looks at ten thousand: no Path for each
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _read_error(f"cannot look at {path}", error) from error

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See :class:`ObjectStore`."""
        path = self._path(key)
        if path.exists():
            return False
        with self._temporary(path, data) as temporary:
            return self._create(key, temporary, path)

    def put(self, key: str, data: bytes) -> str:
        """See :class:`ObjectStore`."""
        path = self._path(key)
        with self._temporary(path, data) as temporary, self._lock(key):
            _move(os.replace, temporary, path)
        return sha256_hex(data)

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """See :class:`ObjectStore`."""
        if expected is None:
            if not self.put_if_absent(key, data):
                raise ConflictError(f"{key!r} exists already; another writer was first")
            return sha256_hex(data)
        path = self._path(key)
        with self._temporary(path, data) as temporary, self._lock(key):
            try:
                found = self.read(key).version
            except ObjectNotFoundError:
                found = None
            if found != expected:
                raise ConflictError(
                    f"{key!r} changed under this writer: found version {_short(found)}, "
                    f"expected {_short(expected)}; read it again and retry"
                )
            _move(os.replace, temporary, path)
        return sha256_hex(data)

    def lease_object(self, key: str, *, one_of_many: bool = False) -> LockFileLease:
        """See :class:`ObjectStore`."""
        return LockFileLease(self, key, one_of_many=one_of_many)

    def temporaries(self, before: datetime | None = None) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`: files by the path below the root."""
        found = []
        for path in sorted(self.root.rglob(TEMPORARY_PREFIX + "*")):
            with _explained(path), suppress(FileNotFoundError):  # its writer has just finished
                info = _info(path.relative_to(self.root).as_posix(), path.stat())
                if before is None or info.modified_utc < before:
                    found.append(info)
        return found

    def remove_temporaries(self, before: datetime) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`; StoreError when one cannot be removed."""
        removed = []
        for info in self.temporaries(before):
            path = self.root / info.key
            with _explained(path), suppress(FileNotFoundError):
                path.unlink()
                removed.append(info)
        return removed

    def list(self, prefix: str) -> list[str]:
        """See :class:`ObjectStore`. Symbolic links to folders are not followed."""
        check_prefix(prefix)
        top = self.root / prefix.rpartition("/")[0]
        keys: list[str] = []
        for folder, names, files in os.walk(top, onerror=_raise_unless_missing):
            relative = Path(folder).relative_to(self.root).as_posix()
            stem = "" if relative == "." else relative + "/"
            # Folders beside the prefix may be large, or closed to whoever lists.
            inside = (name for name in names if f"{stem}{name}/".startswith(prefix))
            names[:] = [name for name in inside if not name.startswith(".")]
            keys += [stem + name for name in files if not name.startswith(".")]
        return sorted(key for key in keys if key.startswith(prefix))

    def folders(self, prefix: str) -> Sequence[str]:
        """See :class:`ObjectStore`. Looks into each folder only until a file is met."""
        check_prefix(prefix)
        try:
            with os.scandir(self.root / prefix) as entries:
                names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError as error:
            _raise_unless_missing(error)
            return []
        return sorted(name for name in names if name[0] != "." and self._holds(prefix + name))

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        found = []
        for key in self.list(prefix):
            with suppress(ObjectNotFoundError):  # deleted after the listing
                found.append(self.info(key))
        return found

    def info(self, key: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectNotFoundError(f"no object {key!r} in {self.root}") from error
        except OSError as error:
            raise _read_error(f"cannot look at {path}", error) from error
        return _info(key, status)

    def delete(self, key: str) -> None:
        """See :class:`ObjectStore`."""
        self.delete_many([key])

    def delete_many(self, keys: Sequence[str]) -> None:
        """See :class:`ObjectStore`: each lock is taken once, each folder flushed once."""
        folders: set[Path] = set()
        for same_lock in _by_lock(keys):
            with _explained(self._path(same_lock[0])), self._lock(same_lock[0]):
                for path in map(self._path, same_lock):
                    with _explained(path), suppress(FileNotFoundError, NotADirectoryError):
                        path.unlink()
                        folders.add(path.parent)
        for folder in folders:
            with _explained(folder), suppress(FileNotFoundError):
                _flush_folder(folder)

    def delete_if_older(self, key: str, before: datetime) -> bool:
        """See :class:`ObjectStore`."""
        path = self._path(key)
        with _explained(path), self._lock(key):
            try:
                if self.info(key).modified_utc >= before:
                    return False
            except ObjectNotFoundError:
                return False
            path.unlink()
            _flush_folder(path.parent)
        return True

    def uri(self, key: str) -> str:
        """See :class:`ObjectStore`: the absolute path."""
        return str(self.path(key))

    def path(self, key: str) -> Path:
        """See :class:`ObjectStore`."""
        return self._path(key).absolute()

    def lock_path(self, name: str) -> Path:
        """Where the lock file ``name`` belongs; makes the folder."""
        folder = self.root / LOCK_FOLDER
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.lock"

    def _holds(self, folder: str) -> bool:
        for _, names, files in os.walk(self.root / folder, onerror=_raise_unless_missing):
            names[:] = [name for name in names if not name.startswith(".")]
            if any(not name.startswith(".") for name in files):
                return True
        return False

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _create(self, key: str, temporary: Path, path: Path) -> bool:
        try:
            _move(os.link, temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # Without hard links the writers' lock makes check and rename one step;
            # every other creator of the key is then on this branch too.
            with self._lock(key):
                if path.exists():
                    return False
                _move(os.replace, temporary, path)
        return True

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[Path]:
        """``data`` on the disk, on its way to ``path``; flushes the folder of that at the end."""
        temporary = self.root / TEMPORARY_FOLDER / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        with _explained(path):
            _make_folder(path.parent)
            _make_folder(temporary.parent)
            with _flushed(temporary, data):
                _take_group(temporary, path.parent)
                yield temporary
                _flush_folder(path.parent)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        path = self.lock_path(_lock_name(key))
        try:
            with FileLock(path, timeout=_LOCK_SECONDS, poll_interval=0.005):
                yield
        except Timeout as error:
            raise LockTimeoutError(
                f"{key!r} stayed locked for {_LOCK_SECONDS:.0f} s by {path}; "
                "another process hangs while writing it"
            ) from error


class LockFileLease(LeaseObject):
    """A lease that the system frees when its holder dies, however it dies.

    The lock file is the lease; the object under the key only tells people who holds it.
    Those that are ``one_of_many`` share 4,096 lock files: two that meet in one wait for each other.
    """

    def __init__(self, objects: LocalObjectStore, key: str, *, one_of_many: bool = False) -> None:
        super().__init__(objects, key, one_of_many=one_of_many)
        self._lock_path = objects.lock_path

    def is_held(self) -> bool:
        """See :class:`LeaseObject`."""
        try:
            with self._lock().acquire(blocking=False):
                return False
        except Timeout:
            return True

    @contextmanager
    def hold(self, timeout_seconds: float, lease_seconds: float) -> Iterator[threading.Event]:
        """See :class:`LeaseObject`; such a lease is never lost, and has no length."""
        lock = self._lock()
        try:
            lock.acquire(timeout=max(0.0, timeout_seconds))
        except Timeout as error:
            raise self._timed_out(timeout_seconds, self.read()) from error
        except OSError as error:
            raise write_error(lock.lock_file, error) from error
        try:
            record = LeaseRecord(own_name(), secrets.token_hex(8), None)
            self._objects.put(self.key, record.encode())
            try:
                yield threading.Event()
            finally:
                self._objects.delete(self.key)
        finally:
            lock.release()

    def clear_stale(self) -> LeaseRecord | None:
        """See :class:`LeaseObject`; a living holder holds the lock file."""
        try:
            with self._lock().acquire(blocking=False):
                record, version = self._read()
                if version is not None:
                    self._objects.delete(self.key)
                return record
        except Timeout:
            return None

    def _lock(self) -> FileLock:
        digits = 3 if self._one_of_many else 16
        path = self._lock_path(f"lease-{sha256_hex(self.key.encode())[:digits]}")
        # Not bound to a thread: a generator that holds the lease may be resumed by another one.
        return FileLock(path, thread_local=False)


def _lock_name(key: str) -> str:
    return f"objects-{sha256_hex(key.encode())[:2]}"


def _by_lock(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(_lock_name(key), []).append(key)
    return groups.values()


def write_error(path: Path | str, error: OSError) -> StoreError:
    """What to tell of a refused write: whether the disk is full, or something else is wrong."""
    if error.errno in _FULL:
        return StorageFullError(
            f"no room to write {path}: {error.strerror}; check the free space and the quota "
            "(`catalog-pipeline gc --dry-run` shows what can go), then run the same command "
            "again; nothing was left half-written"
        )
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; check the free space and the "
        "permissions of the home folder"
    )


def _read_error(what: str, error: OSError) -> StoreError:
    kind = AccessDeniedError if isinstance(error, PermissionError) else StoreError
    return kind(f"{what}: {error.strerror}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise StoreError(f"cannot list {error.filename}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    missing = [folder]
    while not missing[-1].parent.exists() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for created in reversed(missing):
        _flush_folder(created.parent)


@contextmanager
def _flushed(temporary: Path, data: bytes) -> Iterator[None]:
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield
    finally:
        temporary.unlink(missing_ok=True)


def _take_group(file: Path, folder: Path) -> None:
    """Give ``file`` the group that it had got in ``folder``, which its readers may depend on."""
    there = folder.stat()
    if there.st_mode & stat.S_ISGID and file.stat().st_gid != there.st_gid:
        with suppress(PermissionError):
            os.chown(file, -1, there.st_gid)


def _move(step: Callable[[Path, Path], None], temporary: Path, path: Path) -> None:
    """``step``, which is ``os.replace`` or ``os.link``, from wherever ``temporary`` lies."""
    try:
        step(temporary, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Device numbers would not tell: two mounts of one file system share theirs.
        beside = path.parent / temporary.name
        with _flushed(beside, temporary.read_bytes()):
            step(beside, path)


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short(version: str | None) -> str:
    return version[:12] if version else "nothing"
