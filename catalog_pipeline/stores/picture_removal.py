"""Every picture that shows one product, out of the archive: rows, earlier states, PNG files.

Gone are also pictures that show it beside others. The order pictures -> rows makes a kill harmless:
as long as a row names a picture, the next call finds it. Each night is changed as by a publication,
in one step, and its earlier states are written anew without the rows, so that time travel goes
on through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from catalog_pipeline.errors import ObjectNotFoundError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keys import (
    IMAGE_PREFIX,
    STAGING_PREFIX,
    VERSIONS_PREFIX,
    days_of,
    manifest_key,
    quarantine_key,
    sha256_hex,
    version_key,
)
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.schemas import (
    ManifestStamps,
    decode_manifest,
    encode_manifest,
    read_columns,
)

_UNNAMED_AFTER = timedelta(hours=1)
"""A picture that no row names is younger than this, or its renderer was killed."""


@dataclass(frozen=True)
class ShownPictures:
    """Where a product is shown.

    Attributes:
        days: nights with a row, a state or a shard that shows it, oldest first.
        rows: how many rows of present manifests, quarantines and shards show it.
        image_ids: of every row and state that shows it.
        pictures: keys of the PNG files that are to go: that only such rows name, or that none
            does, in which case nobody knows what they show.
    """

    days: tuple[date, ...]
    rows: int
    image_ids: frozenset[str]
    pictures: tuple[str, ...]


class PictureRemoval:
    """Takes every picture of ``sku`` out of an archive."""

    def __init__(self, objects: ObjectStore, archive: ImageArchive, sku: str) -> None:
        self._objects, self._archive, self._sku = objects, archive, sku

    def find(self, now: datetime | None = None) -> ShownPictures:
        """What is to go; reads the paths and products of every row and every state once.

        Raises:
            IntegrityError: a manifest or one of its states is corrupted.
        """
        before = (now or datetime.now(UTC)) - _UNNAMED_AFTER
        images = self._objects.scan(IMAGE_PREFIX)  # before the rows: younger ones are not looked at
        shown: set[str] = set()
        others: set[str] = set()
        days: set[date] = set()
        ids: set[str] = set()
        count = 0
        for day, present, rows in self._rows():
            for image_id, path, skus in rows:
                if self._sku in skus:
                    shown.add(path)
                    ids.add(image_id)
                    days.add(day)
                    count += present
                else:
                    others.add(path)
        unnamed = {
            info.key
            for info in images
            if info.modified_utc < before and info.key not in shown and info.key not in others
        }
        going = (shown - others) | unnamed
        return ShownPictures(tuple(sorted(days)), count, frozenset(ids), tuple(sorted(going)))

    def remove(self, found: ShownPictures) -> int:
        """Delete the pictures, then every row; how many rows of present manifests went.

        Idempotent, and atomic for each night: a publication beside it is applied before or after.

        Raises:
            StoreError: something could not be written or removed; find and remove again.
        """
        self._objects.delete_many(found.pictures)
        return sum(self.clean_day(day) for day in found.days)

    def clean_day(self, day: date) -> int:
        """Take the product's rows out of ``day``: manifest, states, quarantine, staging."""
        gone = self._clean_staging(day) + self._clean_quarantine(day)
        return gone + self._clean_manifest(day)

    def _rows(self) -> Iterable[tuple[date, bool, list[tuple[str, str, list[str]]]]]:
        """Of each manifest, state, quarantine and night of shards: day, whether present, rows."""
        objects, archive = self._objects, self._archive
        for day in archive.staged_days():
            rows = archive.staged(day)
            yield day, True, [(row.image_id, row.path, list(row.skus)) for row in rows]
        keys = [(day, True, quarantine_key(day)) for day in archive.quarantine.days()]
        keys += [(day, True, manifest_key(day)) for day in archive.days()]
        for key in objects.list(VERSIONS_PREFIX):
            (day,) = days_of([key], VERSIONS_PREFIX)
            keys.append((day, False, key))
        for day, present, key in keys:
            try:
                data = objects.read(key).data
            except ObjectNotFoundError:
                continue  # replaced meanwhile
            found = read_columns(data, objects.uri(key), "image_id", "path", "skus")[0]
            yield day, present, [(image_id, path, skus) for image_id, path, skus in found]

    def _kept(self, rows: Sequence[ArchiveRow]) -> list[ArchiveRow]:
        return [row for row in rows if self._sku not in row.skus]

    def _clean_staging(self, day: date) -> int:
        """Shards are named by their content: the rest of one is staged anew before it goes."""
        gone = 0
        prefix = f"{STAGING_PREFIX}{day.isoformat()}/"
        for key, rows in self._archive.read_staging(day).shards.items():
            kept = self._kept(rows)
            if len(kept) < len(rows):
                if kept:
                    shard = key.removeprefix(prefix).rpartition("-")[0]
                    self._archive.stage(day, shard, kept)
                self._objects.delete(key)
                gone += len(rows) - len(kept)
        return gone

    def _clean_quarantine(self, day: date) -> int:
        key = quarantine_key(day)

        def attempt() -> int:
            try:
                stored = self._objects.read(key)
            except ObjectNotFoundError:
                return 0
            rows, _ = decode_manifest(stored.data, self._objects.uri(key))
            kept = self._kept(rows)
            if len(kept) < len(rows):
                self._objects.compare_and_swap(key, encode_manifest(kept), stored.version)
            return len(rows) - len(kept)

        return until_won(attempt, key)

    def _clean_manifest(self, day: date) -> int:
        key = manifest_key(day)

        def attempt() -> int:
            try:
                stored = self._objects.read(key)
            except ObjectNotFoundError:
                self._drop_states(day, [], ())
                return 0
            line = self._line(day, stored.data)
            states = _StatesWithout(self._kept, self._moment(day))
            for data in reversed(line):
                states.add(data, last=data is line[0])
            if states.changed:
                for data in states.kept:
                    self._objects.put_if_absent(version_key(day, sha256_hex(data)), data)
                self._objects.compare_and_swap(key, states.kept[-1], stored.version)
            self._drop_states(day, line, states.kept)
            return states.rows_gone

        return until_won(attempt, key)

    def _line(self, day: date, present: bytes) -> list[bytes]:
        """The present manifest and the states before it, newest first, as far as stored."""
        line = [present]
        while previous := decode_manifest(line[-1], manifest_key(day))[1].previous:
            try:
                line.append(self._objects.read(version_key(day, previous)).data)
            except ObjectNotFoundError:
                break
        return line

    def _moment(self, day: date) -> Callable[[bytes], datetime]:
        """When a state of an early release, which does not say it, was published."""

        def moment(data: bytes) -> datetime:
            key = version_key(day, sha256_hex(data))
            known = key if self._objects.exists(key) else manifest_key(day)
            return self._objects.info(known).modified_utc

        return moment

    def _drop_states(self, day: date, line: Sequence[bytes], kept: Sequence[bytes]) -> None:
        """Delete copies of the old line, and what a publication that died has left of the SKU."""
        stay = {version_key(day, sha256_hex(data)) for data in kept}
        old = {version_key(day, sha256_hex(data)) for data in line} - stay
        for key in self._objects.list(f"{VERSIONS_PREFIX}{day.isoformat()}/"):
            if key not in stay and (key in old or self._shows(key)):
                self._objects.delete(key)

    def _shows(self, key: str) -> bool:
        data = self._objects.read(key).data
        found = read_columns(data, self._objects.uri(key), "skus")[0]
        return any(self._sku in skus for (skus,) in found)


class _StatesWithout:
    """The states of a night, oldest first, without a product's rows.

    A state that differs from the one before by such rows alone is left out.
    """

    def __init__(
        self,
        keep: Callable[[Sequence[ArchiveRow]], list[ArchiveRow]],
        moment: Callable[[bytes], datetime],
    ) -> None:
        self._keep, self._moment = keep, moment
        self._rows: list[ArchiveRow] = []
        self.kept: list[bytes] = []
        self.changed = False
        self.rows_gone = 0

    def add(self, data: bytes, *, last: bool) -> None:
        """The next state; ``last``: it is the present one, whose rows are counted."""
        rows, stamps = decode_manifest(data, "a state of the night")
        kept = self._keep(rows)
        if last:
            self.rows_gone = len(rows) - len(kept)
        if not self.changed and len(kept) == len(rows):
            self.kept.append(data)
            self._rows = rows
            return
        self.changed = True
        if kept == self._rows and (self.kept or not last):
            return
        published = stamps.published_utc or self._moment(data)
        previous = sha256_hex(self.kept[-1]) if self.kept else ""
        self.kept.append(encode_manifest(kept, ManifestStamps(previous, published)))
        self._rows = kept
