"""Places that a user chose: every kind of place that a path can name, really made."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog_pipeline.errors import ConfigurationError, StorageFullError, StoreError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.upkeep.destinations import (
    check_destination,
    is_stream,
    new_folder,
    write_file,
)

Mount = Callable[..., Path]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """``mount(path, *arguments)``; unmounted at the end, skipped where nobody may mount."""
    mounted: list[Path] = []

    def make(path: Path, *arguments: str) -> Path:
        done = subprocess.run(
            ["mount", *arguments, os.fspath(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here ({done.stderr.strip()})")
        if path not in mounted:
            mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", os.fspath(path)], check=True)


@pytest.fixture
def volume(tmp_path: Path, mount: Mount) -> Path:
    """An empty file system of 1 MB, as fresh from ``mkfs``."""
    (tmp_path / "volume").mkdir()
    folder = mount(tmp_path / "volume", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    (folder / "lost+found").mkdir()
    return folder


def fill(path: Path) -> None:
    """A file and a folder with a file."""
    with new_folder(path) as folder:
        (folder / "README.txt").write_text("read me")
        (folder / "unet").mkdir()
        (folder / "unet" / "weights").write_bytes(b"w")


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# --- folders -----------------------------------------------------------------


def test_a_folder_is_written_wherever_a_path_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("later/made")
    (tmp_path / "killed" / ".catalog-pipeline-export-0" / "unet").mkdir(parents=True)
    inode = (tmp_path / "real").stat().st_ino
    for name in ("new", "missing/parents/new", "link", "dangling", "killed"):
        fill(tmp_path / name)
        assert files(tmp_path / name) == {"README.txt", "unet/weights"}, name
    assert not list(tmp_path.rglob(".catalog-pipeline*"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_ino == inode
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o750
    assert files(tmp_path / "later" / "made")


def test_a_mounted_volume_is_written_into(volume: Path) -> None:
    fill(volume)
    assert files(volume) == {"README.txt", "unet/weights"}
    assert os.path.ismount(volume)


def test_a_place_that_is_taken_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    for name, error, words in (
        ("file", ConfigurationError, "is a file; expected a folder"),
        ("link", ConfigurationError, "is a file; expected a folder"),
        ("full", ConfigurationError, r"not an empty folder \(it holds 'mine.txt'\)"),
        ("file/new", StoreError, "cannot write .*Not a directory|File exists"),
        ("loop/new", StoreError, "cannot write "),
        ("x" * 300, StoreError, "cannot write .*name too long"),
    ):
        with pytest.raises(error, match=words) as refused, new_folder(tmp_path / name):
            pytest.fail("went to work")
        assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_volume_that_is_read_only_or_full_is_told_and_left_as_it_was(
    volume: Path, mount: Mount
) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(StorageFullError, match="no room"), new_folder(volume) as folder:
        save_file({"a": torch.zeros(1000, 1000)}, folder / "weights.safetensors")
    assert os.listdir(volume) == ["lost+found"]
    mount(volume, "-o", "remount,ro")
    with pytest.raises(StoreError, match=r"cannot write .*Read-only"), new_folder(volume):
        pytest.fail("went to work")


def test_a_failure_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such SKU"), new_folder(tmp_path / "a" / "b"):
        raise ConfigurationError("no such SKU")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["products", "products/mug", "images", "collections/x/parts"])
def test_a_place_among_photos_or_stored_objects_is_refused(settings: Settings, where: str) -> None:
    (settings.home.parent / "link").symlink_to(settings.home)
    for path in (settings.home / where, settings.home.parent / "link" / where):
        with pytest.raises(ConfigurationError, match=r"among .*; expected a place of its own"):
            check_destination(settings, path)
    check_destination(settings, settings.home / "exports" / "mug")
    check_destination(settings, settings.home.parent / "images")


# --- files -------------------------------------------------------------------


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "night.parquet"
    target.write_bytes(b"old")
    target.chmod(0o640)
    (tmp_path / "middle").symlink_to("data/night.parquet")
    (tmp_path / "out").symlink_to("middle")
    held = target.open("rb")
    write_file(tmp_path / "out", b"new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert held.read() == b"old", "a reader of the old file keeps it whole"
    held.close()
    (tmp_path / "dangling").symlink_to("data/later.parquet")
    write_file(tmp_path / "dangling", b"new")
    assert files(tmp_path / "data") == {"night.parquet", "later.parquet"}


def test_a_pipe_and_a_device_get_the_bytes(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"rows")
    reader.join(timeout=10)
    assert got == [b"rows"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_file(Path("/dev/null"), b"rows")
    assert is_stream(Path("/dev/stdout"))
    assert not is_stream(tmp_path / "new.parquet")


def test_a_file_that_is_a_mount_point_is_written_in_place(tmp_path: Path, mount: Mount) -> None:
    (tmp_path / "outside").write_bytes(b"old")
    (tmp_path / "inside").touch()
    mount(tmp_path / "inside", "--bind", os.fspath(tmp_path / "outside"))
    write_file(tmp_path / "inside", b"new")
    assert (tmp_path / "outside").read_bytes() == b"new"
    assert files(tmp_path) == {"inside", "outside"}


def test_a_file_that_cannot_be_written_keeps_what_it_holds(volume: Path, mount: Mount) -> None:
    (volume / "night.parquet").write_bytes(b"old")
    with pytest.raises(StorageFullError, match="no room"):
        write_file(volume / "night.parquet", bytes(2_000_000))
    with pytest.raises(ConfigurationError, match="is a folder; expected a file"):
        write_file(volume, b"new")
    mount(volume, "-o", "remount,ro")
    with pytest.raises(StoreError, match=r"cannot write .*Read-only"):
        write_file(volume / "night.parquet", b"new")
    assert files(volume) == {"night.parquet"}
    assert (volume / "night.parquet").read_bytes() == b"old"
