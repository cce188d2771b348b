"""Training views as oblong as their photos: which sizes there are, and training on them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.augmentation import Backdrop, framed_photo, make_views
from catalog_pipeline.learning.buckets import aspect_buckets, nearest_bucket
from catalog_pipeline.learning.methods.ewc import diagonal_fisher
from catalog_pipeline.learning.pool import TrainingPool, training_pool
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import Photo
from catalog_pipeline.settings import LearningSettings
from tests.builders import make_concept, make_photos
from tests.learning.checkpoints import Killed, MemoryCheckpoint
from tests.tiny_model import fill_slot, open_tiny_engine

SETTINGS = LearningSettings(
    steps=12, checkpoint_every=5, latent_views=5, batch_size=2, aspect_buckets=True
)
CONCEPT = make_concept("mug", 1, class_noun="mug", placeholder_tokens=("<A:0>",))
SNOW = (Backdrop(np.zeros((16, 16, 3), np.uint8), "in the snow"),)


def mixed_photos() -> tuple[Photo, ...]:
    """Two wide ones, an upright one and a square one."""
    wide = make_photos(2, (24, 40), sku="wide-", masked=True)
    upright = make_photos(1, (50, 30), sku="upright-", masked=True)
    return (*wide, *upright, *make_photos(1, 30, sku="square-", masked=True))


def a_task(photos: tuple[Photo, ...]) -> LearningTask:
    return LearningTask((Subject(CONCEPT, photos, "A"),), SNOW, "f", 3)


def learned(engine: DiffusionEngine) -> bytes:
    return encode_part(slot_part(engine, "A") | token_part(engine, CONCEPT.placeholder_tokens))


# --- the sizes ---------------------------------------------------------------


def test_the_buckets_of_the_embedded_base() -> None:
    assert aspect_buckets(128, 4) == (
        (128, 128),
        *((144, 112), (112, 144), (160, 96), (96, 160), (176, 96), (96, 176)),
    )
    assert set(aspect_buckets(512, 8)) == {(4 * w, 4 * h) for w, h in aspect_buckets(128, 4)}


@given(st.sampled_from([2, 4, 8, 16, 32, 64]), st.integers(1, 130))
def test_buckets_are_few_of_one_area_and_no_more_oblong_than_two_to_one(
    step: int, count: int
) -> None:
    side = step * count
    buckets = aspect_buckets(side, step)
    assert buckets[0] == (side, side)
    assert len(buckets) == len(set(buckets)) <= 11
    assert {(height, width) for width, height in buckets} == set(buckets)
    for width, height in buckets:
        assert width % step == height % step == 0
        assert max(width, height) <= 2 * min(width, height)
        assert 0.8 * side**2 <= width * height <= 1.2 * side**2


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_a_photo_goes_to_the_bucket_of_the_nearest_shape(width: int, height: int) -> None:
    buckets = aspect_buckets(128, 4)
    found = nearest_bucket(width, height, buckets)
    assert nearest_bucket(height, width, buckets)[::-1] in (found, found[::-1])

    def quotient(bucket: tuple[int, int]) -> float:
        a, b = bucket[0] / bucket[1], width / height
        return max(a / b, b / a)

    assert quotient(found) == pytest.approx(min(map(quotient, buckets)))


# --- the views ---------------------------------------------------------------


def test_framed_views_have_the_shape_of_their_photo_and_new_scenes_stay_square() -> None:
    views = make_views(
        mixed_photos(),
        SNOW,
        side_px=16,
        views_per_photo=5,
        rng=np.random.default_rng(0),
        buckets=aspect_buckets(16, 4),
    )
    shapes = Counter((view.pixels.shape, "snow" in view.instance_prompt) for view in views)
    assert shapes == {
        ((12, 20, 3), False): 4,
        ((20, 12, 3), False): 2,
        ((16, 16, 3), False): 2,
        ((16, 16, 3), True): 12,
    }
    for view in views:
        assert view.weight.shape == view.region.shape == view.pixels.shape[:2]


def test_an_oblong_crop_keeps_the_product_and_does_not_stretch_it() -> None:
    pixels = np.full((200, 300, 3), 128, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    pixels[60:120, 40:220] = (255, 0, 0)
    mask[60:120, 40:220] = 255
    for seed in range(20):
        view = framed_photo(
            Photo("a.jpg", "0", pixels, mask), (160, 96), np.random.default_rng(seed)
        )
        red = (view.pixels[..., 0] > 200) & (view.pixels[..., 1] < 60)
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert wide / tall == pytest.approx(3, rel=0.08)
        assert red.sum() >= 0.9 * wide * tall


def square_crop(photo: Photo, side: int, rng: np.random.Generator) -> np.ndarray:
    """A square view, drawn step by step."""
    height, width = photo.pixels.shape[:2]
    rows, columns = np.nonzero(photo.mask > 127)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    shorter = min(height, width)
    needed = min(shorter, int(1.08 * max(tall, wide)))
    size = int(rng.integers(max(needed, int(0.6 * shorter)), shorter + 1))
    starts = []
    for low, high, length in (
        (columns.min(), columns.max() + 1, width),
        (rows.min(), rows.max() + 1, height),
    ):
        first, last = max(0, high - size), min(low, length - size)
        if first > last:
            first = last = min(max(0, (low + high - size) // 2), length - size)
        starts.append(int(rng.integers(first, last + 1)))
    x, y = starts
    crop = Image.fromarray(photo.pixels[y : y + size, x : x + size])
    return np.asarray(crop.resize((side, side), Image.Resampling.LANCZOS))


@given(st.integers(8, 90), st.integers(8, 90), st.integers(0, 1000))
def test_a_square_view_is_that_of_the_shorter_side(height: int, width: int, seed: int) -> None:
    (photo,) = make_photos(1, (height, width), seed=seed, masked=True)
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    view = framed_photo(photo, (16, 16), ours)
    assert np.array_equal(view.pixels, square_crop(photo, 16, theirs))
    theirs.choice(4)
    assert ours.bit_generator.state == theirs.bit_generator.state


# --- the pool ----------------------------------------------------------------


def a_pool(engine: DiffusionEngine, *, oblong: bool = True) -> TrainingPool:
    return training_pool(engine, mixed_photos(), SNOW, 0, 5, oblong=oblong)


def test_a_pool_of_one_size_draws_no_size(engine: DiffusionEngine) -> None:
    pool, generator = a_pool(engine, oblong=False), torch.Generator().manual_seed(1)
    before = generator.get_state()
    (views,) = pool.sizes
    for step in range(10):
        found, rows = pool.group(step, generator)
        assert found is views
        assert torch.equal(rows, views.split if step % 5 == 4 else views.whole)
    assert torch.equal(generator.get_state(), before)


def test_a_pool_draws_each_size_as_often_as_it_has_views(engine: DiffusionEngine) -> None:
    pool = a_pool(engine)
    assert sorted(len(views) for views in pool.sizes) == [2, 4, 14]
    assert len(pool) == 20
    drawn: Counter[tuple[int, ...]] = Counter()
    for step in range(2000):
        generator = torch.Generator().manual_seed(step)
        views, rows = pool.group(step, generator)
        again, _ = pool.group(step, torch.Generator().manual_seed(step))
        assert views is again
        if step % 5 == 4:
            assert torch.equal(rows, views.split)
            continue
        assert torch.equal(rows, views.whole)
        drawn[tuple(views.latents.shape[2:])] += 1
    whole = {(4, 4): 10, (3, 5): 4, (5, 3): 2}
    for size, count in whole.items():
        assert drawn[size] / 1600 == pytest.approx(count / 16, abs=0.03)


def test_every_view_of_a_pool_has_a_number(engine: DiffusionEngine) -> None:
    pool = a_pool(engine)
    found = [pool.view(index) for index in range(len(pool))]
    assert [int(row) for _, row in found] == [i for s in pool.sizes for i in range(len(s))]
    with pytest.raises(IndexError, match="20 views has no view 20"):
        pool.view(20)


# --- the training ------------------------------------------------------------


def test_a_task_on_several_sizes_is_deterministic_and_resumes_to_the_same_bytes(
    tiny_model_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, sizes = a_task(mixed_photos()), []
    predict = DiffusionEngine.predict

    def spy(self, noisy_latents, *rest):
        sizes.append(tuple(noisy_latents.shape[2:]))
        return predict(self, noisy_latents, *rest)

    monkeypatch.setattr(DiffusionEngine, "predict", spy)
    whole = open_tiny_engine(tiny_model_folder)
    curve = ConceptTrainer(whole, SETTINGS).train(task)
    assert all(math.isfinite(loss) for _, loss in curve)
    assert set(sizes) == {(4, 4), (3, 5), (5, 3)}

    def stop(step: int, loss: float) -> None:
        if step == 8:
            raise Killed

    checkpoint = MemoryCheckpoint()
    with pytest.raises(Killed):
        ConceptTrainer(open_tiny_engine(tiny_model_folder), SETTINGS).train(task, checkpoint, stop)
    resumed, steps = open_tiny_engine(tiny_model_folder), []
    ConceptTrainer(resumed, SETTINGS).train(task, checkpoint, lambda step, _: steps.append(step))
    assert steps == list(range(6, 13))
    assert learned(resumed) == learned(whole)


def test_square_photos_train_alike_with_and_without(tiny_model_folder) -> None:
    task = a_task(make_photos(3, 24, masked=True))
    found = []
    for asked in (True, False):
        engine = open_tiny_engine(tiny_model_folder)
        settings = SETTINGS.model_copy(update={"aspect_buckets": asked})
        ConceptTrainer(engine, settings).train(task)
        found.append(learned(engine))
    assert found[0] == found[1]


def test_training_on_oblong_views_lowers_their_loss(engine: DiffusionEngine) -> None:
    photos = make_photos(3, (24, 40), masked=True)
    task = replace(a_task(photos), backdrops=())
    once = SETTINGS.model_copy(update={"steps": 1, "adapter_lr": 1e-3})
    pool = training_pool(engine, photos, (), 1, 3, oblong=True)
    assert [tuple(views.latents.shape[2:]) for views in pool.sizes] == [(3, 5)]
    losses = []
    for steps in (1, 40):
        ConceptTrainer(engine, once.model_copy(update={"steps": steps})).train(task)
        losses.append(
            TrainingStep(engine, once, task, (pool,)).heldout_loss(task.subjects[0], pool)
        )
    assert losses[1] < losses[0]


def test_the_held_out_loss_is_the_mean_over_the_views_of_all_sizes(engine: DiffusionEngine) -> None:
    fill_slot(engine, "A", 1)
    engine.text.table.add("<A:0>", engine.text.initial_vector("mug"))
    task, pool = a_task(mixed_photos()), a_pool(engine)
    step, subject = TrainingStep(engine, SETTINGS, task, (pool,)), task.subjects[0]
    generator, losses = torch.Generator().manual_seed(0), []
    for views in pool.sizes:
        latents = views.latents[views.whole]
        noise, _ = step.draw(latents, generator)
        shares = (torch.arange(len(latents)) + 0.5) / len(latents)
        timesteps = engine.base.timesteps_at(shares)
        for row, eps, t in zip(views.whole, noise, timesteps, strict=True):
            one = step.loss_of_views(subject, views, row[None], eps[None], t[None])
            losses.append(float(one.detach()))
    assert step.heldout_loss(subject, pool) == pytest.approx(np.mean(losses), rel=1e-4)
    assert all(
        torch.isfinite(value).all() for value in diagonal_fisher(engine, SETTINGS, task, pool, 6, 0)
    )
