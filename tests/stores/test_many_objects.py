"""Many objects at once: the same answers as one by one, in a folder and in a bucket."""

from __future__ import annotations

import pytest

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.stores import s3
from catalog_pipeline.stores.objects import ObjectStore

KEYS = [f"images/sha256={number:04d}.png" for number in range(60)]


@pytest.mark.parametrize("worth_a_listing", [1, 5, 1000])
@pytest.mark.parametrize("page", [1, 7, 1000])
@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_a_bucket_tells_what_is_missing_however_its_listing_is_cut(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, page: int, worth_a_listing: int
) -> None:
    monkeypatch.setattr(s3, "_LISTED_AT_ONCE", page)
    monkeypatch.setattr(s3, "_WORTH_A_LISTING", worth_a_listing)
    objects.each_of(lambda key: objects.put(key, b"1"), [*KEYS[::2], "other/0000.png"])
    assert objects.missing_keys(KEYS[10:]) == KEYS[11::2]
    assert objects.missing_keys([KEYS[0], "other/0000.png", "other/0001.png", "a"]) == [
        "a",
        "other/0001.png",
    ]


def test_what_is_missing_is_told(objects: ObjectStore) -> None:
    for key in KEYS[:3]:
        objects.put(key, b"1")
    assert objects.missing_keys([*KEYS[:5], KEYS[4]]) == KEYS[3:5]
    assert objects.missing_keys([]) == []


def test_results_keep_the_order_and_errors_come_through(objects: ObjectStore) -> None:
    for key in KEYS[:9]:
        objects.put(key, key.encode())
    assert objects.each_of(lambda key: objects.read(key).data.decode(), KEYS[:9]) == KEYS[:9]
    with pytest.raises(ObjectNotFoundError, match="0009"):
        objects.each_of(objects.read, KEYS[:20])
