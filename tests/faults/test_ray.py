"""Learning and rendering on a real Ray cluster of two nodes, whose workers and nodes are killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from catalog_pipeline.records import LearnOutcome
from catalog_pipeline.settings import ExecutionSettings, Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress
from tests.ray_cluster import running_cluster
from tests.workflows.tiny_catalog import elsewhere, learn_all, tiny_settings, write_photos

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")

SKUS = ("A", "B", "C", "D", "E", "F")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with running_cluster(2, monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def tiny(make_settings: Callable[..., Settings], tiny_model_folder) -> Settings:
    settings = tiny_settings(make_settings, tiny_model_folder, steps=30, checkpoint_every=5)
    for seed, sku in enumerate(SKUS, start=1):
        write_photos(settings, sku, seed)
    refresh_index(open_home(settings))
    return settings


def on(cluster: Any, settings: Settings) -> Settings:
    execution = ExecutionSettings(engine="ray", address=cluster.address)
    return settings.model_copy(update={"execution": execution})


class Told(SilentProgress):
    """Kills whoever learns the product at its twelfth step, and then a node."""

    def __init__(self, kill: Callable[[str], None]) -> None:
        self.kill = kill
        self.steps: dict[str, int] = {}

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.steps[task] = self.steps.get(task, 0) + count
        if self.steps[task] >= 8:
            self.kill(task.removeprefix("learn "))


def test_six_products_are_learned_side_by_side_through_kills(tiny, tmp_path, cluster):
    other = elsewhere(tiny, tmp_path / "one-after-the-other")
    learn_all(other)
    want = open_home(other).adapters("default").current()
    store = open_home(tiny).adapters("default")
    killed: list[str] = []

    def kill(sku: str) -> None:
        holder = store.claim_object(sku).read()
        if len(killed) == 0 and holder is not None:
            os.kill(int(re.findall(r"\d+", holder.holder)[0]), signal.SIGKILL)
            killed.append(sku)
        elif len(killed) == 1 and sku not in killed:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            killed.append(sku)

    found: dict[str, list[LearnOutcome]] = {}
    for outcome in learn_concepts(open_home(on(cluster, tiny)), progress=Told(kill)):
        found.setdefault(outcome.sku, []).append(outcome)
    assert len(killed) == 2
    assert {sku: [o.status for o in outcomes] for sku, outcomes in found.items()} == {
        sku: ["learned"] for sku in SKUS
    }
    head = store.current()
    assert head is not None
    assert want is not None
    assert head.parts == want.parts
    assert sorted(concept.task for concept in head.concepts) == [1, 2, 3, 4, 5, 6]
    assert len(store.version_names()) == len(SKUS)
    assert store.claimed() == store.staging_names() == []
