"""Photographers at work while the line looks: half an upload, and a photo swapped under it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from catalog_pipeline.catalog.local import LocalPhotoSource
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops.tick import tick_sensor_and_run
from tests.defs.scratch_line import Line


def learned_versions(line: Line) -> list[int]:
    """How many concepts each published version has, oldest first."""
    return [len(version.concepts) for version in line.home.adapters("default").history()]


def photos_hash(line: Line, sku: str) -> str:
    head = line.home.adapters("default").current()
    assert head is not None
    concept = head.concept(sku)
    assert concept is not None
    return concept.photos_hash


def content_hash(line: Line, sku: str) -> str:
    return {row.sku: row.content_hash for row in line.home.index.read()}[sku]


def test_half_an_upload_is_learned_once_and_whole(
    line: Line, instance: dg.DagsterInstance, make_photo: Callable[..., Path]
) -> None:
    folder = line.settings.catalog_root / "mug"
    for number in range(3):
        make_photo(folder / f"{number}.png", seed=number, age_seconds=0)
    assert tick_sensor_and_run(instance, defs) == []
    # The last photo is half there when the next tick looks.
    late = make_photo(folder / "3.png", seed=3, age_seconds=0)
    whole = late.read_bytes()
    late.write_bytes(whole[: len(whole) // 2])
    assert tick_sensor_and_run(instance, defs) == []
    late.write_bytes(whole)
    for path in (*folder.iterdir(), folder):
        line.age(path)
    (run,) = tick_sensor_and_run(instance, defs)
    assert run.is_success
    assert line.statuses() == {"mug": "learned"}
    assert learned_versions(line) == [1]
    assert photos_hash(line, "mug") == content_hash(line, "mug")
    assert tick_sensor_and_run(instance, defs) == []


def swap_while_read(
    monkeypatch: pytest.MonkeyPatch, photo: Path, swap: Callable[[], object]
) -> None:
    """Do ``swap`` once, right after ``photo`` was read for learning."""
    true_read, true_list = LocalPhotoSource.read, LocalPhotoSource.list_skus
    armed = {"learning": False, "done": False}

    def listing(source: LocalPhotoSource, *arguments: object, **options: object) -> object:
        # Learning lists one SKU by name; the index lists them all.
        armed["learning"] = options.get("only") is not None
        return true_list(source, *arguments, **options)  # type: ignore[arg-type]

    def reading(source: LocalPhotoSource, key: str) -> bytes:
        data = true_read(source, key)
        if armed["learning"] and not armed["done"] and key.endswith(photo.name):
            armed["done"] = True
            swap()
        return data

    monkeypatch.setattr(LocalPhotoSource, "list_skus", listing)
    monkeypatch.setattr(LocalPhotoSource, "read", reading)


def test_a_photo_replaced_while_it_is_read_is_learned_as_it_is_now(
    line: Line,
    instance: dg.DagsterInstance,
    make_photo: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line.add_product("mug")
    photo = line.settings.catalog_root / "mug" / "1.png"
    swap_while_read(monkeypatch, photo, lambda: make_photo(photo, seed=77, age_seconds=0))
    (run,) = tick_sensor_and_run(instance, defs)
    # The step reads the photos once, and finds that one of them changed meanwhile.
    assert not run.is_success
    assert learned_versions(line) == []
    for path in (photo, photo.parent):
        line.age(path)
    (again,) = tick_sensor_and_run(instance, defs)
    assert again.is_success
    assert line.statuses() == {"mug": "learned"}
    assert learned_versions(line) == [1]
    assert photos_hash(line, "mug") == content_hash(line, "mug")
    assert tick_sensor_and_run(instance, defs) == []


def test_a_photo_copied_over_by_itself_is_not_forgotten(
    line: Line, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.add_product("mug")
    photo = line.settings.catalog_root / "mug" / "1.png"

    def copy_again() -> None:
        beside = photo.with_name("copy.part")
        beside.write_bytes(photo.read_bytes())
        os.replace(beside, photo)

    swap_while_read(monkeypatch, photo, copy_again)
    (run,) = tick_sensor_and_run(instance, defs)
    # The same bytes as before: whatever this run made of it, the product gets learned.
    if not run.is_success:
        assert line.statuses() == {"mug": "failed"}
    result = defs.resolve_job_def("learn_new_skus").execute_in_process(
        instance=instance, partition_key="mug"
    )
    assert result.success
    assert line.statuses() == {"mug": "learned"}
    assert learned_versions(line) == [1]
