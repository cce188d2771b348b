"""The benchmark of studies: its catalog, and its page from made-up figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from catalog_pipeline.evaluation.study_figures import StudyReport
from tests.benchmarks import study
from tests.evaluation.test_study_figures import cell

FACTS = {
    "products": "4: A, B, C, D",
    "catalog": "a folder of this machine",
    "learning": "20 steps",
    "concepts by granularity": "4 sku, 2 family, 1 category",
    "options": "skus 4",
}


def test_the_page_has_a_line_a_choice_and_names_no_folder(tmp_path: Path) -> None:
    likeness = {sku: 0.5 + place / 50 for place, sku in enumerate("ABCD")}
    worse = {sku: value - 0.2 for sku, value in likeness.items()}
    cells = [cell("sku", likeness), cell("category", worse)]
    found = StudyReport("granularity", cells, FACTS, ["family is the same as sku"])
    options = argparse.Namespace(
        out=tmp_path, note="", quick=True, equal_steps=False, steps=None, study=None
    )
    study.report({"granularity": found.to_record() | {"clock_seconds": 60}}, options)
    page = (tmp_path / "study.md").read_text("utf-8")
    assert "| sku | per_concept | 0.530 (" in page
    assert "**per_concept**: Recommended: sku." in page
    assert "- family is the same as sku" in page
    assert "--quick`" in page
    record = (tmp_path / "study.json").read_text("utf-8")
    assert "a folder of this machine" not in page + record
    assert json.loads(record)["studies"]["granularity"]["clock_seconds"] == 60


def test_every_household_product_gets_its_category(test_data: Path, tmp_path: Path) -> None:
    study.write_catalog(test_data, tmp_path)
    study.write_catalog(test_data, tmp_path)
    cards = [yaml.safe_load(path.read_text("utf-8")) for path in tmp_path.glob("*/sku.yaml")]
    assert len(cards) == 485
    assert all(card["category"] and card["class_noun"] for card in cards)
