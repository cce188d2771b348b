"""Every formula against a slow loop, and the invariants."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.evaluation.retention import (
    RetentionMatrix,
    cosine_to_photos,
    fidelity_share,
    photo_ceiling,
    prior_drift,
)

# A busy machine must not fail a formula.
untimed = settings(deadline=None, max_examples=40)


def features(count: int, seed: int, width: int = 7) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@untimed
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_fidelity_is_the_mean_over_all_pairs(pictures, photos, seed):
    generated, real = features(pictures, seed), features(photos, seed + 1)
    slow = [float(np.dot(g, p)) for g in generated for p in real]
    assert cosine_to_photos(generated, real) == pytest.approx(sum(slow) / len(slow), abs=1e-6)


@untimed
@given(st.integers(2, 6), st.integers(0, 99))
def test_the_ceiling_leaves_out_a_photo_with_itself(photos, seed):
    real = features(photos, seed)
    slow = [float(np.dot(a, b)) for i, a in enumerate(real) for j, b in enumerate(real) if i != j]
    assert photo_ceiling(real) == pytest.approx(sum(slow) / len(slow), abs=1e-6)


def test_the_same_picture_is_at_the_ceiling():
    real = np.repeat(features(1, 3), 4, axis=0)
    assert photo_ceiling(real) == pytest.approx(1.0)
    assert fidelity_share(cosine_to_photos(real, real), photo_ceiling(real)) == pytest.approx(1.0)
    assert photo_ceiling(real[:1]) == 1.0


@untimed
@given(st.integers(1, 6), st.integers(0, 99))
def test_drift_is_one_minus_the_mean_cosine_of_pairs(prompts, seed):
    before, after = features(prompts, seed), features(prompts, seed + 1)
    slow = sum(1 - float(np.dot(a, b)) for a, b in zip(before, after, strict=True)) / prompts
    assert prior_drift(before, after) == pytest.approx(slow, abs=1e-6)
    assert prior_drift(before, before) == pytest.approx(0, abs=1e-6)


def test_features_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="width 7 and 5"):
        cosine_to_photos(features(2, 0), features(2, 0, width=5))
    with pytest.raises(ValueError, match="generated has shape"):
        cosine_to_photos(features(2, 0)[:0], features(2, 0))
    with pytest.raises(ValueError, match="same prompts"):
        prior_drift(features(2, 0), features(3, 0))


def slow_forgetting(table: np.ndarray) -> float:
    """mean over j < K of max over k < K of R[k, j], minus R[K, j]."""
    last = len(table) - 1
    falls = []
    for j in range(last):
        best = max(table[k][j] for k in range(j, last))
        falls.append(best - table[last][j])
    return sum(falls) / len(falls)


@untimed
@given(st.integers(2, 6), st.integers(0, 99))
def test_retention_against_loops(tasks, seed):
    table = np.random.default_rng(seed).uniform(0, 1, (tasks, tasks))
    names = tuple(f"sku-{index}" for index in range(tasks))
    matrix = RetentionMatrix(names)
    for k in range(tasks):
        matrix.record(names[k], {names[j]: table[k, j] for j in range(k + 1)})
    assert matrix.final_mean == pytest.approx(sum(table[-1]) / tasks)
    assert matrix.after_own_task == pytest.approx(sum(table[k][k] for k in range(tasks)) / tasks)
    assert matrix.forgetting == pytest.approx(slow_forgetting(table))
    content = json.loads(matrix.to_json())
    np.testing.assert_array_equal(np.array(content["fidelity"], float), matrix.values)
    assert tuple(content["concepts"]) == names


def test_nothing_forgotten_when_nothing_changes():
    matrix = RetentionMatrix(("a", "b"))
    matrix.record("a", {"a": 0.5})
    assert matrix.forgetting == 0.0
    matrix.record("b", {"a": 0.5, "b": 0.2})
    assert matrix.forgetting == 0.0
    assert matrix.forgetting_per_concept() == {"a": 0.0}
    assert matrix.final_mean == pytest.approx(0.35)


def test_concepts_that_were_not_measured_do_not_count():
    matrix = RetentionMatrix(("a", "b", "c"))
    matrix.record("a", {"a": 0.9})
    matrix.record("c", {"a": 0.6, "c": 0.3})
    assert matrix.forgetting_per_concept() == {"a": pytest.approx(0.3)}
    assert matrix.final_mean == pytest.approx(0.45)
    assert np.isnan(matrix.values[2, 1])


def test_a_concept_cannot_be_measured_before_it_is_learned():
    matrix = RetentionMatrix(("a", "b"))
    with pytest.raises(ValueError, match="b is learned after a"):
        matrix.record("a", {"b": 0.1})
    with pytest.raises(ValueError, match="unknown concept 'z'"):
        matrix.record("z", {})
    with pytest.raises(ValueError, match="nothing was recorded"):
        _ = matrix.final_mean


def test_photos_without_a_likeness_of_their_own_give_no_wild_share():
    assert fidelity_share(0.3, 0.6) == pytest.approx(0.5)
    assert fidelity_share(0.3, -0.2) == pytest.approx(3.0)
