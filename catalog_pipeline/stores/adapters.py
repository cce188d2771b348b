"""Versions of a collection's adapter: immutable parts, immutable versions, one head.

``collections/<collection>/``::

    parts/<sha256>.safetensors    named by content, never changed
    versions/<version>.json       an AdapterVersion, named by its own hash, never changed
    HEAD.json                     which version is served
    LEASE.json                    who is learning
    staging/<name>                checkpoints of an unfinished task

The order parts -> version -> head makes a crash harmless: what is not reachable
from the head is not served, and a rerun writes the same names again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.stores.contract import ObjectStore, check_segment, sha256_hex
from catalog_pipeline.stores.head import Head, HeadObject
from catalog_pipeline.stores.leases import Lease, hold_lease
from catalog_pipeline.stores.versions import decode_version, encode_version, version_hash

__all__ = ["AdapterStore", "Head", "Lease", "collection_names", "version_hash"]

_ROOT = "collections/"


def collection_names(objects: ObjectStore) -> list[str]:
    """Every collection that has anything stored, sorted."""
    return sorted({key.split("/")[1] for key in objects.list(_ROOT) if key.count("/") > 1})


class AdapterStore:
    """All versions of one collection.

    Idempotency key: the SHA-256 of a part, the content hash of a version. Atomic:
    each object; ``promote`` and ``rollback`` move the head in one step.
    """

    def __init__(self, objects: ObjectStore, collection: str) -> None:
        self.collection = check_segment(collection, "collection")
        self._objects = objects
        self._folder = f"{_ROOT}{collection}/"
        self._head = HeadObject(objects, f"{self._folder}HEAD.json")
        self.lease_key = f"{self._folder}LEASE.json"

    def head(self) -> Head | None:
        """The promoted version, ``None`` before the first."""
        return self._head.read()

    def current(self) -> AdapterVersion | None:
        """The record of the promoted version, ``None`` before the first."""
        head = self.head()
        return None if head is None else self.read(head.version)

    def read(self, version: str) -> AdapterVersion:
        """The record of a published version.

        Raises:
            ObjectNotFoundError: never published here.
            IntegrityError: the record does not hash to its name.
        """
        key = self._version_key(version)
        return decode_version(self._objects.read(key).data, version, self._objects.uri(key))

    def history(self) -> list[AdapterVersion]:
        """Every published version, oldest first, promoted or not."""
        return sorted((self.read(name) for name in self.version_names()), key=_age)

    def readable_history(self) -> tuple[list[AdapterVersion], list[str]]:
        """:meth:`history` without the records that cannot be read, and the names of those."""
        versions, broken = [], []
        for name in self.version_names():
            try:
                versions.append(self.read(name))
            except (IntegrityError, ObjectNotFoundError):
                broken.append(name)
        return sorted(versions, key=_age), broken

    def version_names(self) -> list[str]:
        """Every published version's name, in no meaningful order; reads no record."""
        keys = self._objects.list(f"{self._folder}versions/")
        return [key.rpartition("/")[2].removesuffix(".json") for key in keys]

    def write_part(self, data: bytes) -> str:
        """Store a blob under its SHA-256, which is returned. Idempotent.

        A stored part that has rotted is replaced by the good bytes.
        """
        digest = sha256_hex(data)
        if not self._objects.put_if_absent(self._part_key(digest), data):
            try:
                self.read_part(digest)
            except IntegrityError:
                self._objects.put(self._part_key(digest), data)
        return digest

    def read_part(self, sha256: str) -> bytes:
        """The bytes of a part.

        Raises:
            ObjectNotFoundError: no such part.
            IntegrityError: the bytes do not hash to ``sha256``.
        """
        key = self._part_key(sha256)
        data = self._objects.read(key).data
        if sha256_hex(data) != sha256:
            raise IntegrityError(
                f"{self._objects.uri(key)} is corrupted: it hashes to {sha256_hex(data)[:12]}, "
                f"expected {sha256[:12]}; restore it from a backup, learn again or roll back"
            )
        return data

    def part_names(self) -> list[str]:
        """The SHA-256 of every stored part, sorted, whether a version uses it or not."""
        keys = self._objects.list(f"{self._folder}parts/")
        return [key.rpartition("/")[2].removesuffix(".safetensors") for key in keys]

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
        if version.parent is not None and not self._objects.exists(
            self._version_key(version.parent)
        ):
            raise ObjectNotFoundError(
                f"version {version.version} names the parent {version.parent}, which is not "
                f"published in collection {self.collection!r}"
            )
        missing = [
            name
            for name, digest in sorted(version.parts.items())
            if not self._objects.exists(self._part_key(digest))
        ]
        if missing:
            raise ObjectNotFoundError(
                f"version {version.version} names the part(s) {', '.join(missing[:5])}, which "
                "are not stored; write every part before publishing"
            )
        self._objects.put_if_absent(self._version_key(version.version), encode_version(version))

    def promote(self, version: str, *, expected: str | None, fence: int) -> Head:
        """Serve ``version`` from now on. Atomic; repeating a promotion that won is a no-op.

        ``expected`` is the head that the version was learned from (``None`` for the
        first), ``fence`` comes from :meth:`lease`.

        Raises:
            ObjectNotFoundError: not published.
            ConflictError: the head is not ``expected``, or a newer fence was issued.
        """
        self.read(version)
        return self._head.promote(version, expected, fence)

    def rollback(self, version: str) -> Head:
        """Serve an earlier (or any published) version again.

        Every part is read and hashed first. Draws a new fence, so that a run that is
        learning at this moment cannot promote over the rollback. A no-op when
        ``version`` is the head already.

        Raises:
            ObjectNotFoundError: the version or one of its parts is missing.
            IntegrityError: the record or a part is corrupted.
        """
        for digest in sorted(set(self.read(version).parts.values())):
            self.read_part(digest)
        return self._head.move(version)

    def lease(self, *, timeout_seconds: float) -> AbstractContextManager[Lease]:
        """Hold the collection for one learning run; see :mod:`catalog_pipeline.stores.leases`.

        Raises:
            LockTimeoutError: on entry, when another process holds it for longer than
                ``timeout_seconds``.
        """
        return hold_lease(
            self._objects, self.lease_key, self._head, timeout_seconds=timeout_seconds
        )

    def read_staging(self, name: str) -> bytes | None:
        """The checkpoint ``name``, ``None`` when there is none."""
        try:
            return self._objects.read(self._staging_key(name)).data
        except ObjectNotFoundError:
            return None

    def write_staging(self, name: str, data: bytes) -> None:
        """Keep a checkpoint; replaces an earlier one of the same name."""
        self._objects.put(self._staging_key(name), data)

    def delete_staging(self, name: str) -> None:
        """Drop a checkpoint; absent is fine."""
        self._objects.delete(self._staging_key(name))

    def staging_names(self) -> list[str]:
        """Every checkpoint kept, sorted."""
        prefix = f"{self._folder}staging/"
        return [key.removeprefix(prefix) for key in self._objects.list(prefix)]

    def _version_key(self, version: str) -> str:
        return f"{self._folder}versions/{check_segment(version, 'version')}.json"

    def _part_key(self, digest: str) -> str:
        return f"{self._folder}parts/{check_segment(digest, 'part')}.safetensors"

    def _staging_key(self, name: str) -> str:
        return f"{self._folder}staging/{name}"


def _age(version: AdapterVersion) -> tuple[datetime, str]:
    return version.created_utc, version.version
