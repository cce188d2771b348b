"""Every store contract runs over a folder and over a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.records import AdapterVersion, ArchiveRow, Concept, IndexRow, SkuStatus
from catalog_pipeline.stores.adapters import AdapterStore, version_hash
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.objects import ObjectStore
from tests.stores.store_processes import Location, Worker

NIGHT = date(2026, 3, 1)
MOMENT = datetime(2026, 3, 1, 2, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a store is, in a form that another process can open."""
    if request.param == "local":
        return Location(root=str(tmp_path / "home"))
    settings = request.getfixturevalue("s3_settings")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    environment = tuple((name, os.environ[name]) for name in names)
    return Location(s3=settings.model_dump_json(), environment=environment)


@pytest.fixture
def objects(location: Location) -> ObjectStore:
    """An empty store."""
    return location.open()


@pytest.fixture
def local(tmp_path: Path) -> Location:
    """An empty folder, for what holds or matters only there."""
    return Location(root=str(tmp_path / "home"))


@pytest.fixture
def start(location: Location) -> Iterator[Callable[..., Worker]]:
    """``start(task, *arguments, kill=None)``: run a task of ``store_processes`` elsewhere."""
    workers: list[Worker] = []

    def begin(task: str, *arguments: Any, kill: str | None = None) -> Worker:
        workers.append(Worker(location, task, arguments, kill))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.fixture
def make_row() -> Callable[..., ArchiveRow]:
    """A manifest row for ``image_id``; keyword arguments replace fields."""

    def make(image_id: str, **changes: Any) -> ArchiveRow:
        row = ArchiveRow(
            image_id=image_id,
            path="",
            sha256="",
            day=NIGHT,
            job_id=image_id,
            prompt="a mug and a backpack on a sandy beach",
            skus=("00123", "マグ"),
            layout="left_right",
            seed=7,
            sampler="dpmsolver++",
            steps=20,
            guidance=4.0,
            width=128,
            height=128,
            base_model_hash="base",
            collection="default",
            adapter_version="0123456789abcdef",
            memory_version="memory",
            scores={"fidelity/00123": 0.5, "fidelity/マグ": 0.25},
            superseded=False,
            created_utc=MOMENT,
            schema_version=1,
        )
        return replace(row, **changes)

    return make


@pytest.fixture
def rendered(make_row: Callable[..., ArchiveRow]) -> Callable[..., ArchiveRow]:
    """``rendered(archive, image_id)``: store a picture and return its row."""

    def render(
        archive: ImageArchive, image_id: str, picture: bytes = b"", **changes: Any
    ) -> ArchiveRow:
        key, digest = archive.put_image(picture or b"\x89PNG " + image_id.encode())
        return make_row(image_id, path=key, sha256=digest, **changes)

    return render


@pytest.fixture
def make_version() -> Callable[..., AdapterVersion]:
    """``make_version(store, "00123", ...)``: write parts for the SKUs, return a version."""

    def make(
        store: AdapterStore, *skus: str, parent: str | None = None, **changes: Any
    ) -> AdapterVersion:
        parts = {"shared": store.write_part(b"shared weights")}
        for sku in skus:
            parts[f"concept/{sku}"] = store.write_part(b"weights of " + sku.encode())
        concepts = tuple(
            Concept(
                sku=sku,
                name=f"Product {sku}",
                class_noun="mug",
                category="kitchen",
                placeholder_tokens=(f"<{sku}:0>", f"<{sku}:1>"),
                photos_hash=f"photos of {sku}",
                task=task,
                metrics={"fidelity": 0.5},
            )
            for task, sku in enumerate(skus)
        )
        draft = AdapterVersion(
            version="",
            collection=store.collection,
            parent=parent,
            concepts=concepts,
            base_model_hash="base",
            config_hash="config",
            parts=parts,
            memory_version="memory",
            code_version="0.1.0",
            seed=0,
            created_utc=MOMENT,
            metrics={"fidelity": 0.5, "forgetting": 0.0},
        )
        draft = replace(draft, **changes)
        return replace(draft, version=version_hash(draft))

    return make


@pytest.fixture
def make_index_row() -> Callable[..., IndexRow]:
    """An index row for ``sku``; keyword arguments replace fields."""

    def make(sku: str, **changes: Any) -> IndexRow:
        row = IndexRow(
            sku=sku,
            collection="default",
            name=f"Product {sku}",
            class_noun="mug",
            category="kitchen",
            content_hash=f"photos of {sku}",
            learned_hash="",
            photo_count=4,
            bytes=4096,
            first_seen_utc=MOMENT,
            newest_modified_utc=MOMENT,
            status=SkuStatus.NEW,
        )
        return replace(row, **changes)

    return make
