"""Lines through measured points, and the plan that they give."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep import capacity_lines
from catalog_pipeline.workflows.upkeep.capacity import Demand, home_failure_rate, plan_capacity
from catalog_pipeline.workflows.upkeep.capacity_fit import FIXED, Point, fit_line, typed
from catalog_pipeline.workflows.upkeep.capacity_lines import THIS_MACHINE, Speeds
from catalog_pipeline.workflows.upkeep.capacity_night import MOST_WORKERS, NightWork
from catalog_pipeline.workflows.upkeep.capacity_points import (
    columns_of,
    read_cards,
    read_home_points,
)
from tests.workflows.upkeep.data_home import learning_row, picture

MakeSettings = Callable[..., Settings]


def points(
    measured: Callable[[float, float], float], steps: list[float], existing: list[float]
) -> list[Point]:
    return [
        Point(measured(x, y), {"steps": x, "existing": y}, f"{x:g}")
        for x, y in zip(steps, existing, strict=True)
    ]


def test_a_fit_recovers_the_coefficients():
    exact = points(
        lambda steps, known: 20 + 0.3 * steps + 0.001 * known,
        [20, 20, 60, 60, 120, 120, 240],
        [0, 900, 30, 500, 10, 700, 300],
    )
    fit = fit_line(exact, ["steps", "existing"])
    assert fit.coefficients == pytest.approx({FIXED: 20, "steps": 0.3, "existing": 0.001})
    assert fit.error == pytest.approx(0, abs=1e-9)
    assert fit.at(steps=400, existing=1000) == pytest.approx(141)
    assert fit.outside(steps=400, existing=100) == ["steps 400, measured 20 to 240"]


def test_noise_moves_it_little_and_shows_in_the_error():
    rng = np.random.default_rng(0)
    noisy = points(
        lambda steps, _: (20 + 0.3 * steps) * rng.lognormal(0, 0.1),
        [20, 60, 120, 240] * 10,
        [0.0] * 40,
    )
    fit = fit_line(noisy, ["steps", "existing"])
    assert set(fit.coefficients) == {FIXED, "steps"}  # what does not vary cannot be told
    assert fit.coefficients["steps"] == pytest.approx(0.3, rel=0.1)
    assert fit.error is not None
    assert 0.04 < fit.error < 0.15
    assert 1.05 < fit.high < 1.35


def test_what_is_left_out_has_no_say_in_its_own_prediction():
    """A group that is off as a whole is predicted from the others alone, by a slow loop."""
    steps = [20.0, 20.0, 60.0, 60.0, 120.0, 120.0]
    values = [30.0, 30.0, 42.0, 42.0, 120.0, 120.0]
    found = fit_line(
        [Point(v, {"steps": x}, f"{x:g}") for x, v in zip(steps, values, strict=True)], ["steps"]
    )
    assert found.left_out == "3 groups in turn"
    expected = []
    for group in (20.0, 60.0, 120.0):
        seen = [(x, v) for x, v in zip(steps, values, strict=True) if x != group]
        (low, a), (top, b) = seen[0], seen[-1]
        slope = max(0.0, (b - a) / (top - low))
        for x, v in zip(steps, values, strict=True):
            if x == group:
                expected.append(v / (a + slope * (x - low)))
    # From 60 and 120 the line would fall below 0 at 20 steps, which no line here does.
    assert found.ratios[2:] == pytest.approx(expected[2:])
    assert found.error is not None
    assert found.error > 0.3


def test_one_number_of_steps_scales_with_them():
    same = [Point(60.0 + n, {"steps": 120.0}, str(n)) for n in range(4)]
    fit = fit_line(same, ["steps"])
    assert fit.at(steps=240) == pytest.approx(2 * fit.at(steps=120))
    assert fit.outside(steps=240)


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 0.0, 4.0]])
def test_no_points_or_none_above_zero_are_refused(values):
    with pytest.raises(ConfigurationError, match="expected some, each above 0"):
        fit_line([Point(value, {}, "a") for value in values])


def test_of_too_few_points_no_error_is_told():
    few = fit_line([Point(value, {}, "a") for value in (1.0, 2.0, 3.0)])
    assert few.error is None
    assert few.high == 1.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_typed_speed_is_a_number_above_zero(value):
    with pytest.raises(ConfigurationError, match="above 0"):
        typed(value)


def test_one_worker_does_one_after_the_other():
    work = NightWork(10, 60, 5, 1, 100)
    assert work.hours(1) == pytest.approx((10 * 65 + 100) / 3600)


def test_more_workers_help_until_publishing_in_sequence_is_all_there_is():
    work = NightWork(1000, 60, 6, 1, 0)
    hours = [work.hours(workers) for workers in (1, 2, 4, 11, 64)]
    assert hours == sorted(hours, reverse=True)
    assert hours[-1] >= 1000 * 6 / 3600
    assert hours[-1] < 1.1 * work.least_hours
    assert work.fewest_workers(1.0) is None
    spread = NightWork(1000, 60, 6, 8, 0)
    assert spread.fewest_workers(1.0) is not None
    fewest = spread.fewest_workers(1.0)
    assert fewest is not None
    assert spread.hours(fewest) <= 1.0 < spread.hours(fewest - 1)


def test_no_task_is_shorter_than_itself_and_pictures_alone_are_shared_out():
    assert NightWork(1, 3600, 0, 1, 0).hours(MOST_WORKERS) == pytest.approx(1.0)
    assert NightWork(0, 0, 0, 1, 7200).hours(4) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"new_skus": 0.0, "pictures": 0.0}, "no new SKU and no picture"),
        ({"new_skus": float("nan")}, "--new-skus nan; expected 0 or more"),
        ({"hours": 30.0}, "--hours 30; expected 0.01 to 24"),
        ({"nights": 0}, "--nights 0; expected 1 or more"),
        ({"failure_rate": 1.5}, "--failure-rate 1.5; expected 0 to 1"),
        ({"workers": 0}, "--workers 0; expected 1 to 4096"),
    ],
)
def test_a_demand_that_cannot_be_is_refused(changes, words):
    with pytest.raises(ConfigurationError) as refused:
        demand(**changes)
    assert words in str(refused.value)


def demand(**changes: Any) -> Demand:
    asked = {"skus": 0, "new_skus": 100.0, "nights": 30, "pictures": 200.0, "hours": 8.0}
    return Demand(**(asked | changes))


def measured_home(make_settings: MakeSettings, nights: int = 4) -> Home:
    """A home in which a SKU took ``10 + steps / 2`` seconds and a picture 2 a product."""
    home = open_home(make_settings(generation={"width": 32, "height": 16, "mode": "learned"}))
    for night in range(nights):
        day = date(2026, 3, 1) + timedelta(days=night)
        ended = datetime(2026, 3, 1 + night, 12, tzinfo=UTC)
        for number, steps in enumerate((20, 60, 120)):
            row = learning_row(
                f"S{number}",
                f"{night:08d}{number:08d}",
                ended,
                seconds=10 + steps / 2,
                settings=json.dumps({"steps": steps}),
                metrics={"final_loss": 0.1},
            )
            home.learning_log.add(row)
        failed = {"status": "failed", "attempt_id": f"bad@{night}"}
        home.learning_log.add(learning_row("BAD", "", ended, **failed))
        rows = [
            picture(
                home.archive,
                f"{night}-{n}",
                *skus,
                day=day,
                steps=14,
                render_seconds=2.0 * len(skus),
            )
            for n, skus in enumerate((("S0",), ("S0", "S1"), ("S1",)))
        ]
        home.archive.publish_day(day, rows, [row.image_id for row in rows])
    return home


def test_a_home_measures_itself(make_settings):
    home = measured_home(make_settings)
    found = read_home_points(home)
    assert len(found["learning"]) == 12
    assert fit_line(found["learning"], columns_of("learning")).coefficients == pytest.approx(
        {FIXED: 10, "steps": 0.5}
    )
    assert len(found["rendering learned"]) == 12
    assert {point.at["further_products"] > 0 for point in found["rendering learned"]} == {
        True,
        False,
    }
    assert all(point.value > 100 for point in found["picture learned"])
    assert len(found["row"]) == 4
    assert home_failure_rate(home) == pytest.approx(1 / 4)


def test_a_plan_goes_by_the_home_where_it_has_points(make_settings):
    home = measured_home(make_settings)
    plan = plan_capacity(home, demand(products=1.5, price_per_hour=2.0), Speeds(THIS_MACHINE))
    figures = {figure.name: figure for figure in plan.figures}
    assert figures["learning"].value == pytest.approx(10 + 120 / 2)
    assert figures["learning"].source == "this home"
    assert figures["learning"].error == pytest.approx(0, abs=1e-6)
    assert figures["rendering learned"].value == pytest.approx(3.0)
    assert figures["publishing"].source.startswith("cpu-2-threads")
    assert plan.fits
    assert plan.dominates == "learning"
    assert plan.cost == pytest.approx(2.0 * plan.cards * plan.hours * 30)
    assert plan.stored_bytes["pictures"] == pytest.approx(
        200 * 30 * figures["picture learned"].value
    )
    assert json.loads(json.dumps(plan.to_record()))["fits"] is True


def test_refusals_and_crashes_cost_what_they_cost(make_settings):
    home = measured_home(make_settings)
    plain, refused, crashed = (
        plan_capacity(home, demand(pictures=0.0, workers=1, **more), Speeds(THIS_MACHINE))
        for more in ({}, {"failure_rate": 0.1}, {"mtbf_hours": 1.0})
    )
    assert refused.seconds["learning"] == pytest.approx(1.2 * plain.seconds["learning"])
    assert refused.stored_bytes["parts"] < plain.stored_bytes["parts"]
    restart = read_cards()["cpu-2-threads"].restart_seconds
    lost = restart + 70 * 50 / 120 / 2
    assert crashed.seconds["learning"] / plain.seconds["learning"] == pytest.approx(1 + lost / 3600)


def test_a_night_that_does_not_fit_says_what_would(make_settings):
    home = measured_home(make_settings)
    speeds = Speeds(THIS_MACHINE, publish_seconds=10.0)
    asked = demand(new_skus=1000.0, workers=2, hours=4.0)
    plan = plan_capacity(home, asked, speeds)
    assert not plan.fits
    assert plan.fewest_cards is not None
    assert any(f"{plan.fewest_cards} workers" in line for line in plan.advice)
    assert any("learning dominates" in line for line in plan.advice)
    assert any("over 2 collections" in line for line in plan.advice)
    hopeless = plan_capacity(home, demand(new_skus=5000.0, hours=4.0), speeds)
    assert hopeless.fewest_cards is None
    assert any("no number of cards fits" in line for line in hopeless.advice)


def test_points_are_never_made_up(make_settings):
    empty = open_home(make_settings())
    with pytest.raises(ConfigurationError, match="this home has measured 0 points for learning"):
        plan_capacity(empty, demand(), Speeds(THIS_MACHINE))
    with pytest.raises(ConfigurationError, match="nothing was measured on card 'h200'"):
        plan_capacity(empty, demand(), Speeds("h200"))
    with pytest.raises(ConfigurationError, match="'h200' for rendering"):
        plan_capacity(empty, demand(), Speeds("h200", seconds_per_sku=4.0))
    plan = plan_capacity(empty, demand(), Speeds("h200", 4.0, 0.5))
    values = {figure.name: (figure.value, figure.source) for figure in plan.figures}
    assert values["learning"] == (4.0, "as typed")
    shipped = plan_capacity(empty, demand(), Speeds())
    assert shipped.figures[0].source.startswith("cpu-2-threads")
    other = open_home(make_settings(base_model={"base_model": "some/base"}))
    with pytest.raises(ConfigurationError, match="are of base model 'embedded'"):
        plan_capacity(other, demand(), Speeds())


def test_every_shipped_card_says_what_measured_it_and_fits():
    for card in read_cards().values():
        assert card.processor
        assert card.restart_seconds > 0
        assert {"learning", "publishing", "rendering exact", "parts"} <= set(card.points)
        for name, measured in card.points.items():
            assert re.search(r"benchmarks.*\d{4}-\d{2}-\d{2}", card.sources[name])
            assert fit_line(measured, columns_of(name)).points == len(measured)
        for name in ("learning", "publishing", "version"):
            error = fit_line(card.points[name], columns_of(name)).error
            assert error is not None
            assert error < 0.5, name


def test_a_size_that_nobody_measured_is_said_to_lack(make_settings, monkeypatch):
    (card,) = read_cards().values()
    known = {kind: each for kind, each in card.points.items() if "anchored" not in kind}
    less = {card.name: replace(card, points=known)}
    monkeypatch.setattr(capacity_lines, "read_cards", lambda: less)
    home = open_home(make_settings(generation={"width": 128, "height": 128, "mode": "anchored"}))
    with pytest.raises(ConfigurationError, match="'cpu-2-threads' for rendering anchored"):
        plan_capacity(home, demand(), Speeds())
    plan = plan_capacity(home, demand(), Speeds(seconds_per_picture=1.0))
    assert plan.stored_bytes["pictures"] == 0
    assert "storage lacks picture anchored: not measured" in plan.advice
