"""The benchmark of the stores, at its smallest: it runs to the end and tells what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.stores.__main__ import SECTIONS
from tests.benchmarks.stores.growth import SPREAD, Growth, Point, measure_growth
from tests.benchmarks.stores.made_up import QUICK
from tests.benchmarks.stores.measurement import Measurement
from tests.benchmarks.stores.report import where, write_report


def test_the_sections_over_a_folder_run_and_are_reported(tmp_path: Path) -> None:
    sections = {}
    for name in ("manifest", "publish", "versions"):
        found = list(SECTIONS[name](tmp_path / name, QUICK))
        assert all(each.cpu_seconds > 0 for each in found)
        sections[name] = {"machine": where(), "measurements": [m.to_record() for m in found]}
    write_report(tmp_path / "out", sections, note="a note for the reader")
    page = (tmp_path / "out" / "stores.md").read_text("utf-8")
    assert "a note for the reader" in page
    assert page.count("| met |") + page.count("| CPU only |") >= 4
    assert json.loads((tmp_path / "out" / "stores.json").read_text("utf-8"))["sections"] == sections


@pytest.mark.slow
def test_growth_is_fitted_and_reported(tmp_path: Path) -> None:
    work = ("index: read", "heads opened", "`gc --dry-run`")
    found = [each.to_record() for each in measure_growth(tmp_path / "homes", QUICK, only=work)]
    assert [each["what"] for each in found] == [
        *("index: read", "heads opened, one collection", "`gc --dry-run`, one collection"),
        *(f"{name}, {SPREAD}" for name in work[1:]),
    ]
    assert all([p["skus"] for p in each["points"]] == list(QUICK.growth) for each in found)
    section = {"machine": where(), "measurements": found}
    write_report(tmp_path / "out", {"growth": section}, note="")
    page = (tmp_path / "out" / "stores.md").read_text("utf-8")
    assert "| what | 10 SKUs | 30 SKUs | grows as |" in page


def test_an_exponent_is_the_slope_of_logarithms() -> None:
    costs = [(10, 2.0, 10**7), (100, 200.0, 10**8), (1000, 20_000.0, 10**9)]
    points = tuple(Point(skus, 0.0, cpu, memory, 0) for skus, cpu, memory in costs)
    growth = Growth("x", points)
    assert growth.cpu_exponent == pytest.approx(2.0)
    assert growth.memory_exponent == pytest.approx(1.0)


def test_a_target_may_be_missed_by_the_clock_alone() -> None:
    def verdict(target: float | None, wall: float, cpu: float) -> str:
        return Measurement("x", target, wall, cpu, peak_rss_bytes=0, runs=3).verdict

    assert verdict(2.0, wall=1.9, cpu=1.0) == "met"
    assert verdict(2.0, wall=9.0, cpu=1.0) == "CPU only"
    assert verdict(2.0, wall=9.0, cpu=3.0) == "missed"
    assert verdict(None, wall=9.0, cpu=3.0) == "no target"
