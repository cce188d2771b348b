"""The batched painter shows what the studio's exact one shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from catalog_pipeline.base_model.training.compose import (
    ScenePlan,
    draw_photos,
    draw_scenes,
    place_sprites,
    plan_scenes,
)
from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.presets import Preset
from catalog_pipeline.studio.scenes import Placement, compose
from catalog_pipeline.studio.sprites import Sprite


def channels_last(pictures: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return pictures.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("flipped", [False, True])
def test_a_sprite_stands_where_the_studio_puts_it(tiny_corpus: Corpus, flipped: bool) -> None:
    placement = Placement(0.7, 0.45, 0.9, flipped)
    sprite = Sprite(channels_last(tiny_corpus.sprites[:1])[0], tiny_corpus.labels[0])
    background = channels_last(tiny_corpus.backgrounds[:1])[0]
    expected, _ = compose(background, [sprite], [placement])
    drawn = place_sprites(
        tiny_corpus.backgrounds[:1].float() / 255,
        tiny_corpus.sprites[:1].float() / 255,
        torch.tensor([[0.7, 0.45, 0.9, float(flipped)]]),
    )
    difference = channels_last(drawn * 255)[0] - expected.astype(np.float64)
    assert np.abs(difference).max() < 2.5  # the studio rounds alpha to 1/255


def test_a_plan_is_decided_by_its_seed(tiny_corpus: Corpus, tiny_preset: Preset) -> None:
    plans = [
        plan_scenes(tiny_corpus, 6, tiny_preset.corpus, np.random.default_rng(5)) for _ in "ab"
    ]
    assert plans[0].captions == plans[1].captions
    pictures = [draw_scenes(p, tiny_corpus, torch.Generator().manual_seed(1)) for p in plans]
    assert torch.equal(pictures[0], pictures[1])
    assert pictures[0].shape == (6, 3, 32, 32)
    assert pictures[0].min() >= -1
    assert pictures[0].max() <= 1


def test_captions_name_every_product(tiny_corpus: Corpus, tiny_preset: Preset) -> None:
    plan = plan_scenes(tiny_corpus, 60, tiny_preset.corpus, np.random.default_rng(0))
    for products, words in zip(plan.sprites, plan.captions, strict=True):
        for name in (tiny_corpus.labels[i].name for i in products if i >= 0):
            assert name in words
    counts = {int((products >= 0).sum()) for products in plan.sprites}
    assert {1, 2} <= counts <= {0, 1, 2, 3}


def test_the_product_count_follows_the_weights(tiny_corpus: Corpus, tiny_preset: Preset) -> None:
    empty = replace(tiny_preset.corpus, product_count_weights=(1.0, 0.0, 0.0, 0.0))
    plan = plan_scenes(tiny_corpus, 4, empty, np.random.default_rng(0))
    assert (plan.sprites == -1).all()
    assert all("an empty scene" in words for words in plan.captions)


def test_nobody_leaves_the_background_alone(tiny_corpus: Corpus) -> None:
    nobody = ScenePlan(
        np.full((1, 3), -1, np.int64), np.zeros((1, 3, 4), np.float32), np.array([0]), ("",)
    )
    (drawn,) = (draw_scenes(nobody, tiny_corpus, torch.Generator().manual_seed(3)) + 1) / 2
    background = tiny_corpus.backgrounds[0].float() / 255
    ratios = [(drawn / view.clamp_min(1e-3)).std() for view in (background, background.flip(-1))]
    assert min(ratios) < 0.02  # the exposure alone differs, and the mirror


def test_photos_are_cropped_to_the_image_size(tiny_corpus: Corpus) -> None:
    photos = torch.randint(0, 256, (2, 3, 34, 34), dtype=torch.uint8)
    corpus = replace(tiny_corpus, photos=photos, photo_nouns=("lamp", "mug"))
    pictures = draw_photos([0, 1, 1], corpus, torch.Generator().manual_seed(0))
    crops = {
        bytes(view[:, y : y + 32, x : x + 32].contiguous().numpy())
        for view in (photos[1], photos[1].flip(-1))
        for y in range(3)
        for x in range(3)
    }
    assert pictures.shape == (3, 3, 32, 32)
    shown = ((pictures[2] + 1) * 127.5).round().to(torch.uint8)
    assert bytes(shown.contiguous().numpy()) in crops
