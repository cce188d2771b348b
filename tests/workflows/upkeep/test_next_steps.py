"""What a person is to do about a product."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.next_steps import by_need, next_step, photo_folder
from tests.builders import make_index_row


def row(status: SkuStatus, **changes: object) -> IndexRow:
    return replace(make_index_row("mug", status=status, photo_count=5), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (row(SkuStatus.LEARNED), ""),
        (row(SkuStatus.NEW), "catalog_watch asks for it"),
        (row(SkuStatus.RETIRED), "catalog_retire"),
        (row(SkuStatus.FAILED, photo_count=1), "put 2 more photos into"),
        (row(SkuStatus.FAILED, photos_used=5), "look at the pictures of the refused candidate"),
        (row(SkuStatus.FAILED, left_out={"a.jpg": "is blank"}), "replace the 1 photos"),
        (row(SkuStatus.FAILED, reason="rolled back to version 12, which ..."), "roll forward"),
        (row(SkuStatus.FAILED, reason="its card is wrong"), "do what the reason says"),
    ],
)
def test_there_is_one_thing_to_do(settings: Settings, seen: IndexRow, words: str) -> None:
    found = next_step(open_home(settings), seen)
    assert words in found
    assert bool(found) == bool(words)


def test_the_folder_is_named_where_photos_are_to_be_put(settings: Settings) -> None:
    home = open_home(settings)
    few = row(SkuStatus.FAILED, photo_count=0)
    assert photo_folder(home, "mug") == str(settings.catalog_root / "mug")
    assert next_step(home, few).endswith(photo_folder(home, "mug"))


def test_who_waits_for_a_person_comes_first() -> None:
    rows = [row(status) for status in (SkuStatus.LEARNED, SkuStatus.RETIRED, SkuStatus.FAILED)]
    assert [item.status for item in by_need(rows)] == ["failed", "learned", "retired"]
