"""Files that earlier schemas wrote still open, with every value in place.

The files are never rewritten: a later schema adds a folder beside the others. ``schema_2``
differs from ``schema_1`` in version records, whose concepts lie in pages; ``schema_3`` from
``schema_2`` in the manifest (version 2: attempts and verdict), and it has a quarantine;
``schema_4`` from ``schema_3`` in the manifest again (version 3: mode, photos and their boxes);
``schema_5`` from ``schema_4`` in manifest and index (versions 4 and 2: where rows come from), and
it has a learning log; ``schema_6`` from ``schema_5`` in the manifest (version 5: sources), and
``schema_7`` from ``schema_6`` likewise (version 6: the digest of the pixels).
"""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog_pipeline.records import (
    AdapterVersion,
    ArchiveRow,
    LearningRow,
    PhotoUse,
    SkuStatus,
    Source,
)
from catalog_pipeline.stores.adapters import AdapterStore, Head, version_hash
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.memory import MemoryEntry, decode_memory, encode_memory
from catalog_pipeline.stores.versions import encode_version
from tests.builders import (
    NIGHT,
    make_adapter_version,
    make_archive_row,
    make_concept,
    make_index_row,
)

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = tuple(f"schema_{number}" for number in range(1, 8))
WRITTEN_NOW = "schema_7"

INDEX = [
    make_index_row(
        "00123",
        collection="mugs",
        name="Zigzag mug",
        content_hash="c0ffee",
        learned_hash="c0ffee",
        photo_count=6,
        bytes=5_000_000_000,
        status=SkuStatus.LEARNED,
    ),
    make_index_row(
        "マグ",
        collection="mugs",
        name="星のマグカップ",
        category="",
        content_hash="beef",
        photo_count=2,
        bytes=2048,
        status=SkuStatus.FAILED,
        reason="2 usable photos, expected 3",
    ),
]

LEARNED_UTC = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
LEARNED = {"learned_version": "v", "learned_utc": LEARNED_UTC, "photos_used": 5}
LEFT_OUT = {"00123/blurred.jpg": "is blurred"}
ATTEMPT = LearningRow(
    attempt_id="00123@v",
    sku="00123",
    collection="mugs",
    status="learned",
    reason="",
    version="v",
    concept_sha256="abc",
    ended_utc=LEARNED_UTC,
    seconds=51.5,
    name="星のマグカップ",
    class_noun="mug",
    content_hash="c0ffee",
    photos_hash="5e7",
    config_hash="c0f",
    base_model_hash="ba5e",
    code_version="0.1.0",
    settings='{"steps":120}',
    photos=(PhotoUse("00123/a.jpg", "beef"), PhotoUse("00123/blurred.jpg", "", "is blurred")),
    metrics={"fidelity": 0.5},
)

MEMORY = MemoryEntry(
    sku="00123",
    prompts=("a photo of <00123:0> <00123:1> mug", "星のマグカップ"),
    features=np.array([[0.6, 0.8, 0.0], [0.0, -0.8, 0.6]], np.float32),
)


def golden_version(memory_part: str) -> AdapterVersion:
    """The version without its name."""
    metrics = {"fidelity": 0.5}
    mug = make_concept("00123", name="Zigzag mug", photos_hash="c0ffee", metrics=metrics)
    version = make_adapter_version(
        mug,
        collection="mugs",
        parts={"memory/00123": memory_part},
        seed=7,
        metrics={**metrics, "forgetting": 0.0},
    )
    return replace(version, version="")


def golden_row(path: str, sha256: str, *, schema: str) -> ArchiveRow:
    """The one row of the night; what its schema had no column for is as a plain picture has it."""
    judged: dict[str, Any] = {"schema_version": 2, "attempts": 2, "verdict": "passed"}
    anchored: dict[str, Any] = {
        "schema_version": 3,
        "mode": "exact",
        "mode_reason": "マグ.jpg is blurred",
        "photos": {"00123": "c0ffee", "マグ": "beef"},
        "boxes": {"00123": (0, 8, 60, 120), "マグ": (64, 16, 128, 120)},
        "strength": 0.6,
        "real_pixels": 0.875,
    }
    traced: dict[str, Any] = {
        "schema_version": 4,
        "plan_hash": "97a",
        "policy": "pairs",
        "negative_prompt": "blur",
        "attention": '{"method": "none"}',
        "render_seconds": 3.25,
        "reason": "the plan in force no longer asks for it",
        "concepts": {"00123": "abc", "マグ": "def"},
    }
    across: dict[str, Any] = {
        "schema_version": 5,
        "sources": {"00123": Source("mugs", "v"), "マグ": Source("cups", "w")},
    }
    digested: dict[str, Any] = {"schema_version": 6, "pixels_sha256": "d16e57"}
    return make_archive_row(
        "job-1",
        path=path,
        sha256=sha256,
        prompt="a zigzag mug and 星のマグカップ on a sandy beach",
        seed=2**40,
        guidance=4.5,
        height=64,
        collection="mugs",
        adapter_version="v",
        scores={"fidelity/00123": 0.5},
        superseded=True,
        **(
            (judged if schema >= "schema_3" else {})
            | (anchored if schema >= "schema_4" else {})
            | (traced if schema >= "schema_5" else {})
            | (across if schema >= "schema_6" else {})
            | (digested if schema >= "schema_7" else {})
        ),
    )


@pytest.fixture(params=SCHEMAS)
def home(tmp_path: Path, request: pytest.FixtureRequest) -> LocalObjectStore:
    """A copy, since opening a lease or a lock would write."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "home")
    return LocalObjectStore(tmp_path / "home")


def test_the_index_opens(home: LocalObjectStore, request: pytest.FixtureRequest) -> None:
    mug, other = INDEX
    if request.node.callspec.params["home"] >= "schema_5":
        mug = replace(mug, left_out=LEFT_OUT, **LEARNED)
    assert IndexStore(home).read() == [mug, other]


@pytest.mark.parametrize("home", SCHEMAS[4:], indirect=True)
def test_the_learning_log_opens(home: LocalObjectStore) -> None:
    log = LearningLog(home)
    assert log.days() == [LEARNED_UTC.date()]
    assert log.read_day(LEARNED_UTC.date()) == [ATTEMPT]


def test_the_version_its_parts_and_the_head_open(home: LocalObjectStore) -> None:
    store = AdapterStore(home, "mugs")
    current = store.current()
    assert current is not None
    expected = golden_version(current.parts["memory/00123"])
    assert {**vars(current), "version": ""} == vars(expected)
    assert store.head() == Head(current.version, 1)
    assert store.history() == [current]
    assert store.rollback(current.version).fence == 1
    found = decode_memory(store.read_part(current.parts["memory/00123"]))
    assert (found.sku, found.prompts) == (MEMORY.sku, MEMORY.prompts)
    np.testing.assert_array_equal(found.features, MEMORY.features)


@pytest.mark.parametrize("home", [WRITTEN_NOW], indirect=True)
def test_json_and_safetensors_are_written_as_they_were(home: LocalObjectStore) -> None:
    store = AdapterStore(home, "mugs")
    current = store.current()
    assert current is not None
    stored = home.read(f"collections/mugs/versions/{current.version}.json").data
    encoded = encode_version(current)
    assert encoded.record == stored
    assert encoded.pages == {name: store.read_page(name) for name in store.page_names()}
    assert encode_memory(MEMORY) == store.read_part(current.parts["memory/00123"])


@pytest.mark.parametrize("home", ["schema_1"], indirect=True)
def test_a_version_keeps_its_name_in_a_newer_schema(home: LocalObjectStore) -> None:
    store = AdapterStore(home, "mugs")
    old = store.current()
    assert old is not None
    assert store.page_names() == []
    child = replace(old, parent=old.version, seed=8)
    child = replace(child, version=version_hash(child))
    store.publish(child)
    assert store.read(child.version) == child
    assert len(store.page_names()) == 1
    home.delete(f"collections/mugs/versions/{old.version}.json")
    store.publish(old)
    assert store.current() == old
    assert len(store.page_names()) == 1


def test_the_night_opens(home: LocalObjectStore, request: pytest.FixtureRequest) -> None:
    schema = request.node.callspec.params["home"]
    archive = ImageArchive(home)
    assert archive.days() == [NIGHT]
    assert archive.verify_day(NIGHT) == []
    (row,) = archive.read_day(NIGHT)
    assert row == golden_row(row.path, row.sha256, schema=schema)
    if schema < "schema_3":
        assert (row.attempts, row.verdict) == (1, "unscored")
    if schema < "schema_4":
        assert (row.mode, row.mode_reason, row.strength, row.real_pixels) == ("learned", "", 1, 0)
        assert row.photos == row.boxes == {}
    versions = archive.versions(NIGHT)
    assert len(versions) == 2
    assert [row.superseded for row in archive.read_version(NIGHT, versions[0])] == [False]
    if schema < "schema_5":
        assert (row.plan_hash, row.attention, row.reason, row.concepts) == ("", "{}", "", {})
    if schema < "schema_6":
        assert row.sources == {}
    if schema < "schema_7":
        assert row.pixels_sha256 == ""
    assert not archive.publish_day(NIGHT, [row], []).changed


@pytest.mark.parametrize("home", SCHEMAS[2:], indirect=True)
def test_the_quarantine_opens(home: LocalObjectStore, request: pytest.FixtureRequest) -> None:
    archive = ImageArchive(home)
    (row,) = archive.quarantine.read_day(NIGHT)
    kept = golden_row(row.path, row.sha256, schema=request.node.callspec.params["home"])
    assert row == replace(
        kept, image_id="job-2", job_id="job-2", superseded=False, attempts=3, verdict="failed"
    )


def test_an_old_night_is_written_anew_with_every_value(
    home: LocalObjectStore, request: pytest.FixtureRequest
) -> None:
    archive = ImageArchive(home)
    before, states = archive.read_day(NIGHT), archive.versions(NIGHT)
    outdated = request.node.callspec.params["home"] != WRITTEN_NOW
    assert (archive.is_outdated(NIGHT), archive.upgrade_day(NIGHT)) == (outdated, outdated)
    assert not archive.is_outdated(NIGHT)
    assert not archive.upgrade_day(NIGHT)
    assert archive.read_day(NIGHT) == before
    assert archive.versions(NIGHT)[: len(states)] == states
    assert len(archive.versions(NIGHT)) == len(states) + outdated
    assert archive.read_version(NIGHT, states[-1]) == before
    assert archive.verify_day(NIGHT) == []
    assert not archive.publish_day(NIGHT, before, []).changed


@pytest.mark.parametrize("home", SCHEMAS[1:-1], indirect=True)
def test_a_manifest_that_takes_up_old_rows_is_of_the_new_version(home: LocalObjectStore) -> None:
    archive = ImageArchive(home)
    (old,) = archive.read_day(NIGHT)
    new = replace(old, image_id="job-9", job_id="job-9", attempts=3, mode="exact")
    archive.publish_day(NIGHT, [new], ["job-9"])
    data = home.read(f"manifest/dt={NIGHT}/part-0.parquet").data
    assert pq.read_schema(io.BytesIO(data)).metadata[b"schema_version"] == b"6"
    assert archive.read_day(NIGHT) == [old, replace(new, superseded=False, reason="")]
    assert archive.verify_day(NIGHT) == []
    assert len(archive.history(NIGHT)) == 3
