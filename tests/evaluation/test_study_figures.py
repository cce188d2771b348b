"""Intervals, and when a study recommends something."""

from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.evaluation.study_figures import (
    StudyReport,
    choice_figures,
    interval,
    judge,
    per_product,
)
from catalog_pipeline.evaluation.study_page import render_study, shown
from catalog_pipeline.records import StudyCell, StudyRow
from tests.evaluation.test_gallery import Collector


def row(sku: str, likeness: float | None, learned: float | None = None, **changes) -> StudyRow:
    forgotten = None if likeness is None or learned is None else learned - likeness
    fields = {
        "row_id": f"s/{sku}",
        "study": "granularity",
        "choice": "sku",
        "slots": "per_concept",
        "seed": 0,
        "sku": sku,
        "name": f"Product <{sku}>",
        "category": "kitchen",
        "family": "kitchen/mug",
        "concept": sku,
        "members": 1,
        "likeness_learned": learned,
        "likeness": likeness,
        "forgotten": forgotten,
        "color_shift": None,
        "waited_days": 2.0,
    }
    return StudyRow(**(fields | changes))


def cell(choice: str, likeness: dict[str, float | None], **changes) -> StudyCell:
    fields = {
        "name": f"{choice}-per_concept-0",
        "study": "granularity",
        "choice": choice,
        "slots": "per_concept",
        "seed": 0,
        "updates": 2,
        "concepts": 3,
        "tasks": 4,
        "refused": 1,
        "seconds": 100.0,
        "stored_bytes": 2_000_000,
        "served_bytes": 1_000_000,
        "rows": tuple(row(sku, value, 0.9) for sku, value in likeness.items()),
    }
    return StudyCell(**(fields | changes))


def test_an_interval_holds_the_mean_and_narrows_with_products():
    rng = np.random.default_rng(1)
    few, many = (interval(rng.normal(0.5, 0.1, n).tolist()) for n in (10, 1000))
    for found in (few, many):
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.mean < found.high
    assert many.high - many.low < (few.high - few.low) / 5
    # Of a mean of n the interval is about 2 * 1.96 * sd / sqrt(n) wide.
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.1 / 1000**0.5, rel=0.1)
    assert interval([0.2, 0.4]).low is None
    assert interval([0.25] * 5) == interval([0.25] * 5)
    assert interval([0.25] * 5).low == pytest.approx(0.25)


def test_what_is_better_of_every_product_is_recommended():
    skus = [f"S{n}" for n in range(8)]
    verdict = judge(
        "per_concept",
        {
            "sku": {sku: 0.6 + 0.02 * n for n, sku in enumerate(skus)},
            "category": {sku: 0.5 + 0.02 * n for n, sku in enumerate(skus)},
        },
    )
    assert (verdict.leading, verdict.recommended, verdict.confidence) == ("sku", "sku", 1.0)
    (difference,) = verdict.differences
    # Paired: the products differ from each other, the difference does not.
    assert difference.interval.low == pytest.approx(0.1)
    assert verdict.words.startswith("Recommended: sku. Over 8 products")


def test_an_interval_that_spans_zero_recommends_nothing():
    skus = [f"S{n}" for n in range(8)]
    verdict = judge(
        "shared",
        {
            "each": dict.fromkeys(skus, 0.5),
            "weekly": {sku: 0.5 + (0.2 if n % 2 else -0.18) for n, sku in enumerate(skus)},
            "nightly": dict.fromkeys(skus, 0.3),
        },
    )
    assert (verdict.leading, verdict.recommended) == ("weekly", "")
    assert verdict.confidence is not None
    assert 0.4 < verdict.confidence < 0.8
    assert verdict.words.startswith("No recommendation: weekly leads, but the interval spans zero")
    assert "against each" in verdict.words
    assert "nightly" not in verdict.words  # that difference is clear


def test_what_is_equally_alike_leads_in_no_resample():
    """Own slots, whose last training has all photos, come out the same however often."""
    alike = {f"S{n}": 0.5 + n / 100 for n in range(8)}
    verdict = judge("per_concept", {"each": alike, "nightly": alike, "weekly": dict(alike)})
    assert (verdict.recommended, verdict.confidence) == ("", 0.0)
    assert "each, nightly, weekly are equally alike" in verdict.words
    lower = {sku: value - 0.1 for sku, value in alike.items()}
    two = judge("per_concept", {"each": alike, "nightly": alike, "weekly": lower})
    assert (two.recommended, two.confidence) == ("", 0.0)


def test_products_without_all_figures_and_lone_choices_are_no_comparison():
    lone = judge("per_concept", {"sku": {"A": 0.5, "B": 0.6, "C": 0.7}})
    assert (lone.recommended, lone.words) == ("", "No recommendation: only one choice was run.")
    apart = judge("per_concept", {"sku": {"A": 0.5}, "family": {"B": 0.5}})
    assert "no product has all figures" in apart.words
    two = judge("per_concept", {"sku": {"A": 0.5, "B": 0.6}, "family": {"A": 0.1, "B": 0.1}})
    assert (two.leading, two.recommended) == ("sku", "")
    assert "2 products are too few" in two.words


def test_seeds_are_averaged_before_products():
    cells = [
        cell("sku", {"A": 0.4, "B": 0.6, "C": None}, seed=0, seconds=100.0),
        cell("sku", {"A": 0.6, "B": 0.8, "C": 0.9}, seed=1, seconds=300.0),
    ]
    assert per_product(cells, lambda each: each.likeness) == pytest.approx({"A": 0.5, "B": 0.7})
    (figures,) = choice_figures(cells)
    assert figures.likeness is not None
    assert figures.likeness.mean == pytest.approx(0.6)
    assert figures.forgotten is not None
    assert figures.forgotten.mean == pytest.approx(0.9 - 0.6)
    assert (figures.seeds, figures.seconds, figures.waited_days) == (2, 200.0, 2.0)


def test_the_page_is_one_file_that_escapes_what_people_typed():
    skus = [f"S{n}" for n in range(4)]
    report = StudyReport(
        study="granularity",
        cells=[
            cell("sku", {sku: 0.6 + n / 50 for n, sku in enumerate(skus)}),
            cell("category", dict.fromkeys(skus, 0.4)),
        ],
        facts={"products": "4: S0", "catalog": "somewhere", "learning": "6 steps"},
        notes=["BAD was left out: <b>no photo</b>"],
        pictures={"S0": {"photo": "data:image/webp;base64,AA", "sku, per_concept": "data:,"}},
    )
    page = render_study(report)
    assert Collector(page).open == []
    assert "https://" not in page
    assert "Product &lt;S0&gt;" in page
    assert "&lt;b&gt;no photo" in page
    assert "Recommended: sku." in page
    assert "sku: a concept for each product" in page
    assert "100 s" in page
    assert shown(None) == "–"
    record = report.to_record()
    assert [each["choice"] for each in record["choices"]] == ["sku", "category"]
    assert record["verdicts"][0]["recommended"] == "sku"
