"""The confusion matrix against slow loops, and the invariants."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.evaluation.confusion import ConfusedPair, ConfusionMatrix
from tests.evaluation.test_retention import features

untimed = settings(deadline=None, max_examples=40)


@untimed
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))
def test_pictures_like_their_own_photos_are_never_confused(concepts, photos, pictures):
    rows = np.eye(8, dtype=np.float32)
    bank = {f"sku-{i}": np.repeat(rows[i : i + 1], photos, 0) for i in range(concepts)}
    made = {sku: np.repeat(own[:1], pictures, 0) for sku, own in bank.items()}
    matrix = ConfusionMatrix.measure(made, bank)
    np.testing.assert_array_equal(matrix.values, np.eye(concepts))
    assert matrix.accuracy == 1.0
    assert matrix.most_confused() == []


@untimed
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_recognition_against_loops(concepts, photos, pictures, seed):
    bank = {f"sku-{i}": features(photos, seed + i) for i in range(concepts)}
    made = {sku: features(pictures, seed + 50 + i) for i, sku in enumerate(bank)}
    slow = np.zeros((concepts, concepts))
    for i, rows in enumerate(made.values()):
        for row in rows:
            means = [sum(float(np.dot(row, p)) for p in own) / len(own) for own in bank.values()]
            slow[i, means.index(max(means))] += 1 / pictures
    matrix = ConfusionMatrix.measure(made, bank)
    np.testing.assert_allclose(matrix.values, slow, atol=1e-9)
    np.testing.assert_allclose(matrix.values.sum(axis=1), 1)
    assert matrix.accuracy == pytest.approx(sum(slow[i, i] for i in range(concepts)) / concepts)


MATRIX = ConfusionMatrix(
    ("red mug", "blue mug", "duck", "teapot"),
    np.array([[0.5, 0.3, 0.2, 0], [0.1, 0.9, 0, 0], [0, 0.4, 0.6, 0], [0, 0, 0, 1]]),
)
CLASSES = {"red mug": "mug", "blue mug": "mug", "duck": "toy", "teapot": "teapot"}


def test_confusion_within_a_class_counts_only_twins():
    assert MATRIX.same_class(CLASSES) == pytest.approx((0.3 + 0.1) / 2)
    assert math.isnan(MATRIX.same_class({sku: sku for sku in MATRIX.concepts}))
    everything = dict.fromkeys(MATRIX.concepts, "thing")
    assert MATRIX.same_class(everything) == pytest.approx(1 - MATRIX.accuracy)


def test_the_most_confused_come_first():
    assert MATRIX.most_confused(2) == [
        ConfusedPair("duck", "blue mug", 0.4),
        ConfusedPair("red mug", "blue mug", 0.3),
    ]
    assert len(MATRIX.most_confused(99)) == 4


def test_a_concept_without_pictures_can_still_be_taken_for():
    bank = {"a": features(2, 0), "b": features(2, 1)}
    matrix = ConfusionMatrix.measure({"a": bank["b"]}, bank)
    assert matrix.values[0].tolist() == [0, 1]
    assert np.isnan(matrix.values[1]).all()
    assert matrix.accuracy == 0
    assert matrix.most_confused() == [ConfusedPair("a", "b", 1.0)]
    assert matrix.same_class({"a": "mug", "b": "mug"}) == 1.0


def test_json_holds_every_figure_and_null_for_rows_without_pictures():
    bank = {"ラグーン": features(2, 0), "b": features(2, 1)}
    for matrix in (MATRIX, ConfusionMatrix.measure({"b": features(3, 2)}, bank)):
        content = json.loads(matrix.to_json())
        empty = [None] * len(matrix.concepts)
        rows = [empty if row is None else row for row in content["confusion"]]
        assert tuple(content["concepts"]) == matrix.concepts
        np.testing.assert_array_equal(np.array(rows, float), matrix.values)
        json.dumps(content, allow_nan=False)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="photos of every such concept"):
        ConfusionMatrix.measure({"a": features(1, 0)}, {"b": features(1, 0)})
    with pytest.raises(ValueError, match="at least one concept with pictures"):
        ConfusionMatrix.measure({}, {"b": features(1, 0)})
    with pytest.raises(ValueError, match=r"a has features of shape \(0, 7\)"):
        ConfusionMatrix.measure({"a": features(1, 0)[:0]}, {"a": features(1, 0)})
