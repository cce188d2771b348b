"""Charts are pictures that show what they were given."""

from __future__ import annotations

import numpy as np
import pytest

from catalog_pipeline.evaluation.charts import (
    confusion_heat_map,
    cost_against_tasks,
    fidelity_chart,
    growth_chart,
    loss_chart,
    retention_curves,
    retention_heat_map,
)
from catalog_pipeline.evaluation.confusion import ConfusionMatrix
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.evaluation.retention import RetentionMatrix


def matrix(concepts: int, value: float = 0.5) -> RetentionMatrix:
    made = RetentionMatrix(tuple(f"sku-{i}" for i in range(concepts)))
    for task in range(concepts):
        made.record(f"sku-{task}", {f"sku-{i}": value - 0.01 * task for i in range(task + 1)})
    return made


SERIES = {"ours": [(1, 0.6), (2, 0.6)], "finetune": [(1, 0.6), (2, 0.2)]}


def test_charts_are_pictures():
    for png in (
        loss_chart({"a": [(1, 0.5), (2, 0.4)]}),
        fidelity_chart({"a": [None, 0.3]}, ["x", "y"]),
        fidelity_chart({"a": [None, 0.3]}, ["x", "y"], mean=[0.2, 0.3]),
        retention_curves(SERIES, "fidelity"),
        cost_against_tasks(SERIES, "seconds"),
        growth_chart([(0, 3.0), (4, 5.0)], [], "products", "seconds"),
        growth_chart([(0, 3.0), (4, 5.0)], [(0, 3.0), (4, 5.0)], "products", "seconds"),
    ):
        pixels = decode_png(png)
        assert pixels.shape[2] == 3
        assert (pixels != 255).any()


@pytest.mark.parametrize("concepts", [1, 2, 26])
def test_a_heat_map_grows_with_its_concepts(concepts):
    pixels = decode_png(retention_heat_map(matrix(concepts), "kept"))
    smaller = decode_png(retention_heat_map(matrix(1), "kept"))
    assert pixels.shape[1] >= smaller.shape[1]
    assert pixels.std() > 5


def test_a_heat_map_of_a_large_collection_stays_a_picture():
    large = RetentionMatrix(tuple(f"sku-{i:04}" for i in range(800)))
    for last in (300, 799):
        large.record(f"sku-{last:04}", {f"sku-{i:04}": 0.5 for i in range(last + 1)})
    height, width, _ = decode_png(retention_heat_map(large, "kept")).shape
    assert width < 1800
    assert height < 600  # Two measured tasks are two rows.


def test_a_confusion_map_shows_the_mix_up():
    names = ("red mug", "blue mug")
    clean = confusion_heat_map(ConfusionMatrix(names, np.eye(2)), "")
    mixed = confusion_heat_map(ConfusionMatrix(names, np.array([[0.5, 0.5], [0, 1]])), "")
    assert not np.array_equal(decode_png(clean), decode_png(mixed))


def test_a_heat_map_shows_what_was_forgotten():
    kept, lost = matrix(3), matrix(3)
    lost.record("sku-2", {"sku-0": 0.1})
    assert not np.array_equal(
        decode_png(retention_heat_map(kept, "")), decode_png(retention_heat_map(lost, ""))
    )


def test_a_matrix_with_gaps_is_drawn():
    sparse = RetentionMatrix(("a", "b"))
    sparse.record("b", {"b": 0.4})
    assert decode_png(retention_heat_map(sparse, "gaps")).std() > 5


def test_the_same_chart_twice_is_the_same_bytes():
    assert retention_curves(SERIES, "fidelity") == retention_curves(SERIES, "fidelity")


def test_cost_starts_at_nothing():
    high = {"ours": [(1, 100.0), (2, 101.0)]}
    assert cost_against_tasks(high, "seconds") != retention_curves(high, "seconds")
