"""Every store contract runs over a folder and over a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.records import AdapterVersion, ArchiveRow, IndexRow
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.objects import ObjectStore
from tests.builders import make_adapter_version, make_archive_row, make_concept, make_index_row
from tests.stores.store_processes import Location, Worker


def plain_location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Of the fixture :func:`location`; its parameter is a folder or a bucket."""
    if request.param == "local":
        return Location(root=str(tmp_path / "home"))
    settings = request.getfixturevalue("s3_settings")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    environment = tuple((name, os.environ[name]) for name in names)
    return Location(s3=settings.model_dump_json(), environment=environment)


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a store is, in a form that another process can open."""
    return plain_location(request, tmp_path)


@pytest.fixture
def objects(location: Location) -> ObjectStore:
    """An empty store."""
    return location.open()


@pytest.fixture
def store(objects: ObjectStore) -> AdapterStore:
    """The collection that products go to by default."""
    return AdapterStore(objects, "default")


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
    return partial(make_archive_row, path="", sha256="")


@pytest.fixture
def rendered() -> Callable[..., ArchiveRow]:
    """``rendered(archive, image_id)``: store a picture and return its row."""

    def render(
        archive: ImageArchive, image_id: str, picture: bytes = b"", **changes: Any
    ) -> ArchiveRow:
        key, digest = archive.put_image(picture or b"\x89PNG " + image_id.encode())
        return make_archive_row(image_id, path=key, sha256=digest, **changes)

    return render


@pytest.fixture
def make_version() -> Callable[..., AdapterVersion]:
    """``make_version(store, "00123", ...)``: write parts for the SKUs, return a version."""

    def make(store: AdapterStore, *skus: str, **changes: Any) -> AdapterVersion:
        parts = {"shared": store.write_part(b"shared weights")}
        for sku in skus:
            parts[f"concept/{sku}"] = store.write_part(b"weights of " + sku.encode())
        concepts = [make_concept(sku, task) for task, sku in enumerate(skus)]
        fields = {"collection": store.collection, "parts": parts, **changes}
        return make_adapter_version(*concepts, **fields)

    return make


@pytest.fixture(name="make_index_row")
def _make_index_row() -> Callable[..., IndexRow]:
    """An index row for ``sku``; keyword arguments replace fields."""
    return make_index_row
