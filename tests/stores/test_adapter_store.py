"""Versions of an adapter: immutable parts and records, one fenced head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.adapters import (
    AdapterStore,
    Head,
    collection_names,
    version_hash,
)
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.pages import page_entries
from catalog_pipeline.stores.versions import decode_version, encode_version
from tests.builders import promote
from tests.stores.store_processes import Worker

MakeVersion = Callable[..., AdapterVersion]


def test_a_version_is_served_once_it_is_promoted(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    assert store.head() is None
    assert store.current() is None
    first = make_version(store, "00123")
    store.publish(first)
    assert store.current() is None
    assert promote(store, first) == Head(first.version, 1)
    second = make_version(
        store,
        "00123",
        "マグ",
        parent=first.version,
        created_utc=first.created_utc + timedelta(hours=1),
    )
    assert promote(store, second) == Head(second.version, 2)
    assert store.current() == second
    assert store.history() == [first, second]
    assert store.read(first.version) == first
    # The first concept's weights are stored once, whatever number of versions has them.
    assert len(store.part_names()) == 3
    assert collection_names(objects) == ["default"]


def test_everything_written_twice_is_written_once(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    version = make_version(store, "a")
    promote(store, version)
    before = {key: objects.read(key).version for key in objects.list("collections/default/v")}
    again = make_version(store, "a", created_utc=datetime.now(UTC), metrics={"fidelity": 0.9})
    assert again.version == version.version
    store.publish(again)
    assert {key: objects.read(key).version for key in before} == before
    assert store.current() == version


def test_the_name_hashes_what_determines_the_pictures(
    store: AdapterStore, make_version: MakeVersion
) -> None:
    version = make_version(store, "a", "b")
    same = replace(
        version,
        version="",
        metrics={},
        created_utc=datetime.now(UTC),
        parts=MappingProxyType(dict(reversed(list(version.parts.items())))),
        concepts=tuple(replace(c, metrics=MappingProxyType({})) for c in version.concepts),
    )
    assert version_hash(same) == version.version
    for changes in (
        {"seed": 1},
        {"parent": "x"},
        {"base_model_hash": "other"},
        {"config_hash": "other"},
        {"code_version": "0.2.0"},
        {"parts": {**version.parts, "shared": "0" * 64}},
        {"concepts": version.concepts[::-1]},
        {"concepts": (replace(version.concepts[0], photos_hash="x"), version.concepts[1])},
    ):
        assert version_hash(replace(version, **changes)) != version.version, changes


def test_publishing_needs_parts_parent_name_and_collection(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    version = make_version(store, "a")
    for problem, message, error in (
        ({"parts": {"concept/a": "0" * 64}}, "part\\(s\\) concept/a, which are not", None),
        ({"parent": "0" * 16}, "names the parent 0000", None),
        ({"collection": "other"}, "belongs to collection 'other'", StoreError),
    ):
        wrong = replace(version, **problem)
        wrong = replace(wrong, version=version_hash(wrong))
        with pytest.raises(error or ObjectNotFoundError, match=message):
            store.publish(wrong)
    with pytest.raises(IntegrityError, match="content hash"):
        store.publish(replace(version, version="v1"))
    with pytest.raises(ObjectNotFoundError):
        store.promote(version.version, expected=None, fence=1)
    with pytest.raises(StoreError, match="without a time zone"):
        store.publish(replace(version, created_utc=datetime(2026, 1, 1)))
    assert store.history() == []
    with pytest.raises(StoreError, match=r"collection '../x'"):
        AdapterStore(objects, "../x")


def test_promotion_needs_the_expected_head_and_the_newest_fence(
    store: AdapterStore, make_version: MakeVersion
) -> None:
    first = make_version(store, "a")
    promote(store, first)
    second = make_version(store, "a", "b", parent=first.version)
    store.publish(second)
    with store.lease(timeout_seconds=5) as lease:
        with pytest.raises(ConflictError, match=f"is at {first.version}, expected None"):
            store.promote(second.version, expected=None, fence=lease.fence)
        with pytest.raises(ConflictError, match="newest fence"):
            store.promote(second.version, expected=first.version, fence=lease.fence - 1)
        with pytest.raises(ConflictError, match="newest fence"):
            store.promote(second.version, expected=first.version, fence=lease.fence + 1)
        head = store.promote(second.version, expected=first.version, fence=lease.fence)
        # A run that died between its promotion and its answer asks again.
        again = store.promote(second.version, expected=first.version, fence=lease.fence)
    assert head == again == store.head()


def test_rollback_goes_back_and_forward(store: AdapterStore, make_version: MakeVersion) -> None:
    first = make_version(store, "a")
    second = make_version(store, "a", "b", parent=first.version)
    promote(store, first)
    promote(store, second)
    head = store.rollback(first.version)
    assert head == Head(first.version, 3, rollbacks=1)
    assert store.rollback(first.version) == head
    assert store.rollback(second.version) == Head(second.version, 4, rollbacks=2)
    with pytest.raises(ObjectNotFoundError):
        store.rollback("0" * 16)


def test_a_run_that_was_learning_cannot_undo_a_rollback(
    store: AdapterStore, make_version: MakeVersion
) -> None:
    first, second = make_version(store, "a"), make_version(store, "a", seed=1)
    promote(store, first)
    promote(store, second)
    with store.lease(timeout_seconds=5) as lease:
        candidate = make_version(store, "a", "b", parent=second.version)
        store.publish(candidate)
        store.rollback(first.version)
        store.rollback(second.version)
        with pytest.raises(ConflictError, match="rollback took over"):
            store.promote(candidate.version, expected=second.version, fence=lease.fence)
    assert store.current() == second


def test_a_corrupted_part_is_refused_and_can_be_written_again(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    first, second = make_version(store, "a"), make_version(store, "b")
    promote(store, first)
    promote(store, second)
    digest = first.parts["concept/a"]
    objects.put(f"collections/default/parts/{digest}.safetensors", b"rotten")
    with pytest.raises(IntegrityError, match="is corrupted"):
        store.read_part(digest)
    with pytest.raises(IntegrityError):
        store.rollback(first.version)
    assert store.current() == second
    assert store.write_part(b"weights of a") == digest
    assert store.read_part(digest) == b"weights of a"
    assert store.rollback(first.version).version == first.version
    with pytest.raises(ObjectNotFoundError):
        store.read_part("0" * 64)


def test_an_altered_record_or_head_is_refused(
    store: AdapterStore, make_version: MakeVersion, objects: ObjectStore
) -> None:
    version = make_version(store, "a")
    promote(store, version)
    key = f"collections/default/versions/{version.version}.json"
    content = json.loads(objects.read(key).data)
    for altered, message in (
        ({**content, "seed": 99}, "was altered"),
        ({**content, "schema_version": 4}, "upgrade catalog-pipeline"),
        ({"schema_version": 1}, "is not an adapter version"),
    ):
        objects.put(key, json.dumps(altered).encode())
        with pytest.raises(StoreError, match=message):
            store.current()
    objects.put("collections/default/HEAD.json", b"{}")
    with pytest.raises(IntegrityError, match="is not a head"):
        store.head()


def test_a_record_from_before_a_field_existed_keeps_its_name(
    store: AdapterStore, make_version: MakeVersion
) -> None:
    version = make_version(store, "a")
    encoded = encode_version(version)
    content = json.loads(encoded.record)
    (page,) = content.pop("pages")
    concepts, parts = page_entries(encoded.pages[page])
    for concept in concepts:
        del concept["config_hash"]
    content |= {"concepts": concepts, "parts": {**content["parts"], **parts}}
    del content["schema_version"]
    unhashed = {"version", "created_utc", "metrics"}
    identity = {key: content[key] for key in content.keys() - unhashed}
    identity["concepts"] = [{k: v for k, v in c.items() if k != "metrics"} for c in concepts]
    # The canonical text, spelled out: names must never depend on how it is put together.
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    data = json.dumps({**content, "version": name, "schema_version": 1}).encode()
    found = decode_version(data, name, "x", {}.__getitem__)
    assert found == replace(version, version=name)
    assert name != version.version


def test_checkpoints_come_and_go(store: AdapterStore) -> None:
    assert store.read_staging("task/a.safetensors") is None
    store.write_staging("task/a.safetensors", b"1")
    store.write_staging("task/a.safetensors", b"2")
    assert store.read_staging("task/a.safetensors") == b"2"
    assert store.staging_names() == ["task/a.safetensors"]
    store.delete_staging("task/a.safetensors")
    store.delete_staging("task/a.safetensors")
    assert store.staging_names() == []


def test_processes_learn_one_after_the_other(
    store: AdapterStore, start: Callable[..., Worker]
) -> None:
    workers = [start("learn_all", name, 2) for name in "ab"]
    assert [worker.wait() for worker in workers] == [0, 0]
    current = store.current()
    assert current is not None
    assert {concept.sku for concept in current.concepts} == {"a-0", "a-1", "b-0", "b-1"}
    assert [len(version.concepts) for version in store.history()] == [1, 2, 3, 4]
    assert store.head() == Head(current.version, 4)


@pytest.mark.parametrize("location", ["local"], indirect=True)
@pytest.mark.parametrize(
    "kill",
    [
        "put_if_absent:1:after",  # the part is written, the version is not
        "put_if_absent:2:after",  # the page of concepts is written, the version is not
        "put_if_absent:3:after",  # the version is published, the head has not moved
        "compare_and_swap:2:before",
        "compare_and_swap:2:after",  # promoted, the checkpoint is left
    ],
)
def test_learning_killed_anywhere_is_finished_by_a_rerun(
    store: AdapterStore, start: Callable[..., Worker], kill: str
) -> None:
    assert start("learn", "a").wait() == 0
    assert start("learn", "b", kill=kill).wait() == -9
    served = store.current()
    assert served is not None
    for digest in served.parts.values():
        store.read_part(digest)
    assert start("learn", "b").wait() == 0
    current = store.current()
    assert current is not None
    assert [concept.sku for concept in current.concepts] == ["a", "b"]
    assert len(store.history()) == 2
    head = store.head()
    assert start("learn", "b").wait() == 0
    assert store.current() == current
    assert store.head() == head
