"""A feed beside a watched folder and beside a bucket of a real S3 server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.catalog import local_folders, s3_folders
from catalog_pipeline.catalog.feeds.photos import key_in_bucket
from catalog_pipeline.catalog.feeds.products import RowRemark
from catalog_pipeline.errors import CatalogError, ConfigurationError, LockTimeoutError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.workflows.catalog.import_feed import (
    LEASE_KEY,
    FeedImport,
    FeedSource,
    ProductOutcome,
)
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home

MakePhoto = Callable[..., Path]
HEADER = "sku,name,class_noun,photos"


class KilledError(BaseException):
    """What a kill looks like to the code that it hits."""


@pytest.fixture
def feed(tmp_path: Path, make_photo: MakePhoto) -> Path:
    """A feed of two products beside the folder of its photos."""
    folder = tmp_path / "feed"
    for n in range(3):
        make_photo(folder / f"img/mug/{n}.jpg", seed=n)
        make_photo(folder / f"img/jug/{n}.jpg", seed=10 + n)
    path = folder / "products.csv"
    rows = [HEADER, "00123,Blue mug,mug,img/mug/", "jug-1,Jug,jug,img/jug/*.jpg"]
    path.write_text("\n".join(rows), "utf-8")
    return path


def run(
    settings: Settings, path: Path, *, overwrite_cards: bool = False, **source: Any
) -> tuple[dict[str, ProductOutcome], list[str]]:
    """Every product's outcome, written, and the rows that are wrong."""
    importing = FeedImport(
        open_home(settings), FeedSource(path, **source), overwrite_cards=overwrite_cards
    )
    try:
        checked = importing.check()
        outcomes = {o.sku: o for o in checked.outcomes if o.status == "unchanged"}
        wrong = list(checked.wrong)
        for done in importing.write(checked):
            if isinstance(done, RowRemark):
                wrong.append(done)
            else:
                outcomes[done.sku] = done
    finally:
        importing.close()
    return outcomes, [str(remark) for remark in wrong]


def statuses(outcomes: dict[str, ProductOutcome]) -> dict[str, str]:
    return {sku: outcome.status for sku, outcome in outcomes.items()}


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file, with what changes when it is written: also the hidden ones."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
    }


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


# --- into a folder -----------------------------------------------------------


def test_products_are_added_and_the_same_feed_again_writes_nothing(
    settings: Settings, feed: Path
) -> None:
    outcomes, wrong = run(settings, feed)
    assert (statuses(outcomes), wrong) == ({"00123": "added", "jug-1": "added"}, [])
    mug = settings.catalog_root / "00123"
    assert sorted(os.listdir(mug)) == [".feed.json", "0.jpg", "1.jpg", "2.jpg", "sku.yaml"]
    assert (mug / "1.jpg").read_bytes() == (feed.parent / "img/mug/1.jpg").read_bytes()
    assert sorted(os.listdir(settings.catalog_root)) == ["00123", "jug-1"]
    before = tree(settings.catalog_root)
    outcomes, _ = run(settings, feed)
    assert statuses(outcomes) == {"00123": "unchanged", "jug-1": "unchanged"}
    assert tree(settings.catalog_root) == before


def test_the_catalog_reads_what_was_imported_once_it_has_settled(
    make_settings: Callable[..., Settings], feed: Path
) -> None:
    settings = make_settings()
    run(settings, feed)
    assert refresh_index(open_home(settings)).unsettled == ("00123", "jug-1")
    settings = make_settings(catalog={"settle_seconds": 0})
    report = refresh_index(open_home(settings))
    assert [(row.sku, row.name, row.class_noun, row.status) for row in report.rows] == [
        ("00123", "Blue mug", "mug", "new"),
        ("jug-1", "Jug", "jug", "new"),
    ]
    assert report.refused == ()


def test_a_changed_row_changes_its_card_and_its_photos_alone(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    run(settings, feed)
    before = tree(settings.catalog_root / "jug-1")
    make_photo(feed.parent / "img/mug/1.jpg", seed=77)
    make_photo(feed.parent / "img/mug/9.jpg", seed=9)
    (feed.parent / "img/mug/0.jpg").unlink()
    swap(feed, "Blue mug", "Green mug")
    outcomes, _ = run(settings, feed)
    changed = outcomes["00123"]
    assert (changed.status, changed.card) == ("changed", True)
    assert (changed.added, changed.replaced, changed.removed) == (
        ("9.jpg",),
        ("1.jpg",),
        ("0.jpg",),
    )
    mug = settings.catalog_root / "00123"
    assert sorted(p.name for p in mug.glob("*.jpg")) == ["1.jpg", "2.jpg", "9.jpg"]
    assert (mug / "1.jpg").read_bytes() == (feed.parent / "img/mug/1.jpg").read_bytes()
    assert "name: Green mug\n" in (mug / "sku.yaml").read_text("utf-8")
    assert tree(settings.catalog_root / "jug-1") == before
    assert statuses(run(settings, feed)[0])["00123"] == "unchanged"


def test_photos_of_a_person_stay_and_are_told(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    run(settings, feed)
    mug = settings.catalog_root / "00123"
    make_photo(mug / "own.jpg", seed=50)
    make_photo(mug / "1.jpg", seed=51)
    edited = (mug / "1.jpg").read_bytes()
    make_photo(feed.parent / "img/mug/own.jpg", seed=52)
    outcomes, _ = run(settings, feed)
    assert outcomes["00123"].kept == ("1.jpg", "own.jpg")
    assert outcomes["00123"].added == ("own-2.jpg",)
    assert (mug / "1.jpg").read_bytes() == edited
    swap(feed, "img/mug/\n", "img/mug/2.jpg\n")
    outcomes, _ = run(settings, feed)
    assert outcomes["00123"].removed == ("0.jpg", "own-2.jpg")
    assert sorted(p.name for p in mug.glob("*.jpg")) == ["1.jpg", "2.jpg", "own.jpg"]


def test_files_that_were_only_copied_elsewhere_are_the_same(settings: Settings, feed: Path) -> None:
    run(settings, feed)
    for path in (*feed.parent.rglob("*.jpg"), *settings.catalog_root.rglob("*.jpg")):
        os.utime(path, (1.0, 1.0))
    outcomes, _ = run(settings, feed)
    assert set(statuses(outcomes).values()) == {"unchanged"}


def test_a_card_that_a_person_edited_is_not_overwritten_silently(
    settings: Settings, feed: Path
) -> None:
    run(settings, feed)
    card = settings.catalog_root / "00123/sku.yaml"
    card.write_text("name: Mine\nclass_noun: mug\n", "utf-8")
    outcomes, (wrong,) = run(settings, feed)
    assert "row 2 (sku 00123): the card 00123/sku.yaml was edited by hand" in wrong
    assert "overwrite the card with --overwrite-cards" in wrong
    assert statuses(outcomes) == {"jug-1": "unchanged"}
    assert card.read_text("utf-8").startswith("name: Mine")
    assert statuses(run(settings, feed, overwrite_cards=True)[0])["00123"] == "changed"
    assert "name: Blue mug" in card.read_text("utf-8")
    assert run(settings, feed)[1] == []


def test_a_folder_of_a_person_takes_a_card_and_an_equal_one_is_no_quarrel(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    for sku in ("00123", "jug-1"):
        for n in range(3):
            make_photo(settings.catalog_root / sku / f"{n}.jpg", seed=n)
    own = settings.catalog_root / "00123/sku.json"
    own.write_text('{"class_noun": "mug", "name": "Blue mug"}', "utf-8")
    outcomes, wrong = run(settings, feed)
    assert (wrong, outcomes["00123"].status) == ([], "unchanged")
    assert outcomes["00123"].kept == ("0.jpg", "1.jpg", "2.jpg")
    assert outcomes["jug-1"].added == ("0-2.jpg", "1-2.jpg", "2-2.jpg")
    swap(feed, "Blue mug", "Green mug")
    assert "00123/sku.json was written by hand" in run(settings, feed)[1][0]
    run(settings, feed, overwrite_cards=True)
    assert not own.exists()
    assert "Green mug" in own.with_name("sku.yaml").read_text("utf-8")


def test_photos_that_lie_in_the_folder_already_are_left_there(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    root = settings.catalog_root
    for n in range(3):
        make_photo(root / f"00123/{n}.jpg", seed=n)
    feed.write_text(f"{HEADER}\n00123,Blue mug,mug,00123/*.jpg\n", "utf-8")
    outcomes, _ = run(settings, feed, photos=str(root))
    assert (outcomes["00123"].card, outcomes["00123"].added) == (True, ())
    assert len(list((root / "00123").glob("*.jpg"))) == 3
    assert statuses(run(settings, feed, photos=str(root))[0]) == {"00123": "unchanged"}


def test_wrong_rows_are_named_and_the_good_ones_imported(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    (feed.parent / "empty").mkdir()
    (feed.parent / "x.tif").touch()
    cells = ["x.jpg", "https://shop.example/x.jpg", "empty", "x.tif", "img/mug/*.png", "a\0b.jpg"]
    with feed.open("a", encoding="utf-8") as file:
        file.writelines(f"\nS{n},X,mug,{cell}" for n, cell in enumerate(cells))
        file.write("\njug-2,Jug,jug,img/jug/0.jpg\njug-2,Jug,jug,img/jug/1.jpg")
    outcomes, wrong = run(settings, feed)
    assert statuses(outcomes) == {"00123": "added", "jug-1": "added"}
    for said, expected in zip(
        wrong,
        [
            "row 4 (sku S0): photos 'x.jpg': no such file under",
            "row 5 (sku S1): photos 'https://shop.example/x.jpg': is a URL, and nothing is downl",
            "row 6 (sku S2): photos 'empty': is a folder without photos",
            "row 7 (sku S3): photos 'x.tif': .tif is not read; export it as .jpg, .png or .webp",
            "row 8 (sku S4): photos 'img/mug/*.png': fits no photo",
            "row 9 (sku S5): photos 'a\\x00b.jpg': no such file under",
            "row 11 (sku jug-2): this SKU stands in row 10 as well",
        ],
        strict=True,
    ):
        assert said.startswith(expected)
    assert sorted(os.listdir(settings.catalog_root)) == ["00123", "jug-1"]


def test_what_is_checked_is_not_written(settings: Settings, feed: Path) -> None:
    feed.write_text(f"{HEADER},anchor_photos\nA,Mug,mug,img/mug/0.jpg,1.jpg\nB,,mug,,\n", "utf-8")
    checked = FeedImport(open_home(settings), FeedSource(feed)).check()
    assert [str(remark) for remark in checked.wrong] == [
        "row 2 (sku A): anchor_photos '1.jpg': the product has no photo of this name; expected one "
        "of its photos ('0.jpg'); correct the name"
    ]
    assert "row 3 (sku B): 0 photo(s); expected at least 3" in str(checked.warnings[0])
    assert os.listdir(settings.catalog_root) == []
    assert os.listdir(settings.home) == ["products"]


def test_names_are_made_unique_and_safe(
    settings: Settings, feed: Path, make_photo: MakePhoto
) -> None:
    names = ["a/front.jpg", "b/Front.jpg", "c/.hidden.jpg", "c/we:ird?.JPG"]
    for n, name in enumerate(names):
        make_photo(feed.parent / name, seed=n)
    feed.write_text(f"sku,photos\nA,{'|'.join(names)}\n", "utf-8")
    run(settings, feed)
    assert sorted(os.listdir(settings.catalog_root / "A")) == [
        ".feed.json",
        "Front-2.jpg",
        "front.jpg",
        "hidden.jpg",
        "sku.yaml",
        "we_ird_.JPG",
    ]
    assert statuses(run(settings, feed)[0]) == {"A": "unchanged"}


@pytest.mark.parametrize("at", range(1, 7))
def test_killed_anywhere_a_listing_meets_no_half_product_and_a_rerun_ends_it(
    settings: Settings, feed: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """``at`` counts files: three photos, card and record of a product, then the next one's."""
    counted = 0

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            nonlocal counted
            counted += 1
            if counted == at:
                raise KilledError
            return step(*arguments)

        return write

    with monkeypatch.context() as patched:
        patched.setattr(local_folders, "_copy", dying(local_folders._copy))
        patched.setattr(local_folders, "_write", dying(local_folders._write))
        patched.setattr(local_folders.shutil, "rmtree", lambda *_, **__: None)  # nor cleaned up
        with pytest.raises(KilledError):
            run(settings, feed)
    listed = open_home(settings).photo_source.list_skus()
    assert [len(found.photos) for found in listed.listings] == [3] * (at == 6)
    assert listed.refused == ()
    run(settings, feed)
    assert sorted(os.listdir(settings.catalog_root)) == ["00123", "jug-1"]
    assert set(statuses(run(settings, feed)[0]).values()) == {"unchanged"}


@pytest.mark.parametrize("at", range(1, 6))
def test_killed_while_a_folder_is_changed_a_rerun_ends_it(
    settings: Settings,
    feed: Path,
    make_photo: MakePhoto,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
) -> None:
    run(settings, feed)
    swap(feed, "Blue mug", "Green mug")
    make_photo(feed.parent / "img/mug/1.jpg", seed=77)
    (feed.parent / "img/mug/0.jpg").unlink()
    steps = {"replace": 0}

    def replace(self: Path, target: Path) -> None:
        steps["replace"] += 1
        if steps["replace"] == at:
            raise KilledError
        os.replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        if at < 5:
            with pytest.raises(KilledError):
                run(settings, feed)
        else:
            run(settings, feed)
            assert steps["replace"] == 4, "record, photo, card, record"
    outcomes, wrong = run(settings, feed)
    assert wrong == []
    assert outcomes["00123"].kept == ()
    mug = settings.catalog_root / "00123"
    assert sorted(p.name for p in mug.glob("*.jpg")) == ["1.jpg", "2.jpg"]
    assert (mug / "1.jpg").read_bytes() == (feed.parent / "img/mug/1.jpg").read_bytes()
    assert "Green mug" in (mug / "sku.yaml").read_text("utf-8")
    assert set(statuses(run(settings, feed)[0]).values()) == {"unchanged"}


def test_two_imports_do_not_write_at_once(settings: Settings, feed: Path) -> None:
    lease = open_home(settings).objects.lease_object(LEASE_KEY)
    with lease.hold(0.0, 60.0), pytest.raises(LockTimeoutError):
        run(settings, feed)
    assert os.listdir(settings.catalog_root) == []


def test_what_stands_in_the_way_of_one_product_stops_that_one(
    settings: Settings, feed: Path, tmp_path: Path
) -> None:
    (settings.catalog_root / "00123").write_text("a file", "utf-8")
    run(settings, feed)
    (settings.catalog_root / "jug-1/.feed.json").write_text("{", "utf-8")
    outcomes, (first, second) = run(settings, feed)
    assert outcomes == {}
    assert "row 2 (sku 00123): " in first
    assert "00123 is a file; expected a folder" in first
    assert ".feed.json cannot be read" in second
    (settings.catalog_root / "00123").unlink()
    (settings.catalog_root / "00123").symlink_to(tmp_path)
    assert "is a symlink out of the catalog" in run(settings, feed)[1][0]


def test_a_root_that_is_not_there_is_made_only_inside_the_home(
    make_settings: Callable[..., Settings], feed: Path, tmp_path: Path
) -> None:
    settings = make_settings()
    settings.catalog_root.rmdir()
    assert statuses(run(settings, feed)[0])["00123"] == "added"
    share = tmp_path / "share"
    mounted = make_settings(catalog={"root": share})
    share.rmdir()
    with pytest.raises(CatalogError, match="create or mount it"):
        run(mounted, feed)
    with pytest.raises(CatalogError, match=r"no folder .*name it with --photos"):
        run(settings, feed, photos=str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match="the catalog is a folder"):
        run(settings, feed, photos="s3://bucket/x")


# --- into a bucket -----------------------------------------------------------


class Bucket:
    """A bucket catalog at ``<prefix>/catalog``, its photos beside it at ``<prefix>/img``."""

    def __init__(self, s3: S3Settings, make_settings: Callable[..., Settings]) -> None:
        import boto3

        self.top = s3.prefix
        self.s3 = s3.model_copy(update={"prefix": f"{s3.prefix}/catalog"})
        self.settings = make_settings(catalog={"s3": self.s3.model_dump(), "settle_seconds": 0})
        self.client: Any = boto3.client("s3", endpoint_url=s3.endpoint_url, region_name=s3.region)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.s3.bucket, Key=f"{self.top}/{key}", Body=data)

    def get(self, key: str) -> bytes:
        answer = self.client.get_object(Bucket=self.s3.bucket, Key=f"{self.top}/{key}")
        return answer["Body"].read()

    def objects(self) -> dict[str, Any]:
        """Every object of the catalog, with what changes when it is written."""
        prefix = f"{self.s3.prefix}/"
        answer = self.client.list_objects_v2(Bucket=self.s3.bucket, Prefix=prefix)
        return {
            found["Key"][len(prefix) :]: (found["ETag"], found["LastModified"])
            for found in answer.get("Contents", ())
        }


@pytest.fixture
def bucket(
    s3_settings: S3Settings, make_settings: Callable[..., Settings], feed: Path
) -> Iterator[Bucket]:
    opened = Bucket(s3_settings, make_settings)
    for path in sorted((feed.parent / "img").rglob("*.jpg")):
        opened.put(path.relative_to(feed.parent).as_posix(), path.read_bytes())
    yield opened
    opened.client.close()


def test_in_a_bucket_photos_are_copied_there_and_the_same_feed_again_writes_nothing(
    bucket: Bucket, feed: Path
) -> None:
    top, name = bucket.top, bucket.s3.bucket
    photos = [
        f"{top}/img/mug/0.jpg",
        f"s3://{name}/{top}/img/mug/1.jpg",
        f"{bucket.s3.endpoint_url}/{name}/{top}/img/mug/2.jpg?X-Amz-Signature=abc",
    ]
    rows = [f"00123,Blue mug,mug,{'|'.join(photos)}", f"jug-1,Jug,jug,{top}/img/jug/"]
    rows += ["bad-1,X,mug,https://shop.example/x.jpg", f"bad-2,X,mug,{top}/img/none.jpg"]
    feed.write_text("\n".join([HEADER, *rows]), "utf-8")
    outcomes, wrong = run(bucket.settings, feed)
    assert statuses(outcomes) == {"00123": "added", "jug-1": "added"}
    assert "is a URL elsewhere, and nothing is downloaded; expected a key" in wrong[0]
    assert "no such object in s3://" in wrong[1]
    before = bucket.objects()
    assert [key for key in before if key.startswith("00123/")] == [
        *("00123/.feed.json", "00123/0.jpg", "00123/1.jpg", "00123/2.jpg", "00123/sku.yaml")
    ]
    assert bucket.get("catalog/00123/1.jpg") == bucket.get("img/mug/1.jpg")
    report = refresh_index(open_home(bucket.settings))
    assert [(row.sku, row.name, row.status) for row in report.rows] == [
        ("00123", "Blue mug", "new"),
        ("jug-1", "Jug", "new"),
    ]
    assert statuses(run(bucket.settings, feed)[0]) == {"00123": "unchanged", "jug-1": "unchanged"}
    assert bucket.objects() == before


def test_in_a_bucket_changes_and_what_a_person_did_are_told_apart(
    bucket: Bucket, feed: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    root = f"s3://{bucket.s3.bucket}/{bucket.top}"
    run(bucket.settings, feed, photos=root)
    other = make_photo(tmp_path / "other.jpg", seed=60).read_bytes()
    bucket.put("img/mug/1.jpg", other)
    bucket.put("catalog/00123/own.jpg", other)
    bucket.put("catalog/jug-1/2.jpg", other)
    swap(feed, "Blue mug", "Green mug")
    swap(feed, "img/mug/", "img/mug/1.jpg;img/mug/2.jpg")
    outcomes, _ = run(bucket.settings, feed, photos=root)
    mug = outcomes["00123"]
    assert (mug.card, mug.replaced, mug.removed, mug.kept) == (
        *(True, ("1.jpg",), ("0.jpg",), ("own.jpg",)),
    )
    assert (outcomes["jug-1"].status, outcomes["jug-1"].kept) == ("unchanged", ("2.jpg",))
    assert b"Green mug" in bucket.get("catalog/00123/sku.yaml")
    bucket.put("catalog/00123/sku.yaml", b"name: Mine\n")
    assert "was edited by hand" in run(bucket.settings, feed, photos=root)[1][0]


def test_photos_of_this_machine_are_uploaded(bucket: Bucket, feed: Path) -> None:
    outcomes, _ = run(bucket.settings, feed, photos=str(feed.parent))
    assert statuses(outcomes) == {"00123": "added", "jug-1": "added"}
    assert bucket.get("catalog/jug-1/2.jpg") == (feed.parent / "img/jug/2.jpg").read_bytes()
    again, _ = run(bucket.settings, feed, photos=str(feed.parent))
    assert set(statuses(again).values()) == {"unchanged"}


@pytest.mark.parametrize("at", [3, 4])
def test_killed_before_or_after_its_card_a_bucket_shows_nothing_to_learn_and_a_rerun_ends_it(
    bucket: Bucket, feed: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """``at`` counts what is written after the mark: record, the photos, card, record."""
    root = f"s3://{bucket.s3.bucket}/{bucket.top}"
    steps = 0

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def write(self: Any, *arguments: Any) -> Any:
            nonlocal steps
            steps += s3_folders.MARKER_NAME not in arguments
            if steps == at:
                raise KilledError
            return step(self, *arguments)

        return write

    with monkeypatch.context() as patched:
        for name in ("_put", "_put_photos"):
            step = getattr(s3_folders.S3ProductFolders, name)
            patched.setattr(s3_folders.S3ProductFolders, name, dying(step))
        with pytest.raises(KilledError):
            run(bucket.settings, feed, photos=root)
    (row,) = refresh_index(open_home(bucket.settings)).rows
    assert row.status == ("new" if at == 4 else "failed")  # the card is the last that is needed
    outcomes, wrong = run(bucket.settings, feed, photos=root)
    assert (wrong, outcomes["00123"].kept) == ([], ())
    assert s3_folders.MARKER_NAME not in json.dumps(list(bucket.objects()))
    assert [row.status for row in refresh_index(open_home(bucket.settings)).rows] == ["new", "new"]
    assert set(statuses(run(bucket.settings, feed, photos=root)[0]).values()) == {"unchanged"}


def test_only_urls_of_the_bucket_lead_into_it() -> None:
    here = S3Settings(bucket="photos", region="eu-central-1")
    server = S3Settings(bucket="photos", endpoint_url="http://127.0.0.1:9000")
    for url in (
        "s3://photos/a/b.jpg",
        "https://photos.s3.eu-central-1.amazonaws.com/a/b.jpg",
        "https://photos.s3.amazonaws.com/a/b.jpg?X-Amz-Date=1",
        "https://s3.eu-central-1.amazonaws.com/photos/a/b.jpg",
    ):
        assert key_in_bucket(url, here) == "a/b.jpg"
    assert key_in_bucket("http://127.0.0.1:9000/photos/a%20b.jpg", server) == "a b.jpg"
    for url in (
        "s3://other/a.jpg",
        "https://other.s3.amazonaws.com/a.jpg",
        "https://s3.amazonaws.com/photos-2/a.jpg",
        "https://photos.example.com/a.jpg",
        "ftp://photos/a.jpg",
        "http://[broken/a.jpg",
    ):
        assert key_in_bucket(url, here) is None
        assert key_in_bucket(url, server) is None
