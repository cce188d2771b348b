"""From features to the figures of a collection: all that one encoder saw, judged together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from catalog_pipeline.evaluation.prompts import ScenePrompt
from catalog_pipeline.evaluation.retention import prior_drift
from catalog_pipeline.evaluation.scoring import (
    EncoderScore,
    ProductColors,
    SkuScore,
    confusion_of,
    in_own_colors,
    score_products,
)
from catalog_pipeline.evaluation.text_following import SceneRecogniser, scene_part
from catalog_pipeline.records import Features


@dataclass(frozen=True)
class BaseFeatures:
    """The base by one encoder: before any learning, and with the version installed.

    Row ``i`` of ``scenes`` is the picture of ``scene_prompts[i]`` with its middle hidden.
    Row ``i`` of the two pairs of ``prior`` and ``class_nouns`` is one prompt at one seed,
    before and after; ``class_nouns`` may have no rows.
    """

    scene_prompts: Sequence[ScenePrompt]
    scenes: Features
    prior: tuple[Features, Features]
    class_nouns: tuple[Features, Features]


@dataclass(frozen=True)
class CollectionFeatures:
    """The collection by one encoder.

    ``pictures`` maps every SKU to ``(pictures, width)``, the prompt of row ``i`` naming
    ``scenes[i]``; ``surroundings`` to the same pictures with the middle hidden; ``photos``
    maps those that have photos to ``(photos, width)``; ``colors`` those whose memory tells
    of colours to these of their pictures, the same for every encoder.
    """

    encoder: str
    pictures: Mapping[str, Features]
    surroundings: Mapping[str, Features]
    photos: Mapping[str, Features]
    scenes: Sequence[str]
    base: BaseFeatures
    colors: Mapping[str, ProductColors] = field(default_factory=dict)


def score_skus(
    seen: CollectionFeatures,
    names: Mapping[str, str],
    class_nouns: Mapping[str, str],
    earlier: Mapping[str, float],
) -> tuple[SkuScore, ...]:
    """Figures of every SKU that has photos, in the order of its pictures; none for none."""
    pictures = {sku: rows for sku, rows in seen.pictures.items() if sku in seen.photos}
    if not pictures:
        return ()
    recogniser = scene_recogniser(seen.base)
    scores = []
    for score in score_products(pictures, seen.photos, names, earlier):
        shows: list[str] = []
        if recogniser is not None:
            shows = recogniser.recognise(scene_part(seen.surroundings[score.sku]))
        scores.append(
            replace(
                in_own_colors(score, seen.colors.get(score.sku)),
                class_noun=class_nouns[score.sku],
                shows_scene=tuple(shows),
                scene_followed=_followed(recogniser, seen, score.sku),
            )
        )
    return tuple(scores)


def score_encoder(
    seen: CollectionFeatures, skus: Sequence[SkuScore], class_nouns: Mapping[str, str]
) -> EncoderScore:
    """The means of an encoder, with what its scene recogniser can tell at all."""
    recogniser = scene_recogniser(seen.base)
    followed = [_followed(recogniser, seen, sku) for sku in seen.pictures]
    same_class = confusion_of(skus).same_class(class_nouns)
    classes_before, classes_after = seen.base.class_nouns
    return EncoderScore(
        encoder=seen.encoder,
        products=len(skus),
        fidelity=_mean([score.fidelity for score in skus]),
        share=_mean([score.share for score in skus]),
        recognised=_mean([score.recognised for score in skus]),
        same_class=None if math.isnan(same_class) else same_class,
        scenes_followed=_mean([value for value in followed if value is not None]),
        scenes_followed_by_base=held_out_accuracy(recogniser, seen.base) if recogniser else None,
        scenes_by_chance=recogniser.chance if recogniser else None,
        prior_drift=prior_drift(*seen.base.prior),
        class_drift=prior_drift(classes_before, classes_after) if len(classes_before) else None,
    )


def scene_recogniser(base: BaseFeatures) -> SceneRecogniser | None:
    """Fitted to the pictures that are not held out; ``None`` for fewer than two scenes."""
    rows = [row for row, prompt in enumerate(base.scene_prompts) if not prompt.held_out]
    parts, scenes = _scene_parts(base, rows)
    if len(set(scenes)) < 2:
        return None
    return SceneRecogniser.fit(
        {scene: parts[[s == scene for s in scenes]] for scene in dict.fromkeys(scenes)}
    )


def held_out_accuracy(recogniser: SceneRecogniser, base: BaseFeatures) -> float:
    """How often the base's own pictures of other things are recognised: what can be told."""
    rows = [row for row, prompt in enumerate(base.scene_prompts) if prompt.held_out]
    return recogniser.accuracy(*_scene_parts(base, rows))


def _scene_parts(base: BaseFeatures, rows: Sequence[int]) -> tuple[Features, list[str]]:
    """What differs between the pictures of each noun, and their scenes."""
    prompts = [base.scene_prompts[row] for row in rows]
    parts = np.zeros_like(base.scenes[rows])
    for noun in {prompt.noun for prompt in prompts}:
        own = [prompt.noun == noun for prompt in prompts]
        parts[own] = scene_part(base.scenes[rows][own])
    return parts, [prompt.scene for prompt in prompts]


def _followed(
    recogniser: SceneRecogniser | None, seen: CollectionFeatures, sku: str
) -> float | None:
    if recogniser is None:
        return None
    return recogniser.accuracy(scene_part(seen.surroundings[sku]), list(seen.scenes))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
