"""Pictures that lack a product are tried again, and what still fails is held back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import QualitySettings, Settings
from catalog_pipeline.workflows.models import drawn_by
from catalog_pipeline.workflows.night import picture_scores
from catalog_pipeline.workflows.night.gallery import write_gallery
from catalog_pipeline.workflows.night.picture_gate import (
    attempt_seed,
    attempt_strength,
    pass_rates,
    rank,
    skus_to_retake,
)
from catalog_pipeline.workflows.night.picture_scores import PictureScorer
from catalog_pipeline.workflows.night.plan_night import plan_night, read_plan, report_key
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from tests.builders import make_archive_row
from tests.workflows.hard_night import (
    ALWAYS,
    FORGOTTEN,
    ONCE,
    hard_jobs,
    hard_studio,
    held,
    published,
)
from tests.workflows.painted_night import (
    DAY,
    ColourEncoder,
    ColourJudge,
    PowerCutError,
    Studio,
)


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return hard_studio(make_settings)


# --- further attempts --------------------------------------------------------


def test_a_lost_product_is_tried_again_from_other_noise_with_stronger_guidance(
    studio: Studio,
) -> None:
    hard = hard_jobs(studio)
    report = studio.render(forgets=ONCE)
    for row in report.rows:
        if row.image_id in hard:
            job = hard[row.image_id]
            assert (row.attempts, row.verdict, row.seed) == (2, "passed", attempt_seed(job, 2))
            assert row.seed != job.seed
            assert (row.scores["found_first/a"], row.scores["found/a"]) == (0, 1)
        else:
            assert (row.attempts, row.verdict) == (1, "passed")
    (painter,) = studio.painters
    assert set(painter.strengths) == {1.0, 1.5}
    assert (report.attempts, report.rendered) == (len(report.rows) + len(hard), len(report.rows))
    assert (report.quarantined, report.failed) == ((), ())
    publish_manifest(studio.home, DAY)
    frame = studio.manifest().set_index("image_id")
    assert set(frame.loc[list(hard), "attempts"]) == {2}
    assert set(frame["verdict"]) == {"passed"}
    assert held(studio) == {}


def test_attempts_of_several_batches_are_made_together(studio: Studio) -> None:
    large = studio.configured(batch_size=3)
    hard = hard_jobs(studio)
    report = large.render(forgets=ALWAYS)
    (painter,) = large.painters
    pairs = sum(len(job.skus) == 2 for job in hard.values())
    triples = len(hard) - pairs
    again = [b for b, s in zip(painter.batches, painter.strengths, strict=True) if s > 1]
    assert len(again) == 2 * (-(-pairs // 3) + -(-triples // 3))
    assert set(report.quarantined) == set(hard)


def test_the_gate_can_be_off(studio: Studio) -> None:
    report = studio.configured(quality={"gate": False}).render(forgets=ALWAYS)
    assert {(row.verdict, row.attempts) for row in report.rows} == {("unscored", 1)}
    assert all("min_fidelity" in row.scores and "found/a" not in row.scores for row in report.rows)
    assert (report.pass_rates, report.retake, report.quarantined) == ((), (), ())


def test_the_gates_settings_are_no_part_of_the_plan(studio: Studio) -> None:
    before = studio.files()
    plan = plan_night(studio.configured(quality={"attempts": 7, "gate": False}).home, DAY)
    assert plan == read_plan(studio.home, DAY)
    assert studio.files() == before


def test_a_model_that_fails_on_a_further_attempt_leaves_the_first(studio: Studio) -> None:
    hard = hard_jobs(studio)
    report = studio.render(forgets=ALWAYS, refuses_at_strength=1.4)
    assert report.failed == ()
    rows = {row.image_id: row for row in report.rows}
    assert {(rows[i].verdict, rows[i].attempts, rows[i].seed) for i in hard} == {
        ("failed", 1, job.seed) for job in hard.values()
    }


# --- an interrupted night ----------------------------------------------------


def test_finished_pictures_survive_a_power_cut_before_the_others_are_tried_again(
    studio: Studio,
) -> None:
    hard = hard_jobs(studio)
    with pytest.raises(PowerCutError):
        studio.render(forgets=ONCE, power_cut_at_strength=1.5)
    made = set(studio.painted())
    kept = {row.image_id for row in studio.home.archive.staged(DAY)}
    assert kept == made - set(hard)
    assert kept
    assert made & set(hard), "no attempt was waiting when the power was cut"
    report = studio.render()
    again = set(studio.painted())
    assert not again & kept
    assert report.reused == len(kept)
    assert again | kept == {job.job_id for job in read_plan(studio.home, DAY).jobs}


# --- what people are told ----------------------------------------------------


def test_the_night_tells_how_often_each_product_was_found(studio: Studio) -> None:
    report = studio.render(forgets=ALWAYS)
    rates = {rate.sku: rate for rate in report.pass_rates}
    assert report.pass_rates[0].sku == FORGOTTEN
    hard = len(hard_jobs(studio))
    assert rates["a"].pictures - rates["a"].found == hard
    assert (rates["b"].rate, rates["b"].first_rate) == (1.0, 1.0)
    assert report.retake == ("a",)
    stored = json.loads(studio.home.objects.read(report_key(DAY)).data)
    assert set(stored["quarantined"]) == set(hard_jobs(studio))
    assert stored["pass_rates"][0]["sku"] == "a"
    assert (stored["retake"], stored["attempts"]) == (["a"], report.attempts)


def test_the_rates_of_a_rerun_are_those_of_the_whole_night(studio: Studio) -> None:
    rates = studio.render(forgets=ONCE).pass_rates
    publish_manifest(studio.home, DAY)
    again = studio.render()
    assert again.rendered == 0
    assert again.pass_rates == rates
    a = next(rate for rate in rates if rate.sku == "a")
    assert (a.rate, a.pictures - a.found_at_once) == (1.0, len(hard_jobs(studio)))


def test_the_gallery_folds_held_back_pictures_away(night: Studio) -> None:
    html = write_gallery(night.home, DAY).read_text("utf-8")
    assert html.count("<article") == len(published(night))
    assert html.count("<figure>") == len(held(night))
    assert "not found: a" in html
    assert "2 of 2 found, 1 attempt" in html


# --- the rules ---------------------------------------------------------------


def test_seeds_and_strengths_of_attempts(studio: Studio) -> None:
    job = next(iter(hard_jobs(studio).values()))
    seeds = [attempt_seed(job, number) for number in range(1, 8)]
    assert seeds[0] == job.seed
    assert len(set(seeds)) == 7
    assert all(0 <= seed < 2**31 for seed in seeds)
    quality = QualitySettings(attempts=3, strength_factor=2.0)
    assert [attempt_strength(quality, n) for n in range(1, 7)] == [1.0, 2.0, 4.0, 1.0, 2.0, 4.0]


def test_the_best_of_failed_attempts() -> None:
    whole = {"reflection": 0.5, "min_fidelity": 0.3}
    assert rank({"reflection": 1.0, "min_fidelity": 0.1}) > rank(whole)
    assert rank({**whole, "min_fidelity": 0.4}) > rank(whole)
    assert rank(whole) > rank({**whole, "color_swap": 1.0, "min_fidelity": 0.9})
    assert rank(whole) > rank({**whole, "blank": 1.0, "reflection": 1.0})


def test_a_product_is_named_for_new_photos_only_after_enough_pictures() -> None:
    quality = QualitySettings(min_pass_rate=0.5, min_pass_rate_pictures=3)

    def rows(*found: int) -> list[ArchiveRow]:
        return [judged_row("x", value) for value in found]

    assert skus_to_retake(pass_rates(rows(0, 0)), quality) == ()
    assert skus_to_retake(pass_rates(rows(0, 0, 1)), quality) == ("x",)
    assert skus_to_retake(pass_rates(rows(0, 1, 1)), quality) == ()
    assert pass_rates([replace(row, verdict="unscored") for row in rows(0, 0, 0)]) == ()


def test_a_judge_knows_the_class_but_not_the_whole_collection(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_scores, "RIVALS_PER_CLASS", 2)
    monkeypatch.setattr(picture_scores, "RIVALS_IN_ALL", 3)
    version = studio.learn("d", "e", "f", "g")
    home = studio.home
    known: list[set[str]] = []

    def open_judge(banks, classes, encoder, palettes) -> ColourJudge:  # type: ignore[no-untyped-def]
        known.append(set(banks))
        assert set(palettes) == set(banks)
        return ColourJudge(banks, classes, encoder)

    jobs = plan_night(studio.home, DAY).jobs
    scorer = PictureScorer(home, drawn_by(version), ColourEncoder, open_judge)
    studio.render()
    rows = {row.image_id: row for row in home.archive.staged(DAY)}
    pictures = [decode_png(home.archive.read_image(rows[job.job_id].path)) for job in jobs]
    judgements = scorer.judge(jobs, pictures)
    assert "unscored" not in {judgement.verdict for judgement in judgements}
    assert all(len(skus) <= 2 + 3 for skus in known)
    assert all(any(set(job.skus) <= skus for skus in known) for job in jobs)


def judged_row(sku: str, found: int) -> ArchiveRow:
    scores = {f"found/{sku}": float(found), f"found_first/{sku}": 0.0}
    verdict = "passed" if found else "failed"
    return make_archive_row("i", sku, scores=scores, attempts=2, verdict=verdict)
