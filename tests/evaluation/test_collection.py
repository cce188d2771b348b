"""A whole collection judged by one encoder, on features whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog_pipeline.evaluation.collection import (
    BaseFeatures,
    CollectionFeatures,
    held_out_accuracy,
    scene_recogniser,
    score_encoder,
    score_skus,
)
from catalog_pipeline.evaluation.prompts import EVALUATION_SCENES, scene_prompts
from catalog_pipeline.evaluation.retention import prior_drift
from catalog_pipeline.records import Features

SCENES = EVALUATION_SCENES[:4]
THINGS = ("mug", "backpack", "chair", "sneaker", "bowl", "camera", "red-mug", "blue-mug", "duck")
NOUNS = {"red-mug": "mug", "blue-mug": "mug", "duck": "duck"}
NAMES = {sku: sku.replace("-", " ") for sku in NOUNS}


def seen_as(thing: str, scene: str, *, product: float = 3.0) -> Features:
    """An axis a thing and an axis a scene; the thing is what is seen most."""
    row = np.zeros(len(THINGS) + len(SCENES), dtype=np.float32)
    row[THINGS.index(thing)] = product
    row[len(THINGS) + SCENES.index(scene)] = 1.0
    normalised: Features = row / np.linalg.norm(row)
    return normalised


def pictures(thing: str, scenes: tuple[str, ...] = SCENES) -> Features:
    return np.stack([seen_as(thing, scene) for scene in scenes])


PROMPTS = scene_prompts(SCENES)
PRIOR = pictures("chair")
BASE = BaseFeatures(
    PROMPTS,
    np.stack([seen_as(prompt.noun, prompt.scene) for prompt in PROMPTS]),
    (PRIOR, PRIOR),
    (PRIOR[:0], PRIOR[:0]),
)
SEEN = CollectionFeatures(
    "known",
    {sku: pictures(sku) for sku in NOUNS},
    {sku: pictures(sku) for sku in NOUNS},
    {sku: pictures(sku)[:3] for sku in NOUNS},
    SCENES,
    BASE,
)


def test_what_is_as_it_should_be_scores_everything():
    skus = score_skus(SEEN, NAMES, NOUNS, {})
    assert [score.name for score in skus] == ["red mug", "blue mug", "duck"]
    assert [score.recognised for score in skus] == [1.0] * 3
    assert [score.shows_scene for score in skus] == [SCENES] * 3
    whole = score_encoder(SEEN, skus, NOUNS)
    assert (whole.encoder, whole.products) == ("known", 3)
    assert (whole.recognised, whole.same_class) == (1.0, 0.0)
    assert (whole.scenes_followed, whole.scenes_followed_by_base) == (1.0, 1.0)
    assert whole.scenes_by_chance == 0.25
    assert whole.prior_drift == pytest.approx(0, abs=1e-6)
    assert whole.class_drift is None
    assert whole.share == pytest.approx(np.mean([score.share for score in skus]))


def test_a_product_that_always_shows_one_scene_follows_only_that_one():
    stuck = np.repeat(pictures("duck")[1:2], 4, axis=0)
    seen = replace(SEEN, surroundings={**SEEN.surroundings, "duck": stuck})
    *_, duck = score_skus(seen, NAMES, NOUNS, {})
    assert duck.scene_followed == 0.25
    assert duck.recognised == 1.0


def test_a_twin_that_is_taken_for_the_other_is_same_class_confusion():
    seen = replace(SEEN, pictures={**SEEN.pictures, "red-mug": pictures("blue-mug")})
    skus = score_skus(seen, NAMES, NOUNS, {})
    assert skus[0].looks_like == ("blue-mug",) * 4
    whole = score_encoder(seen, skus, NOUNS)
    assert whole.same_class == pytest.approx(0.5)  # All of the red one's, none of the blue one's.
    assert whole.recognised == pytest.approx(2 / 3)
    no_twins = score_encoder(seen, skus, {sku: sku for sku in NOUNS})
    assert no_twins.same_class is None


def test_the_held_out_things_are_not_fitted_to():
    scenes = BASE.scenes.copy()
    held = [row for row, prompt in enumerate(PROMPTS) if prompt.held_out]
    scenes[held] = np.roll(scenes[held].reshape(4, 2, -1), 1, axis=0).reshape(8, -1)
    swapped = replace(BASE, scenes=scenes)
    recogniser = scene_recogniser(swapped)
    assert recogniser is not None
    assert held_out_accuracy(recogniser, swapped) == 0.0
    assert recogniser.scenes == SCENES


def test_drift_is_of_prompts_before_and_after():
    after = pictures("duck")
    seen = replace(SEEN, base=replace(BASE, prior=(PRIOR, after), class_nouns=(PRIOR, PRIOR)))
    whole = score_encoder(seen, score_skus(seen, NAMES, NOUNS, {}), NOUNS)
    assert whole.prior_drift == pytest.approx(prior_drift(PRIOR, after))
    assert whole.class_drift == pytest.approx(0, abs=1e-6)


def test_products_without_photos_are_left_out_but_their_scenes_count():
    photos = {"duck": SEEN.photos["duck"]}
    (duck,) = score_skus(replace(SEEN, photos=photos), NAMES, NOUNS, {"duck": 0.9, "gone": 1.0})
    assert (duck.sku, duck.forgotten) == ("duck", pytest.approx(0.9 - duck.fidelity))
    none = replace(SEEN, photos={})
    assert score_skus(none, NAMES, NOUNS, {}) == ()
    whole = score_encoder(none, (), NOUNS)
    assert (whole.products, whole.fidelity, whole.recognised) == (0, None, None)
    assert whole.scenes_followed == 1.0


def test_one_scene_cannot_be_told_from_another():
    base = replace(BASE, scene_prompts=[], scenes=BASE.scenes[:0])
    seen = replace(SEEN, base=base)
    skus = score_skus(seen, NAMES, NOUNS, {})
    assert {score.scene_followed for score in skus} == {None}
    whole = score_encoder(seen, skus, NOUNS)
    assert (whole.scenes_followed, whole.scenes_by_chance) == (None, None)
