"""Places that a user chose: looked at before the work, then written whole or not at all.

A place may be anything that a path can name: an empty mounted volume, a link, a pipe. It is
written into and never replaced, so a mount point stays mounted and a link stays a link.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError, StorageFullError, StoreError
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.keys import HOME_FOLDERS
from catalog_pipeline.stores.local import write_error

_UNFINISHED = ".catalog-pipeline-export-"
_OF_THE_DISK = {"lost+found"}
"""What an empty file system holds."""


def check_destination(settings: Settings, path: Path) -> None:
    """Refuse a place among the photos or among what the program stores itself.

    Raises:
        ConfigurationError: says which of them, and what to do.
    """
    real = Path(os.path.realpath(path.expanduser()))
    taken = []
    if settings.catalog.s3 is None:
        taken.append((settings.catalog_root, "the watched photos"))
    if settings.archive.s3 is None:
        taken += [(settings.home / name, "what the program stores itself") for name in HOME_FOLDERS]
    for folder, what in taken:
        if real.is_relative_to(os.path.realpath(folder)):
            raise ConfigurationError(
                f"{path} lies in {folder}, among {what}; expected a place of its own; give "
                "another --out"
            )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into; at the end its files stand in ``path``, which is absent or empty.

    Atomic: a ``path`` that is absent appears complete. One that is there, such as a mounted
    volume, stays what it is: it gets every file once all are written, and what a killed run
    left in it is removed by the next.

    Raises:
        ConfigurationError: ``path`` is a file, or holds files.
        StoreError: it cannot be written; StorageFullError when there is no room.
    """
    from safetensors import SafetensorError

    target = Path(os.path.realpath(path.expanduser()))
    staging: Path | None = None
    made: list[Path] = []
    try:
        inside = target.is_dir()
        if inside:
            _empty(target)
        elif target.exists():
            raise ConfigurationError(f"{path} is a file; expected a folder; give another --out")
        parent = target if inside else target.parent
        made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        parent.mkdir(parents=True, exist_ok=True)
        staging = parent / f"{_UNFINISHED}{secrets.token_hex(4)}"
        staging.mkdir()
        yield staging
        if inside:
            _move_all(staging, target)
        else:
            os.replace(staging, target)
    except SafetensorError as error:  # which gives the number of the system's error as text
        number = re.search(r"os error (\d+)", str(error))
        raise _refused(path, OSError(int(number[1]) if number else 0, str(error))) from error
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # not empty: the work is done
                folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove what a killed run left; raises where there is anything else."""
    names = {entry.name for entry in folder.iterdir()} - _OF_THE_DISK
    left = {name for name in names if name.startswith(_UNFINISHED)}
    if names - left:
        raise ConfigurationError(
            f"{folder} exists and is not an empty folder (it holds {min(names - left)!r}); "
            "expected a new one, so that nothing is overwritten; give another --out, or empty it"
        )
    for name in left:
        shutil.rmtree(folder / name)


def _move_all(staging: Path, target: Path) -> None:
    moved = []
    try:
        for entry in sorted(staging.iterdir()):
            os.replace(entry, target / entry.name)
            moved.append(target / entry.name)
    except OSError:
        for entry in moved:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise


def write_file(path: Path, data: bytes) -> None:
    """``data`` to ``path``: a file is replaced as a whole or not at all, and keeps its mode.

    A link stays, and its file is replaced. A pipe or a device gets the bytes as they come, and
    so does a file that is a mount point itself, which nothing can replace.

    Raises:
        ConfigurationError: ``path`` is a folder.
        StoreError: it cannot be written; StorageFullError when there is no room.
    """
    temporary: Path | None = None
    try:
        if is_stream(path):
            with path.open("wb") as stream:
                stream.write(data)
            return
        target = Path(os.path.realpath(path.expanduser()))
        if target.is_dir():
            raise ConfigurationError(f"{path} is a folder; expected a file; give another --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:200]}-{secrets.token_hex(4)}")
        temporary.write_bytes(data)
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            target.write_bytes(data)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether bytes that are written to ``path`` go on to somebody, as with ``/dev/stdout``."""
    if path.as_posix().startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _refused(path: Path, error: OSError) -> StoreError:
    full = write_error(path, error)
    if isinstance(full, StorageFullError):
        return full
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; expected a place that this user may "
        "write to; give another --out, or change its permissions"
    )
