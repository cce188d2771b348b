"""The empty scenes that come with the package are those of the base and the settings that do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from catalog_pipeline.base_model import EMPTY_SCENES
from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.learning.memory import decode_backdrops, render_backdrops
from catalog_pipeline.settings import load_settings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.learn import empty_scenes
from catalog_pipeline.workflows.models import base_model_hash, open_engine

SHIPPED = load_settings(Path(__file__).resolve().parents[3] / "assets_config")
NIGHT = SHIPPED.generation
PLAN = SamplingPlan(NIGHT.steps, NIGHT.guidance, 128, 128, NIGHT.sampler)


def test_the_shipped_scenes_are_of_the_shipped_base_and_settings():
    """Where this fails, something that they depend on was changed: run `make empty-scenes`."""
    key = empty_scenes.backdrops_key(base_model_hash(SHIPPED.base_model), PLAN, SHIPPED.learning)
    assert [path.relative_to(EMPTY_SCENES).as_posix() for path in EMPTY_SCENES.rglob("*.*")] == [
        key
    ]


def test_the_shipped_scenes_are_used_and_others_are_rendered_once_a_home(tmp_path, monkeypatch):
    rendered = []
    kept = decode_backdrops(next(EMPTY_SCENES.rglob("*.safetensors")).read_bytes())
    monkeypatch.setattr(
        empty_scenes, "render", lambda *_: rendered.append("now") or kept[: len(rendered)]
    )
    engine = SimpleNamespace(base=SimpleNamespace(content_hash=base_model_hash(SHIPPED.base_model)))
    objects = LocalObjectStore(tmp_path)

    def load(seed: int):
        settings = SHIPPED.learning.model_copy(update={"seed": seed})
        return empty_scenes.load_backdrops(engine, PLAN, settings, objects)

    found = load(SHIPPED.learning.seed)
    assert (len(found), rendered, objects.list("")) == (24, [], [])
    assert {backdrop.phrase for backdrop in found} == set(SHIPPED.learning.scenes)
    assert len(load(99)) == len(load(99)) == 1
    assert rendered == ["now"]


@pytest.mark.slow
def test_the_embedded_base_renders_the_shipped_scenes():
    base = SHIPPED.base_model.model_copy(update={"dtype": "float32"})
    engine = open_engine(SHIPPED.model_copy(update={"base_model": base}))
    scene = SHIPPED.learning.scenes[0]
    made = render_backdrops(engine, [scene] * 2, PLAN, SHIPPED.learning.seed)
    shipped = decode_backdrops(next(EMPTY_SCENES.rglob("*.safetensors")).read_bytes())
    for ours, theirs in zip(made, shipped, strict=False):
        assert theirs.phrase == scene
        assert np.abs(ours.pixels.astype(float) - theirs.pixels).mean() < 2
