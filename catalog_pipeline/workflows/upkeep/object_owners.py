"""Whose a stored object is: what its key, the versions and the manifests say of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import part_owner
from catalog_pipeline.stores.concept_removal import owner_of
from catalog_pipeline.stores.keys import (
    IMAGE_PREFIX,
    MANIFEST_PREFIX,
    QUARANTINE_PREFIX,
    VERSIONS_PREFIX,
)
from catalog_pipeline.stores.schemas import read_columns
from catalog_pipeline.workflows.home import Home

Owners = tuple[tuple[str, ...], ...]
"""SKUs that own an object together, and others that own it too; none is the home's alone."""


class ObjectOwners:
    """Of every object of ``home`` that may be encrypted; read off it when this is made.

    A part is of each SKU that any version names it for, a picture of the products that its rows
    name, a checkpoint, a refused candidate and what is known of photos of the SKU in their key.

    Raises:
        StoreError: a version or a manifest cannot be read, so nobody knows what it names.
    """

    def __init__(self, home: Home, keys: Sequence[str]) -> None:
        """``keys`` are those that will be asked for."""
        self._named: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        if any("/parts/" in key for key in keys):
            for name in home.collections():
                self._read_versions(home, name)
        if any(key.startswith(IMAGE_PREFIX) for key in keys):
            for path, skus in _pictures(home):
                self._named[path].add(skus)

    def of(self, key: str) -> Owners:
        """The owners of the object under ``key``, sorted."""
        if key in self._named:
            return tuple(sorted(self._named[key]))
        sku = _sku_in(key)
        return ((sku,),) if sku else ()

    def _read_versions(self, home: Home, collection: str) -> None:
        store = home.adapters(collection)
        versions, broken = store.readable_history()
        if broken:
            raise StoreError(
                f"version record(s) {', '.join(broken)} of collection {collection!r} cannot be "
                "read, so nobody knows whose parts they name; restore or delete them first"
            )
        for version in versions:
            for name, digest in version.parts.items():
                owner = part_owner(name)
                key = f"{store.folder}parts/{digest}.safetensors"
                self._named[key].add((owner,) if owner else ())


def _pictures(home: Home) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each picture that a row names, staged, held back, published or ever published."""
    objects, archive = home.objects, home.archive
    for day in archive.staged_days():
        for row in archive.staged(day):
            yield row.path, tuple(row.skus)
    for prefix in (QUARANTINE_PREFIX, MANIFEST_PREFIX, VERSIONS_PREFIX):
        for key in objects.list(prefix):
            if key.endswith(".parquet"):
                data = objects.read(key).data
                rows, _ = read_columns(data, objects.uri(key), "path", "skus")
                yield from ((path, tuple(skus)) for path, skus in rows)


def _sku_in(key: str) -> str:
    """The SKU that the key of a checkpoint, a refused candidate or photo figures is made of."""
    folder, _, name = key.rpartition("/")
    if folder == "catalog/anchors":
        return name.removesuffix(".json")
    parts = key.split("/")
    if len(parts) > 3 and parts[0] == "collections" and parts[2] in ("staging", "quarantine"):
        return owner_of(parts[3])
    return ""
