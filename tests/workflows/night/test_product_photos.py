"""Photos are judged once a content of their folder; where they are not wanted none is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.evaluation import anchor_photos, features
from catalog_pipeline.records import ProductPhotos
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night import product_photos
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.preview_night import preview_night
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from tests.workflows.painted_night import DAY, NIGHT, Studio
from tests.workflows.photographed import (
    EXACT,
    PRODUCTS,
    cut_out,
    files_of,
    photograph,
    photos_opened,
)

KEPT = "catalog/anchors/crate.json"


@pytest.fixture(autouse=True, scope="module")
def _one_encoder() -> Iterator[None]:
    encoder = features.open_encoder()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(features, "open_encoder", lambda: encoder)
        yield


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The products whose photos are judged, in order."""
    skus: list[str] = []
    judge = anchor_photos.judge_photos

    def noted(photos: Any, *arguments: Any, **options: Any) -> Any:
        skus.append(photos[0].key.partition("/")[0])
        return judge(photos, *arguments, **options)

    monkeypatch.setattr(anchor_photos, "judge_photos", noted)
    return skus


@pytest.fixture
def shop(make_settings: Callable[..., Settings]) -> Settings:
    """``crate``: one cut-out; nothing has to settle."""
    settings = make_settings(catalog={"settle_seconds": 0, "min_photos": 1})
    photograph(settings, "crate", count=1)
    return settings


def find(settings: Settings, *, keep: bool = True) -> ProductPhotos:
    """What a night of the folder as it is now knows of ``crate``."""
    home = open_home(settings)
    contents = {row.sku: row.content_hash for row in refresh_index(home).rows}
    return PhotoBook(home, contents, keep=keep).find("crate")


# --- once a content ----------------------------------------------------------


def test_a_content_is_judged_once_and_only_figures_are_kept(
    shop: Settings, judged: list[str]
) -> None:
    first = find(shop)
    (photo,) = first.photos
    assert (photo.key, photo.aspect, photo.height_px) == ("crate/0.png", 1.0, 58)
    assert first.reason == ""
    with photos_opened() as opened:
        book = PhotoBook(open_home(shop), {"crate": json.loads(kept(shop))["content_hash"]})
        assert book.find("crate") == book.find("crate") == first
    assert opened == []
    assert judged == ["crate"]
    assert len(kept(shop)) < 1000


def test_a_changed_folder_is_judged_anew(shop: Settings, judged: list[str]) -> None:
    find(shop)
    cut_out("crate", 1).save(shop.catalog_root / "crate" / "1.png")
    found = find(shop)
    assert [photo.key for photo in found.photos] == ["crate/0.png", "crate/1.png"]
    assert judged == ["crate", "crate"]
    assert find(shop) == found
    assert judged == ["crate", "crate"]


def test_another_judge_judges_anew(
    shop: Settings, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(shop)
    monkeypatch.setattr(product_photos, "JUDGE_VERSION", product_photos.JUDGE_VERSION + 1)
    assert find(shop) == find(shop) == first
    assert judged == ["crate", "crate"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" + data[1:],
        lambda data: b"null",
        lambda data: b"[]",
        lambda data: data.replace(b'"aspect": 1.0', b'"aspect": "wide"'),
        lambda data: data.replace(b'"light": [', b'"light": [1.0, '),
    ],
    ids=["empty", "cut", "no text", "null", "a list", "a word", "a number more"],
)
def test_damaged_figures_are_made_anew(
    shop: Settings, judged: list[str], damage: Callable[[bytes], bytes]
) -> None:
    first = find(shop)
    good = kept(shop)
    assert damage(good) != good
    (shop.home / KEPT).write_bytes(damage(good))
    assert find(shop) == first
    assert judged == ["crate", "crate"]
    assert kept(shop) == good


def test_a_dry_run_keeps_nothing(shop: Settings, judged: list[str]) -> None:
    find(shop, keep=False)
    before = files_of(shop)
    assert find(shop, keep=False).photos
    assert files_of(shop) == before
    assert judged == ["crate", "crate"]
    assert not (shop.home / KEPT).exists()


def test_a_folder_that_cannot_be_read_is_asked_again(shop: Settings, judged: list[str]) -> None:
    home = open_home(shop)
    assert "not in the catalog's index" in PhotoBook(home, {}).find("crate").reason
    (shop.catalog_root / "crate" / "0.png").write_bytes(b"no picture")
    found = find(shop)
    assert found.photos == ()
    assert found.reason.startswith("crate: 0 usable photos of 1 listed")
    assert "\n" not in found.reason
    assert not (shop.home / KEPT).exists()
    cut_out("crate").save(shop.catalog_root / "crate" / "0.png")
    assert find(shop).photos
    assert judged == ["crate"]


def test_a_set_without_a_usable_photo_says_why_and_is_not_judged_again(
    shop: Settings, judged: list[str]
) -> None:
    cut_out("crate", side=96).save(shop.catalog_root / "crate" / "0.png")
    found = find(shop)
    assert found.photos == ()
    assert "none of its 1 photos shows it alone, whole and sharp: 'crate/0.png'" in found.reason
    assert "expected 48 on its longer side (1 so)" in found.reason
    assert find(shop) == found
    assert judged == ["crate"]


def kept(settings: Settings) -> bytes:
    return (settings.home / KEPT).read_bytes()


# --- none is read ------------------------------------------------------------


def night(make_settings: Callable[..., Settings], allowed: Any) -> Studio:
    """Two learned products with photos, in a night of exact scenes."""
    settings = make_settings(
        catalog={"settle_seconds": 0, "min_photos": 1},
        generation={**NIGHT, **EXACT, "anchor_photos": allowed},
    )
    for sku in PRODUCTS:
        photograph(settings, sku, count=1)
    studio = Studio(settings)
    refresh_index(studio.home)
    studio.learn(*PRODUCTS)
    return studio


@pytest.mark.parametrize("allowed", [False, {"default": False}])
def test_where_photos_are_kept_out_of_scenes_a_night_opens_none(
    make_settings: Callable[..., Settings], allowed: Any
) -> None:
    studio = night(make_settings, allowed)
    with photos_opened() as opened:
        assert plan_night(studio.home, DAY) == preview_night(studio.home, DAY).plan
        report = studio.render()
    assert opened == []
    assert report.rendered == 3
    jobs = plan_night(studio.home, DAY).jobs
    assert {(job.mode, job.mode_reason) for job in jobs} == {
        ("learned", "anchor_photos is off for collection 'default'")
    }
    assert not (Path(studio.settings.home) / "catalog" / "anchors").exists()


def test_elsewhere_a_plan_reads_each_photo_and_a_second_plan_none(
    make_settings: Callable[..., Settings],
) -> None:
    studio = night(make_settings, {"another": False})
    with photos_opened() as opened:
        preview = preview_night(studio.home, DAY)
    assert set(opened) == {"ball/0.png", "crate/0.png"}
    assert {job.mode for job in preview.plan.jobs} == {"exact"}
    assert not (Path(studio.settings.home) / "catalog" / "anchors").exists()
    plan = plan_night(studio.home, DAY)
    assert plan == preview.plan
    with photos_opened() as opened:
        assert plan_night(studio.configured(**EXACT, seed=7).home, DAY) != plan
    assert opened == []
