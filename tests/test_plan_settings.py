"""The part of ``generation.yaml`` that says which pictures are to exist: what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import GenerationSettings, load_settings


def load(folder: Path, text: str) -> GenerationSettings:
    (folder / "generation.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder).generation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policies: {cross_sell: {lists: [{name: tea, items: [a]}]}}", "at least two items"),
        (
            "policies: {cross_sell: {lists: [{name: t, items: [a, b]}, {name: t, items: [a, c]}]}}",
            "the list 't' is given 2 times",
        ),
        ("policies: {cross_sell: {lists: [{name: t, items: [a, a]}]}}", "'a' is listed more than"),
        (
            "policies: {cross_sell: {lists: [{name: t, items: ['category:A', 'category: a']}]}}",
            "'category:a' is listed more than once",
        ),
        ("policies: {best_sellers: {items: ['noun:mug']}}", "neither a SKU nor 'category:<name>'"),
        ("policies: {best_sellers: {items: ['category:']}}", "neither a SKU nor 'category:<name>'"),
        (
            "policies: {best_sellers: {items: [a]}, coverage: {nights: 1}}",
            "best_sellers needs coverage.nights of at least 2",
        ),
        ("policies: {coverage: {nights: 61}}", "'policies.coverage.nights'"),
        ("policies: {coverage: {top_up: triples}}", "'policies.coverage.top_up'"),
        ("layouts: {pairs: {left_right: 0}}", "every layout has weight 0"),
        ("layouts: {pairs: {upside_down: 1}}", "upside_down"),
        ("layouts: {pairs: {three_columns: 1}}", "which is no layout of 2 products; expected one"),
        ("layouts: {boxes: {left_right: []}}", "comes with the program"),
        ("layouts: {boxes: {mine: [[0, 0, 1, 1]]}}", "has 1 boxes; expected one for each of 2 or"),
        ("layouts: {boxes: {mine: [[0, 0, 0.5, 1], [0.5, 1, 1, 1]]}}", "expected 0 <= left"),
        ("layouts: {boxes: {My-own: []}}", "My-own"),
        ("layouts: {pairs: {}}", "every layout has weight 0"),
        ("layouts: {triples: {three_columns: -1}}", "'layouts.triples.three_columns'"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_its_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert "generation.yaml" in str(caught.value)
    assert message in str(caught.value)


def test_items_are_trimmed_and_categories_are_lower_case(tmp_path: Path) -> None:
    text = "policies: {best_sellers: {items: ['00123', ' MUG-1 ', 'category: Kitchen ware']}}"
    items = load(tmp_path, text).policies.best_sellers.items
    assert items == ("00123", "MUG-1", "category:kitchen ware")


def test_the_layouts_of_a_count_are_those_of_its_kind(tmp_path: Path) -> None:
    layouts = load(tmp_path, "layouts: {pairs: {left_right: 2}}").layouts
    assert layouts.weights(1) == {"single": 1.0}
    assert layouts.weights(2) == {"left_right": 2.0}
    assert layouts.weights(3) == {"three_columns": 1.0}
