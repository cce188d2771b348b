"""Listing versions and rolling back, with the index brought in line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.records import AdapterVersion, IndexRow, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.versions import list_versions, rollback, rollback_effect
from tests.builders import MOMENT, make_concept, make_index_row, next_version, promote

Learn = Callable[..., AdapterVersion]


@pytest.fixture
def home(settings: Settings) -> Home:
    return open_home(settings)


@pytest.fixture
def learn(home: Home) -> Learn:
    """``learn("mugs", "00123", photos="1")``: what learning leaves in the stores."""
    moments = iter(MOMENT + timedelta(hours=hour) for hour in range(100))

    def commit(collection: str, sku: str, photos: str = "1") -> AdapterVersion:
        store = home.adapters(collection)
        parent = store.current()
        task = len(parent.concepts) if parent else 0
        concept = make_concept(sku, task, photos_hash=f"pixels {photos}")
        part = store.write_part(f"{sku} {photos}".encode())
        version = next_version(
            parent, concept, part, collection=collection, created_utc=next(moments)
        )
        promote(store, version)
        home.index.update(lambda rows: _with(rows, _row(collection, sku, photos)))
        return version

    return commit


def _row(collection: str, sku: str, photos: str, status: SkuStatus = SkuStatus.LEARNED) -> IndexRow:
    hashes = dict.fromkeys(("content_hash", "learned_hash"), f"files {sku} {photos}")
    return make_index_row(sku, collection=collection, status=status, **hashes)


def _with(rows: Sequence[IndexRow], row: IndexRow) -> list[IndexRow]:
    return [*(other for other in rows if other.sku != row.sku), row]


def _statuses(home: Home) -> dict[str, str]:
    return {row.sku: row.status.value for row in home.index.read()}


def test_versions_are_listed_oldest_first_with_the_head_marked(
    settings: Settings, learn: Learn
) -> None:
    assert list_versions(open_home(settings)) == []
    first, second = learn("mugs", "a"), learn("mugs", "b")
    other = learn("鞄", "c")
    entries = list_versions(open_home(settings))
    assert [(entry.version, entry.is_head) for entry in entries] == [
        (first, False),
        (second, True),
        (other, True),
    ]
    assert [entry.version for entry in list_versions(open_home(settings), "鞄")] == [other]
    with pytest.raises(ObjectNotFoundError, match="expected one of mugs, 鞄"):
        list_versions(open_home(settings), "hats")


def test_rollback_moves_the_head_and_the_index(
    settings: Settings, home: Home, learn: Learn
) -> None:
    learn("mugs", "a", photos="1")
    learn("鞄", "elsewhere")
    second = learn("mugs", "b")
    third = learn("mugs", "a", photos="2")
    head = rollback(open_home(settings), second.version[:8])
    assert home.adapters("mugs").current() == second
    assert head.fence == 4
    assert _statuses(home) == {"a": "failed", "b": "learned", "elsewhere": "learned"}
    (row,) = (row for row in home.index.read() if row.sku == "a")
    assert "knows older photos; run `catalog-pipeline learn a`" in row.reason
    assert rollback(open_home(settings), second.version) == head
    rollback(open_home(settings), third.version, "mugs")
    assert set(_statuses(home).values()) == {"learned"}


def test_what_a_rollback_would_change_is_known_before_it_is_done(
    settings: Settings, home: Home, learn: Learn
) -> None:
    first = learn("mugs", "a", photos="1")
    learn("mugs", "b")
    third = learn("mugs", "a", photos="2")
    effect = rollback_effect(open_home(settings), first.version[:8])
    assert (effect.before, effect.after) == (third.version, first.version)
    assert (effect.lost, effect.regained) == (("b",), ())
    assert effect.changed == {"a": "other photos"}
    assert home.adapters("mugs").current() == third
    assert any("fall out" in line and "b" in line for line in effect.lines)
    rollback(open_home(settings), first.version)
    (nothing,) = rollback_effect(open_home(settings), first.version).lines
    assert "nothing changes" in nothing
    forward = rollback_effect(open_home(settings), third.version)
    assert (forward.lost, forward.regained) == ((), ("b",))


def test_a_sku_that_the_version_lacks_waits_for_a_person(
    settings: Settings, home: Home, learn: Learn
) -> None:
    first = learn("mugs", "a")
    learn("mugs", "b")
    changed = _row("mugs", "c", "9", SkuStatus.CHANGED)
    retired = _row("mugs", "d", "9", SkuStatus.RETIRED)
    home.index.update(lambda rows: [*rows, changed, retired])
    rollback(open_home(settings), first.version)
    assert _statuses(home) == {"a": "learned", "b": "failed", "c": "changed", "d": "retired"}


def test_a_rollback_that_died_before_the_index_is_finished_by_a_rerun(
    settings: Settings, home: Home, learn: Learn
) -> None:
    first = learn("mugs", "a")
    learn("mugs", "b")
    home.adapters("mugs").rollback(first.version)
    assert _statuses(home)["b"] == "learned"
    rollback(open_home(settings), first.version)
    assert _statuses(home)["b"] == "failed"


def test_what_cannot_be_rolled_back_to_changes_nothing(
    settings: Settings, home: Home, learn: Learn
) -> None:
    first, second = learn("mugs", "a"), learn("mugs", "b")
    with pytest.raises(ObjectNotFoundError, match="no version 'zzz' in mugs"):
        rollback(open_home(settings), "zzz")
    with pytest.raises(ObjectNotFoundError, match="no version ''"):
        rollback(open_home(settings), "")
    with pytest.raises(ObjectNotFoundError, match="no collection 'hats'"):
        rollback(open_home(settings), first.version, "hats")
    home.objects.put(f"collections/mugs/parts/{first.parts['concept/a']}.safetensors", b"rotten")
    with pytest.raises(IntegrityError, match="is corrupted"):
        rollback(open_home(settings), first.version)
    assert home.adapters("mugs").current() == second
    assert set(_statuses(home).values()) == {"learned"}


def test_a_name_that_fits_several_versions_is_refused(
    settings: Settings, home: Home, learn: Learn
) -> None:
    version = learn("mugs", "a")
    key = f"collections/mugs/versions/{version.version}.json"
    home.objects.put(
        f"collections/mugs/versions/{version.version}0.json", home.objects.read(key).data
    )
    with pytest.raises(StoreError, match="is not one version"):
        rollback(open_home(settings), version.version[:8])
    assert rollback(open_home(settings), version.version).version == version.version
