"""``doctor --repair``: puts right what cannot be wrong to put right, and says so.

Touched are the traces of dead processes (locks, temporary files, probes, published
shards), index rows that contradict the served version, learned products that the learning
log does not know, heads that know a product whose
card names another collection, which serves it, and the form of nights that an earlier
release published: they are written anew in the present schema, every value kept.
Never touched is what was learned, rendered or published itself: a corrupted or missing
object needs a backup or a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import IndexRow
from catalog_pipeline.stores.leases import LeaseObject
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.serving import drop_elsewhere, served_twice
from catalog_pipeline.workflows.upkeep.check_results import CheckResult, guarded
from catalog_pipeline.workflows.upkeep.missing_attempts import (
    missing_attempts,
    with_learned_version,
)
from catalog_pipeline.workflows.upkeep.versions import rows_out_of_step

PROBE_PREFIX = "reports/doctor-"
OLD = timedelta(hours=1)
"""What a process may still be writing is younger."""


def repair_home(home: Home) -> list[CheckResult]:
    """Every repair made, as ``repaired``, and what was left to a person, as ``kept``.

    Idempotent, and safe beside running learners, renderers and other repairs.
    """
    before = datetime.now(UTC) - OLD
    results = [
        *guarded("repair of leases", _leases, home),
        *guarded("repair of temporary files", _temporaries, (home, before)),
        *guarded("repair of probes", _probes, (home, before)),
        *guarded("repair of staged rows", _staged_rows, home),
        *guarded("repair of the index", _index, home),
        *guarded("repair of the learning log", _learning_log, home),
        *guarded("repair of nights", _nights, home),
        *guarded("repair of collections", _moved, home),
    ]
    if not results:
        results = [CheckResult("repaired", "nothing: no repair was needed", "")]
    return [
        *results,
        CheckResult(
            "kept",
            "corrupted and missing objects, versions, pictures and manifests, and all other heads",
            "restore them from a backup, roll back, or learn or render again; "
            "`catalog-pipeline verify` lists them, `catalog-pipeline gc` removes what is left over",
        ),
    ]


def _leases(home: Home) -> Iterator[CheckResult]:
    leases: dict[str, LeaseObject] = {}
    for name in home.collections():
        leases |= home.adapters(name).lease_objects()
    for what, lease in leases.items():
        try:
            dead = lease.clear_stale()
        except StoreError as error:
            yield CheckResult("kept", f"{what}: {error}", f"delete {home.objects.uri(lease.key)}")
            continue
        if dead is not None:
            yield CheckResult(
                "repaired", f"{what}: freed the lock of {dead.holder}, which is gone", ""
            )


def _temporaries(subject: tuple[Home, datetime]) -> Iterator[CheckResult]:
    home, before = subject
    removed = home.objects.remove_temporaries(before)
    if removed:
        yield CheckResult("repaired", f"home: removed {len(removed)} temporary files", "")


def _probes(subject: tuple[Home, datetime]) -> Iterator[CheckResult]:
    home, before = subject
    old = [info for info in home.objects.scan(PROBE_PREFIX) if info.modified_utc < before]
    removed = [info for info in old if home.objects.delete_if_older(info.key, before)]
    if removed:
        yield CheckResult("repaired", f"home: removed {len(removed)} probes of earlier doctors", "")


def _staged_rows(home: Home) -> Iterator[CheckResult]:
    for day in home.archive.staged_days():
        settled = home.archive.settled_shards(day)
        if settled:
            home.archive.clear_staging(day)
            yield CheckResult(
                "repaired", f"archive: cleared {len(settled)} published shards of {day}", ""
            )


def _learning_log(home: Home) -> Iterator[CheckResult]:
    found = {row.sku: row for row in missing_attempts(home)}
    for row in found.values():
        home.learning_log.add(row)
    if not found:
        return
    home.index.update(
        lambda rows: [
            with_learned_version(row, found[row.sku]) if row.sku in found else row for row in rows
        ]
    )
    yield CheckResult(
        "repaired", f"learning log: noted {len(found)} learned products that it did not know", ""
    )


def _nights(home: Home) -> Iterator[CheckResult]:
    for day in home.archive.days():
        try:
            upgraded = home.archive.is_outdated(day) and home.archive.upgrade_day(day)
        except StoreError as error:
            yield CheckResult("kept", f"archive: {error}", "restore it from a backup")
            continue
        if upgraded:
            yield CheckResult(
                "repaired", f"archive: wrote {day} anew in the present schema, every value kept", ""
            )


def _moved(home: Home) -> Iterator[CheckResult]:
    for sku, (serving, _) in served_twice(home).items():
        try:
            done = drop_elsewhere(home, sku, serving, lease_wait_seconds=0.0)
        except StoreError as error:
            yield CheckResult("kept", f"collections: {sku}: {error}", "repair again afterwards")
            continue
        for what in done:
            yield CheckResult("repaired", f"collections: {sku} is served by {serving}; {what}", "")


def _index(home: Home) -> Iterator[CheckResult]:
    wrong = rows_out_of_step(home)
    if not wrong:
        return

    def mended(rows: list[IndexRow]) -> list[IndexRow]:
        # A row that has changed since it was looked at is left as it is now.
        seen = {row.sku: (row, right) for row, right in wrong}
        return [
            seen[row.sku][1] if row.sku in seen and seen[row.sku][0] == row else row for row in rows
        ]

    after = {row.sku: row for row in home.index.update(mended)}
    for row, right in wrong:
        if after.get(row.sku) == right:
            yield CheckResult(
                "repaired",
                f"index: {row.sku} was {row.status}, is {right.status} as the served version says",
                "",
            )
