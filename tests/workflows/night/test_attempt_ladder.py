"""What a further attempt changes in a picture that starts from photos."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog_pipeline.records import Anchor, Region, RenderJob
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.workflows.night.picture_gate import (
    attempt_job,
    attempt_seed,
    attempt_strength,
)
from tests.builders import make_render_job


def photos(name: str) -> tuple[Anchor, ...]:
    return tuple(
        Anchor(sku, f"{sku}/{name}.jpg", f"{sku}-{name}", Region(0.1, 0.2, 0.5, 0.9))
        for sku in ("a", "b")
    )


FIRST, SECOND, THIRD = photos("1"), photos("2"), photos("3")


def job(mode: str = "anchored", *spare: tuple[Anchor, ...]) -> RenderJob:
    return make_render_job("a", "b", mode=mode, strength=0.8, anchors=FIRST, spare_anchors=spare)


def rungs(made: RenderJob, attempts: int, count: int) -> list[RenderJob]:
    quality = QualitySettings(attempts=attempts)
    return [attempt_job(made, quality, number) for number in range(1, count + 1)]


def test_each_attempt_is_redrawn_less_from_other_photos_and_the_last_is_exact() -> None:
    made = job("anchored", SECOND, THIRD)
    first, second, third = rungs(made, 3, 3)
    assert first == made
    assert [rung.anchors for rung in (second, third)] == [SECOND, THIRD]
    assert (second.strength, third.strength) == pytest.approx((0.8 * 0.75, 0.8 * 0.75**2))
    assert (second.mode, third.mode) == ("anchored", "exact")
    assert [rung.seed for rung in (second, third)] == [attempt_seed(made, n) for n in (2, 3)]
    untouched = {"anchors": FIRST, "strength": 0.8, "mode": "anchored", "seed": made.seed}
    assert {replace(rung, **untouched) for rung in (second, third)} == {made}


def test_a_round_more_begins_where_the_first_began_but_from_other_noise() -> None:
    made = job("anchored", SECOND)
    ladder = rungs(made, 3, 6)
    for before, again in zip(ladder[:3], ladder[3:], strict=True):
        assert again.seed != before.seed
        assert replace(again, seed=before.seed) == before
    assert len({rung.seed for rung in ladder}) == 6


def test_the_photos_go_round_where_there_are_fewer_than_attempts() -> None:
    ladder = rungs(job("anchored", SECOND), 4, 4)
    assert [rung.anchors for rung in ladder] == [FIRST, SECOND, FIRST, SECOND]
    assert [rung.mode for rung in ladder] == ["anchored", "anchored", "anchored", "exact"]
    alone = rungs(job(), 2, 2)
    assert [(rung.anchors, rung.mode) for rung in alone] == [(FIRST, "anchored"), (FIRST, "exact")]


def test_an_exact_picture_stays_exact_and_one_attempt_stays_as_planned() -> None:
    assert {rung.mode for rung in rungs(job("exact", SECOND), 3, 6)} == {"exact"}
    assert {rung.mode for rung in rungs(job("anchored", SECOND), 1, 3)} == {"anchored"}
    assert {rung.strength for rung in rungs(job("anchored", SECOND), 1, 3)} == {0.8}


def test_a_learned_picture_changes_its_noise_and_its_guidance_alone() -> None:
    made = make_render_job("a", "b", seed=12345, mode_reason="a: a hand")
    ladder = rungs(made, 3, 5)
    assert ladder[0] == made
    # The seeds of every night so far: a lost picture is made again by the attempt that made it.
    seeds = [12345, 9759757, 788845074, 942470631, 2067513456]
    assert [rung.seed for rung in ladder] == seeds
    assert {replace(rung, seed=12345) for rung in ladder} == {made}
    quality = QualitySettings(attempts=3, strength_factor=2.0)
    assert [attempt_strength(quality, n) for n in range(1, 6)] == [1, 2, 4, 1, 2]
