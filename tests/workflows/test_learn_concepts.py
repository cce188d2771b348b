"""The learning workflow on real stores and a tiny real diffusion model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.errors import CatalogError
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress
from catalog_pipeline.workflows.refresh_index import refresh_index
from catalog_pipeline.workflows.versions import rollback

LEARNING = {
    "steps": 6,
    "checkpoint_every": 2,
    "batch_size": 2,
    "latent_views": 5,
    "scenes": ["in the snow"],
    "backdrops_per_scene": 1,
    "prior_images": 2,
    "replay_candidates": 2,
    "replay_exemplars": 1,
    "gate_images": 2,
    "gate_min_fidelity_share": 0.0,
    "gate_max_forgetting": 9.0,
    "adapter": {"rank": 2},
}
GENERATION = {"steps": 2, "width": 16, "height": 16}


def write_photos(settings: Settings, sku: str, seed: int, count: int = 3) -> None:
    folder = settings.catalog_root / sku
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.full((80, 96, 3), 230, np.uint8)
        pixels[20:60, 30:70] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).rotate(index).save(folder / f"{index}.png")
    (folder / "sku.yaml").write_text("class_noun: mug\n")


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return make_settings(
        catalog={"settle_seconds": 0},
        base_model={"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        learning=LEARNING,
        generation=GENERATION,
    )


def statuses(settings: Settings) -> dict[str, SkuStatus]:
    return {row.sku: row.status for row in open_home(settings).index.read()}


def learn_all(settings: Settings, skus=None):
    refresh_index(settings)
    return {outcome.sku: outcome for outcome in learn_concepts(settings, skus)}


def test_learns_new_skus_then_does_nothing_then_relearns_the_changed_one(tiny):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "00123", 2)
    first = learn_all(tiny)
    assert {sku: o.status for sku, o in first.items()} == {"00123": "learned", "A": "learned"}
    assert set(statuses(tiny).values()) == {SkuStatus.LEARNED}
    store = open_home(tiny).adapters("default")
    head = store.current()
    assert head is not None
    assert {c.sku for c in head.concepts} == {"A", "00123"}
    assert set(head.parts) == {"concept/A", "concept/00123", "memory/A", "memory/00123"}
    assert first["A"].contact_sheet_png.startswith(b"\x89PNG")
    assert first["A"].loss_curve[-1][0] == 6
    assert learn_all(tiny) == {}
    asked = learn_all(tiny, ["A"])
    assert asked["A"].status == "unchanged"
    assert store.current() == head
    write_photos(tiny, "A", 7)
    again = learn_all(tiny)
    assert {sku: o.status for sku, o in again.items()} == {"A": "learned"}
    changed = store.current()
    assert changed is not None
    assert changed.parts["concept/00123"] == head.parts["concept/00123"]
    assert changed.parts["concept/A"] != head.parts["concept/A"]
    assert changed.parent == head.version
    assert store.staging_names() == []


def test_memory_holds_features_and_prompts_and_no_pixels(tiny):
    write_photos(tiny, "A", 1)
    learn_all(tiny)
    store = open_home(tiny).adapters("default")
    head = store.current()
    assert head is not None
    entry = decode_memory(store.read_part(head.parts["memory/A"]))
    assert entry.features.shape == (3, 1280)
    assert entry.prompts
    assert len(store.read_part(head.parts["memory/A"])) < 3 * 1280 * 4 + 2000


def test_a_card_change_renames_without_training(tiny):
    write_photos(tiny, "A", 1)
    learn_all(tiny)
    store = open_home(tiny).adapters("default")
    before = store.current()
    (tiny.catalog_root / "A" / "sku.yaml").write_text("class_noun: mug\nname: Blue mug\n")
    outcome = learn_all(tiny)["A"]
    after = store.current()
    assert before is not None
    assert after is not None
    assert outcome.status == "unchanged"
    assert after.concepts[0].name == "Blue mug"
    assert after.parts == before.parts
    assert statuses(tiny) == {"A": SkuStatus.LEARNED}


def test_a_bad_sku_fails_alone_and_the_head_keeps_the_rest(tiny):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "B", 2)
    write_photos(tiny, "C", 3)
    refresh_index(tiny)
    for photo in (tiny.catalog_root / "B").glob("*.png"):
        photo.write_bytes(b"not a picture")
    outcomes = {o.sku: o for o in learn_concepts(tiny)}
    assert {s: o.status for s, o in outcomes.items()} == {
        "A": "learned",
        "B": "failed",
        "C": "learned",
    }
    assert "0.png" in outcomes["B"].reason
    assert statuses(tiny)["B"] is SkuStatus.FAILED


def test_a_poor_candidate_is_not_promoted(tiny):
    write_photos(tiny, "A", 1)
    strict = tiny.learning.model_copy(update={"gate_min_fidelity_share": 0.99})
    settings = tiny.model_copy(update={"learning": strict})
    outcome = learn_all(settings)["A"]
    assert outcome.status == "failed"
    assert "expected at least 99%" in outcome.reason
    assert open_home(tiny).adapters("default").head() is None


def test_shared_slot_learns_in_sequence_with_replay(tiny):
    adapter = tiny.learning.adapter.model_copy(update={"slots": "shared"})
    shared = tiny.model_copy(
        update={"learning": tiny.learning.model_copy(update={"adapter": adapter})}
    )
    for seed, sku in enumerate("AB"):
        write_photos(shared, sku, seed)
    outcomes = learn_all(shared)
    assert [o.status for o in outcomes.values()] == ["learned"] * 2
    head = open_home(shared).adapters("default").current()
    assert head is not None
    assert "shared" in head.parts
    assert [c.task for c in head.concepts] == [1, 2]
    assert "forgetting" in outcomes["B"].metrics


def test_rollback_moves_the_head_and_learning_goes_on_from_there(tiny):
    write_photos(tiny, "A", 1)
    first = learn_all(tiny)["A"].version
    write_photos(tiny, "B", 2)
    learn_all(tiny)
    rollback(tiny, first, None)
    store = open_home(tiny).adapters("default")
    assert [c.sku for c in store.current().concepts] == ["A"]  # type: ignore[union-attr]
    outcome = learn_all(tiny, ["B"])["B"]
    assert outcome.status == "learned"
    assert [c.sku for c in store.current().concepts] == ["A", "B"]  # type: ignore[union-attr]


def test_unknown_skus_and_an_empty_index_say_what_to_do(tiny):
    with pytest.raises(CatalogError, match="catalog-pipeline index"):
        list(learn_concepts(tiny))
    write_photos(tiny, "A", 1)
    refresh_index(tiny)
    with pytest.raises(CatalogError, match="NOPE"):
        list(learn_concepts(tiny, ["NOPE"]))


class _KillAt(SilentProgress):
    """Ends this process by SIGKILL after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.left -= count
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(home: str, steps: int) -> None:
    """Run in a child: learn until the kill."""
    settings = Settings.model_validate_json(Path(home).read_text())
    list(learn_concepts(settings, progress=_KillAt(steps)))


def test_sigkill_in_mid_learning_resumes_to_the_same_version(tiny, tmp_path):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "B", 2)
    other = tiny.model_copy(update={"home": tmp_path / "undisturbed"})
    catalog = tiny.catalog.model_copy(update={"root": tiny.catalog_root})
    other = other.model_copy(update={"catalog": catalog})
    want = {sku: o.version for sku, o in learn_all(other).items()}
    refresh_index(tiny)
    saved = tmp_path / "settings.json"
    saved.write_text(tiny.model_dump_json())
    code = f"from tests.workflows.test_learn_concepts import main; main({str(saved)!r}, 9)"
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert child.returncode == -signal.SIGKILL
    store = open_home(tiny).adapters("default")
    assert [c.sku for c in store.current().concepts] == ["A"]  # type: ignore[union-attr]
    assert len(store.staging_names()) == 1
    resumed = {o.sku: o for o in learn_concepts(tiny)}
    assert {sku: o.version for sku, o in resumed.items()} == {"B": want["B"]}
    assert resumed["B"].loss_curve[-1][0] == 6
    assert replace(resumed["B"], seconds=0.0).status == "learned"
