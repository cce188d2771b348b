"""Remove what nothing refers to any more, and what may be kept for a time only, once it is old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from catalog_pipeline.errors import ConfigurationError, StoreError
from catalog_pipeline.records import ArchiveRow, RenderJob, sources_of
from catalog_pipeline.stores.garbage import (
    CollectionGarbage,
    Garbage,
    bases_in_use,
    find_backdrops,
    find_images,
    find_staged_rows,
    remove,
)
from catalog_pipeline.stores.keys import PLANS_PREFIX
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.retention import find_held_back, find_refused, find_reports
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import decode_plan
from catalog_pipeline.workflows.report_pages import stores_of_pages
from catalog_pipeline.workflows.upkeep.doctor_repair import OLD

LARGEST_GRACE_HOURS = 876_000

GRACE_HOURS = 72.0
LEASE_WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class GarbageReport:
    """What a clean-up removed, or would remove in a dry run.

    ``skipped`` says in words what was left alone although it may hold garbage, and why.
    """

    garbage: tuple[Garbage, ...]
    skipped: tuple[str, ...]
    dry_run: bool
    before_utc: datetime

    @property
    def size_bytes(self) -> int:
        """Of everything in ``garbage``."""
        return sum(item.info.size_bytes for item in self.garbage)


def collect_garbage(
    home: Home,
    *,
    grace_hours: float = GRACE_HOURS,
    dry_run: bool = False,
    now: datetime | None = None,
) -> GarbageReport:
    """Remove unreferenced versions, parts, pages, checkpoints, pictures, staged rows, backdrops,
    and temporary files; and what was kept for as long as ``governance.yaml: retention`` says.

    Nothing that was written in the last ``grace_hours`` goes, and nothing that is
    reachable: see docs/operations.md for what refers to what. A collection is swept under
    its lease; one that is learning is skipped. Safe beside renderings and publications
    as long as ``grace_hours`` is longer than any of them takes. Safe to kill; idempotent.

    Args:
        home: its setting ``archive.keep_versions`` says how many versions stay, and
            ``governance.retention`` for how many days refused candidates, held back pictures
            and reports do.
        grace_hours: how long a thing must have been left alone.
        dry_run: only look; takes no lease and writes nothing.
        now: the time that ages count from, with a zone; default the present.

    Raises:
        ConfigurationError: ``grace_hours`` is negative, not finite or over a century.
        StoreError: the home cannot be listed.
    """
    if not 0 <= grace_hours <= LARGEST_GRACE_HOURS:
        raise ConfigurationError(
            f"grace_hours is {grace_hours:g}; expected 0 to {LARGEST_GRACE_HOURS:,} hours"
        )
    now = now or datetime.now(UTC)
    before = now - timedelta(hours=grace_hours)
    run = _CleanUp(home, now, before, dry_run, [], [])
    run.collections(home.settings.archive.keep_versions)
    run.archive()
    run.reports()
    run.temporaries()
    return GarbageReport(tuple(run.garbage), tuple(run.skipped), dry_run, before)


@dataclass
class _CleanUp:
    home: Home
    now: datetime
    before: datetime
    dry_run: bool
    garbage: list[Garbage]
    skipped: list[str]

    def collections(self, keep: int | None) -> None:
        """Versions, pages, parts and checkpoints of every collection."""
        named: frozenset[str] = frozenset()
        if keep is not None:
            try:
                named = frozenset(_versions_in_use(self.home))
                for name in self.home.collections():
                    renamed = self.home.adapters(name).renamed.read()
                    named |= {now for old, now in renamed.items() if old in named}
            except StoreError as error:
                self.skipped.append(f"versions: all kept, because {error}")
                keep = None
        for name in self.home.collections():
            store = self.home.adapters(name)
            found = CollectionGarbage(
                self.home.objects, store, keep=keep, named=named, before=self.before
            )
            try:
                if self.dry_run:
                    self.garbage += [*found.find(), *found.find_checkpoints()]
                elif found.may_exist():
                    with store.lease(timeout_seconds=LEASE_WAIT_SECONDS) as lease:
                        self.garbage += found.sweep(lease)
            except StoreError as error:  # a learner holds it, or a record cannot be read
                self.skipped.append(f"collection {name}: {error}")

    def archive(self) -> None:
        """Pictures, staged rows, backdrops, refused candidates."""
        objects, archive, before = self.home.objects, self.home.archive, self.before
        names = self.home.collections()
        kept = self._kept(self.home.settings.governance.retention.quarantine_days)
        self._sweep("refused candidates", lambda: find_refused(objects, names, kept), kept)
        # Shards before held back rows, which settle them; both before pictures: what is gone no
        # longer holds on to its pictures.
        self._sweep("staged rows", lambda: find_staged_rows(objects, archive, before))
        held = self._sweep("held back pictures", lambda: find_held_back(objects, kept), kept)
        gone = {item.key for item in held if self.dry_run}
        self._sweep("pictures", lambda: find_images(objects, archive, before, gone))
        stores = [self.home.adapters(name) for name in names]
        self._sweep("backdrops", lambda: find_backdrops(objects, bases_in_use(stores), before))

    def reports(self) -> None:
        """Pages that show photos, wherever a copy of them lies."""
        kept = self._kept(self.home.settings.governance.retention.report_days)
        for objects in stores_of_pages(self.home):
            self._sweep("reports", partial(find_reports, objects, kept), kept, objects)

    def temporaries(self) -> None:
        """Files that writers did not live to rename; young ones may still be written."""
        objects = self.home.objects
        find = objects.temporaries if self.dry_run else objects.remove_temporaries
        try:
            found = find(min(self.before, datetime.now(UTC) - OLD))
        except StoreError as error:
            self.skipped.append(f"temporary files: {error}")
            return
        self.garbage += [Garbage("temporary file", info) for info in found]

    def _kept(self, days: int) -> datetime:
        """What was last written before is older than ``days``, and than the grace."""
        return min(self.before, self.now - timedelta(days=days))

    def _sweep(
        self,
        what: str,
        find: Callable[[], list[Garbage]],
        before: datetime | None = None,
        objects: ObjectStore | None = None,
    ) -> list[Garbage]:
        """Remove what is found; returns what went, or would go."""
        try:
            found = find()
        except StoreError as error:
            self.skipped.append(f"{what}: {error}")
            return []
        if not self.dry_run:
            found = remove(objects or self.home.objects, found, before or self.before)
        self.garbage += found
        return found


def _versions_in_use(home: Home) -> Iterator[str]:
    """Adapter versions that a stored plan or a staged, held back or published row names."""
    archive = home.archive
    for key in home.objects.list(PLANS_PREFIX):
        plan, _ = decode_plan(home.objects.read(key).data, home.objects.uri(key))
        yield from _named_by(plan.jobs)
    for day in archive.staged_days():
        yield from _named_by(archive.staged(day))
    for day in archive.quarantine.days():
        yield from archive.quarantine.adapter_versions(day)
    for day in archive.days():
        yield from archive.adapter_versions(day)


def _named_by(pictures: Iterable[RenderJob | ArchiveRow]) -> Iterator[str]:
    for picture in pictures:
        yield from {source.adapter_version for source in sources_of(picture).values()}
