"""What a listing changes in the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from catalog_pipeline.catalog.index import (
    is_settled,
    mark_failed,
    mark_learned,
    merge_index,
    needs_card,
)
from catalog_pipeline.catalog.listing import ListingResult
from catalog_pipeline.errors import CatalogError, EmptyListingError
from catalog_pipeline.records import (
    IndexReport,
    IndexRow,
    PhotoRef,
    RefusedFile,
    Sku,
    SkuListing,
    SkuStatus,
)
from catalog_pipeline.settings import CatalogSettings
from catalog_pipeline.stores.schemas import decode_index, encode_index

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
SETTINGS = CatalogSettings(settle_seconds=120)


def found(
    sku: str, content: str = "a", *, photos: int = 4, modified: datetime = LONG_AGO
) -> SkuListing:
    refs = tuple(PhotoRef(f"{sku}/{n}.jpg", 1000, modified, "e") for n in range(photos))
    return SkuListing(sku, refs, f"{sku}/sku.yaml", content, modified)


def merge(
    old: Sequence[IndexRow], *listings: SkuListing, refused: Sequence[str] = (), **options: Any
) -> IndexReport:
    result = ListingResult(listings, tuple(RefusedFile(key, "why") for key in refused))
    return merge_index(old, result, **{"now": NOW, "settings": SETTINGS, **options})


def statuses(rows: Sequence[IndexRow]) -> dict[str, str]:
    return {row.sku: row.status.value for row in rows}


def learned(*skus: str) -> list[IndexRow]:
    rows = list(merge([], *(found(sku) for sku in skus)).rows)
    for sku in skus:
        rows = mark_learned(rows, sku, "a")
    return rows


def test_a_new_sku_is_added_with_everything_known_of_it() -> None:
    card = Sku("00123", "Blue mug", "mug", category="Kitchen", collection="spring")
    report = merge([], found("00123"), cards={"00123": card})
    assert report.rows == (
        IndexRow(
            sku="00123",
            collection="spring",
            name="Blue mug",
            class_noun="mug",
            category="Kitchen",
            content_hash="a",
            learned_hash="",
            photo_count=4,
            bytes=4000,
            first_seen_utc=NOW,
            newest_modified_utc=LONG_AGO,
            status=SkuStatus.NEW,
        ),
    )
    assert (report.added, report.changed, report.retired) == (("00123",), (), ())


def test_sparse_files_that_claim_more_bytes_than_a_row_holds_do_not_stop_the_index() -> None:
    vast = found("mug")
    photos = tuple(replace(photo, size_bytes=2**62) for photo in vast.photos)
    (row,) = merge([], replace(vast, photos=photos)).rows
    assert decode_index(encode_index([row]), "index") == [row]


def test_merging_the_same_listing_again_changes_nothing() -> None:
    first = merge([], found("mug"), found("cup", photos=1))
    later = NOW + timedelta(hours=1)
    second = merge(first.rows, found("mug"), found("cup", photos=1), now=later)
    assert second.rows == first.rows
    assert (second.added, second.changed, second.retired, second.unsettled) == ((), (), (), ())


def test_a_touch_changes_nothing_not_even_the_settling() -> None:
    rows = learned("mug")
    report = merge(rows, found("mug", modified=NOW))
    assert list(report.rows) == rows
    assert report.unsettled == ()


def test_rows_are_sorted_by_sku() -> None:
    rows = merge([], found("b"), found("00123"), found("a")).rows
    assert [row.sku for row in rows] == ["00123", "a", "b"]


def test_a_set_that_still_moves_waits_and_the_old_row_stays() -> None:
    edge = NOW - timedelta(seconds=120)
    assert is_settled(found("mug", modified=edge), now=NOW, settings=SETTINGS)
    moving = edge + timedelta(seconds=1)
    report = merge([], found("mug", modified=moving))
    assert (report.rows, report.unsettled) == ((), ("mug",))
    rows = learned("mug", "cup")
    report = merge(rows, found("mug", "b", modified=moving), found("cup"))
    assert list(report.rows) == rows
    assert (report.unsettled, report.changed, report.retired) == (("mug",), (), ())
    settled = merge(rows, found("mug", "b", modified=moving), found("cup"), now=NOW + timedelta(1))
    assert statuses(settled.rows) == {"mug": "changed", "cup": "learned"}


def test_content_changes_are_changed_after_learning_and_new_before() -> None:
    rows = learned("mug")
    changed = merge(rows, found("mug", "b", photos=5))
    assert statuses(changed.rows) == {"mug": "changed"}
    assert changed.changed == ("mug",)
    assert changed.rows[0].photo_count == 5
    assert changed.rows[0].first_seen_utc == rows[0].first_seen_utc
    unlearned = merge(merge([], found("mug")).rows, found("mug", "b"))
    assert statuses(unlearned.rows) == {"mug": "new"}
    assert unlearned.changed == ("mug",)


def test_photos_put_back_as_they_were_learned_are_learned() -> None:
    changed = merge(learned("mug"), found("mug", "b")).rows
    assert statuses(merge(changed, found("mug", "a")).rows) == {"mug": "learned"}


def test_a_sku_that_is_gone_is_retired_and_comes_back() -> None:
    rows = learned("mug", "cup")
    gone = merge(rows, found("cup"))
    assert statuses(gone.rows) == {"mug": "retired", "cup": "learned"}
    assert gone.retired == ("mug",)
    assert merge(gone.rows, found("cup")).retired == ()
    back = merge(gone.rows, found("cup"), found("mug", modified=NOW))
    assert statuses(back.rows)["mug"] == "learned"
    assert back.added == ("mug",)
    other = merge(gone.rows, found("cup"), found("mug", "b"))
    assert statuses(other.rows)["mug"] == "changed"
    never_learned = merge(merge([], found("cup"), found("mug")).rows, found("cup")).rows
    assert statuses(merge(never_learned, found("cup"), found("mug")).rows)["mug"] == "new"


def test_too_few_photos_and_a_wrong_card_fail_at_once_with_the_reason() -> None:
    report = merge(
        [],
        found("empty", photos=0),
        found("two", photos=2),
        found("card"),
        cards={"card": "card/sku.yaml: unknown key 'nmae'"},
    )
    assert statuses(report.rows) == {"card": "failed", "empty": "failed", "two": "failed"}
    reasons = {row.sku: row.reason for row in report.rows}
    assert reasons["card"] == "card/sku.yaml: unknown key 'nmae'"
    assert "0 usable photos of 0 listed; expected at least 3" in reasons["empty"]
    assert "2 usable photos of 2 listed" in reasons["two"]
    assert report.refused == (RefusedFile("card/sku.yaml", "card/sku.yaml: unknown key 'nmae'"),)


def test_a_wrong_card_keeps_what_was_known_of_the_product() -> None:
    card = Sku("mug", "Blue mug", "mug", category="Kitchen", collection="spring")
    rows = merge([], found("mug"), cards={"mug": card}).rows
    (row,) = merge(rows, found("mug", "b"), cards={"mug": "wrong"}).rows
    assert (row.name, row.class_noun, row.collection) == ("Blue mug", "mug", "spring")
    assert (row.status, row.reason) == (SkuStatus.FAILED, "wrong")


def test_a_failed_sku_stays_failed_until_its_content_changes() -> None:
    rows = mark_failed(merge([], found("mug")).rows, "mug", "a", "no product in sight")
    same = merge(rows, found("mug"), now=NOW + timedelta(days=9))
    assert statuses(same.rows) == {"mug": "failed"}
    assert same.rows[0].reason == "no product in sight"
    (other,) = merge(rows, found("mug", "b")).rows
    assert (other.status, other.reason) == (SkuStatus.NEW, "")


def test_learning_an_older_content_leaves_the_sku_changed() -> None:
    rows = merge(merge([], found("mug")).rows, found("mug", "b")).rows
    (row,) = mark_learned(rows, "mug", "a")
    assert (row.status, row.learned_hash) == (SkuStatus.CHANGED, "a")
    (row,) = mark_learned([row], "mug", "b")
    assert (row.status, row.learned_hash) == (SkuStatus.LEARNED, "b")
    assert mark_learned([row], "mug", "b") == [row]


def test_learning_photos_that_are_newer_than_the_listing_leaves_nothing_to_learn() -> None:
    rows = merge([], found("mug")).rows
    (row,) = mark_learned(rows, "mug", "b", listed_before="a")
    assert (row.status, row.learned_hash) == (SkuStatus.LEARNED, "b")
    (row,) = merge([row], found("mug", "b")).rows
    assert (row.status, row.content_hash) == (SkuStatus.LEARNED, "b")
    listed_meanwhile = merge(rows, found("mug", "c")).rows
    (row,) = mark_learned(listed_meanwhile, "mug", "b", listed_before="a")
    assert row.status is SkuStatus.CHANGED


def test_a_verdict_about_other_photos_or_a_retired_sku_changes_no_status() -> None:
    rows = list(merge(merge([], found("mug")).rows, found("mug", "b")).rows)
    assert mark_failed(rows, "mug", "a", "why") == rows
    retired = list(merge(learned("mug", "cup"), found("cup")).rows)
    assert mark_failed(retired, "mug", "a", "why") == retired
    assert statuses(mark_learned(retired, "mug", "b"))["mug"] == "retired"


def test_marking_an_unknown_sku_is_an_error() -> None:
    with pytest.raises(CatalogError, match="'mug' is not in the catalog index"):
        mark_learned([], "mug", "a")
    with pytest.raises(CatalogError, match="refresh the index"):
        mark_failed(learned("cup"), "mug", "a", "why")


@pytest.mark.parametrize("skus", [["mug"], ["a", "b", "c"], [str(n) for n in range(100)]])
def test_an_empty_listing_retires_nothing(skus: list[str]) -> None:
    with pytest.raises(EmptyListingError, match="nothing was changed: mount the share") as caught:
        merge(learned(*skus))
    assert f"{len(skus)} of {len(skus)} known SKUs" in str(caught.value)
    assert "retire_fraction_limit: 1" in str(caught.value)


def test_an_empty_listing_of_an_empty_index_is_fine() -> None:
    assert merge([]).rows == ()
    retired = merge(learned("mug", "cup"), found("cup")).rows
    gone = [row for row in retired if row.status is SkuStatus.RETIRED]
    assert merge(gone).rows == tuple(gone)


def test_too_large_a_share_is_not_retired_at_once() -> None:
    rows = learned("a", "b", "c", "d")
    assert len(merge(rows, found("a"), found("b")).retired) == 2
    with pytest.raises(EmptyListingError, match=r"3 of 4 known SKUs .*\(b, c, d\).*at most 50%"):
        merge(rows, found("a"))
    with pytest.raises(EmptyListingError, match="4 of 4"):
        merge(rows, found("wrong-root", "other"))
    # With fewer SKUs a share says little.
    assert len(merge(learned("a", "b", "c"), found("a")).retired) == 2


@pytest.mark.parametrize("skus", ["a", "ab", "abc", "abcdefgh"])
def test_another_catalog_in_its_place_retires_nobody(skus: str) -> None:
    rows = learned(*skus)
    with pytest.raises(EmptyListingError, match="retire them by name") as caught:
        merge(rows, found("other", "o"), found("another", "p"))
    assert f"{len(skus)} of {len(skus)} known SKUs" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_renamed_is_named_and_not_lost() -> None:
    rows = list(merge([], found("mgu", "m")).rows)
    report = merge(rows, found("mug", "m"))
    assert (report.renamed, report.retired) == ({"mug": "mgu"}, ("mgu",))
    assert statuses(report.rows) == {"mgu": "retired", "mug": "new"}
    assert merge(report.rows, found("mug", "m")).renamed == {}
    # First taken away and then put back under another name.
    gone = merge([*rows, *learned("cup")], found("cup")).rows
    assert merge(gone, found("cup"), found("mug", "m")).renamed == {"mug": "mgu"}
    # A copy, other photos, and a folder back under its own name are no new names.
    assert merge(rows, found("mgu", "m"), found("mug", "m")).renamed == {}
    assert merge(gone, found("cup"), found("mug", "n")).renamed == {}
    assert merge(gone, found("cup"), found("mgu", "m")).renamed == {}


def test_every_folder_may_be_renamed_at_once() -> None:
    rows = merge([], *(found(sku, f"photos of {sku}") for sku in "abcd")).rows
    report = merge(rows, *(found(f"{sku}-2", f"photos of {sku}") for sku in "abcd"))
    assert report.renamed == {f"{sku}-2": sku for sku in "abcd"}
    assert report.retired == tuple("abcd")


def test_folders_without_their_photos_count_as_lost() -> None:
    rows = learned("a", "b")
    with pytest.raises(EmptyListingError, match="2 of 2"):
        merge(rows, found("a", "0", photos=0), found("b", "0", photos=0))
    (a, b) = merge(rows, found("a", "0", photos=0), found("b")).rows
    assert (a.status, a.learned_hash, b.status) == (SkuStatus.FAILED, "a", SkuStatus.LEARNED)
    assert statuses(merge([a, b], found("a"), found("b")).rows)["a"] == "learned"


def test_the_limit_can_be_lifted() -> None:
    free = CatalogSettings(retire_fraction_limit=1)
    assert len(merge(learned("a", "b", "c", "d"), settings=free).retired) == 4


def test_a_sku_that_could_not_be_read_is_not_gone() -> None:
    rows = learned("a", "b")
    report = merge(rows, found("a"), refused=["b", "c d"])
    assert list(report.rows) == rows
    assert merge(rows, found("a"), refused=["b/0.jpg"]).retired == ()
    assert merge(rows, refused=["a", "b"]).retired == ()


def test_a_card_is_asked_for_only_where_the_content_differs() -> None:
    (row,) = learned("mug")
    assert needs_card(None, found("mug"))
    assert needs_card(row, found("mug", "b"))
    assert not needs_card(row, found("mug"))
