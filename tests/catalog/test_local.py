"""Listing SKU folders on disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from catalog_pipeline.catalog import local
from catalog_pipeline.catalog.file_kinds import kind_of, printable
from catalog_pipeline.catalog.listing import ListingResult
from catalog_pipeline.catalog.sources import LocalPhotoSource, open_photo_source
from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.records import SkuListing
from catalog_pipeline.settings import Settings

MakePhoto = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "products"
    folder.mkdir()
    return folder


def fill(folder: Path, *names: str) -> None:
    """Files whose bytes are their names; a listing decodes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(f"bytes of {name}".encode())


def listed(root: Path, sku: str = "mug") -> SkuListing:
    return next(x for x in LocalPhotoSource(root).list_skus().listings if x.sku == sku)


def reasons(result: ListingResult) -> dict[str, str]:
    return {file.key: file.reason for file in result.refused}


def test_photos_of_any_case_are_listed_in_order_and_what_is_no_photo_is_passed_over(
    root: Path,
) -> None:
    fill(root / "00123", "b.JPG", "a.jpeg", "c.Png", "d.webp", "sku.yaml")
    fill(root / "00123", ".DS_Store", ".e.jpg", "f.jpg.part", "g.jpg~", "h.tmp", "notes.txt")
    fill(root, "catalog.json", ".j.jpg")
    fill(root / ".trash", "k.jpg")
    result = LocalPhotoSource(root).list_skus()
    (found,) = result.listings
    assert found.sku == "00123"
    assert [photo.key for photo in found.photos] == [
        "00123/a.jpeg",
        "00123/b.JPG",
        "00123/c.Png",
        "00123/d.webp",
    ]
    assert found.card_key == "00123/sku.yaml"
    assert found.photos[1].size_bytes == len("bytes of b.JPG")
    assert result.refused == ()


def test_an_empty_folder_is_listed_with_no_photos(root: Path) -> None:
    (root / "mug").mkdir()
    assert listed(root).photos == ()
    assert listed(root).card_key is None


def test_bad_folder_names_are_refused_and_the_rest_is_listed(root: Path) -> None:
    for name in ("mug", "a\nb", "青いマグ", "x..y", "a b"):
        fill(root / name, "0.jpg")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    result = LocalPhotoSource(root).list_skus()
    assert [found.sku for found in result.listings] == ["mug"]
    assert set(reasons(result)) == {r"a\nb", "青いマグ", "x..y", "a b", r"\udcff\udcfe"}
    assert all(key.isprintable() and text.isprintable() for key, text in reasons(result).items())
    assert "names: {ja: '青いマグ'}" in reasons(result)["青いマグ"]


def test_pictures_that_will_not_be_read_are_named(root: Path) -> None:
    fill(root / "mug", "0.jpg", "IMG_1.HEIC", "scan.tiff", "sku.json", "sku.yaml")
    fill(root, "stray.jpg")
    (root / "mug" / "folder.jpg").mkdir()
    os.mkfifo(root / "mug" / "pipe.jpg")
    (root / "mug" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    result = LocalPhotoSource(root).list_skus()
    told = reasons(result)
    assert [photo.key for photo in result.listings[0].photos] == ["mug/0.jpg"]
    assert result.listings[0].card_key == "mug/sku.yaml"
    assert ".HEIC is not read; export it as .jpg" in told["mug/IMG_1.HEIC"]
    assert ".tiff is not read" in told["mug/scan.tiff"]
    assert "sku.yaml is used" in told["mug/sku.json"]
    assert "outside any SKU folder" in told["stray.jpg"]
    assert "is not a file" in told["mug/folder.jpg"]
    assert "is not a file" in told["mug/pipe.jpg"]
    assert "not UTF-8" in told[r"mug/\udcff.jpg"]
    assert len(told) == 7


def test_symlinks_never_lead_out_or_round_in_circles(root: Path, tmp_path: Path) -> None:
    fill(root / "mug", "0.jpg")
    fill(tmp_path / "secret", "passwords.jpg")
    (root / "mug" / "loop").symlink_to(root / "mug")
    (root / "mug" / "1.jpg").symlink_to(root / "mug" / "1.jpg")
    (root / "mug" / "2.jpg").symlink_to(tmp_path / "secret" / "passwords.jpg")
    (root / "mug" / "3.jpg").symlink_to(root / "mug" / "0.jpg")
    (root / "mug" / "4.jpg").symlink_to(root / "mug" / "missing.jpg")
    (root / "self").symlink_to(root)
    (root / "ping").symlink_to(root / "pong")
    (root / "pong").symlink_to(root / "ping")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "alias").symlink_to(root / "mug")
    result = LocalPhotoSource(root).list_skus()
    told = reasons(result)
    assert [found.sku for found in result.listings] == ["alias", "mug"]
    assert [p.key for p in result.listings[1].photos] == ["mug/0.jpg", "mug/3.jpg"]
    for key in ("mug/1.jpg", "mug/4.jpg", "ping", "pong"):
        assert "leads nowhere or in a circle" in told[key]
    for key in ("mug/2.jpg", "self", "outside"):
        assert "a symlink out of the catalog" in told[key]


def test_the_root_may_itself_be_a_symlink(root: Path, tmp_path: Path) -> None:
    fill(root / "mug", "0.jpg")
    (tmp_path / "link").symlink_to(root)
    source = LocalPhotoSource(tmp_path / "link")
    assert [found.sku for found in source.list_skus().listings] == ["mug"]
    assert source.read("mug/0.jpg") == b"bytes of 0.jpg"


def test_a_touch_keeps_the_content_hash_and_a_changed_byte_does_not(root: Path) -> None:
    fill(root / "mug", "0.jpg", "1.jpg", "sku.yaml")
    before = listed(root)
    os.utime(root / "mug" / "0.jpg", (1_000_000, 1_000_000))
    assert listed(root).content_hash == before.content_hash
    path = root / "mug" / "0.jpg"
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, (1_000_000, 1_000_000))
    changed = listed(root)
    assert changed.content_hash != before.content_hash
    fill(root / "mug", "0.jpg")
    assert listed(root).content_hash == before.content_hash


def test_the_card_and_every_name_are_part_of_the_content(root: Path) -> None:
    fill(root / "mug", "0.jpg", "1.jpg", "sku.yaml")
    seen = {listed(root).content_hash}
    (root / "mug" / "sku.yaml").write_text("name: Other", encoding="utf-8")
    seen.add(listed(root).content_hash)
    (root / "mug" / "0.jpg").rename(root / "mug" / "9.jpg")
    seen.add(listed(root).content_hash)
    (root / "mug" / "9.jpg").unlink()
    seen.add(listed(root).content_hash)
    assert len(seen) == 4


def test_the_content_hash_does_not_depend_on_where_the_folder_is(root: Path) -> None:
    fill(root / "mug", "0.jpg")
    fill(root / "cup", "0.jpg")
    assert listed(root, "mug").content_hash == listed(root, "cup").content_hash


def test_known_digests_save_reading_and_forget_what_is_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / "mug", "0.jpg", "1.jpg", "sku.yaml")
    source = LocalPhotoSource(root)
    assert source.list_skus().digests == {}  # too young: could change within a clock tick
    monkeypatch.setattr(local, "RACY_SECONDS", -3600.0)
    first = source.list_skus()
    assert set(first.digests) == {"mug/0.jpg", "mug/1.jpg", "mug/sku.yaml"}

    read: list[Path] = []
    true_digest = local._digest
    monkeypatch.setattr(local, "_digest", lambda path: read.append(path) or true_digest(path))
    again = source.list_skus(first.digests)
    assert again == first
    assert read == []
    fill(root / "mug", "1.jpg", "2.jpg")
    (root / "mug" / "0.jpg").unlink()
    third = source.list_skus(first.digests)
    assert sorted(path.name for path in read) == ["1.jpg", "2.jpg"]
    assert set(third.digests) == {"mug/1.jpg", "mug/2.jpg", "mug/sku.yaml"}
    assert third.listings == source.list_skus().listings


def test_a_file_beyond_the_byte_bound_is_listed_but_never_read(root: Path) -> None:
    fill(root / "mug", "0.jpg")
    with (root / "mug" / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte: reading it would not end
    source = LocalPhotoSource(root, max_bytes=1000)
    result = source.list_skus()
    assert [p.size_bytes for p in result.listings[0].photos] == [14, 1 << 40]
    assert "mug/huge.jpg" not in result.digests
    with pytest.raises(PhotoSetError, match="larger than 1,000 bytes"):
        source.read("mug/huge.jpg")


def test_the_newest_thing_dates_the_set(root: Path) -> None:
    fill(root / "mug", "0.jpg", "1.jpg")
    for name, moment in (("0.jpg", 1_000_000), ("1.jpg", 2_000_000)):
        os.utime(root / "mug" / name, (moment, moment))
    os.utime(root / "mug", (1_500_000, 1_500_000))
    assert listed(root).newest_modified_utc == datetime.fromtimestamp(2_000_000, tz=UTC)
    assert listed(root).photos[0].modified_utc == datetime.fromtimestamp(1_000_000, tz=UTC)
    os.utime(root / "mug", (3_000_000, 3_000_000))
    assert listed(root).newest_modified_utc == datetime.fromtimestamp(3_000_000, tz=UTC)


def test_a_camera_clock_in_the_future_does_not_hold_the_set_back(root: Path) -> None:
    fill(root / "mug", "0.jpg")
    future = time.time() + 10 * 365 * 86_400
    os.utime(root / "mug" / "0.jpg", (future, future))
    assert listed(root).newest_modified_utc <= datetime.now(UTC) + timedelta(seconds=1)


def test_only_the_named_skus_are_listed(root: Path) -> None:
    fill(root / "mug", "0.jpg")
    fill(root / "cup", "0.jpg")
    source = LocalPhotoSource(root)
    assert [x.sku for x in source.list_skus(only=["mug", "absent"]).listings] == ["mug"]
    with pytest.raises(InvalidSkuError, match="cannot be a SKU"):
        source.list_skus(only=["../x"])


def test_a_missing_root_is_an_error_and_not_an_empty_catalog(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no catalog at .*create or mount it"):
        LocalPhotoSource(tmp_path / "absent").list_skus()
    fill(root, "file.txt")
    with pytest.raises(CatalogError, match="is a file"):
        LocalPhotoSource(root / "file.txt").list_skus()


@pytest.mark.parametrize("key", ["../secret.jpg", "mug/../../secret.jpg", "/etc/hosts", "", "link"])
def test_no_key_leads_out_of_the_root(root: Path, tmp_path: Path, key: str) -> None:
    fill(tmp_path, "secret.jpg")
    (root / "link").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(CatalogError, match="leads out of the catalog"):
        LocalPhotoSource(root).read(key)


def test_what_is_gone_or_unreadable_is_said_to_be(root: Path) -> None:
    source = LocalPhotoSource(root)
    fill(root / "mug", "0.jpg")
    with pytest.raises(PhotoSetError, match="is gone"):
        source.read("mug/absent.jpg")
    with pytest.raises(CatalogError, match="cannot be read"):
        source.read("mug")


def test_a_file_that_goes_away_while_it_is_listed_keeps_the_set_moving(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / "mug", "0.jpg", "1.jpg")
    for path in (root / "mug" / "0.jpg", root / "mug" / "1.jpg", root / "mug"):
        os.utime(path, (1_000_000, 1_000_000))
    true_digest = local._digest

    def racing_digest(path: Path) -> str:
        if path.name == "1.jpg":
            path.unlink()
        return true_digest(path)

    monkeypatch.setattr(local, "_digest", racing_digest)
    found = listed(root)
    assert [photo.key for photo in found.photos] == ["mug/0.jpg"]
    assert datetime.now(UTC) - found.newest_modified_utc < timedelta(minutes=1)


def test_a_failing_disk_holds_the_sku_back_and_a_missing_permission_only_the_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sku in ("mug", "cup", "vase"):
        fill(root / sku, "0.jpg", "1.jpg")
    true_digest = local._digest

    def failing_digest(path: Path) -> str:
        if path.parent.name == "mug" and path.name == "0.jpg":
            raise OSError(5, "Input/output error")
        if path.parent.name == "cup" and path.name == "0.jpg":
            raise PermissionError(13, "Permission denied")
        return true_digest(path)

    monkeypatch.setattr(local, "_digest", failing_digest)
    result = LocalPhotoSource(root).list_skus()
    assert {x.sku: len(x.photos) for x in result.listings} == {"cup": 1, "vase": 2}
    assert "stays as it is known" in reasons(result)["mug/0.jpg"]
    assert "read permission" in reasons(result)["cup/0.jpg"]


def test_the_settings_choose_the_folder(settings: Settings, make_photo: MakePhoto) -> None:
    make_photo(settings.catalog_root / "mug" / "0.jpg")
    source = open_photo_source(settings)
    assert isinstance(source, LocalPhotoSource)
    assert source.where == str(settings.catalog_root)
    assert len(source.list_skus().listings) == 1


# --- one oddity stops nothing -------------------------------------------------


@pytest.fixture
def odd_dates() -> Iterator[Path]:
    """A folder on a disk that keeps any date; skipped where there is none."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder, "probe")
        path.touch()
        os.utime(path, ns=(0, -219_000_000_000 * 10**9))
        if path.stat().st_mtime > 0:
            pytest.skip("/dev/shm does not keep dates before 1970")
        yield Path(folder)


@pytest.mark.parametrize("seconds", [-219_000_000_000, -1, 1_830_000_000_000, 2**62, -(2**62)])
def test_a_date_that_no_calendar_knows_stops_nothing(odd_dates: Path, seconds: int) -> None:
    for sku in ("mug", "cup", "vase"):
        fill(odd_dates / sku, "0.jpg", "1.jpg")
    for path in (odd_dates / "mug" / "0.jpg", odd_dates / "cup"):
        os.utime(path, ns=(0, seconds * 10**9))
    result = LocalPhotoSource(odd_dates).list_skus()
    assert {x.sku: len(x.photos) for x in result.listings} == {"cup": 2, "mug": 2, "vase": 2}
    assert result.refused == ()
    assert all(x.newest_modified_utc <= datetime.now(UTC) for x in result.listings)


whole_seconds = st.integers(-(2**63), 2**63 - 1)


@bounded(max_examples=60, deadline=None)
@given(whole_seconds, whole_seconds)
def test_any_two_dates_of_a_file_make_one_date(modified: int, changed: int) -> None:
    details = os.stat_result((0, 0, 0, 0, 0, 0, 0, 0, modified, changed))
    told = local._modified(details)
    assert told.tzinfo is UTC
    if 0 <= min(modified, changed) < 4 * 10**9:
        assert told.timestamp() == min(modified, changed)


file_names = st.binary(min_size=1, max_size=60).map(
    lambda name: name.translate(bytes.maketrans(b"/\0", b"__"))
)


@bounded(max_examples=40, deadline=None)
@given(st.lists(file_names, max_size=5), st.sampled_from([b"", b".jpg", b".yaml", b".gif"]))
def test_no_name_of_a_file_or_folder_stops_the_catalog(names: list[bytes], ending: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root / "good", "0.jpg")
        fill(root / "mug", "0.jpg")
        for place, name in enumerate(names):
            if name not in (b".", b".."):
                (root / "mug" / os.fsdecode(name + ending)).write_bytes(b"x")
                (root / os.fsdecode(b"%d" % place + name)).mkdir(exist_ok=True)
        result = LocalPhotoSource(root).list_skus()
        found = {x.sku: x for x in result.listings}
        assert len(found["good"].photos) == 1
        assert all(f"{f.key}: {f.reason}".isprintable() for f in result.refused)
        # Every entry is a photo, the card, told, or of a kind that goes without saying.
        told = {key.removeprefix("mug/") for key in reasons(result) if key.startswith("mug/")}
        if "mug" in found:
            told |= {printable(p.key.removeprefix("mug/")) for p in found["mug"].photos}
            told.add(printable((found["mug"].card_key or "").removeprefix("mug/")))
        for name in os.listdir(root / "mug"):
            assert printable(name) in told or kind_of(name, "mug") == "ignored"


def test_what_is_not_read_is_told_with_the_folder_it_lies_in(root: Path) -> None:
    fill(root / "mug", "0.jpg", "1.jfif", "2.JPE", "IMG_3", "x.jpg?width=800", "photos.zip")
    fill(root / "mug", ".4.jpg", "notes.txt", "0.jpg.json", "Thumbs.db")
    fill(root / "mug" / "photos", "5.jpg")
    (root / "mug" / "more").symlink_to(root / "mug" / "photos")
    result = LocalPhotoSource(root).list_skus()
    (found,) = result.listings
    assert [p.key for p in found.photos] == ["mug/0.jpg", "mug/1.jfif", "mug/2.JPE"]
    assert found.refused == result.refused
    told = reasons(result)
    names = {"mug/IMG_3", "mug/x.jpg?width=800", "mug/photos.zip", "mug/photos/", "mug/more/"}
    assert set(told) == names
    assert "does not end in .jpg, .png or .webp; rename it" in told["mug/IMG_3"]
    for key in ("mug/photos/", "mug/more/"):
        assert "put the photos directly into the SKU's folder" in told[key]


def test_folders_of_the_share_itself_are_passed_over(root: Path) -> None:
    fill(root / "mug", "0.jpg", "._0.jpg")
    for name in ("@eaDir", "#recycle", "lost+found", "__MACOSX", ".Trashes", "$RECYCLE.BIN"):
        fill(root / name / "mug", "0.jpg")
        fill(root / "mug" / name, "0.jpg")
    fill(root / "mug" / "@eaDir" / "1.jpg", "SYNOPHOTO_THUMB_S.jpg")
    fill(root / "System Volume Information", "1.jpg")
    result = LocalPhotoSource(root).list_skus()
    assert [[p.key for p in x.photos] for x in result.listings] == [["mug/0.jpg"]]
    assert result.refused == ()


def test_a_misnamed_card_is_the_card_only_where_there_is_no_other(root: Path) -> None:
    fill(root / "mug", "0.jpg", "sku.yaml.txt", "sku (1).yaml")
    fill(root / "cup", "0.jpg", "sku.yaml", "cup.yaml")
    result = LocalPhotoSource(root).list_skus()
    assert [x.card_key for x in result.listings] == ["cup/sku.yaml", "mug/sku (1).yaml"]
    told = reasons(result)
    assert "sku.yaml is used" in told["cup/cup.yaml"]
    assert "looks like the product's card" in told["mug/sku.yaml.txt"]


def test_a_card_that_cannot_be_read_holds_its_sku_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sku in ("mug", "cup", "vase", "bowl"):
        fill(root / sku, "0.jpg")
    fill(tmp_path, "secret.yaml")
    (root / "mug" / "sku.yaml").mkdir()
    (root / "cup" / "sku.yml").symlink_to(tmp_path / "secret.yaml")
    fill(root / "vase", "sku.yaml")
    true_digest = local._digest

    def digest(path: Path) -> str:
        if path.name == "sku.yaml":
            raise PermissionError(13, "Permission denied")
        return true_digest(path)

    monkeypatch.setattr(local, "_digest", digest)
    result = LocalPhotoSource(root).list_skus()
    assert [x.sku for x in result.listings] == ["bowl"]
    told = reasons(result)
    assert set(told) == {"mug/sku.yaml", "cup/sku.yml", "vase/sku.yaml"}
    assert all("stays as it is known until it can be read" in text for text in told.values())


def test_a_file_that_cannot_be_looked_at_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / "mug", "0.jpg")
    fill(root / "cup", "0.jpg")
    (root / "mug" / "1.jpg").symlink_to("0.jpg")
    true_look = local._stat_inside

    def stale(path: Path, inside: Path) -> os.stat_result:
        if path.name == "1.jpg":
            raise OSError(116, "Stale file handle")
        return true_look(path, inside)

    monkeypatch.setattr(local, "_stat_inside", stale)
    result = LocalPhotoSource(root).list_skus()
    assert [x.sku for x in result.listings] == ["cup"]
    assert "Stale file handle" in reasons(result)["mug/1.jpg"]


@pytest.mark.parametrize("still_listed", [True, False])
def test_a_name_that_the_share_lists_but_does_not_open_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, still_listed: bool
) -> None:
    fill(root / "mug", "0.jpg", "1.jpg")
    for path in (*(root / "mug").iterdir(), root / "mug"):
        os.utime(path, (1_000_000, 1_000_000))
    true_scan, true_names = os.scandir, os.listdir

    @contextmanager
    def scan_then_lose(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with true_scan(path) as entries:
            found = list(entries)
        (root / "mug" / "1.jpg").unlink()
        os.utime(root / "mug", (1_000_000, 1_000_000))
        yield found

    def names(path: str) -> list[str]:
        return [*true_names(path), *(["1.jpg"] if still_listed and "mug" in str(path) else [])]

    monkeypatch.setattr(os, "scandir", scan_then_lose)
    monkeypatch.setattr(os, "listdir", names)
    result = LocalPhotoSource(root).list_skus()
    (found,) = result.listings
    assert [p.key for p in found.photos] == ["mug/0.jpg"]
    assert set(reasons(result)) == ({"mug/1.jpg"} if still_listed else set())
    moving = datetime.now(UTC) - found.newest_modified_utc < timedelta(minutes=1)
    assert moving is not still_listed


def test_missing_permissions_stop_one_file_or_one_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        for sku in ("good", "file", "card", "closed", "unlistable", "unopenable"):
            fill(root / sku, "0.jpg", "1.jpg")
        fill(root / "card", "sku.yaml")
        for name in ("file/0.jpg", "card/sku.yaml", "closed"):
            (root / name).chmod(0)
        (root / "unlistable").chmod(0o111)
        (root / "unopenable").chmod(0o444)
        mine = os.geteuid()
        if mine == 0:
            os.seteuid(65534)  # root may read everything
        try:
            result = LocalPhotoSource(root).list_skus()
        finally:
            os.seteuid(mine)
            for sku in ("closed", "unlistable", "unopenable"):
                (root / sku).chmod(0o755)
    assert {x.sku: len(x.photos) for x in result.listings} == {"file": 1, "good": 2}
    assert {key.partition("/")[0] for key in reasons(result)} == {
        *("file", "card", "closed", "unlistable", "unopenable")
    }
    assert all("Permission denied" in text for text in reasons(result).values())
