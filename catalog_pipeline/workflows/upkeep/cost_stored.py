"""Bytes that a home holds, each counted once, and which products they are for.

What belongs to one product is that product's; a picture is shared by the products that it names,
the rows of a night by its pictures; what serves a collection, or all, is spread over the products
that are served.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from catalog_pipeline.evaluation.costs import StoredKind
from catalog_pipeline.records import part_owner
from catalog_pipeline.stores.keys import (
    HOME_FOLDERS,
    IMAGE_PREFIX,
    MANIFEST_PREFIX,
    QUARANTINE_PREFIX,
    VERSIONS_PREFIX,
    days_of,
)
from catalog_pipeline.stores.objects import ObjectInfo
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.cost_spent import MadePicture

CONCEPTS = "concepts"
COLLECTIONS = "collections"
PICTURES = "pictures"
NIGHT_RECORDS = "night records"
CACHES = "caches of the base"
RECORDS = "catalog, logs, keys, plans, pages"

_SPREAD = {
    CONCEPTS: "parts of the served version, and refused candidates: the product's own",
    COLLECTIONS: "versions, earlier parts, a shared slot: evenly over the collection's products",
    PICTURES: "evenly over the products that a picture names",
    NIGHT_RECORDS: "rows and their earlier states: evenly over the night's pictures, then as these",
    CACHES: "evenly over all served products",
    RECORDS: "evenly over all served products",
}
_OF_NIGHTS = (MANIFEST_PREFIX, QUARANTINE_PREFIX, VERSIONS_PREFIX)
_CACHES_PREFIX = "base/"
_COUNTED_APART = {
    prefix.partition("/")[0] for prefix in (*_OF_NIGHTS, _CACHES_PREFIX, IMAGE_PREFIX)
} | {"collections"}
_OWN_PREFIX = "reports/cost/"
"""Of the report itself, which would count its last one and never come out the same."""
_FINGERPRINT_CHARS = 16


@dataclass
class SkuStored:
    """Bytes for one product; fractions where something is shared."""

    concept_bytes: float = 0.0
    picture_bytes: float = 0.0
    shared_bytes: float = 0.0


@dataclass
class Stored:
    """The bytes of a home; :meth:`add_night` is told of every night, :meth:`settle` ends it.

    ``without_file`` counts pictures whose file is not there.
    """

    skus: dict[str, SkuStored] = field(default_factory=lambda: defaultdict(SkuStored))
    night_bytes: Mapping[date, int] = field(default_factory=dict)
    image_bytes: dict[str, int] = field(default_factory=dict)
    picture_bytes: Counter[date] = field(default_factory=Counter)
    kinds: dict[str, StoredKind] = field(default_factory=dict)
    version_bytes: dict[tuple[str, str], int] = field(default_factory=dict)
    without_file: int = 0
    by_collection: dict[str, tuple[Sequence[str], float]] = field(default_factory=dict)
    for_all: float = 0.0
    _seen: set[str] = field(default_factory=set)
    _nights: set[date] = field(default_factory=set)

    def add_night(self, day: date, pictures: Sequence[MadePicture]) -> None:
        """Give the bytes of a night's pictures and rows to the products they name.

        A file that pictures of several nights share, byte for byte, counts in the first.
        """
        for made in pictures:
            size = self.image_bytes.pop(made.path, None)
            if size is None:
                self.without_file += made.path not in self._seen
                size = 0
            self._seen.add(made.path)
            self.picture_bytes[day] += size
            for name in made.skus:
                self.skus[name].picture_bytes += size / len(made.skus)
                self.skus[name].shared_bytes += (
                    self.night_bytes.get(day, 0) / len(pictures) / len(made.skus)
                )
            if not made.skus:
                self.for_all += size + self.night_bytes.get(day, 0) / len(pictures)
        if pictures:
            self._nights.add(day)

    def settle(self) -> float:
        """Spread what is left; returns the bytes that no product is there for."""
        self.for_all += sum(self.image_bytes.values())  # that no row names
        self.for_all += sum(n for day, n in self.night_bytes.items() if day not in self._nights)
        self.image_bytes.clear()
        for names, size in self.by_collection.values():
            self.for_all += 0.0 if names else size
            self._spread(names, size)
        served = sorted({name for names, _ in self.by_collection.values() for name in names})
        self._spread(served, self.for_all)
        return 0.0 if served else self.for_all

    def _spread(self, names: Sequence[str], size: float) -> None:
        for name in names:
            self.skus[name].shared_bytes += size / len(names)


def read_stored(home: Home) -> Stored:
    """List everything that the program has written, a prefix at a time; reads heads alone.

    Raises:
        StoreError: a head or a listing cannot be read.
    """
    stored = Stored()
    images = home.objects.scan(IMAGE_PREFIX)
    stored.image_bytes = {info.key: info.size_bytes for info in images}
    nights = [info for prefix in _OF_NIGHTS for info in home.objects.scan(prefix)]
    stored.night_bytes = _by_night(nights)
    caches = home.objects.scan(_CACHES_PREFIX)
    records = [
        info
        for name in HOME_FOLDERS
        if name not in _COUNTED_APART
        # The backend, since what opens what is sealed lists no keys.
        for info in home.backend.scan(f"{name}/")
        if not info.key.startswith(_OWN_PREFIX)
    ]
    stored.for_all = float(_size(caches) + _size(records))
    concepts: list[ObjectInfo] = []
    others: list[ObjectInfo] = []
    for name in home.collections():
        own, rest = _collection(home, name, stored)
        concepts += own
        others += rest
    stored.kinds = {
        kind: StoredKind(kind, len(infos), _size(infos), _SPREAD[kind])
        for kind, infos in (
            *((CONCEPTS, concepts), (COLLECTIONS, others), (PICTURES, images)),
            *((NIGHT_RECORDS, nights), (CACHES, caches), (RECORDS, records)),
        )
    }
    return stored


def _collection(home: Home, name: str, stored: Stored) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """What belongs to one product, which is counted there, and the collection's own."""
    store, head = home.adapters(name), home.adapters(name).current()
    names = sorted({concept.sku for concept in head.concepts} if head else ())
    owners = {digest: part_owner(part) for part, digest in (head.parts if head else {}).items()}
    own: list[ObjectInfo] = []
    others: list[ObjectInfo] = []
    for info in home.objects.scan(store.folder):
        folder, _, rest = info.key.removeprefix(store.folder).partition("/")
        owner = _owner(folder, rest, owners)
        if owner:
            stored.skus[owner].concept_bytes += info.size_bytes
            own.append(info)
        else:
            others.append(info)
        if folder == "versions":
            stored.version_bytes[name, rest.partition(".")[0]] = info.size_bytes
    stored.by_collection[name] = (names, float(_size(others)))
    return own, others


def _owner(folder: str, rest: str, owners: Mapping[str, str]) -> str:
    """The product that an object of a collection belongs to; empty for the collection's own."""
    if folder == "parts":
        return owners.get(rest.partition(".")[0], "")
    if folder == "quarantine":  # <sku>-<fingerprint>/
        return rest.partition("/")[0][: -_FINGERPRINT_CHARS - 1]
    return ""


def _by_night(infos: Iterable[ObjectInfo]) -> dict[date, int]:
    found: Counter[date] = Counter()
    for info in infos:
        prefix = next(prefix for prefix in _OF_NIGHTS if info.key.startswith(prefix))
        (day,) = days_of([info.key], prefix)
        found[day] += info.size_bytes
    return dict(found)


def _size(infos: Iterable[ObjectInfo]) -> int:
    return sum(info.size_bytes for info in infos)
