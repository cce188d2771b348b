"""Nights of real photos on a tiny real model: what is in the pictures, and what their rows say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog_pipeline.evaluation import text_reading
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.provenance.origin import COMPOSITE, GENERATED
from catalog_pipeline.provenance.picture_files import xmp_of
from catalog_pipeline.provenance.xmp import read_origin
from catalog_pipeline.records import ArchiveRow, NightPlan, Pixels, Region, RenderReport
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.picture_gate import attempt_job, why_failed
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.night.render_night import render_night
from tests.workflows.painted_night import ColourEncoder, ColourJudge, ColourVerdict
from tests.workflows.photographed import cut_out, files_of, rows_staged

DAY = date(2026, 1, 31)


@pytest.fixture(autouse=True, scope="module")
def _no_text_is_read() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_reading, "find_spec", lambda name: None)
        yield


class Night:
    """A published night of a home, rendered by the real sampler and judged by colours."""

    def __init__(self, settings: Settings, open_judge: Any = ColourJudge) -> None:
        self.settings = settings
        options = {"encoder": ColourEncoder(), "open_judge": open_judge}
        self.plan: NightPlan = plan_night(open_home(settings), DAY)
        with rows_staged() as rows:
            self.report: RenderReport = render_night(open_home(settings), DAY, **options)
        self.rows = rows
        self.published = publish_manifest(open_home(settings), DAY)

    def row(self, *skus: str) -> ArchiveRow:
        (found,) = (row for row in self.rows.values() if sorted(row.skus) == sorted(skus))
        return found

    def picture(self, row: ArchiveRow) -> Pixels:
        return decode_png(open_home(self.settings).archive.read_image(row.path))

    def source_type(self, row: ArchiveRow) -> str:
        """What the picture's own file says it is."""
        said = read_origin(xmp_of(open_home(self.settings).archive.read_image(row.path)))
        assert said is not None
        return said.source_type

    def manifest(self) -> dict[str, ArchiveRow]:
        return {row.image_id: row for row in open_home(self.settings).archive.read_day(DAY)}


def over(settings: Settings, folder: Path, **generation: Any) -> Settings:
    """The same line over a copy of its home, with other generation settings."""
    home = shutil.copytree(settings.home, folder / "home")
    merged = settings.generation.model_dump() | generation
    update = {"home": home, "generation": type(settings.generation).model_validate(merged)}
    return settings.model_copy(update=update)


@pytest.fixture(scope="module")
def exact(photographed_line: Settings, tmp_path_factory: pytest.TempPathFactory) -> Night:
    policies = {"singles_per_sku": 1, "pairs": 3}
    return Night(over(photographed_line, tmp_path_factory.mktemp("exact"), policies=policies))


# --- exact -------------------------------------------------------------------


@pytest.mark.parametrize("skus", [("ball",), ("crate",), ("ball", "crate")])
def test_the_row_of_an_exact_picture_says_what_stands_where(
    exact: Night, skus: tuple[str, ...]
) -> None:
    row = exact.row(*skus)
    (job,) = (job for job in exact.plan.jobs if job.job_id == row.job_id)
    assert (row.mode, row.mode_reason, row.verdict, row.attempts) == ("exact", "", "passed", 1)
    assert row.photos == {anchor.sku: anchor.sha256 for anchor in job.anchors}
    assert set(row.photos) == set(row.boxes) == set(skus)
    assert (row.width, row.height) == (job.width * 8, job.height * 8)
    assert (row.strength, row.seed) == (0.6, job.seed)
    assert 0.8 < row.real_pixels <= 1
    for anchor in job.anchors:
        box = row.boxes[anchor.sku]
        assert all(isinstance(edge, int) for edge in box)
        assert Region(*(edge / row.width for edge in box)).left == pytest.approx(
            anchor.box.left, abs=1 / row.width
        )
        assert 0 <= box[0] < box[2] <= row.width
        assert 0 <= box[1] < box[3] <= row.height


def test_a_picture_says_whether_real_pixels_stand_in_it(exact: Night) -> None:
    """What was asked for from photos and could not be is drawn, and says so."""
    kinds = {row.mode: exact.source_type(row) for row in exact.rows.values()}
    assert kinds == {"exact": COMPOSITE, "learned": GENERATED}


def test_the_products_in_an_exact_picture_are_those_of_the_photos(exact: Night) -> None:
    row = exact.row("ball", "crate")
    picture = exact.picture(row)
    assert picture.shape == (row.height, row.width, 3)
    for sku, color in (("ball", (200, 40, 30)), ("crate", (43, 79, 168))):
        left, top, right, bottom = row.boxes[sku]
        product = picture[top:bottom, left:right].reshape(-1, 3).astype(float)
        near = np.abs(product - color).max(axis=1) < 40
        assert near.mean() > 0.3, sku
        beside = np.delete(picture, np.s_[left:right], axis=1).reshape(-1, 3).astype(float)
        assert (np.abs(beside - color).max(axis=1) < 40).mean() < 0.05, sku


def test_each_product_of_an_exact_picture_has_its_figures(exact: Night) -> None:
    for skus in (("ball",), ("crate",), ("ball", "crate")):
        scores = exact.row(*skus).scores
        for sku in skus:
            assert scores[f"visible/{sku}"] == pytest.approx(1, abs=0.02)
            assert 0 < scores[f"delta_e/{sku}"] < 6
            assert scores[f"crop_likeness/{sku}"] > 0.9
            assert f"halo/{sku}" not in scores  # what lay behind a cut-out file is not known
            assert scores[f"found/{sku}"] == scores[f"found_first/{sku}"] == 1
            assert f"fidelity/{sku}" in scores
        assert scores["reflection"] == 1


def test_a_product_without_a_usable_photo_is_learned_and_the_row_says_why(exact: Night) -> None:
    for skus in (("tent",), ("ball", "tent"), ("crate", "tent")):
        row = exact.row(*skus)
        assert (row.mode, row.photos, row.boxes) == ("learned", {}, {})
        assert (row.strength, row.real_pixels) == (1.0, 0.0)
        assert row.mode_reason.startswith("tent: none of its 2 photos shows it alone, whole and")
        assert "expected 48 on its longer side" in row.mode_reason
        assert not any(name.startswith(("delta_e/", "halo/")) for name in row.scores)
    (note,) = (note for note in exact.plan.notes if "without photos" in note)
    assert note.startswith("3 picture(s) are learned, without photos in them: tent: none of")


def test_the_manifest_says_the_same(exact: Night) -> None:
    held = {row.image_id: row for row in open_home(exact.settings).archive.quarantine.read_day(DAY)}
    assert exact.manifest() | held == exact.rows
    assert {row.mode for row in exact.manifest().values()} >= {"exact"}


def test_a_second_run_makes_nothing(exact: Night, tmp_path: Path) -> None:
    before = files_of(exact.settings)
    again = Night(exact.settings)
    assert (again.report.rendered, again.report.attempts, again.rows) == (0, 0, {})
    assert not again.published.changed
    assert again.plan == exact.plan
    assert files_of(exact.settings) == before


def test_a_changed_photo_makes_its_pictures_anew_and_supersedes_the_old_ones(
    exact: Night, tmp_path: Path
) -> None:
    settings = over(exact.settings, tmp_path)
    for index in range(2):
        cut_out("ball", index + 2).save(settings.catalog_root / "ball" / f"{index}.png")
    refresh_index(open_home(settings))
    again = Night(settings)
    assert {row.skus for row in again.rows.values()} == {
        row.skus for row in exact.rows.values() if row.mode == "exact" and "ball" in row.skus
    }
    manifest = again.manifest()
    for skus in (("ball",), ("ball", "crate")):
        old, new = exact.row(*skus), again.row(*skus)
        assert old.image_id != new.image_id
        assert (old.sha256, old.photos["ball"]) != (new.sha256, new.photos["ball"])
        assert manifest[old.image_id].superseded
        assert not manifest[new.image_id].superseded
    assert not manifest[exact.row("crate").image_id].superseded
    assert again.published.superseded == 2


# --- anchored ----------------------------------------------------------------


class EasyJudge:
    """Finds every product; only the crops are left to complain."""

    def judge(
        self, pictures: Sequence[Pixels], named: Sequence[Sequence[tuple[str, Region]]]
    ) -> list[ColourVerdict]:
        return [ColourVerdict({sku: True for sku, _ in regions}) for regions in named]


def night_of_singles(
    line: Settings, tmp_path: Path, judge: EasyJudge, *, mode: str = "anchored", **quality: float
) -> Night:
    singles = {"singles_per_sku": 1, "pairs": 0}
    settings = over(line, tmp_path, mode=mode, policies=singles, quality=quality)
    return Night(settings, open_judge=lambda *known: judge)


def test_an_anchored_picture_that_the_crops_refuse_ends_as_an_exact_one(
    photographed_line: Settings, tmp_path: Path
) -> None:
    """What an untrained model redraws has no colours of the photos."""
    night = night_of_singles(photographed_line, tmp_path, EasyJudge(), attempts=3)
    quality = night.settings.generation.quality
    for sku in ("ball", "crate"):
        row = night.row(sku)
        (job,) = (job for job in night.plan.jobs if job.job_id == row.job_id)
        last = attempt_job(job, quality, 3)
        assert job.mode == "anchored"
        assert (row.mode, row.attempts, row.verdict) == ("exact", 3, "passed")
        assert row.strength == last.strength == pytest.approx(0.6 * 0.75**2)
        assert row.seed == last.seed != job.seed
        assert row.photos == {sku: last.anchors[0].sha256}
        assert night.picture(row).shape == (row.height, row.width, 3) == (128, 128, 3)
        assert row.scores[f"delta_e/{sku}"] < 6
    assert (night.row("tent").mode, night.row("tent").attempts) == ("learned", 1)
    assert night.report.attempts == 7


def test_an_anchored_picture_that_passes_is_of_the_models_own_pixels(
    photographed_line: Settings, tmp_path: Path
) -> None:
    open_bounds = {"max_delta_e": 99.0, "min_crop_likeness": -1.0}
    night = night_of_singles(photographed_line, tmp_path, EasyJudge(), **open_bounds)
    for sku in ("ball", "crate"):
        row = night.row(sku)
        assert (row.mode, row.attempts, row.verdict) == ("anchored", 1, "passed")
        assert (row.real_pixels, row.strength, row.width) == (0.0, 0.6, 16)
        assert set(row.photos) == set(row.boxes) == {sku}
        assert row.boxes[sku][2] <= 16
        assert night.source_type(row) == GENERATED
        assert f"delta_e/{sku}" in row.scores


@dataclass(frozen=True)
class OneTooMany(ColourVerdict):
    def to_scores(self) -> dict[str, float]:
        return {**super().to_scores(), "count_error": 1.0}


class CountingJudge(EasyJudge):
    """Sees every product, and something else beside it."""

    def judge(
        self, pictures: Sequence[Pixels], named: Sequence[Sequence[tuple[str, Region]]]
    ) -> list[ColourVerdict]:
        return [OneTooMany(verdict.found) for verdict in super().judge(pictures, named)]


def test_something_else_in_an_exact_picture_holds_it_back(
    photographed_line: Settings, tmp_path: Path
) -> None:
    judge = CountingJudge()
    night = night_of_singles(photographed_line, tmp_path, judge, mode="exact", attempts=1)
    row = night.row("ball")
    assert (row.mode, row.verdict, row.scores["found/ball"]) == ("exact", "failed", 1.0)
    assert why_failed(row) == "1 thing too many"
