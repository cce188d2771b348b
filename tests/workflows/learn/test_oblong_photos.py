"""Products with oblong photos, learned in views of their shape."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.settings import LearningSettings, Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learning_inputs import concept_config_hash
from tests.workflows.tiny_catalog import elsewhere, learn_all, tiny_settings, with_learning


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


def test_sigkill_in_mid_learning_resumes_to_the_same_version(
    tiny: Settings, tmp_path: Path
) -> None:
    undisturbed = elsewhere(tiny, tmp_path / "undisturbed")
    want = learn_all(undisturbed)["A"]
    assert want.status == "learned"
    refresh_index(open_home(tiny))
    saved = tmp_path / "settings.json"
    saved.write_text(tiny.model_dump_json())
    code = f"from tests.workflows.tiny_catalog import *; learn_until_killed({str(saved)!r}, 5)"
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(open_home(tiny).adapters("default").staging_names()) == 1
    assert learn_all(tiny)["A"].version == want.version

    squares = with_learning(elsewhere(tiny, tmp_path / "squares"), aspect_buckets=False)
    assert learn_all(squares)["A"].status == "learned"
    assert concept_part(squares) != concept_part(tiny) == concept_part(undisturbed)


def test_what_was_learned_in_squares_is_not_learned_anew_unless_buckets_are_asked_for() -> None:
    plain = LearningSettings()
    before = {name: v for name, v in plain.model_dump(mode="json").items() if name[:5] != "gate_"}
    assert before.pop("aspect_buckets") is False
    known = canonical_sha256({"learning": before, "base": "base", "encoder": "encoder"})
    asked = plain.model_copy(update={"aspect_buckets": True})
    hashes = [concept_config_hash(settings, "base", "encoder") for settings in (plain, asked)]
    assert hashes[0] == known != hashes[1]
