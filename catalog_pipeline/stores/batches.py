"""Many objects at once: in a bucket over several connections, in a folder one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AT_ONCE = 16
_FEW = 4
_WORTH_A_LISTING = 32
"""Keys that a page of a listing must answer for, to be faster than asking for each."""


def each_of(
    objects: ObjectStore, action: Callable[[_Item], _Result], items: Sequence[_Item]
) -> list[_Result]:
    """``action`` of every item, in their order; of several errors the first item's is raised."""
    if isinstance(objects, LocalObjectStore) or len(items) < _FEW:
        return [action(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(action, items))


def missing_keys(objects: ObjectStore, keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` under which nothing is stored, sorted.

    A bucket is listed from key to key for as long as one page of the listing answers for
    many of them. What no page shows is asked for by name: a listing proves only presence.
    """
    left = sorted(set(keys))
    unseen: list[str] = []
    answered = len(left)
    while isinstance(objects, S3ObjectStore) and min(len(left), answered) >= _WORTH_A_LISTING:
        listed = objects.list_from(left[0])
        answered = bisect_right(left, listed[-1]) if listed else 0
        stored = set(listed)
        unseen += [key for key in left[:answered] if key not in stored]
        left = left[answered:]
    unseen += left
    found = each_of(objects, objects.exists, unseen)
    return [key for key, exists in zip(unseen, found, strict=True) if not exists]
