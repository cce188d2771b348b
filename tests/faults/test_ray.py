"""Learning and rendering on a real Ray cluster of two nodes, whose workers and nodes are killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import ExecutionSettings, Settings, WorkerSettings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.night.render_night import render_night
from catalog_pipeline.workflows.progress import SilentProgress
from tests.ray_cluster import (
    ask_for_a_token,
    command_of,
    descendants,
    is_worker,
    kill_a_node,
    kill_a_worker,
    listening_addresses,
    running_cluster,
)
from tests.workflows.tiny_catalog import GENERATION, learn_all, tiny_sections, write_photos

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")

SKUS = ("A", "B", "C", "D", "E", "F")
DAY = date(2026, 3, 1)
SCENES = [{"name": f"s{number}", "text": f"on shelf {number}"} for number in range(30)]
NIGHT = {
    **GENERATION,
    "scenes": SCENES,
    "mode": "learned",
    "policies": {"singles_per_sku": 30, "pairs": 20},
    "budget": {"max_images": 200},
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Settings:
    """Six products that wait to be learned."""
    folder = tmp_path_factory.mktemp("here")
    sections = tiny_sections(tiny_model_folder, steps=30, checkpoint_every=5)
    where = {"home": folder / "home", "config_dir": folder}
    settings = Settings.model_validate({**where, **sections, "generation": NIGHT})
    for seed, sku in enumerate(SKUS, start=1):
        write_photos(settings, sku, seed)
    return settings


@pytest.fixture(scope="module")
def learned_here(listed: Settings) -> Settings:
    """All of them, learned one after the other without a cluster."""
    learn_all(listed)
    return listed


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with running_cluster(2, monkeypatch) as cluster:
        yield cluster


def on(address: str | None, settings: Settings, home: Path, **changes: Any) -> Settings:
    """``settings`` with another home and workers of the cluster at ``address``."""
    catalog = settings.catalog.model_copy(update={"root": settings.catalog_root})
    execution = ExecutionSettings(engine="ray", address=address, **changes)
    return settings.model_copy(update={"home": home, "catalog": catalog, "execution": execution})


class Murder(SilentProgress):
    """Does ``deeds`` one after the other, each when ``every`` more steps were told."""

    def __init__(self, every: int, *deeds: Callable[[], None]) -> None:
        self.every, self.left, self.told = every, list(deeds), 0

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.told += count
        if self.left and self.told >= self.every:
            self.told = 0
            self.left.pop(0)()


@pytest.mark.slow
def test_six_products_are_learned_side_by_side_through_kills(learned_here, tmp_path, cluster):
    settings = on(cluster.address, learned_here, tmp_path)
    refresh_index(open_home(settings))
    deeds = Murder(25, lambda: kill_a_worker(cluster.head_node), lambda: kill_a_node(cluster))
    outcomes = list(learn_concepts(open_home(settings), progress=deeds))
    assert not deeds.left
    assert Counter((o.sku, o.status) for o in outcomes) == {(sku, "learned"): 1 for sku in SKUS}
    store = open_home(settings).adapters("default")
    head, want = store.current(), open_home(learned_here).adapters("default").current()
    assert head is not None
    assert want is not None
    assert head.parts == want.parts
    assert sorted(concept.task for concept in head.concepts) == [1, 2, 3, 4, 5, 6]
    assert len(store.version_names()) == len(SKUS)
    assert store.claimed() == store.staging_names() == []


@pytest.mark.slow
def test_two_hundred_pictures_are_rendered_through_kills(learned_here, tmp_path, cluster):
    here = on(None, learned_here, tmp_path / "here")
    settings = on(cluster.address, learned_here, tmp_path / "there", batches_per_share=2)
    for made in (here, settings):
        shutil.copytree(learned_here.home, made.home)
    local = here.model_copy(update={"execution": ExecutionSettings()})
    want = pictures(local)
    deeds = Murder(40, lambda: kill_a_worker(cluster.head_node), lambda: kill_a_node(cluster))
    report = render_night(open_home(settings), DAY, progress=deeds)
    assert not deeds.left
    assert (len(report.rows), report.failed) == (200, ())
    archive = open_home(settings).archive
    assert Counter(row.image_id for row in archive.staged(DAY)).most_common(1)[0][1] == 1
    assert pictures(settings) == want
    assert len(set(archive.image_keys())) == len(set(want.values()))


def pictures(settings: Settings) -> dict[str, str]:
    """The night published: image id -> SHA-256."""
    home = open_home(settings)
    render_night(home, DAY)
    publish_manifest(home, DAY)
    rows: list[ArchiveRow] = home.archive.read_day(DAY)
    assert len(rows) == 200
    return {row.image_id: row.sha256 for row in rows}


def test_a_cluster_of_its_own_replaces_a_lost_worker_and_ends_with_the_run(
    listed, tmp_path, monkeypatch
):
    ask_for_a_token(monkeypatch)
    settings = on(None, listed, tmp_path, learning=WorkerSettings(at_once=1))
    refresh_index(open_home(settings))
    deeds = Murder(12, kill_own_worker)
    outcomes = learn_concepts(open_home(settings), ["A", "B"], progress=deeds)
    assert next(outcomes).status == "learned"
    assert not deeds.left
    addresses = listening_addresses(descendants())
    assert addresses
    assert all(ip_address(address).is_loopback for address in addresses)
    assert [outcome.status for outcome in outcomes] == ["learned"]
    assert not [pid for pid in descendants() if b"ray" in command_of(pid)]
    store = open_home(settings).adapters("default")
    assert len(store.version_names()) == 2
    assert store.claimed() == store.staging_names() == []


def kill_own_worker() -> None:
    (worker,) = [pid for pid in descendants() if is_worker(pid)]
    os.kill(worker, signal.SIGKILL)
