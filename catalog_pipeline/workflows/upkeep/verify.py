"""Recompute the hashes of the archive: pictures, manifests, version records, parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from catalog_pipeline.errors import ObjectNotFoundError, StoreError
from catalog_pipeline.records import sources_of
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

TASK = "verify"


@dataclass(frozen=True)
class VerifyReport:
    """What was read and hashed, and what is wrong with it; no problem means intact."""

    days: tuple[date, ...]
    pictures: int
    states: int
    versions: int
    objects: int
    problems: tuple[str, ...]


def verify(
    home: Home, day: date | None = None, *, progress: ProgressSink | None = None
) -> VerifyReport:
    """Read and hash a night, or everything; changes nothing.

    Of a night: its manifest and each earlier state, every picture against the SHA-256 of
    its row, those in quarantine included, and the record, pages and parts of every version
    that a row names. Without ``day``: every night, and every published version of every
    collection.

    Raises:
        ObjectNotFoundError: ``day`` was never published.
        StoreError: the home cannot be listed.
    """
    published = sorted({*home.archive.days(), *home.archive.quarantine.days()})
    if day is not None and day not in published:
        known = f"{published[0]} to {published[-1]}" if published else "none"
        raise ObjectNotFoundError(f"{day} has no manifest; expected one of the nights ({known})")
    run = _Verification(home)
    days = published if day is None else [day]
    sink = progress or SilentProgress()
    sink.start(TASK, len(days))
    for each in days:
        run.night(each)
        sink.advance(TASK, 1, each.isoformat())
    if day is None:
        run.learning_log()
        run.all_versions()
    run.check_versions()
    sink.finish(TASK)
    return VerifyReport(
        tuple(days),
        run.pictures,
        run.states,
        len(run.versions),
        len(run.hashed),
        tuple(dict.fromkeys(run.problems)),
    )


@dataclass
class _Verification:
    home: Home
    problems: list[str] = field(default_factory=list)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    hashed: set[str] = field(default_factory=set)
    pictures: int = 0
    states: int = 0

    def night(self, day: date) -> None:
        """The manifest of ``day``, its earlier states and its pictures."""
        archive = self.home.archive
        self.problems += archive.verify_day(day)
        try:
            rows = [*archive.read_day(day), *archive.quarantine.read_day(day)]
            history = archive.history(day)
        except StoreError as error:
            self.problems.append(f"{day}: {error}")
            return
        self.pictures += len({row.path for row in rows})
        self.states += len(history)
        if history and history[0].previous:
            self.problems.append(
                f"{day}: state {history[0].version[:12]} follows {history[0].previous[:12]}, which "
                "is not stored; restore _versions/ from a backup"
            )
        for row in rows:
            for named in sources_of(row).values():
                self.versions.setdefault(named, f"row {row.image_id} of {day}")

    def learning_log(self) -> None:
        """Every day of what was learned and refused."""
        log = self.home.learning_log
        for day in log.days():
            try:
                log.read_day(day)
            except StoreError as error:
                self.problems.append(str(error))

    def all_versions(self) -> None:
        """Take up every published version, named by a row or not."""
        for name in self.home.collections():
            for version in self.home.adapters(name).version_names():
                self.versions.setdefault((name, version), f"collection {name}")

    def check_versions(self) -> None:
        """The record, pages and parts of every version taken up."""
        for (collection, version), named_by in sorted(self.versions.items()):
            store = self.home.adapters(collection)
            try:
                now = store.present_name(version)
                if now:  # else it went with a product that was removed
                    store.read(now)
                    self._hash(store.references([now]))
            except ObjectNotFoundError as error:
                self.problems.append(f"{named_by} names version {version}: {error}")
            except StoreError as error:
                self.problems.append(str(error))

    def _hash(self, keys: Iterable[str]) -> None:
        for key in sorted(set(keys) - self.hashed):
            self.hashed.add(key)
            try:
                self.home.objects.read(key)  # compares the bytes with the digest in the key
            except StoreError as error:
                self.problems.append(str(error))
