"""What nothing refers to any more, and its removal. Marks by key, sweeps by age.

Three things keep a removal from taking what a writer is about to name. Learning writes
under the collection's lease, and so does the sweep of a collection. Content that is
used again is written again (``ObjectStore.put_content``), so it is young. And every
removal looks at the age once more, in a folder under the key's lock.

The order version -> page, part makes a kill harmless: what is left is unreferenced too,
and the next sweep takes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.adapters import AdapterStore, Lease
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keys import (
    IMAGE_PREFIX,
    STAGING_PREFIX,
    VERSIONS_PREFIX,
    quarantine_key,
)
from catalog_pipeline.stores.manifest import column_values
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore

Kind = Literal[
    "version",
    "page",
    "part",
    "checkpoint",
    "image",
    "staged rows",
    "backdrops",
    "temporary file",
    "refused candidate",
    "held back rows",
    "report",
]

_BACKDROPS_PREFIX = "base/"
_BASE_HASH_CHARS = 16


@dataclass(frozen=True)
class Garbage:
    """An object that nothing refers to, or that was kept for as long as it may be."""

    kind: Kind
    info: ObjectInfo

    @property
    def key(self) -> str:
        """Where it is."""
        return self.info.key


def kept_versions(
    versions: Mapping[str, AdapterVersion],
    head: str | None,
    keep: int | None,
    named: frozenset[str],
) -> set[str]:
    """Which of ``versions`` stay: all when ``keep`` is ``None``.

    Else the ``keep`` newest of the line that the head descends from, the ``keep`` newest
    of all (so that a rollback can be taken back), and those in ``named``.
    """
    if keep is None:
        return set(versions)
    line: list[str] = []
    name = head
    while name is not None and name in versions and name not in line:
        line.append(name)
        name = versions[name].parent
    by_age = sorted(versions.values(), key=lambda v: (v.created_utc, v.version))
    return {*line[:keep], *(v.version for v in by_age[-keep:]), *named.intersection(versions)}


class CollectionGarbage:
    """Finds and removes what a collection no longer needs."""

    def __init__(
        self,
        objects: ObjectStore,
        store: AdapterStore,
        *,
        keep: int | None,
        named: Collection[str],
        before: datetime,
    ) -> None:
        self._objects, self._store = objects, store
        self._keep, self._named, self._before = keep, frozenset(named), before

    def may_exist(self) -> bool:
        """Whether anything is old enough to be looked at; reads no object."""
        folders: tuple[tuple[Kind, str], ...] = (
            *(("page", "pages/"), ("part", "parts/")),
            *(("version", "versions/"), ("checkpoint", "staging/")),
        )
        return any(self._old(kind, folder) for kind, folder in folders)

    def find(self) -> list[Garbage]:
        """Unreferenced objects last written before ``before``, in the order of their removal.

        Raises:
            IntegrityError: a version cannot be read, so nobody knows what it needs.
        """
        # Ages first: what is written after this is never taken for old.
        records = self._old("version", "versions/")
        content = [*self._old("page", "pages/"), *self._old("part", "parts/")]
        versions, broken = self._store.readable_history()
        if broken:
            raise IntegrityError(
                f"version record(s) {', '.join(broken)} cannot be read; what they need is not "
                "known, so nothing is removed: restore them from a backup, or delete them"
            )
        head = self._store.head()
        by_name = {version.version: version for version in versions}
        aged = {_stem(item.key) for item in records}
        kept = kept_versions(by_name, head.version if head else None, self._keep, self._named)
        kept |= by_name.keys() - aged
        doomed = [item for item in records if _stem(item.key) not in kept]
        live = self._store.references(kept)
        return [*doomed, *(item for item in content if item.key not in live)]

    def find_checkpoints(self) -> list[Garbage]:
        """Checkpoints last written before ``before`` whose SKU nobody is learning."""
        claimed = tuple(f"{sku}-" for sku in self._store.claimed())
        found = self._old("checkpoint", "staging/")
        return [each for each in found if not each.info.key.split("/")[-1].startswith(claimed)]

    def sweep(self, lease: Lease) -> list[Garbage]:
        """Remove what :meth:`find` and :meth:`find_checkpoints` see now; returns what went.

        The caller holds ``lease``; a lost lease ends the sweep.
        """
        removed: list[Garbage] = []
        doomed = self.find()
        records = {item: self._objects.read(item.key).data for item in doomed if _is_record(item)}
        for item in records:
            head = self._store.head()
            if not lease.is_lost() and (head is None or head.version != _stem(item.key)):
                removed += self._remove([item])
        if self._restored(records):
            return removed
        live = self._store.references(self._store.version_names())
        for item in doomed:
            if not _is_record(item) and item.key not in live and not lease.is_lost():
                removed += self._remove([item])
        for item in self.find_checkpoints():
            if not lease.is_lost():
                removed += self._remove([item])
        return removed

    def _restored(self, records: Mapping[Garbage, bytes]) -> bool:
        """Whether a rollback moved the head to a record that just went, which is put back."""
        head = self._store.head()
        for item, data in records.items():
            if head is not None and head.version == _stem(item.key):
                self._objects.put_if_absent(item.key, data)
                return True
        return False

    def _old(self, kind: Kind, folder: str) -> list[Garbage]:
        found = self._objects.scan(self._store.folder + folder)
        return [Garbage(kind, info) for info in found if info.modified_utc < self._before]

    def _remove(self, items: Sequence[Garbage]) -> list[Garbage]:
        return remove(self._objects, items, self._before)


def remove(objects: ObjectStore, items: Sequence[Garbage], before: datetime) -> list[Garbage]:
    """Delete those of ``items`` that are still older than ``before``; returns them."""
    went = objects.each_of(lambda item: objects.delete_if_older(item.key, before), items)
    return [item for item, gone in zip(items, went, strict=True) if gone]


def find_images(
    objects: ObjectStore,
    archive: ImageArchive,
    before: datetime,
    without: Collection[str] = (),
) -> list[Garbage]:
    """Pictures last written before ``before`` that no row names.

    Rows count when they are published, staged, in quarantine, or in a state of a manifest
    that was replaced after ``before``. Objects of quarantine whose keys are in ``without`` count
    as gone.

    Raises:
        IntegrityError: a manifest cannot be read, so nobody knows what it names.
    """
    images = [info for info in objects.scan(IMAGE_PREFIX) if info.modified_utc < before]
    if not images:
        return []
    named = {row.path for day in archive.staged_days() for row in archive.staged(day)}
    # Staged rows move to quarantine or manifest: looked at in this order, none is missed.
    held = archive.quarantine
    days = [day for day in held.days() if quarantine_key(day) not in without]
    named.update(*(held.values(day, "path") for day in days))
    named.update(*(archive.values(day, "path") for day in archive.days()))
    for info in objects.scan(VERSIONS_PREFIX):
        if info.modified_utc >= before:
            named |= column_values(objects, info.key, "path")
    return [Garbage("image", info) for info in images if info.key not in named]


def find_staged_rows(
    objects: ObjectStore, archive: ImageArchive, before: datetime
) -> list[Garbage]:
    """Shards last written before ``before`` whose every row is published."""
    days: list[date] = archive.staged_days()
    settled = {key for day in days for key in archive.settled_shards(day)}
    found = objects.scan(STAGING_PREFIX)
    return [
        Garbage("staged rows", info)
        for info in found
        if info.key in settled and info.modified_utc < before
    ]


def find_backdrops(
    objects: ObjectStore, bases_in_use: Collection[str], before: datetime
) -> list[Garbage]:
    """Cached scenes of bases that no head uses, and all but the newest of one that is used.

    A cache: what goes too early is rendered again. ``bases_in_use`` holds content hashes.
    """
    used = {base[:_BASE_HASH_CHARS] for base in bases_in_use}
    caches = [i for i in objects.scan(_BACKDROPS_PREFIX) if "/backdrops-" in i.key]
    newest: dict[str, ObjectInfo] = {}
    for info in sorted(caches, key=lambda info: (info.modified_utc, info.key)):
        newest[info.key.split("/")[1]] = info
    kept = {info.key for base, info in newest.items() if base in used}
    return [
        Garbage("backdrops", info)
        for info in caches
        if info.key not in kept and info.modified_utc < before
    ]


def bases_in_use(stores: Iterable[AdapterStore]) -> set[str]:
    """The base models that a head was learned on; a broken head counts as none."""
    found = set()
    for store in stores:
        try:
            current = store.current()
        except (IntegrityError, ObjectNotFoundError):
            continue
        if current is not None:
            found.add(current.base_model_hash)
    return found


def _is_record(item: Garbage) -> bool:
    return item.kind == "version"


def _stem(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
