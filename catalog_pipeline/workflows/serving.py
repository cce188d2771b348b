"""Which collection serves a product: one at a time, the one that its card names.

A card may name another collection than the one in which its product was learned. The old
collection goes on serving it until the new one has learned it, and then drops it. While two
heads know a product, because a run died in between or a head was rolled back, every reader
takes the one of :func:`serving_collections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from catalog_pipeline import __version__
from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import AdapterVersion, IndexRow, SkuStatus, part_owner
from catalog_pipeline.stores.adapters import AdapterStore, version_hash
from catalog_pipeline.stores.memory import memory_version
from catalog_pipeline.workflows.home import Home

LEASE_WAIT_SECONDS = 600.0


def read_heads(home: Home) -> dict[str, AdapterVersion]:
    """The promoted version of every collection that has one."""
    found = {name: home.adapters(name).current() for name in home.collections()}
    return {name: version for name, version in found.items() if version is not None}


def serving_collections(
    rows: Iterable[IndexRow], heads: Mapping[str, AdapterVersion]
) -> dict[str, str]:
    """SKU -> the collection that serves it: its card's if that knows it, else the first by name."""
    serving: dict[str, str] = {}
    for name in sorted(heads):
        for concept in heads[name].concepts:
            serving.setdefault(concept.sku, name)
    for row in rows:
        if row.collection in heads and heads[row.collection].concept(row.sku):
            serving[row.sku] = row.collection
    return serving


def served_twice(home: Home) -> dict[str, tuple[str, list[str]]]:
    """SKU -> the collection that serves it, and the others whose heads know it; retired ones not.

    Raises:
        StoreError: the index or a head cannot be read.
    """
    rows, heads = home.index.read(), read_heads(home)
    serving = serving_collections(rows, heads)
    gone = {row.sku for row in rows if row.status is SkuStatus.RETIRED}
    others: dict[str, list[str]] = {}
    for name, head in heads.items():
        for concept in head.concepts:
            if serving[concept.sku] != name and concept.sku not in gone:
                others.setdefault(concept.sku, []).append(name)
    return {sku: (serving[sku], names) for sku, names in sorted(others.items())}


def drop_elsewhere(
    home: Home, sku: str, collection: str, *, lease_wait_seconds: float = LEASE_WAIT_SECONDS
) -> list[str]:
    """Take ``sku`` out of every head but that of ``collection``; says what was done.

    Only once ``collection`` serves it and while the index says that the card names it.
    Each head moves by compare-and-swap, under the SKU's claim and its collection's lease and
    fence, to a version without the product; earlier versions stay. Idempotent, and safe to
    kill: a rerun drops what is left.

    Raises:
        LockTimeoutError: a collection is being learned for longer than the wait.
    """
    done = []
    for name in home.collections():
        store = home.adapters(name)
        if name == collection or not _seems_to_know(store, sku):
            continue
        with (
            store.claim(sku, timeout_seconds=lease_wait_seconds),
            store.lease(timeout_seconds=lease_wait_seconds) as lease,
        ):
            named = any(
                row.sku == sku and row.collection == collection for row in home.index.read()
            )
            parent = store.current()
            if named and _knows(home.adapters(collection), sku) and parent and parent.concept(sku):
                version = drop_concept(home, parent, sku, lease.fence)
                done.append(f"version {version} of {name} without it")
    return done


def drop_concept(home: Home, parent: AdapterVersion, sku: str, fence: int) -> str:
    """Serve ``parent``, the head, without ``sku``, under the lease of ``fence``; its version."""
    store = home.adapters(parent.collection)
    concepts = tuple(concept for concept in parent.concepts if concept.sku != sku)
    parts = {name: sha for name, sha in parent.parts.items() if part_owner(name) != sku}
    draft = replace(
        parent,
        version="",
        parent=parent.version,
        concepts=concepts,
        parts=parts,
        memory_version=memory_version(parts),
        code_version=__version__,
        created_utc=datetime.now(UTC),
        metrics=dict(concepts[-1].metrics) if concepts else {},
    )
    version = replace(draft, version=version_hash(draft))
    store.publish(version)
    store.promote(version.version, expected=parent.version, fence=fence)
    facts = {"collection": parent.collection, "from": parent.version}
    home.audit.append("drop", sku, version=version.version, facts=facts)
    return version.version


def _seems_to_know(store: AdapterStore, sku: str) -> bool:
    """A head that cannot be read serves nothing, and keeps no other from dropping."""
    try:
        return _knows(store, sku)
    except StoreError:
        return False


def _knows(store: AdapterStore, sku: str) -> bool:
    current = store.current()
    return current is not None and current.concept(sku) is not None
