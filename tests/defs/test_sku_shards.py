"""Two shards of SKU partitions over one home: who holds what, who is asked for what."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import dagster as dg
import pytest
import yaml

import catalog_pipeline
from catalog_pipeline.defs.catalog.requests import WatchState, plan_requests
from catalog_pipeline.defs.sku_shards import SKU_SHARDS, SkuPlacement, SkuShard
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import load_settings
from tests.defs import model_stand_ins
from tests.defs.scratch_line import Line

OF_DAGSTER = ("catalog_pipeline.defs", "catalog_pipeline.definitions")
SHARDS = {"count": 2, "skus": 3}
ADDED_BY_A_SECOND_SHARD = {
    "catalog/photo_set_2",
    "learning/concept_2",
    "learn_new_skus_2",
    "nightly_learning_retry_2",
}


@contextmanager
def loaded_anew() -> Iterator[dg.Definitions]:
    """The definitions as a code server that starts now loads them; afterwards the others again."""
    importlib.import_module("catalog_pipeline.definitions")
    known = {name: module for name, module in sys.modules.items() if name.startswith(OF_DAGSTER)}
    attributes = {name: getattr(catalog_pipeline, name) for name in ("defs", "definitions")}

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(OF_DAGSTER)]:
            del sys.modules[name]
        for name in attributes:
            delattr(catalog_pipeline, name)

    forget()
    try:
        yield importlib.import_module("catalog_pipeline.definitions").defs
    finally:
        forget()
        sys.modules.update(known)
        for name, module in attributes.items():
            setattr(catalog_pipeline, name, module)


def set_shards(line: Line, **shards: int) -> None:
    file = line.settings.config_dir / "catalogs.yaml"
    content = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump({**content, "shards": shards}), "utf-8")


def turn(instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[dg.DagsterRun]:
    """One turn of the watcher of the definitions that are loaded now."""
    tick = importlib.import_module("catalog_pipeline.defs.ops.tick")
    runs: list[dg.DagsterRun] = tick.tick_sensor_and_run(instance, definitions)
    return runs


def execute(
    instance: dg.DagsterInstance, definitions: dg.Definitions, job: str
) -> dg.ExecuteInProcessResult:
    found = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False
    )
    assert isinstance(found, dg.ExecuteInProcessResult)
    return found


def names(definitions: dg.Definitions) -> set[str]:
    repository = definitions.get_repository_def()
    keys = definitions.resolve_asset_graph().materializable_asset_keys
    found = {key.to_user_string() for key in keys}
    found |= {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    return found | {item.name for item in (*repository.sensor_defs, *repository.schedule_defs)}


def held(instance: dg.DagsterInstance) -> list[list[str]]:
    return [list(instance.get_dynamic_partitions(name)) for name in ("sku", "sku_2")]


def materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(asset.split("/"))))


@pytest.fixture
def line(make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> Line:
    model_stand_ins.install(monkeypatch)
    return make_line(catalog={"shards": SHARDS})


def test_a_second_shard_adds_two_assets_a_job_and_a_schedule(
    make_line: Callable[..., Line],
) -> None:
    line = make_line()
    with loaded_anew() as definitions:
        alone = names(definitions)
        sensor = definitions.get_repository_def().get_sensor_def("catalog_watch")
        assert sensor.job_name == "learn_new_skus"
    set_shards(line, **SHARDS)
    with loaded_anew() as definitions:
        assert names(definitions) - alone == ADDED_BY_A_SECOND_SHARD
        assert alone < names(definitions)
        graph = definitions.resolve_asset_graph()
        second = graph.get(dg.AssetKey(["learning", "concept_2"]))
        assert second.parent_keys == {dg.AssetKey(["catalog", "photo_set_2"])}
        assert isinstance(second.partitions_def, dg.DynamicPartitionsDefinition)
        assert second.partitions_def.name == "sku_2"
        assert second.pools == {"learning"}
        memory = graph.get(dg.AssetKey(["learning", "memory"]))
        assert {key.path[-1] for key in memory.parent_keys} == {"concept", "concept_2"}
    assert [shard.set_name for shard in SKU_SHARDS] == ["sku"]


def test_two_shards_cover_the_catalog_and_ask_for_every_product_once(
    line: Line,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with loaded_anew() as definitions:
        line.add_products("b", "c", "d")
        runs = turn(instance, definitions)
        line.add_products("a", "e", "f")
        line.write("refused_skus.txt", "f")
        runs += turn(instance, definitions)
        line.write("refused_skus.txt")
        assert turn(instance, definitions) == []
        assert execute(instance, definitions, "refresh_catalog").success
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: nullcontext(instance))
        assert importlib.import_module("catalog_pipeline.defs.sku_shards").main("bfz") == 1
    found = [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert held(instance) == [["b", "c", "d"], ["a", "e", "f"]]
    assert [(run.job_name, run.tags["sku"]) for run in runs] == [
        ("learn_new_skus", "b,c,d"),
        ("learn_new_skus_2", "a,e,f"),
    ]
    assert [run.is_success for run in runs] == [True, False]
    assert found == ["b: learning/concept", "f: learning/concept_2", "z: no partition"]
    assert line.statuses() == {**dict.fromkeys("abcde", "learned"), "f": "failed"}
    assert materialized(instance, "learning/concept") == {"b", "c", "d"}
    assert materialized(instance, "learning/concept_2") == {"a", "e"}
    assert materialized(instance, "catalog/photo_set_2") == {"a", "e", "f"}
    # One memory knows them all, as the command line and the nights do.
    current = line.home.adapters("default").current()
    assert current is not None
    assert {concept.sku for concept in current.concepts} == set("abcde")
    refusals = instance.fetch_observations(
        dg.AssetRecordsFilter(dg.AssetKey(["learning", "concept_2"]), asset_partitions=["f"]), 1
    )
    assert len(refusals.records) == 1


def test_more_products_than_one_tick_may_ask_for_are_each_learned_once(
    line: Line, instance: dg.DagsterInstance
) -> None:
    line.add_products("a", "b", "c", "d", "e", "f", "g")
    with loaded_anew() as definitions:
        assert execute(instance, definitions, "refresh_catalog").success
        assert held(instance) == [["a", "b", "c"], ["d", "e", "f", "g"]]
        asked = [sku for run in turn(instance, definitions) for sku in run.tags["sku"].split(",")]
        assert turn(instance, definitions) == []
    assert sorted(asked) == list("abcdefg")


def test_a_retired_product_leaves_its_shard_and_room_is_used_again(
    line: Line, instance: dg.DagsterInstance
) -> None:
    with loaded_anew() as definitions:
        line.add_products("a", "b", "c", "d", "e")
        turn(instance, definitions)
        for sku in ("b", "d"):
            line.remove_product(sku)
            assert turn(instance, definitions) == []
        assert execute(instance, definitions, "catalog_retire").success
        assert held(instance) == [["a", "c"], ["e"]]
        line.add_products("x", "y")
        assert {run.job_name for run in turn(instance, definitions)} == {
            "learn_new_skus",
            "learn_new_skus_2",
        }
        assert held(instance) == [["a", "c", "x"], ["e", "y"]]


def test_more_shards_move_nothing_and_fewer_are_refused(
    line: Line, instance: dg.DagsterInstance
) -> None:
    set_shards(line, count=1, skus=3)
    line.add_products("a", "b", "c", "d", "e")
    with loaded_anew() as definitions:
        (run,) = turn(instance, definitions)
        assert run.job_name == "learn_new_skus"
        set_shards(line, **SHARDS)
        with pytest.raises(ConfigurationError, match="reload the code location"):
            turn(instance, definitions)
    with loaded_anew() as definitions:
        assert turn(instance, definitions) == []
        line.add_product("new")
        (run,) = turn(instance, definitions)
        assert (run.job_name, run.is_success) == ("learn_new_skus_2", True)
        assert held(instance) == [["a", "b", "c", "d", "e"], ["new"]]
        assert materialized(instance, "learning/concept") == set("abcde")
    set_shards(line, count=1, skus=3)
    with loaded_anew() as definitions:
        line.add_product("newer")
        with pytest.raises(ConfigurationError, match=r"1 SKUs are in the partition set 'sku_2'"):
            turn(instance, definitions)
        assert not execute(instance, definitions, "refresh_catalog").success
    assert held(instance) == [["a", "b", "c", "d", "e"], ["new"]]


@pytest.mark.parametrize(
    ("shards", "named"),
    [({"count": 0}, "shards.count"), ({"skus": 0}, "shards.skus"), ({"of": 3}, "shards.of")],
)
def test_wrong_shards_are_named(make_line: Callable[..., Line], shards: Any, named: str) -> None:
    line = make_line()
    set_shards(line, **shards)
    with pytest.raises(ConfigurationError, match=named):
        load_settings()
    # The code location loads all the same, as one shard.
    with loaded_anew() as definitions:
        assert not ADDED_BY_A_SECOND_SHARD & names(definitions)


def test_a_key_in_two_sets_belongs_to_the_first_and_parts_its_neighbours() -> None:
    first, second = SkuShard(1), SkuShard(2)
    placement = SkuPlacement((first, second), [["a", "b"], ["c", "b", "d"]])
    assert placement.in_order() == ["a", "b", "", "c", "", "d"]
    assert [placement.shard_of(sku) for sku in "abcd"] == [first, first, second, second]
    assert placement.with_new(["b", "e"], size=2).keys == [["a", "b"], ["c", "b", "d", "e"]]
    assert placement.with_new(["b"], size=1).added_since(placement) == {}
    state = plan_requests(
        WatchState(),
        partitions=placement.in_order(),
        waiting=dict.fromkeys("abcd", "0"),
        run_state=lambda _: "none",
        max_requests=9,
    )
    assert [list(request.skus) for request in state.requests] == [["a", "b"], ["c"], ["d"]]
