"""The attacks and the private training of the benchmarks, on small things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.evaluation.features import PooledEncoder
from catalog_pipeline.records import Photo
from catalog_pipeline.settings import AdapterSettings, LearningSettings
from tests.benchmarks.harness.attacks import auc, auc_interval, hits_at
from tests.benchmarks.leakage.inversion import Inverter
from tests.benchmarks.leakage.slots import by_chance
from tests.benchmarks.leakage.subjects import Subject
from tests.benchmarks.privacy.catalog import Records, as_records
from tests.benchmarks.privacy.training import Recipe, SharedSlot
from tests.tiny_model import open_tiny_engine

ADAPTER = AdapterSettings(slots="shared", rank=2)


@pytest.fixture
def shared_engine(tiny_model_folder: Path) -> DiffusionEngine:
    return open_tiny_engine(tiny_model_folder, adapter=ADAPTER)


@pytest.fixture
def records(shared_engine: DiffusionEngine) -> Records:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(6)]
    return as_records(shared_engine, ["mug", "cup", "lamp"], pictures, 2)


@pytest.fixture
def slot(shared_engine: DiffusionEngine) -> SharedSlot:
    made = SharedSlot(shared_engine, LearningSettings(adapter=ADAPTER), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made._parameters:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def test_a_slot_a_record_leaves_the_gradient_of_each_record(
    slot: SharedSlot, records: Records
) -> None:
    slot._gradients(records, [0, 1, 2], 1, torch.Generator().manual_seed(5))
    each = [[parameter.grad for parameter in own] for own in slot._slots[:3]]
    generator = torch.Generator().manual_seed(5)
    views = torch.randint(2, (3,), generator=generator).tolist()
    rows = torch.tensor([records.rows(i)[view] for i, view in enumerate(views)])
    noise, timesteps = slot._step.draw(records.views.latents[rows], generator)
    for i in range(3):
        for parameter in slot._parameters:
            parameter.grad = None
        loss = slot._step.loss_of_views(
            slot._subject, records.views, rows[i : i + 1], noise[i : i + 1], timesteps[i : i + 1]
        )
        loss.sum().backward()
        for found, parameter in zip(each[i], slot._parameters, strict=True):
            torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)


def test_no_record_moves_a_step_by_more_than_its_bound(slot: SharedSlot, records: Records) -> None:
    recipe = Recipe("r", 8.0, 1, 2, 1e-3, max_grad_norm=1e-3)
    generator = torch.Generator().manual_seed(0)
    (bounded, _), (free, _) = (
        slot._summed_gradients(records, [1], made, generator.manual_seed(3))
        for made in (recipe, Recipe("r", None, 1, 2, 1e-3))
    )
    one, two = (torch.cat([x.flatten() for x in sums]) for sums in (bounded, free))
    assert two.norm() > 1e-2
    assert one.norm() == pytest.approx(1e-3, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) == pytest.approx(1, abs=1e-4)


def test_training_moves_the_slot_that_all_records_read(slot: SharedSlot, records: Records) -> None:
    before = slot.losses(records, [0, 1, 2], 2, seed=1)
    slot.train(records, [0, 1, 2], Recipe("plain", None, 12, 3, 1e-2))
    after = slot.losses(records, [0, 1, 2], 2, seed=1)
    assert after.mean() < before.mean()
    for own in slot._slots:
        for one, two in zip(own, slot._parameters, strict=True):
            assert one.data_ptr() == two.data_ptr()
    noisy = Recipe("private", 1.0, 2, 2, 1e-2)
    assert noisy.noise_multiplier(3) > 3
    slot.train(records, [0, 1, 2], noisy)
    assert not torch.equal(slot.losses(records, [0, 1, 2], 2, seed=1), after)


def test_scores_are_counted() -> None:
    assert auc([3, 4], [1, 2]) == 1
    assert auc([1, 2], [1, 2]) == 0.5
    assert auc([0], [1]) == 0
    low, high = auc_interval(list(range(50)), list(range(25, 75)))
    assert 0 < low < auc(list(range(50)), list(range(25, 75))) < high < 0.5
    assert hits_at([5, 6, 0, 0], [1, 2, 3, 4], 0.0) == 0.5
    assert by_chance(5, 10) == 1
    assert by_chance(0, 10) == pytest.approx(2 / 1024)


def test_half_of_the_photos_are_held_out() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    photos = tuple(Photo(str(i), str(i), pixels, None) for i in range(5))
    subject = Subject("a", "mug", "studio", photos)
    assert [photo.key for photo in subject.learned] == ["0", "2"]
    assert [photo.key for photo in subject.held_out] == ["1", "3"]


def test_a_picture_is_moved_towards_a_feature(shared_engine: DiffusionEngine) -> None:
    torch.manual_seed(0)
    encoder = PooledEncoder("mobilenet_v2")
    photo = np.full((128, 128, 3), 255, np.uint8)
    photo[30:100, 40:90] = (200, 30, 40)
    inverter, wanted = Inverter(encoder, shared_engine), encoder.encode([photo])
    (start,), (far,) = inverter.from_pixels(wanted, 0, seed=0)
    (picture,), (near,) = inverter.from_pixels(wanted, 12, seed=0)
    assert near > far + 0.05
    assert picture.shape == start.shape == (128, 128, 3)
    # What the descent sees is what the encoder says of the picture.
    assert float((encoder.encode([picture]) @ wanted[0])[0]) == pytest.approx(near, abs=0.03)
