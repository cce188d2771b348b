"""Versions of a collection's adapter: immutable parts, immutable versions, one head.

``collections/<collection>/``::

    parts/<sha256>.safetensors    named by content, never changed
    pages/<sha256>.json           concepts and their parts, shared by versions, never changed
    versions/<version>.json       an AdapterVersion, named by its own hash, never changed
    HEAD.json                     which version is served
    LEASE.json                    who is about to move the head
    claims/<sku>.json             who is learning a SKU
    staging/<name>                checkpoints of an unfinished task
    renamed.json                  what versions are called since a product was removed

The order parts -> pages -> version -> head makes a crash harmless: what is not reachable
from the head is not served, and a rerun writes the same names again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.head import Head, HeadObject
from catalog_pipeline.stores.keys import check_segment, sha256_hex
from catalog_pipeline.stores.leases import LEASE_SECONDS, Lease, LeaseObject
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.pages import parts_in_page
from catalog_pipeline.stores.renamed_versions import RenamedVersions
from catalog_pipeline.stores.versions import (
    Page,
    decode_page,
    decode_references,
    decode_version,
    encode_version,
    version_hash,
)

__all__ = ["AdapterStore", "Head", "Lease", "collection_names", "version_hash"]

_ROOT = "collections/"


def collection_names(objects: ObjectStore) -> list[str]:
    """Every collection that has anything stored, sorted."""
    return list(objects.folders(_ROOT))


@dataclass(frozen=True)
class _Opened:
    """A version with the bytes of its record and its pages, by SHA-256."""

    record: bytes
    version: AdapterVersion
    pages: Mapping[str, Page]


class AdapterStore:
    """All versions of one collection.

    Idempotency key: the SHA-256 of a part, the content hash of a version. Atomic:
    each object; ``promote`` and ``rollback`` move the head in one step.

    The version that was read last is kept with its pages, which never change: its child, its
    parent and itself are read again without what they share. ``read_page`` and
    ``references`` look at what is stored, always.
    """

    def __init__(self, objects: ObjectStore, collection: str) -> None:
        self.collection = check_segment(collection, "collection")
        self._objects = objects
        self.folder = f"{_ROOT}{collection}/"
        self._head = HeadObject(objects, f"{self.folder}HEAD.json")
        self.renamed = RenamedVersions(objects, f"{self.folder}renamed.json")
        self.lease_object = objects.lease_object(f"{self.folder}LEASE.json")
        self._opened: _Opened | None = None

    def head(self) -> Head | None:
        """The promoted version, ``None`` before the first."""
        return self._head.read()

    def current(self) -> AdapterVersion | None:
        """The record of the promoted version, ``None`` before the first."""
        head, opened = self.head(), self._opened
        if head is not None and opened is not None and opened.version.version == head.version:
            return opened.version
        return None if head is None else self.read(head.version)

    def read(self, version: str) -> AdapterVersion:
        """The record of a published version.

        Raises:
            ObjectNotFoundError: never published here.
            IntegrityError: the record does not hash to its name.
        """
        self._opened = self._read(version, self._known_pages())
        return self._opened.version

    def _known_pages(self) -> dict[str, Page]:
        return dict(self._opened.pages) if self._opened else {}

    def _read(self, version: str, pages: dict[str, Page]) -> _Opened:
        """:meth:`read`; ``pages`` holds those read before and takes up the others."""
        key = self.version_key(version)
        data, where = self._objects.read(key).data, self._objects.uri(key)
        if self._opened is not None and self._opened.record == data:
            return self._opened
        named = decode_references(data, where).pages
        missing = [digest for digest in named if digest not in pages]
        found = self._objects.each_of(self.read_page, missing)
        fresh = dict(zip(missing, found, strict=True))

        def page(digest: str) -> Page:
            if digest not in pages:
                pages[digest] = decode_page(fresh[digest])
            return pages[digest]

        found_version = decode_version(data, version, where, page)
        return _Opened(data, found_version, {digest: pages[digest] for digest in named})

    def present_name(self, version: str) -> str:
        """What ``version`` is called since a product was removed; empty where it was dropped."""
        return self.renamed.read().get(version, version)

    def read_page(self, sha256: str) -> bytes:
        """The bytes of a page of concepts.

        Raises:
            ObjectNotFoundError: no such page.
            IntegrityError: the bytes do not hash to ``sha256``.
        """
        return self._objects.read(self.page_key(sha256)).data

    def history(self) -> list[AdapterVersion]:
        """Every published version, oldest first, promoted or not."""
        pages = self._known_pages()
        found = (self._read(name, pages).version for name in self.version_names())
        return sorted(found, key=_age)

    def readable_history(self) -> tuple[list[AdapterVersion], list[str]]:
        """:meth:`history` without the records that cannot be read, and the names of those."""
        versions, broken = [], []
        pages = self._known_pages()
        for name in self.version_names():
            try:
                versions.append(self._read(name, pages).version)
            except (IntegrityError, ObjectNotFoundError):
                broken.append(name)
        return sorted(versions, key=_age), broken

    def version_names(self) -> list[str]:
        """Every published version's name, in no meaningful order; reads no record."""
        keys = self._objects.list(f"{self.folder}versions/")
        return [key.rpartition("/")[2].removesuffix(".json") for key in keys]

    def write_part(self, data: bytes, *skus: str) -> str:
        """Store a blob of ``skus`` under its SHA-256, which is returned. Idempotent.

        A stored part that has rotted is replaced by the good bytes. One of no SKU is the whole
        collection's.
        """
        digest = sha256_hex(data)
        self._objects.for_skus(*skus).put_content(self._part_key(digest), data)
        return digest

    def read_part(self, sha256: str) -> bytes:
        """The bytes of a part.

        Raises:
            ObjectNotFoundError: no such part.
            IntegrityError: the bytes do not hash to ``sha256``.
        """
        return self._objects.read(self._part_key(sha256)).data

    def _check_part(self, sha256: str) -> None:
        self.read_part(sha256)

    def part_names(self) -> list[str]:
        """The SHA-256 of every stored part, sorted, whether a version uses it or not."""
        keys = self._objects.list(f"{self.folder}parts/")
        return [key.rpartition("/")[2].removesuffix(".safetensors") for key in keys]

    def page_names(self) -> list[str]:
        """The SHA-256 of every stored page, sorted, whether a version uses it or not."""
        keys = self._objects.list(f"{self.folder}pages/")
        return [key.rpartition("/")[2].removesuffix(".json") for key in keys]

    def publish(self, version: AdapterVersion) -> None:
        """Store the record of a version whose parts are all written. Idempotent.

        Publishing does not serve it: see :meth:`promote`. A second publication of
        the same content keeps the first one's time and metrics.

        Raises:
            IntegrityError: ``version.version`` is not :func:`version_hash` of it.
            ObjectNotFoundError: a part or the parent is missing.
            StoreError: it belongs to another collection.
        """
        if version.collection != self.collection:
            raise StoreError(
                f"version {version.version} belongs to collection {version.collection!r}, "
                f"not to {self.collection!r}"
            )
        if version.version != version_hash(version):
            raise IntegrityError(
                f"version {version.version!r} must be named by its content hash "
                f"{version_hash(version)!r}; set it with version_hash"
            )
        parent = self._parent(version)
        inherited = set(parent.version.parts.values()) if parent else set()
        keys = {self._part_key(d) for d in version.parts.values() if d not in inherited}
        gone = set(self._objects.missing_keys(keys))
        missing = [
            n for n, digest in sorted(version.parts.items()) if self._part_key(digest) in gone
        ]
        if missing:
            raise ObjectNotFoundError(
                f"version {version.version} names the part(s) {', '.join(missing[:5])}, which "
                "are not stored; write every part before publishing"
            )
        encoded = encode_version(version)
        for digest, data in encoded.pages.items():
            if parent is None or digest not in parent.pages:
                self._objects.put_content(self.page_key(digest), data)
        self._objects.put_if_absent(self.version_key(version.version), encoded.record)

    def _parent(self, version: AdapterVersion) -> _Opened | None:
        if version.parent is None:
            return None
        try:
            self.read(version.parent)
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError(
                f"version {version.version} names the parent {version.parent}, which is not "
                f"published in collection {self.collection!r}"
            ) from error
        return self._opened

    def promote(self, version: str, *, expected: str | None, fence: int) -> Head:
        """Serve ``version`` from now on. Atomic; repeating a promotion that won is a no-op.

        ``expected`` is the head that the version was learned from (``None`` for the
        first), ``fence`` comes from :meth:`lease`.

        Raises:
            ObjectNotFoundError: not published.
            ConflictError: the head is not ``expected``, or a newer fence was issued.
        """
        key = self.version_key(version)  # a record is written after all that it names
        decode_references(self._objects.read(key).data, self._objects.uri(key))
        return self._head.promote(version, expected, fence)

    def rollback(self, version: str) -> Head:
        """Serve an earlier (or any published) version again.

        Every part is read and hashed first. Draws a new fence, so that a run that is
        learning at this moment cannot promote over the rollback. A no-op when
        ``version`` is the head already.

        Raises:
            ObjectNotFoundError: the version or one of its parts is missing.
            IntegrityError: the record or a part is corrupted.
            ConflictError: a clean-up took the version at this moment; the head is back.
        """
        self._objects.each_of(self._check_part, sorted(set(self.read(version).parts.values())))
        needed, before = self.references([version]), self._head.read()
        moved = self._head.move(version)
        missing = self._objects.missing_keys(needed)
        if missing:
            if before is not None:
                self._head.move(before.version)
            raise ConflictError(
                f"a clean-up removed {missing[0]} while the head moved to {version}; the head is "
                "where it was; choose a version that `catalog-pipeline versions` lists"
            )
        return moved

    def references(self, versions: Iterable[str]) -> set[str]:
        """The keys that published versions need: their records, their pages and their parts.

        Raises:
            ObjectNotFoundError: never published here, or a page is missing.
            IntegrityError: a record or a page is corrupted.
        """
        seen: set[str] = set()
        needed: set[str] = set()
        for version in versions:
            key = self.version_key(version)
            record = decode_references(self._objects.read(key).data, self._objects.uri(key))
            for page in record.pages:
                if page not in seen:
                    seen.add(page)
                    parts = parts_in_page(self.read_page(page))
                    needed.update((self.page_key(page), *map(self._part_key, parts)))
            needed.update((key, *map(self._part_key, record.parts)))
        return needed

    @contextmanager
    def lease(
        self, *, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS
    ) -> Iterator[Lease]:
        """The right to move the head; see :mod:`catalog_pipeline.stores.leases`.

        In a bucket the lease is free ``lease_seconds`` after its holder died.

        Raises:
            LockTimeoutError: on entry, when another process holds it for longer than
                ``timeout_seconds``.
        """
        with self.lease_object.hold(timeout_seconds, lease_seconds) as lost:
            yield Lease(self._head.issue_fence(), lost)

    @contextmanager
    def claim(
        self, sku: str, *, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS
    ) -> Iterator[None]:
        """Be the only one to learn, import or retire ``sku``; taken before :meth:`lease`.

        It saves the work of a second training; what keeps the result single is that the
        head is looked at again under the lease.

        Raises:
            LockTimeoutError: as of :meth:`lease`.
        """
        with self.claim_object(sku).hold(timeout_seconds, lease_seconds):
            yield

    def claim_object(self, sku: str) -> LeaseObject:
        """The claim of ``sku``; opening it touches nothing."""
        return self._objects.lease_object(self._claim_key(sku), one_of_many=True)

    def lease_objects(self) -> dict[str, LeaseObject]:
        """That of the head and those :meth:`claimed`, by what people call them."""
        name = f"collection {self.collection}"
        claims = {f"{name}, SKU {sku}": self.claim_object(sku) for sku in self.claimed()}
        return {name: self.lease_object, **claims}

    def claimed(self) -> list[str]:
        """Every SKU that is being learned, or whose learner died and has no successor yet."""
        prefix = f"{self.folder}claims/"
        keys = self._objects.list(prefix)
        return [key.removeprefix(prefix).removesuffix(".json") for key in keys]

    def read_staging(self, name: str) -> bytes | None:
        """The checkpoint ``name``, ``None`` when there is none."""
        try:
            return self._objects.read(self._staging_key(name)).data
        except ObjectNotFoundError:
            return None

    def write_staging(self, name: str, data: bytes, *skus: str) -> None:
        """Keep a checkpoint of ``skus``; replaces an earlier one of the same name."""
        self._objects.for_skus(*skus).put(self._staging_key(name), data)

    def delete_staging(self, name: str) -> None:
        """Drop a checkpoint; absent is fine."""
        self._objects.delete(self._staging_key(name))

    def staging_names(self) -> list[str]:
        """Every checkpoint kept, sorted."""
        prefix = f"{self.folder}staging/"
        return [key.removeprefix(prefix) for key in self._objects.list(prefix)]

    def version_key(self, version: str) -> str:
        """Where the record of this version is stored."""
        return f"{self.folder}versions/{check_segment(version, 'version')}.json"

    def page_key(self, digest: str) -> str:
        """Where the page with this SHA-256 is stored."""
        return f"{self.folder}pages/{check_segment(digest, 'page')}.json"

    def _part_key(self, digest: str) -> str:
        return f"{self.folder}parts/{check_segment(digest, 'part')}.safetensors"

    def _claim_key(self, sku: str) -> str:
        return f"{self.folder}claims/{check_segment(sku, 'SKU')}.json"

    def _staging_key(self, name: str) -> str:
        return f"{self.folder}staging/{name}"


def _age(version: AdapterVersion) -> tuple[datetime, str]:
    return version.created_utc, version.version
