"""The products of photos in memory, and pictures whose photo has gone since they were planned."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from catalog_pipeline.errors import StoreError
from catalog_pipeline.evaluation import matting, text_reading
from catalog_pipeline.records import Anchor, Photo, RenderJob
from catalog_pipeline.settings import CatalogSettings, GenerationSettings, Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.night import anchor_cutouts
from catalog_pipeline.workflows.night.anchor_cutouts import (
    CutoutBook,
    PhotoGoneError,
    as_learned,
)
from catalog_pipeline.workflows.night.plan_night import plan_night, read_plan
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.workflows.painted_night import DAY, NIGHT, Studio
from tests.workflows.photographed import (
    EXACT,
    PRODUCTS,
    cut_out,
    photograph,
    photos_opened,
    rows_staged,
)


@pytest.fixture(autouse=True, scope="module")
def _no_text_is_read() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_reading, "find_spec", lambda name: None)
        yield


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A planned night of three exact pictures: a ball, a crate, and both."""
    settings = Settings(
        home=tmp_path_factory.mktemp("planned"),
        config_dir=tmp_path_factory.mktemp("config"),
        catalog=CatalogSettings(settle_seconds=0, min_photos=1),
        generation=GenerationSettings.model_validate(
            {**NIGHT, **EXACT, "quality": {"gate": False}}
        ),
    )
    for sku in PRODUCTS:
        photograph(settings, sku)
    studio = Studio(settings)
    refresh_index(studio.home)
    studio.learn(*PRODUCTS)
    plan_night(studio.home, DAY)
    return settings


@pytest.fixture
def studio(planned: Settings, tmp_path: Path) -> Studio:
    home = shutil.copytree(planned.home, tmp_path / "home")
    return Studio(planned.model_copy(update={"home": home}))


def jobs_of(studio: Studio) -> list[RenderJob]:
    return list(read_plan(studio.home, DAY).jobs)


def remove(studio: Studio, anchor: Anchor) -> None:
    (studio.settings.catalog_root / anchor.key).unlink()


# --- the book ----------------------------------------------------------------


def test_a_photo_is_read_and_cut_out_once_and_only_where_it_stands(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []
    true_cut = matting.cut_out_product

    def noted(photo: Photo, masker: object, **seen: object) -> object:
        cut.append(photo.key)
        return true_cut(photo, masker, **seen)  # type: ignore[arg-type]

    monkeypatch.setattr(matting, "cut_out_product", noted)
    jobs = jobs_of(studio)
    anchors = {anchor.sha256: anchor.key for job in jobs for anchor in job.anchors}
    book = CutoutBook(studio.home)
    with photos_opened() as opened:
        assert book.of([as_learned(job, "") for job in jobs]) == {}
        found = book.of(jobs)
        assert book.of(jobs[:1]).items() <= found.items()
    assert set(found) == set(anchors)
    assert sorted(cut) == sorted(opened) == sorted(anchors.values())
    for cutout in found.values():
        assert cutout.rgba[..., 3].max() == 255


def test_only_so_many_cut_outs_stay_in_memory(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor_cutouts, "_RESIDENT_CUTOUTS", 1)
    singles = [job for job in jobs_of(studio) if len(job.skus) == 1]
    (pair,) = (job for job in jobs_of(studio) if len(job.skus) == 2)
    book = CutoutBook(studio.home)
    assert len(book.of([pair])) == 2  # however few may stay, a picture has all of its own
    with photos_opened() as opened:
        for job in (*singles, *singles):
            assert set(book.of([job])) == {job.anchors[0].sha256}
    assert len(opened) >= 3


def test_a_photo_that_is_gone_or_another_one_is_named(studio: Studio) -> None:
    job = next(job for job in jobs_of(studio) if job.skus == ("ball",))
    (anchor,) = job.anchors
    path = studio.settings.catalog_root / anchor.key
    cut_out("crate").save(path)
    with pytest.raises(PhotoGoneError, match=f"'{anchor.key}' has changed since the night was"):
        CutoutBook(studio.home).of([job])
    remove(studio, anchor)
    with pytest.raises(PhotoGoneError, match=f"'{anchor.key}' cannot be read .*is gone"):
        CutoutBook(studio.home).of([job])
    learned = CutoutBook(studio.home).or_learned(job)
    assert learned == as_learned(job, learned.mode_reason)
    assert anchor.key in learned.mode_reason
    assert (learned.job_id, learned.seed) == (job.job_id, job.seed)
    assert (learned.mode, learned.anchors, learned.spare_anchors) == ("learned", (), ())


# --- a night -----------------------------------------------------------------


def test_a_picture_whose_photo_has_gone_is_learned_and_its_neighbours_are_not(
    studio: Studio,
) -> None:
    alone = next(job for job in jobs_of(studio) if job.skus == ("ball",))
    (gone,) = alone.anchors
    remove(studio, gone)
    with rows_staged() as staged:
        report = studio.render()
    assert (report.rendered, report.failed) == (3, ())
    for job in jobs_of(studio):
        row = staged[job.job_id]
        without = gone.sha256 in {anchor.sha256 for anchor in job.anchors}
        assert row.mode == ("learned" if without else "exact")
        assert (gone.key in row.mode_reason) == without
        assert bool(row.mode_reason) == without
        assert set(row.photos) == set(row.boxes) == (set() if without else set(job.skus))
        assert (row.strength, row.seed) == (1.0 if without else job.strength, job.seed)
        assert (row.real_pixels > 0.8) != without
    assert staged[alone.job_id].mode == "learned"
    assert "exact" in {row.mode for row in staged.values()}
    read_back = {row.image_id: row for row in studio.home.archive.staged(DAY)}
    assert read_back == staged
    publish_manifest(studio.home, DAY)
    studio.painted()
    assert studio.render().rendered == 0


def test_a_published_picture_stays_when_its_photo_goes(studio: Studio) -> None:
    studio.render()
    publish_manifest(studio.home, DAY)
    before = studio.files()
    for job in jobs_of(studio):
        for anchor in job.anchors:
            (studio.settings.catalog_root / anchor.key).unlink(missing_ok=True)
    kept = {name for name in before if (studio.settings.home / name).is_file()}
    assert studio.render().rendered == 0
    assert not publish_manifest(studio.home, DAY).changed
    assert studio.files() == {name: before[name] for name in kept}
    assert not studio.manifest()["superseded"].any()


def test_the_next_night_stands_on_the_photos_that_are_left(studio: Studio) -> None:
    folder = studio.settings.catalog_root / "ball"
    (folder / "0.png").unlink()
    refresh_index(studio.home)
    jobs = plan_night(studio.home, DAY + timedelta(days=1)).jobs
    keys = {anchor.key for job in jobs for anchor in job.anchors}
    assert "ball/1.png" in keys
    assert "ball/0.png" not in keys


def test_a_store_that_fails_between_pictures_of_two_modes_is_no_failure_of_the_model(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    singles = [job for job in jobs_of(studio) if len(job.skus) == 1]
    remove(studio, singles[0].anchors[0])

    def full(archive: ImageArchive, data: bytes, skus: Sequence[str]) -> tuple[str, str]:
        raise StoreError("the disk is full")

    monkeypatch.setattr(ImageArchive, "put_image", full)
    with pytest.raises(StoreError, match="the disk is full"):
        studio.render()
    assert len(studio.painted()) == 1


def test_a_photo_that_cannot_be_cut_out_costs_its_picture_alone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_cut = matting.cut_out_product

    def stumbles(photo: Photo, masker: object, **seen: object) -> object:
        if photo.key.startswith("ball"):
            raise MemoryError("no room for the Laplacian")
        return true_cut(photo, masker, **seen)  # type: ignore[arg-type]

    monkeypatch.setattr(matting, "cut_out_product", stumbles)
    report = studio.render()
    failed = {job.job_id for job in jobs_of(studio) if "ball" in job.skus}
    assert set(report.failed) == failed
    assert report.rendered == 1
