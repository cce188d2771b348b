"""The scene recogniser against slow loops, and the invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.evaluation.text_following import SceneRecogniser, scene_part, surroundings
from tests.evaluation.test_retention import features

untimed = settings(deadline=None, max_examples=40)

SCENES = ("in the snow", "on green grass", "on a bed")


def around(centre: np.ndarray, count: int, seed: int, spread: float) -> np.ndarray:
    rows = centre + spread * np.random.default_rng(seed).normal(size=(count, len(centre)))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@untimed
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_pictures_of_the_base_itself_are_all_recognised(scenes, pictures, seed):
    corners = np.eye(8, dtype=np.float32)[:scenes]
    fitted = {f"scene {i}": np.repeat(row[None], pictures, 0) for i, row in enumerate(corners)}
    recogniser = SceneRecogniser.fit(fitted)
    shuffled = np.random.default_rng(seed).permutation(scenes)
    named = [f"scene {i}" for i in shuffled]
    assert recogniser.accuracy(corners[shuffled], named) == 1.0
    assert recogniser.chance == pytest.approx(1 / scenes)


@untimed
@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_recognition_against_loops(scenes, pictures, asked, seed):
    fitted = {f"s{i}": features(pictures, seed + i) for i in range(scenes)}
    probe = features(asked, seed + 50)
    means = [sum(row.astype(float) for row in rows) / pictures for rows in fitted.values()]
    centre = sum(means) / scenes
    slow = []
    for row in probe:
        best, best_cosine = "", -2.0
        for name, mean in zip(fitted, means, strict=True):
            away, towards = row - centre, mean - centre
            cosine = float(away @ towards / np.linalg.norm(away) / np.linalg.norm(towards))
            if cosine > best_cosine:
                best, best_cosine = name, cosine
        slow.append(best)
    assert SceneRecogniser.fit(fitted).recognise(probe) == slow


def test_a_feature_that_all_scenes_share_changes_nothing():
    fitted = {scene: features(4, i) for i, scene in enumerate(SCENES)}
    probe = features(9, 30)
    shift = np.full(7, 3.0, dtype=np.float32)
    plain = SceneRecogniser.fit(fitted).recognise(probe)
    moved = SceneRecogniser.fit({scene: rows + shift for scene, rows in fitted.items()})
    assert moved.recognise(probe + shift) == plain


def test_wrong_scenes_score_nothing_and_mixed_ones_their_share():
    corners = {scene: np.eye(7, dtype=np.float32)[i : i + 1] for i, scene in enumerate(SCENES)}
    recogniser = SceneRecogniser.fit(corners)
    rows = np.concatenate(list(corners.values()))
    assert recogniser.accuracy(rows, SCENES[1:] + SCENES[:1]) == 0.0
    assert recogniser.accuracy(rows, (SCENES[0], SCENES[1], SCENES[0])) == pytest.approx(2 / 3)


def test_the_number_of_pictures_of_a_scene_does_not_move_the_centre():
    few, many = features(1, 3), features(6, 4)
    recogniser = SceneRecogniser.fit({"a": few, "b": many})
    np.testing.assert_allclose(recogniser.centre, (few[0] + many.mean(0)) / 2, atol=1e-6)


def test_what_cannot_be_recognised_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        SceneRecogniser.fit({"a": features(2, 0)})
    with pytest.raises(ValueError, match=r"scene 'b' has features of shape \(0, 7\)"):
        SceneRecogniser.fit({"a": features(2, 0), "b": features(2, 0)[:0]})
    recogniser = SceneRecogniser.fit({"a": features(2, 0), "b": features(2, 1)})
    with pytest.raises(ValueError, match="2 pictures and 1 scenes"):
        recogniser.accuracy(features(2, 0), ["a"])
    with pytest.raises(ValueError, match=r"unknown scenes \['c'\]"):
        recogniser.accuracy(features(1, 0), ["c"])
    with pytest.raises(ValueError, match=r"expected \(pictures, 7\)"):
        recogniser.recognise(features(2, 0, width=5))


def test_surroundings_hide_the_middle_alone():
    picture = np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)
    around = surroundings(picture)
    assert (around[11:39, 22:78] == around[25, 50]).all()
    edges = np.concatenate([picture[:11], picture[39:]]).reshape(-1, 3)
    np.testing.assert_array_equal(around[25, 50], np.rint(edges.mean(axis=0)))
    changed = (around != picture).any(axis=2)
    assert not changed[:11].any()
    assert not changed[39:].any()
    assert not changed[:, :22].any()
    assert not changed[:, 78:].any()


def test_what_a_products_pictures_share_is_no_scene():
    rows = features(5, 8)
    part = scene_part(rows)
    np.testing.assert_allclose(part.sum(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scene_part(rows + 7.0), part, atol=1e-5)
