"""The index follows the product folders, and loses nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from catalog_pipeline.catalog import local
from catalog_pipeline.catalog.index import mark_learned
from catalog_pipeline.catalog.s3 import S3PhotoSource
from catalog_pipeline.cli.report import index_lines
from catalog_pipeline.errors import (
    CatalogError,
    ConfigurationError,
    EmptyListingError,
    IntegrityError,
)
from catalog_pipeline.records import IndexReport, IndexRow, SkuStatus
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.workflows.catalog.refresh_index import DIGESTS_KEY, refresh_index
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from tests.s3_server import answer_instead

MakePhoto = Callable[..., Path]
MakeSettings = Callable[..., Settings]


@pytest.fixture
def add_sku(settings: Settings, make_photo: MakePhoto) -> Callable[..., Path]:
    """``add_sku("mug", photos=3, card="name: Mug")``: a folder that has been still for an hour."""

    def add(sku: str, *, photos: int = 3, card: str = "", seed: int = 0) -> Path:
        folder = settings.catalog_root / sku
        folder.mkdir(exist_ok=True)
        for n in range(photos):
            make_photo(folder / f"{n}.jpg", seed=seed + n)
        if card:
            (folder / "sku.yaml").write_text(card, encoding="utf-8")
        age(folder)
        return folder

    return add


def age(folder: Path, *, seconds: float = 3600) -> None:
    then = time.time() - seconds
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def by_sku(report: IndexReport) -> dict[str, IndexRow]:
    return {row.sku: row for row in report.rows}


def stored(settings: Settings) -> list[IndexRow]:
    return open_home(settings).index.read()


def learn(settings: Settings, *skus: str) -> None:
    """Note ``skus`` as learned from what the index knows of them."""
    for sku in skus:
        open_home(settings).index.update(
            lambda rows, sku=sku: mark_learned(
                rows, sku, next(row.content_hash for row in rows if row.sku == sku)
            )
        )


def test_new_folders_are_indexed_with_their_cards(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    add_sku("00123", card="name: Blue mug\nnames: {ja: 青いマグ}\nclass_noun: mug")
    add_sku("plain_vase")
    report = refresh_index(open_home(settings))
    assert report.added == ("00123", "plain_vase")
    rows = by_sku(report)
    assert (rows["00123"].name, rows["00123"].class_noun) == ("Blue mug", "mug")
    assert (rows["plain_vase"].name, rows["plain_vase"].class_noun) == ("plain vase", "product")
    assert rows["00123"].photo_count == 3
    assert {row.status for row in report.rows} == {SkuStatus.NEW}
    assert stored(settings) == list(report.rows)


def test_a_second_refresh_writes_nothing(settings: Settings, add_sku: Callable[..., Path]) -> None:
    add_sku("mug")
    first = refresh_index(open_home(settings))
    files = {p: p.stat().st_mtime_ns for p in settings.home.rglob("*") if p.is_file()}
    second = refresh_index(open_home(settings))
    assert second.rows == first.rows
    assert (second.added, second.changed, second.retired) == ((), (), ())
    assert {p: p.stat().st_mtime_ns for p in settings.home.rglob("*") if p.is_file()} == files


def test_an_empty_catalog_is_an_empty_index(settings: Settings) -> None:
    assert refresh_index(open_home(settings)).rows == ()


def test_a_half_copied_set_waits_until_it_is_still(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    folder = add_sku("mug")
    age(folder, seconds=5)
    report = refresh_index(open_home(settings))
    assert (report.rows, report.unsettled) == ((), ("mug",))
    later = refresh_index(open_home(settings), now=datetime.now(UTC) + timedelta(minutes=3))
    assert later.added == ("mug",)


def test_files_that_keep_an_old_date_wait_while_more_arrive(
    settings: Settings, add_sku: Callable[..., Path], make_photo: MakePhoto
) -> None:
    folder = add_sku("mug")
    make_photo(folder / "9.jpg", seed=9, age_seconds=86_400)  # as cp -p or rsync -t would
    assert refresh_index(open_home(settings)).unsettled == ("mug",)


def test_learned_photos_that_move_keep_their_row_until_they_settle(
    settings: Settings, add_sku: Callable[..., Path], make_photo: MakePhoto
) -> None:
    folder = add_sku("mug")
    refresh_index(open_home(settings))
    learn(settings, "mug")
    make_photo(folder / "new.jpg", seed=50)
    report = refresh_index(open_home(settings))
    assert report.unsettled == ("mug",)
    assert by_sku(report)["mug"].status is SkuStatus.LEARNED
    age(folder)
    report = refresh_index(open_home(settings))
    assert report.changed == ("mug",)
    assert by_sku(report)["mug"].status is SkuStatus.CHANGED
    assert by_sku(report)["mug"].photo_count == 4


def test_a_touch_is_no_change(settings: Settings, add_sku: Callable[..., Path]) -> None:
    folder = add_sku("mug")
    refresh_index(open_home(settings))
    learn(settings, "mug")
    for path in folder.iterdir():
        path.touch()
    report = refresh_index(open_home(settings))
    assert (report.changed, report.unsettled) == ((), ())
    assert by_sku(report)["mug"].status is SkuStatus.LEARNED


def test_an_empty_listing_and_an_absent_root_retire_nothing(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    for sku in ("mug", "cup", "vase"):
        add_sku(sku)
    before = refresh_index(open_home(settings)).rows
    aside = settings.home / "aside"
    settings.catalog_root.rename(aside)
    with pytest.raises(CatalogError, match="no catalog at"):
        refresh_index(open_home(settings))
    settings.catalog_root.mkdir()
    with pytest.raises(EmptyListingError, match="3 of 3 known SKUs"):
        refresh_index(open_home(settings))
    assert stored(settings) == list(before)
    settings.catalog_root.rmdir()
    aside.rename(settings.catalog_root)
    assert refresh_index(open_home(settings)).rows == before


def test_a_removed_folder_is_retired_and_comes_back_as_learned(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    folder = add_sku("mug")
    add_sku("cup")
    refresh_index(open_home(settings))
    learn(settings, "mug", "cup")
    aside = settings.home / "aside"
    shutil.move(folder, aside)
    report = refresh_index(open_home(settings))
    assert report.retired == ("mug",)
    assert by_sku(report)["mug"].status is SkuStatus.RETIRED
    shutil.move(aside, folder)
    assert by_sku(refresh_index(open_home(settings)))["mug"].status is SkuStatus.LEARNED


def test_bad_folders_fail_alone_and_are_told(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    add_sku("good")
    add_sku("empty", photos=0)
    add_sku("two", photos=2)
    add_sku("card", card="nmae: Mug")
    for name in ("a\nb", "青いマグ", "x..y"):
        (settings.catalog_root / name).mkdir()
    (settings.catalog_root / "loop").symlink_to(settings.catalog_root / "loop")
    report = refresh_index(open_home(settings))
    rows = by_sku(report)
    assert {sku: row.status.value for sku, row in rows.items()} == {
        "card": "failed",
        "empty": "failed",
        "good": "new",
        "two": "failed",
    }
    assert "unknown key 'nmae'" in rows["card"].reason
    assert "2 usable photos of 2 listed; expected at least 3" in rows["two"].reason
    told = {file.key for file in report.refused}
    assert told == {r"a\nb", "青いマグ", "x..y", "loop", "card/sku.yaml"}


def test_a_mended_card_is_new_again(settings: Settings, add_sku: Callable[..., Path]) -> None:
    add_sku("mug", card="nmae: Mug")
    refresh_index(open_home(settings))
    add_sku("mug", card="name: Mug")
    report = refresh_index(open_home(settings))
    row = by_sku(report)["mug"]
    assert (row.status, row.reason, row.name) == (SkuStatus.NEW, "", "Mug")


def test_a_card_that_goes_away_while_it_is_read_leaves_the_sku_as_it_was(
    settings: Settings, add_sku: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_sku("mug")
    before = refresh_index(open_home(settings)).rows
    folder = add_sku("mug", card="name: Mug")
    true_list = local.LocalPhotoSource.list_skus

    def list_then_lose_the_card(source: local.LocalPhotoSource, known: object) -> object:
        result = true_list(source, known)  # type: ignore[arg-type]
        (folder / "sku.yaml").unlink()
        return result

    monkeypatch.setattr(local.LocalPhotoSource, "list_skus", list_then_lose_the_card)
    report = refresh_index(open_home(settings))
    assert report.rows == before
    assert [file.key for file in report.refused] == ["mug/sku.yaml"]


def test_digests_are_kept_and_spare_the_reading(
    settings: Settings, add_sku: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RACY_SECONDS", -3600.0)
    add_sku("mug")
    first = refresh_index(open_home(settings))
    objects = open_home(settings).objects
    assert objects.exists(DIGESTS_KEY)

    def no_reading(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(local, "_digest", no_reading)
    assert refresh_index(open_home(settings)).rows == first.rows


def test_a_damaged_digest_cache_says_how_to_mend_it(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    add_sku("mug")
    objects = open_home(settings).objects
    for damaged in (b"{", b"[]", b'{"schema_version": 1, "digests": {"a": 1}}'):
        objects.put(DIGESTS_KEY, damaged)
        with pytest.raises(IntegrityError, match="delete it, the next refresh"):
            refresh_index(open_home(settings))
    objects.put(DIGESTS_KEY, b'{"schema_version": 99}')  # of another version: taken anew
    assert refresh_index(open_home(settings)).added == ("mug",)


def test_what_is_learned_during_a_refresh_is_not_lost(
    settings: Settings, add_sku: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_sku("mug")
    refresh_index(open_home(settings))
    add_sku("cup")
    true_update = IndexStore.update

    def update_after_another(store: IndexStore, change: object) -> list[IndexRow]:
        monkeypatch.setattr(IndexStore, "update", true_update)
        learn(settings, "mug")
        return true_update(store, change)  # type: ignore[arg-type]

    monkeypatch.setattr(IndexStore, "update", update_after_another)
    rows = by_sku(refresh_index(open_home(settings)))
    assert rows["mug"].status is SkuStatus.LEARNED
    assert rows["cup"].status is SkuStatus.NEW


def test_a_bucket_is_indexed_like_a_folder(
    make_settings: MakeSettings, make_photo: MakePhoto, tmp_path: Path, s3_settings: S3Settings
) -> None:
    import boto3

    client = boto3.session.Session().client(
        "s3", endpoint_url=s3_settings.endpoint_url, region_name=s3_settings.region
    )
    for n in range(3):
        photo = make_photo(tmp_path / f"{n}.jpg", seed=n)
        client.put_object(
            Bucket=s3_settings.bucket,
            Key=f"{s3_settings.prefix}/mug/{n}.jpg",
            Body=photo.read_bytes(),
        )
    client.close()
    settings = make_settings(catalog={"s3": s3_settings.model_dump()})
    assert refresh_index(open_home(settings)).unsettled == ("mug",)
    later = datetime.now(UTC) + timedelta(minutes=3)
    assert refresh_index(open_home(settings), now=later).added == ("mug",)


def test_silent_progress_is_a_progress_sink() -> None:
    sink: ProgressSink = SilentProgress()
    sink.start("learn", 3)
    sink.advance("learn", note="mug")
    sink.finish("learn")
    assert vars(sink) == {}


def test_the_same_photos_under_two_skus_are_said_each_time_and_index_both(
    settings: Settings, add_sku: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RACY_SECONDS", -60)
    add_sku("mug")
    add_sku("copy-of-mug")
    add_sku("cup", seed=10)
    for _ in range(2):
        report = refresh_index(open_home(settings))
        assert {row.status for row in report.rows} == {SkuStatus.NEW}
        (warning,) = report.warnings
        assert "copy-of-mug and mug have 3 photos in common (of 3 and 3)" in warning


# --- what is passed over is said, and stops nothing ---------------------------


def test_a_product_whose_photos_are_passed_over_fails_and_names_each(
    settings: Settings, add_sku: Callable[..., Path], make_photo: MakePhoto
) -> None:
    add_sku("good")
    folder = add_sku("mug", photos=0)
    make_photo(folder / "photos" / "0.jpg")
    for n in range(3):
        (make_photo(folder / f"{n}.jpg", seed=n)).rename(folder / f"{n}.jpg?width=800")
    age(folder)
    report = refresh_index(open_home(settings))
    row = by_sku(report)["mug"]
    assert row.status is SkuStatus.FAILED
    assert "mug: 0 usable photos of 0 listed" in row.reason
    assert "'mug/photos/' is a folder" in row.reason
    assert "'mug/0.jpg?width=800' is not read: its name does not end in .jpg" in row.reason
    assert by_sku(report)["good"].status is SkuStatus.NEW
    printed = "\n".join(index_lines(report))
    assert f"failed {row.reason}" in printed
    assert printed.count("mug/photos/") == 1, "the reason names it already"


@pytest.mark.parametrize("name", ["sku.yaml.txt", "sku (1).yaml", "mug.yaml"])
def test_a_product_is_not_learned_under_a_general_noun_because_its_card_is_misnamed(
    settings: Settings, add_sku: Callable[..., Path], name: str
) -> None:
    folder = add_sku("mug", card="class_noun: mug")
    (folder / "sku.yaml").rename(folder / name)
    age(folder)
    (row,) = refresh_index(open_home(settings)).rows
    assert row.status is SkuStatus.FAILED
    assert f"'mug/{name}' looks like the product's card, but a card is called" in row.reason
    with pytest.raises(ConfigurationError, match="looks like the product's card"):
        validate_photo_set(open_home(settings), "mug")
    (folder / name).rename(folder / "sku.yaml")
    age(folder)
    (row,) = refresh_index(open_home(settings)).rows
    assert (row.status, row.class_noun, row.reason) == (SkuStatus.NEW, "mug", "")
    (folder / "sku.yaml").unlink()  # it was no card: without one the product is general
    age(folder)
    (row,) = refresh_index(open_home(settings)).rows
    assert (row.status, row.class_noun) == (SkuStatus.NEW, "product")


def test_one_folder_of_every_oddity_stops_no_other(
    settings: Settings, add_sku: Callable[..., Path]
) -> None:
    add_sku("good")
    folder = add_sku("odd")
    for n in range(3):
        with (folder / f"huge {n}.jpg").open("wb") as file:
            file.truncate(2**43)
    os.mkfifo(folder / "pipe.jpg")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    (folder / "line\nbreak.jpg").write_bytes(b"x")
    (folder / ("x" * 251 + ".jpg")).write_bytes(b"x")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    for path in folder.glob("[0-9].jpg"):
        os.utime(path, ns=(0, -(2**31) * 10**9))
    report = refresh_index(open_home(settings), now=datetime.now(UTC) + timedelta(hours=1))
    assert {row.sku: row.status.value for row in report.rows} == {"good": "new", "odd": "new"}
    assert stored(settings) == list(report.rows)
    assert all(line.isprintable() for line in index_lines(report))


def test_a_photo_archived_after_it_was_learned_changes_nothing(
    make_settings: MakeSettings, s3_settings: S3Settings, tmp_path: Path, make_photo: MakePhoto
) -> None:
    home = open_home(make_settings(catalog={"s3": s3_settings.model_dump(), "settle_seconds": 0}))
    source = home.photo_source
    assert isinstance(source, S3PhotoSource)
    for n in range(4):
        path = make_photo(tmp_path / f"{n}.jpg", seed=n)
        source._client.put_object(
            Bucket=s3_settings.bucket,
            Key=f"{s3_settings.prefix}/mug/{n}.jpg",
            Body=path.read_bytes(),
        )
    first = refresh_index(home, now=datetime.now(UTC) + timedelta(minutes=1))
    archived = "<Error><Code>InvalidObjectState</Code><StorageClass>GLACIER</StorageClass></Error>"
    answer_instead(source._client, "GetObject", archived, 403, to="mug/0.jpg")
    second = refresh_index(home, now=datetime.now(UTC) + timedelta(minutes=1))
    assert second.rows == first.rows
    assert second.refused == ()
    learned_again = validate_photo_set(home, "mug", now=datetime.now(UTC) + timedelta(minutes=1))
    assert learned_again.content_hash == first.rows[0].content_hash
    assert len(learned_again.photos) == 3
    assert "is archived in GLACIER; restore it" in learned_again.refused[0].reason
    source.close()
