"""Products with oblong photos, learned in views of their shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from tests.workflows.tiny_catalog import elsewhere, learn_all, tiny_settings


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    settings = tiny_settings(make_settings, tiny_model_folder, aspect_buckets=True)
    folder = settings.catalog_root / "A"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (80, 132), "b": (84, 126), "c": (130, 80)}.items():
        pixels = np.full((height, width, 3), 230, np.uint8)
        pixels[20:60, 20:60] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "sku.yaml").write_text("class_noun: mug\n")
    return settings


def concept_part(settings: Settings) -> str:
    head = open_home(settings).adapters("default").current()
    assert head is not None
    return head.parts["concept/A"]


def test_oblong_photos_are_learned_to_the_same_version_each_time(
    tiny: Settings, tmp_path: Path
) -> None:
    twin = elsewhere(tiny, tmp_path / "twin")
    versions = [learn_all(settings)["A"].version for settings in (tiny, twin)]
    assert versions[0] == versions[1] is not None
    assert concept_part(tiny) == concept_part(twin)
    assert learn_all(tiny, ["A"])["A"].status == "unchanged"
