"""What is measured is what ships: the product line and the benchmark store the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.learning.methods import l2dm
from catalog_pipeline.learning.methods.registry import METHODS
from catalog_pipeline.settings import AdapterSettings, Settings
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import base_model_hash
from tests.benchmarks.learning.cells import Cell
from tests.benchmarks.learning.products import ProductShelf
from tests.benchmarks.learning.progress import CellProgress
from tests.benchmarks.learning.runner import Bench, run_cells
from tests.benchmarks.learning.suites import Sizes, Variant
from tests.workflows.tiny_catalog import learn_all, tiny_settings, with_learning, write_photos


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


def learned_by_the_line(settings: Settings) -> dict[str, str]:
    """The weights that two tasks leave in the store: part -> SHA-256 of its bytes."""
    outcomes = learn_all(settings, ["A"]) | learn_all(settings, ["B"])
    assert [o.status for o in outcomes.values()] == ["learned"] * 2
    head = open_home(settings).adapters("default").current()
    assert head is not None
    kinds = ("concept", "shared")
    return {name: sha for name, sha in head.parts.items() if name.partition("/")[0] in kinds}


def learned_by_the_benchmark(settings: Settings, method: str, home: Path) -> dict[str, str]:
    """The same of a cell of the benchmark with the same photos and settings."""
    data = home / "data"
    if not data.exists():
        shutil.copytree(settings.catalog_root, data / "photos")
        meta = {sku: {"class_noun": "mug"} for sku in "AB"}
        (data / "photos" / "meta.json").write_text(json.dumps(meta), "utf-8")
    encoders = {"mobilenet_v2": open_encoder()}
    shelf = ProductShelf(data, home, encoders)
    generation, learning = settings.generation, settings.learning.model_dump(mode="json")
    cell = Cell(
        suite="same bytes",
        variant=Variant(method, method, learning),
        order=0,
        seed=settings.learning.seed,
        source="photos",
        products=("A", "B"),
        sizes=Sizes(images=1, sampler_steps=generation.steps, guidance=generation.guidance),
        base_hash=base_model_hash(settings.base_model),
    )
    bench = Bench(home, settings.base_model, encoders, shelf, METHODS)
    assert run_cells(bench, [cell]) == 1
    state = CellProgress(bench.objects, cell).read_state(2)
    return {name: sha256_hex(data.numpy().tobytes()) for name, data in state.items()}


@pytest.mark.slow
def test_the_benchmark_learns_the_bytes_that_the_line_publishes(tiny, tmp_path):
    for seed, sku in enumerate("AB"):
        write_photos(tiny, sku, seed)
    shipped = {"per_concept": "ours", "shared": "l2dm", "consolidated": "consolidated"}
    for slots, method in shipped.items():
        adapter = AdapterSettings(slots=slots, rank=2)
        settings = with_learning(tiny, adapter=adapter).model_copy(
            update={
                "home": tmp_path / slots,
                "catalog": tiny.catalog.model_copy(update={"root": tiny.catalog_root}),
            }
        )
        want = learned_by_the_line(settings)
        shared = [] if slots == "per_concept" else ["shared"]
        assert sorted(want) == ["concept/A", "concept/B", *shared]
        assert learned_by_the_benchmark(settings, method, tmp_path / "bench") == want


@pytest.mark.parametrize("batch_size", [0, 2])
def test_no_bank_is_rendered_that_no_step_reads(tiny, monkeypatch, batch_size):
    rendered = []
    for name in ("render_prior", "recall_exemplars"):
        render = getattr(l2dm, name)

        def seen(*args, _name=name, _render=render, **kwargs):
            rendered.append(_name)
            return _render(*args, **kwargs)

        monkeypatch.setattr(l2dm, name, seen)
    for seed, sku in enumerate("AB"):
        write_photos(tiny, sku, seed)
    settings = with_learning(
        tiny,
        adapter=AdapterSettings(slots="shared", rank=2),
        prior_batch_size=batch_size,
        replay_batch_size=batch_size,
    )
    assert [o.status for o in learn_all(settings).values()] == ["learned"] * 2
    assert rendered == (["render_prior", "render_prior", "recall_exemplars"] if batch_size else [])
