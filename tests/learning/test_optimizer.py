"""Tasks on every optimiser and family: killed and resumed, they end with the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from catalog_pipeline.diffusion.parts import encode_part, slot_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.optimizer import make_optimizer
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.settings import AdapterSettings, LearningSettings
from tests.builders import make_concept, make_photos
from tests.learning.checkpoints import Killed, MemoryCheckpoint
from tests.tiny_families import write_tiny_klein, write_tiny_qwen_image
from tests.tiny_model import open_tiny_engine, write_tiny_model

WRITERS = {"sd": write_tiny_model, "klein": write_tiny_klein, "qwen": write_tiny_qwen_image}
WIDE = AdapterSettings(rank=64)
"""So that some of its tensors have the 4,096 entries from which on moments are kept in 8 bits."""


def settings(optimizer: str = "adamw") -> LearningSettings:
    return LearningSettings(
        steps=5, checkpoint_every=3, latent_views=2, batch_size=2, optimizer=optimizer
    )


def make_task() -> LearningTask:
    concept = make_concept("mug", 1, class_noun="mug", placeholder_tokens=("<A:0>", "<A:1>"))
    photos = make_photos(2, 24, masked=True)
    scene = Backdrop(np.zeros((16, 16, 3), np.uint8), "in the snow")
    return LearningTask((Subject(concept, photos, "A", True),), (scene,), "f", 3)


def learn(
    engine: DiffusionEngine, optimizer: str, checkpoint: MemoryCheckpoint, stop_at: int | None
) -> bytes:
    def on_step(step: int, loss: float) -> None:
        assert np.isfinite(loss)
        if step == stop_at:
            raise Killed

    ConceptTrainer(engine, settings(optimizer)).train(make_task(), checkpoint, on_step)
    return encode_part(slot_part(engine, "A"))


def test_eight_bit_moments_resume_to_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    whole, resumed = whole_and_resumed("sd", "adamw_8bit", tmp_path, WIDE)
    assert resumed == whole


@pytest.mark.parametrize("family", WRITERS)
def test_every_family_resumes_to_the_same_bytes(family: str, tmp_path: Path) -> None:
    """Without learned rows the group of tokens is empty; some layers never get a gradient."""
    whole, resumed = whole_and_resumed(family, "adamw", tmp_path, AdapterSettings(rank=2))
    assert resumed == whole


def whole_and_resumed(
    family: str, optimizer: str, folder: Path, adapter: AdapterSettings
) -> tuple[bytes, bytes]:
    """What a task learns undisturbed, and killed and resumed."""
    WRITERS[family](folder)

    def fresh() -> DiffusionEngine:
        return small(open_tiny_engine(folder, adapter=adapter))

    whole = learn(fresh(), optimizer, MemoryCheckpoint(), None)
    checkpoint = MemoryCheckpoint()
    with pytest.raises(Killed):
        learn(fresh(), optimizer, checkpoint, 4)
    assert checkpoint.data is not None
    state = load(checkpoint.data)
    in_bytes = [name for name, value in state.items() if value.dtype == torch.uint8]
    assert bool(in_bytes) == (optimizer == "adamw_8bit")
    rows = sum(name.startswith("parameter/") for name in state)
    with_state = {name.split("/")[1] for name in state if name.startswith("optimizer/")}
    assert (len(with_state) < rows) == (family == "qwen")  # the last block's text is not read
    return whole, learn(fresh(), optimizer, checkpoint, None)


def small(engine: DiffusionEngine) -> DiffusionEngine:
    """Views of 4 x 4 latents, whatever the family was trained at."""
    object.__setattr__(engine.base, "side_px", 4 * engine.base.vae_scale_factor)
    return engine


def test_a_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigurationError, match=r"catalog-pipeline\[quantise\]") as caught:
        make_optimizer("adamw_8bit", [{"params": [torch.nn.Parameter(torch.zeros(2))]}])
    assert "\n" not in str(caught.value)
