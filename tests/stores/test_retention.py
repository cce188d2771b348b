"""What is kept for a time only goes after it, whole, whoever is killed when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.garbage import find_images, remove
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.retention import find_held_back, find_refused, find_reports
from tests.builders import NIGHT
from tests.stores.store_processes import Worker

REFUSED = "collections/mugs/quarantine/00123-0123456789abcdef/"
HELD = f"quarantine/dt={NIGHT}/part-0.parquet"

only_local = pytest.mark.parametrize("location", ["local"], indirect=True)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def earlier() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def refused(objects: ObjectStore) -> ObjectStore:
    for name in ("concept.safetensors", "pictures.png", "report.json"):
        objects.put(REFUSED + name, b"x")
    objects.put("collections/mugs/staging/00124-1.safetensors", b"x")
    objects.put("collections/mugs/parts/" + "0" * 64 + ".safetensors", b"x")
    return objects


def test_a_refused_candidate_goes_whole_and_nothing_beside_it(refused: ObjectStore) -> None:
    assert find_refused(refused, ["mugs"], earlier()) == []
    found = find_refused(refused, ["mugs", "never-learned"], later())
    assert {item.kind for item in found} == {"refused candidate"}
    assert remove(refused, found, later()) == found
    assert refused.list(REFUSED) == []
    assert len(refused.list("collections/mugs/")) == 2
    assert find_refused(refused, ["mugs"], later()) == []


@only_local
def test_a_candidate_that_is_refused_again_is_young_again(refused: ObjectStore) -> None:
    found = find_refused(refused, ["mugs"], later())
    before = refused.info(found[-1].key).modified_utc + timedelta(microseconds=1)
    while refused.info(REFUSED + "pictures.png").modified_utc < before:
        refused.put(REFUSED + "pictures.png", b"again")
    assert REFUSED + "pictures.png" not in {i.key for i in remove(refused, found, before)}
    assert refused.read(REFUSED + "pictures.png").data == b"again"


def test_pictures_go_with_the_rows_that_held_them_back(
    objects: ObjectStore, rendered: Callable[..., ArchiveRow]
) -> None:
    archive = ImageArchive(objects)
    good, bad = rendered(archive, "a"), rendered(archive, "b", verdict="failed")
    archive.publish_day(NIGHT, [good], ["a", "b"])
    archive.quarantine.settle_day(NIGHT, [bad], ["a", "b"])
    objects.put("quarantine/notes.txt", b"a person's")
    assert find_held_back(objects, earlier()) == []
    found = find_held_back(objects, later())
    assert [item.key for item in found] == [HELD]
    # A dry run counts the rows as gone; what it tells is what goes.
    told = find_images(objects, archive, later(), {item.key for item in found})
    assert [item.key for item in told] == [bad.path]
    assert find_images(objects, archive, later()) == []
    assert remove(objects, found, later()) == found
    assert find_images(objects, archive, later()) == told
    assert archive.quarantine.days() == []
    assert archive.verify_day(NIGHT) == []
    assert objects.exists("quarantine/notes.txt")


def test_pages_go_and_figures_stay(objects: ObjectStore) -> None:
    pages = ["reports/gallery-2026-03-01.html", "reports/nights/dt=2026-03-01.html"]
    pages += ["reports/preview.png"]
    figures = ["reports/nights/figures.json", "reports/render/dt=2026-03-01.json"]
    for key in (*pages, *figures, "plans/dt=2026-03-01/page.html"):
        objects.put(key, b"x")
    assert find_reports(objects, earlier()) == []
    assert [item.key for item in find_reports(objects, later())] == sorted(pages)


@only_local
@pytest.mark.parametrize("kill", [f"delete_if_older:{n}:{m}" for n in (1, 3, 4) for m in
                                  ("before", "after")])  # fmt: skip
def test_a_sweep_killed_anywhere_is_finished_by_the_next(
    refused: ObjectStore,
    rendered: Callable[..., ArchiveRow],
    start: Callable[..., Worker],
    kill: str,
) -> None:
    archive = ImageArchive(refused)
    bad = rendered(archive, "b", verdict="failed")
    archive.quarantine.settle_day(NIGHT, [bad], ["b"])
    before = later().isoformat()
    assert start("expire", before, kill=kill).wait() == -9
    if refused.exists(HELD):  # rows never name a picture that is gone
        assert archive.verify_day(NIGHT) == []
    assert start("expire", before).wait() == 0
    assert refused.list(REFUSED) + refused.list("quarantine/") + refused.list("images/") == []
