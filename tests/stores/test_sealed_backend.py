"""What every store promises, it promises over an encrypted folder and an encrypted bucket too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import wraps
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.sealed import SealedObjectStore
from tests.stores import (
    test_adapter_store,
    test_archive,
    test_garbage,
    test_index_store,
    test_leases,
    test_objects,
)
from tests.stores.conftest import plain_location
from tests.stores.sealed_location import SealedLocation, new_master_key
from tests.stores.store_processes import Location
from tests.stores.test_archive import archive  # noqa: F401
from tests.stores.test_garbage import line  # noqa: F401

OF_ANOTHER_KIND = {
    "test_sizes_and_times_are_known_without_reading": "sizes are of what is stored; see below",
    "test_the_settings_choose_the_store": "opens no location",
    "test_a_picture_of_a_recent_state_stays": "dates a file of the folder by its key",
    "test_backdrops_of_a_used_base_keep_their_newest": "dates files of the folder by their keys",
    "test_a_clearing_killed_anywhere_is_finished_by_a_rerun": "counts what a folder unlinks",
    "test_a_broken_index_is_never_taken_for_an_empty_one": "names a file that is never sealed",
    "test_a_night_is_published_whole": "names a file that is never sealed",
    "test_a_head_that_moves_to_a_version_under_removal_keeps_it": "moves the head in the folder",
}
"""Tests that look past the store, into a folder."""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    plain = plain_location(request, tmp_path)
    return SealedLocation(**asdict(plain), master=new_master_key(tmp_path))


def slow_copy(test: Callable[..., None]) -> Callable[..., None]:
    """The same test as one of the slow ones; where it comes from it stays what it is."""

    @wraps(test)
    def again(*arguments: Any, **fixtures: Any) -> None:
        test(*arguments, **fixtures)

    return pytest.mark.slow(again)


def contracts(*modules: ModuleType) -> Iterator[tuple[str, Callable[..., None]]]:
    """The tests of every store; those with processes of their own are run with the slow ones."""
    for module in modules:
        for name, found in vars(module).items():
            needs = set(signature(found).parameters) if name.startswith("test_") else set()
            uses = needs & {"objects", "store", "archive", "location", "line"}
            if uses and name not in OF_ANOTHER_KIND:
                yield name, slow_copy(found) if "start" in needs else found


globals().update(
    contracts(
        test_objects,
        test_leases,
        test_adapter_store,
        test_index_store,
        test_archive,
        test_garbage,
    )
)


def test_the_store_under_test_seals(objects: ObjectStore) -> None:
    assert isinstance(objects, SealedObjectStore)
    objects.put("k", b"plain text")
    assert objects.list("") == ["k"]
    assert b"plain text" not in objects.backend.read("k.sealed").data


def test_sizes_are_of_what_is_stored_and_times_of_the_last_write(objects: ObjectStore) -> None:
    assert isinstance(objects, SealedObjectStore)
    started = datetime.now(UTC) - timedelta(seconds=2)
    objects.put("b/2", b"xyz")
    objects.put("b/1", b"")
    stored = {info.key: info.size_bytes for info in objects.backend.scan("b/")}
    infos = objects.scan("b/")
    assert [info.key for info in infos] == ["b/1", "b/2"]
    for info in infos:
        assert info.size_bytes == stored[f"{info.key}.sealed"] == objects.info(info.key).size_bytes
        assert started <= info.modified_utc <= datetime.now(UTC) + timedelta(seconds=2)
    assert infos[1].size_bytes - infos[0].size_bytes == 3
    with pytest.raises(ObjectNotFoundError, match="'b/3'"):
        objects.info("b/3")
