"""The image archive: content-addressed PNGs and one Parquet manifest a night.

::

    images/sha256=<digest>.png                        immutable
    manifest/dt=YYYY-MM-DD/part-0.parquet             compare-and-swap
    _versions/manifest/dt=YYYY-MM-DD/<hash>.parquet   immutable copy of every manifest
    _staging/dt=YYYY-MM-DD/<shard>.arrow              immutable; rendered, not yet published
    quarantine/dt=YYYY-MM-DD/part-0.parquet           held back; see picture_quarantine

The order image -> staging -> version copy -> manifest makes a crash harmless: a row
never names a missing picture, a reader never meets half a night, a rerun finds what
is done. Nothing but manifests lies under ``manifest/``, so the folder is a dataset.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import chain
from types import MappingProxyType

from catalog_pipeline.errors import (
    IntegrityError,
    KeyDestroyedError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.records import ArchiveRow, ManifestReport
from catalog_pipeline.stores.keys import (
    IMAGE_PREFIX,
    MANIFEST_PREFIX,
    STAGING_PREFIX,
    check_segment,
    days_of,
    image_key,
    manifest_key,
    sha256_hex,
    staging_folder,
    version_key,
)
from catalog_pipeline.stores.manifest import (
    ManifestState,
    PictureDigests,
    adapter_versions,
    check_days,
    check_pictures,
    column_values,
    merged_rows,
    moment_of_publication,
    newest_rows,
    picture_digests,
    rows_by_image_id,
    state_as_of,
)
from catalog_pipeline.stores.objects import ObjectStore, StoredObject, until_won
from catalog_pipeline.stores.picture_quarantine import PictureQuarantine
from catalog_pipeline.stores.schemas import (
    ManifestStamps,
    decode_manifest,
    decode_shards,
    encode_manifest,
    encode_shard,
    is_outdated,
    read_columns,
)

__all__ = ["ImageArchive", "ManifestState", "PictureDigests", "Staging", "image_key"]

_SHARD_HASH_CHARS = 16
_SHARDS_AT_ONCE = 256
"""Shards whose bytes are held in memory together: some megabytes."""


@dataclass(frozen=True)
class Staging:
    """What was staged for a night when it was read: the rows of each shard, by its key."""

    shards: Mapping[str, Sequence[ArchiveRow]]

    @cached_property
    def rows(self) -> list[ArchiveRow]:
        """Every row, sorted by image id; of two for one picture the newer."""
        newest = newest_rows(chain(*self.shards.values()))
        return [newest[image_id] for image_id in sorted(newest)]


class ImageArchive:
    """Pictures and their manifest. Idempotency key: ``image_id``, and the PNG's SHA-256."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.quarantine = PictureQuarantine(objects)

    def put_image(self, png: bytes, skus: Sequence[str] = ()) -> tuple[str, str]:
        """Store a PNG file that shows ``skus``; returns its key and SHA-256. Idempotent.

        A stored picture that has rotted is replaced by the good bytes.
        """
        digest = sha256_hex(png)
        key = image_key(digest)
        self._objects.for_skus(*skus).put_content(key, png)
        return key, digest

    def read_image(self, key: str) -> bytes:
        """The PNG file under ``key``.

        Raises:
            ObjectNotFoundError: no such picture.
            IntegrityError: the bytes do not hash to the key's digest.
        """
        data = self._objects.read(key).data
        if image_key(sha256_hex(data)) != key:
            raise IntegrityError(
                f"{self._objects.uri(key)} is corrupted: it hashes to {sha256_hex(data)[:12]}; "
                "delete it and render the night again"
            )
        return data

    def stage(self, day: date, shard: str, rows: Sequence[ArchiveRow]) -> None:
        """Note rendered pictures of ``day``. Idempotent.

        The object is named by ``shard`` and by its content: what a publication has read is what
        it clears, whoever stages the same ``shard`` anew meanwhile.
        """
        check_days(day, rows)
        check_segment(shard, "shard")
        data = encode_shard(rows)
        name = f"{shard}-{sha256_hex(data)[:_SHARD_HASH_CHARS]}"
        self._objects.put(f"{staging_folder(day)}/{name}.arrow", data)

    def read_staging(self, day: date) -> Staging:
        """What is staged for ``day`` now, each shard read once."""
        keys = self._objects.list(f"{staging_folder(day)}/")
        shards: dict[str, list[ArchiveRow]] = {}
        for start in range(0, len(keys), _SHARDS_AT_ONCE):
            some = keys[start : start + _SHARDS_AT_ONCE]
            found = zip(some, self._objects.each_of(self._read_shard, some), strict=True)
            stored = {key: data for key, data in found if data is not None}
            rows = decode_shards([(data, self._objects.uri(key)) for key, data in stored.items()])
            shards.update(zip(stored, rows, strict=True))
        return Staging(shards)

    def staged(self, day: date) -> list[ArchiveRow]:
        """Every staged row, sorted by image id; of two for one picture the newer."""
        return self.read_staging(day).rows

    def clear_staging(self, day: date) -> None:
        """Drop the shards whose every row is settled (:meth:`settled_shards`); keep others."""
        self._objects.delete_many(self.settled_shards(day))

    def clear_published(self, staging: Staging, image_ids: Collection[str]) -> None:
        """Drop the shards of ``staging`` whose every row is of ``image_ids``; keep others.

        For whoever has just published or held back the row that :attr:`Staging.rows` has of each
        of ``image_ids``. What was staged since ``staging`` was read is not touched.
        """
        settled = frozenset(image_ids)
        self._objects.delete_many(
            [
                key
                for key, rows in staging.shards.items()
                if settled.issuperset(row.image_id for row in rows)
            ]
        )

    def settled_shards(self, day: date) -> list[str]:
        """The keys of the shards whose every row is settled.

        A row is settled once it is published or held back in quarantine, or overtaken by
        a newer row of the same picture there.
        """
        published = {row.image_id: row for row in self.read_day(day)}
        held = {row.image_id: row for row in self.quarantine.read_day(day)}
        return [
            key
            for key, rows in self.read_staging(day).shards.items()
            if all(_is_settled(r, published.get(r.image_id), held.get(r.image_id)) for r in rows)
        ]

    def read_day(self, day: date) -> list[ArchiveRow]:
        """The published manifest of ``day``, sorted by image id; ``[]`` when there is none.

        Raises:
            IntegrityError: the manifest is not a Parquet file of this schema.
        """
        return self._read(day).rows

    def values(self, day: date, column: str) -> set[str]:
        """What the manifest of ``day`` has in a text ``column``; decodes no other.

        Raises:
            IntegrityError: the manifest is not a Parquet file of this schema.
        """
        return column_values(self._objects, manifest_key(day), column)

    def adapter_versions(self, day: date) -> set[str]:
        """Every adapter version that drew a product in the manifest of ``day``.

        Raises:
            IntegrityError: the manifest is not a Parquet file of this schema.
        """
        return adapter_versions(self._objects, manifest_key(day))

    def version(self, day: date) -> str:
        """The content hash of the present manifest of ``day``; empty when there is none."""
        try:
            return sha256_hex(self._objects.read(manifest_key(day)).data)
        except ObjectNotFoundError:
            return ""

    def digests(self, day: date) -> list[PictureDigests]:
        """What the rows published of ``day`` know their pictures by; decodes nothing else.

        Raises:
            IntegrityError: the manifest is not a Parquet file of this schema.
        """
        return picture_digests(self._objects, manifest_key(day))

    def publish_day(
        self,
        day: date,
        rows: Sequence[ArchiveRow],
        planned: Collection[str],
        reasons: Mapping[str, str] = MappingProxyType({}),
    ) -> ManifestReport:
        """Merge ``rows`` into the manifest of ``day`` by image id.

        A row that is there already stays as it is, its time included, unless one made
        later has another picture or description. ``superseded`` becomes true for exactly
        the rows whose image id is not in ``planned``; no row is ever removed. ``reasons`` says
        why, by image id, where it is not that the plan no longer asks for it.
        Idempotent: when nothing changes nothing is written. Atomic: concurrent
        publications are applied one after the other.

        Returns:
            The rows now in the manifest, those that were new, and those that this
            call superseded.

        Raises:
            StoreError: a row of another day, or two different rows for one picture.
            ObjectNotFoundError: a new row names a picture that is not stored.
        """
        check_days(day, rows)
        given = rows_by_image_id(rows)
        wanted = frozenset(planned)

        def attempt() -> ManifestReport:
            stored = self._read(day)
            before = {row.image_id: row for row in stored.rows}
            after = merged_rows(before, given, wanted, reasons)
            changed = [row for key, row in after.items() if row is not before.get(key)]
            if changed:
                check_pictures(self._objects, changed)
                self._write(day, list(after.values()), stored)
            return ManifestReport(
                day=day,
                path=self._objects.uri(manifest_key(day)),
                rows=len(after),
                added=len(after.keys() - before.keys()),
                superseded=sum(
                    row.superseded and not _was_superseded(before.get(row.image_id))
                    for row in changed
                ),
                changed=bool(changed),
            )

        return until_won(attempt, manifest_key(day))

    def is_outdated(self, day: date) -> bool:
        """Whether the manifest of ``day`` is of an earlier schema version; decodes no row."""
        return is_outdated(self._objects.read(manifest_key(day)).data)

    def upgrade_day(self, day: date) -> bool:
        """Write the manifest of ``day`` anew in the present schema; whether this call did.

        Every row stays as :meth:`read_day` gives it, and the earlier file stays a state of
        the night. Idempotent; atomic, beside publications too.
        """

        def attempt() -> bool:
            stored = self._read(day)
            if stored.outdated:
                self._write(day, stored.rows, stored)
            return stored.outdated

        return until_won(attempt, manifest_key(day))

    def days(self) -> list[date]:
        """Every day that has a manifest, oldest first."""
        found = self._objects.list(MANIFEST_PREFIX)
        return days_of((key for key in found if key.endswith("/part-0.parquet")), MANIFEST_PREFIX)

    def history(self, day: date) -> list[ManifestState]:
        """Every state that the manifest of ``day`` has had, oldest first; ``[]`` when none.

        Follows the chain of ``previous_version`` from the present manifest; it ends
        early where a copy was deleted.

        Raises:
            IntegrityError: the manifest or a copy is corrupted.
        """
        states: list[ManifestState] = []
        key = manifest_key(day)
        while self._objects.exists(key):
            states.append(self._state(day, key))
            if not states[-1].previous:
                break
            key = version_key(day, states[-1].previous)
        return states[::-1]

    def versions(self, day: date) -> list[str]:
        """The content hash of every state in :meth:`history`, oldest first."""
        return [state.version for state in self.history(day)]

    def state_as_of(self, day: date, as_of: str | datetime | None = None) -> ManifestState:
        """The state of ``day`` at a version or a time; ``None`` means the present one.

        ``as_of`` is a version (a unique beginning of its hash is enough) or a time with
        a zone, at which the state was in force.

        Raises:
            ObjectNotFoundError: the night was not published (yet), or no such version.
            StoreError: several versions begin so.
        """
        return state_as_of(self.history(day), day, as_of)

    def read_as_of(self, day: date, as_of: str | datetime | None = None) -> list[ArchiveRow]:
        """The rows of ``day`` at a version or a time; see :meth:`state_as_of`."""
        return self.read_version(day, self.state_as_of(day, as_of).version)

    def read_version(self, day: date, version: str) -> list[ArchiveRow]:
        """The manifest of ``day`` as it was at ``version``.

        Raises:
            ObjectNotFoundError: no such version.
            IntegrityError: the copy does not hash to its name.
        """
        return self._read_version(day, version).rows

    def read_version_file(self, day: date, version: str) -> bytes:
        """The Parquet file of ``day`` at ``version``, byte for byte; see :meth:`read_version`."""
        return self._objects.read(version_key(day, version)).data

    def verify_day(self, day: date) -> list[str]:
        """What is wrong with a night and its pictures, in words; ``[]`` is good.

        Reads every picture of the day, those in quarantine included. A night whose every
        picture is held back needs no manifest.
        """
        try:
            stored = self._read(day)
            held = self.quarantine.read_day(day)
            if stored.token is None and not held:
                return [f"{day} has no manifest; publish the night"]
            if stored.token is not None:
                self._objects.read(version_key(day, stored.digest))  # compared with its name
        except StoreError as error:
            return [str(error)]
        rows = {(row.image_id, row.path): row for row in (*stored.rows, *held)}
        strangers = [row for row in rows.values() if row.day != day]
        return [
            *(f"row {row.image_id} lies under {day}, but is of {row.day}" for row in strangers),
            *chain(*self._objects.each_of(self._picture_problems, list(rows.values()))),
        ]

    def manifest_glob(self) -> str:
        """What DuckDB's ``read_parquet(..., hive_partitioning = true)`` takes.

        A ``*``, ``?`` or ``[`` of the home's own path stands for itself. Hidden files, such as
        those that macOS leaves beside others on a share, are none of it.
        """
        return re.sub(r"[*?[]", r"[\g<0>]", self._objects.uri("manifest")) + "/*/part-*.parquet"

    def snapshot(self, days: Iterable[date] | None = None) -> list[str]:
        """The immutable copies of the present manifests of ``days`` (default all): path or URI.

        What a tool reads there never changes, however often it opens a file, and however
        long it keeps it open.

        Raises:
            ObjectNotFoundError: a night was not published, or its copy was deleted.
        """
        found = []
        for day in self.days() if days is None else days:
            try:
                data = self._objects.read(manifest_key(day)).data
            except ObjectNotFoundError as error:
                raise ObjectNotFoundError(
                    f"{day} has no manifest; publish the night first"
                ) from error
            key = version_key(day, sha256_hex(data))
            if not self._objects.exists(key):
                raise ObjectNotFoundError(
                    f"{self._objects.uri(key)}, the copy of {manifest_key(day)!r}, is not stored; "
                    "copy that file to it, with its time (`cp -p`)"
                )
            found.append(self._objects.uri(key))
        return found

    def image_keys(self) -> list[str]:
        """The key of every stored picture, sorted, whether a manifest names it or not."""
        return self._objects.list(IMAGE_PREFIX)

    def staged_days(self) -> list[date]:
        """Every day with rows that are rendered, but not published, oldest first."""
        return days_of(self._objects.list(STAGING_PREFIX), STAGING_PREFIX)

    def _read(self, day: date) -> _Manifest:
        key = manifest_key(day)
        try:
            stored = self._objects.read(key)
        except ObjectNotFoundError:
            return _Manifest([], "", ManifestStamps(), None, outdated=False)
        return self._decoded(key, stored)

    def _read_version(self, day: date, version: str) -> _Manifest:
        key = version_key(day, version)
        return self._decoded(key, self._objects.read(key))

    def _decoded(self, key: str, stored: StoredObject) -> _Manifest:
        rows, stamps = decode_manifest(stored.data, self._objects.uri(key))
        digest, outdated = sha256_hex(stored.data), is_outdated(stored.data)
        return _Manifest(rows, digest, stamps, stored.version, outdated)

    def _state(self, day: date, key: str) -> ManifestState:
        data = self._objects.read(key).data
        marks, stamps = read_columns(data, self._objects.uri(key), "superseded")
        digest, published = sha256_hex(data), stamps.published_utc
        if published is None:
            copy = version_key(day, digest)
            published = self._objects.info(copy if self._objects.exists(copy) else key).modified_utc
        superseded = sum(mark for (mark,) in marks)
        return ManifestState(digest, stamps.previous, published, len(marks), superseded)

    def _write(self, day: date, rows: Sequence[ArchiveRow], replaced: _Manifest) -> None:
        now = moment_of_publication(replaced.stamps.published_utc)
        data = encode_manifest(rows, ManifestStamps(replaced.digest, now))
        self._objects.put_if_absent(version_key(day, sha256_hex(data)), data)
        self._objects.compare_and_swap(manifest_key(day), data, replaced.token)

    def _read_shard(self, key: str) -> bytes | None:
        try:
            return self._objects.read(key).data
        except ObjectNotFoundError:
            return None  # another publication cleared it after the listing

    def _picture_problems(self, row: ArchiveRow) -> list[str]:
        if row.path != image_key(row.sha256):
            return [f"row {row.image_id} names {row.path!r}, expected {image_key(row.sha256)!r}"]
        try:
            self.read_image(row.path)
        except KeyDestroyedError as error:
            return [f"row {row.image_id}: {error}"]
        except ObjectNotFoundError:
            return [f"row {row.image_id} names {row.path!r}, which is not stored"]
        except StoreError as error:
            return [str(error)]
        return []


@dataclass(frozen=True)
class _Manifest:
    """A stored manifest: content hash, that of the one before, the store's version token."""

    rows: list[ArchiveRow]
    digest: str
    stamps: ManifestStamps
    token: str | None
    outdated: bool


def _is_settled(staged: ArchiveRow, published: ArchiveRow | None, held: ArchiveRow | None) -> bool:
    home, other = (held, published) if staged.verdict == "failed" else (published, held)
    if home is not None and home.sha256 == staged.sha256 and home.verdict == staged.verdict:
        return True
    return any(row is not None and row.created_utc >= staged.created_utc for row in (home, other))


def _was_superseded(row: ArchiveRow | None) -> bool:
    return row is not None and row.superseded
