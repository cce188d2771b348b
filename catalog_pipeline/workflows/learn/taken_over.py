"""Take over what was learned of the same photos, under the same settings, without training.

A folder was renamed, or a card names another collection. With a slot of its own a concept
depends on nothing but its photos and settings, and its bytes do not hold its name: it is
copied, with the figures that its gates measured. An imported one depends on no settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import (
    AdapterVersion,
    Concept,
    SkuStatus,
    concept_part,
    curve_part,
    memory_part,
)
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory, encode_memory
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import base_model_hash


@dataclass(frozen=True)
class TakenOver:
    """A concept that another SKU or collection has learned, and its parts under the new name."""

    concept: Concept
    parts: dict[str, bytes]
    source: str


def find_learned(home: Home, wanted: Concept) -> TakenOver | None:
    """What a head knows of the photos and settings of ``wanted``, if anything.

    Looked for is the SKU itself in another collection, then a SKU that is gone; never a
    product that is still there. Nothing is taken from a shared slot, which is its whole
    collection's.
    """
    if home.settings.learning.adapter.one_for_all:
        return None
    for store, version, known in _alike(home, wanted):
        try:
            parts = _copied(store, version, known.sku, wanted.sku)
        except StoreError:
            continue  # training needs none of it
        concept = replace(
            wanted,
            metrics=known.metrics,
            placeholder_tokens=_tokens(known, wanted, parts[concept_part(wanted.sku)]),
            config_hash=known.config_hash,
            imported_from=known.imported_from,
        )
        return TakenOver(concept, parts, f"{known.sku} in {version.collection}")
    return None


def _alike(home: Home, wanted: Concept) -> Iterator[tuple[AdapterStore, AdapterVersion, Concept]]:
    base = base_model_hash(home.settings.base_model)
    gone = {row.sku for row in home.index.read() if row.status is SkuStatus.RETIRED}
    found = [
        (known.sku != wanted.sku, name, version, known)
        for name, version in _readable_heads(home)
        for known in version.concepts
        if known.sku in (wanted.sku, *gone)
        and known.photos_hash == wanted.photos_hash
        and (
            _made_alike(known, wanted) or (known.imported_from and version.base_model_hash == base)
        )
    ]
    for _, name, version, known in sorted(found, key=lambda each: each[:2]):
        yield home.adapters(name), version, known


def _made_alike(known: Concept, wanted: Concept) -> bool:
    return known.config_hash == wanted.config_hash and len(known.placeholder_tokens) == len(
        wanted.placeholder_tokens
    )


def _tokens(known: Concept, wanted: Concept, part: bytes) -> tuple[str, ...]:
    """Rows are of any name; a word that stands for the product is what its slot was made with."""
    from catalog_pipeline.diffusion.parts import count_rows
    from catalog_pipeline.diffusion.text import placeholder_tokens

    if not count_rows(part):
        return known.placeholder_tokens
    return placeholder_tokens(wanted.sku, len(known.placeholder_tokens))


def _readable_heads(home: Home) -> Iterator[tuple[str, AdapterVersion]]:
    for name in home.collections():
        with suppress(StoreError):  # a damaged one keeps no other from learning
            version = home.adapters(name).current()
            if version is not None:
                yield name, version


def _copied(store: AdapterStore, version: AdapterVersion, old: str, new: str) -> dict[str, bytes]:
    parts = {
        named(new): store.read_part(version.parts[named(old)])
        for named in (concept_part, memory_part, curve_part)
        if named(old) in version.parts
    }
    memory = memory_part(new)
    parts[memory] = encode_memory(replace(decode_memory(parts[memory]), sku=new))
    return parts
