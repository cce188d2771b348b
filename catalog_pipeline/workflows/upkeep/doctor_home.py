"""The checks of ``doctor`` over a home: writable, consistent, nothing lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

from catalog_pipeline.catalog.shared_photos import shared_photo_warnings
from catalog_pipeline.errors import ConflictError, StoreError
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.catalog.refresh_index import read_digests
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.serving import served_twice
from catalog_pipeline.workflows.upkeep.archive_summary import repeated_image_ids
from catalog_pipeline.workflows.upkeep.check_results import CheckResult, guarded
from catalog_pipeline.workflows.upkeep.claims import (
    RETENTION_CLAIMS,
    head_problems,
    retention_claim,
)
from catalog_pipeline.workflows.upkeep.doctor_dataset import check_dataset
from catalog_pipeline.workflows.upkeep.doctor_encryption import check_encryption
from catalog_pipeline.workflows.upkeep.doctor_repair import OLD, PROBE_PREFIX
from catalog_pipeline.workflows.upkeep.doctor_words import check_words
from catalog_pipeline.workflows.upkeep.versions import rows_out_of_step

NIGHTS_READ_IN_FULL = 7
"""Pictures of so many latest nights are read and hashed; of older ones only looked for."""

_LEFT_OVER = "harmless: left by a run that ended early; `catalog-pipeline gc` removes it once old"
_REPAIRED = "harmless: left by a run that ended early; `catalog-pipeline doctor --repair` mends it"


def check_home(home: Home) -> list[CheckResult]:
    """Every result about ``home``; only the first check when nothing can be written."""
    results = guarded("home", _home_is_writable, home)
    if any(result.level == "error" for result in results):
        return results
    for title, check in _CHECKS:
        results += guarded(title, check, home)
    return results


def _home_is_writable(home: Home) -> Iterator[CheckResult]:
    key = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    try:
        created = home.objects.put_if_absent(key, b"first")
        created_twice = home.objects.put_if_absent(key, b"second")
        if not created or created_twice or not _refuses_stale_writes(home, key):
            yield CheckResult(
                "error",
                f"home: {home.where} ignores conditional writes (If-None-Match, If-Match)",
                "use a store that honours them; without them two runs overwrite each other",
            )
            return
    finally:
        home.objects.delete(key)
    yield CheckResult("ok", f"home: {home.where} is writable, conditional writes hold", "")


def _refuses_stale_writes(home: Home, key: str) -> bool:
    stale = home.objects.read(key).version
    home.objects.compare_and_swap(key, b"third", stale)
    try:
        home.objects.compare_and_swap(key, b"fourth", stale)
    except ConflictError:
        return home.objects.read(key).data == b"third"
    return False


def _index(home: Home) -> Iterator[CheckResult]:
    rows = home.index.read()
    failed = [row for row in rows if row.status is SkuStatus.FAILED]
    yield CheckResult("ok", f"index: {len(rows)} SKUs", "")
    for row in failed:
        yield CheckResult(
            "warning",
            f"index: {row.sku} failed: {row.reason.removeprefix(f'{row.sku}: ')}",
            f"correct its photos or card, or run `catalog-pipeline learn {row.sku}`",
        )
    for row, right in rows_out_of_step(home):
        yield CheckResult(
            "warning",
            f"index: {row.sku} is {row.status}, but by the served version it is {right.status}",
            "run `catalog-pipeline doctor --repair`",
        )
    yield from _retired(home, {row.sku for row in rows if row.status is SkuStatus.RETIRED})


def _retired(home: Home, retired: set[str]) -> Iterator[CheckResult]:
    for name in home.collections() if retired else ():
        current = home.adapters(name).current()
        known = retired.intersection(c.sku for c in current.concepts) if current else ()
        for sku in sorted(known):
            yield CheckResult(
                "warning",
                f"index: {sku} is retired, but version {current and current.version} knows it",
                f"run `catalog-pipeline retire {sku}`, or put its folder back",
            )


def _photos(home: Home) -> Iterator[CheckResult]:
    for warning in shared_photo_warnings(read_digests(home.objects)):
        yield CheckResult("warning", f"photos: {warning}", "harmless where both are one product")


def _moved(home: Home) -> Iterator[CheckResult]:
    cards = {row.sku: row.collection for row in home.index.read()}
    for sku, (serving, others) in served_twice(home).items():
        mend = "`catalog-pipeline doctor --repair` takes it out of the others"
        if cards.get(sku) != serving:
            mend = f"run `catalog-pipeline learn {sku}`, or correct `collection` in its card"
        yield CheckResult(
            "warning",
            f"collections: {sku} is known by {serving} and by {', '.join(others)}; its card names "
            f"{cards.get(sku, 'none: it is not in the index')}",
            f"nights render it from {serving} alone; {mend}",
        )


def _collections(home: Home) -> Iterator[CheckResult]:
    yield from guarded("collections", _moved, home)
    for name in home.collections():
        yield from guarded(f"collection {name}", _collection, home.adapters(name))


def _collection(store: AdapterStore) -> Iterator[CheckResult]:
    title = f"collection {store.collection}"
    yield from _leases(store)
    problems = head_problems(store)
    for problem in problems:
        yield CheckResult(
            "error", f"{title}: {problem}", "restore it from a backup, roll back, or learn again"
        )
    if problems:
        return
    head = store.head()
    if head is None:
        yield CheckResult("ok", f"{title}: nothing promoted yet", "")
    else:
        version = store.read(head.version)
        for digest in sorted(set(version.parts.values())):
            store.read_part(digest)
        yield CheckResult(
            "ok",
            f"{title}: version {head.version}, {len(version.concepts)} concepts, "
            f"{len(version.parts)} parts with the right hashes",
            "",
        )
    stored = set(store.part_names())
    versions, broken = store.readable_history()
    for version in versions:
        if not stored.issuperset(version.parts.values()):
            yield CheckResult(
                "warning",
                f"{title}: version {version.version} lacks parts; no rollback to it",
                "restore collections/.../parts from a backup",
            )
    if broken:
        yield CheckResult(
            "warning",
            f"{title}: version record(s) {', '.join(broken)} cannot be read",
            "restore collections/.../versions from a backup",
        )
    orphans = stored.difference(*(version.parts.values() for version in versions))
    if orphans:
        yield CheckResult("ok", f"{title}: {len(orphans)} parts belong to no version", _LEFT_OVER)
    if not broken:
        needed = store.references(version.version for version in versions)
        stray = [page for page in store.page_names() if store.page_key(page) not in needed]
        if stray:
            yield CheckResult("ok", f"{title}: {len(stray)} pages belong to no version", _LEFT_OVER)
    checkpoints = store.staging_names()
    if checkpoints:
        yield CheckResult(
            "ok", f"{title}: {len(checkpoints)} checkpoints", "the next learning run takes them up"
        )


def _leases(store: AdapterStore) -> Iterator[CheckResult]:
    for what, lease in store.lease_objects().items():
        record = lease.read()
        if record is None:
            continue
        if lease.is_held():
            yield CheckResult("ok", f"{what}: {record.holder} is learning", "")
        else:
            yield CheckResult(
                "warning",
                f"{what}: stale lock of {record.holder}, which ended early",
                _REPAIRED,
            )


def _retention(home: Home) -> Iterator[CheckResult]:
    for name in RETENTION_CLAIMS:
        claim = retention_claim(home, name)
        if claim.past_tolerance:
            yield CheckResult(
                "error",
                f"{name}: {claim}; past it: {', '.join(claim.past_tolerance)}",
                "roll back to a version before them, learn them again, or raise the tolerance",
            )


def _image_ids(home: Home) -> Iterator[CheckResult]:
    for row in repeated_image_ids(home):
        yield CheckResult(
            "error",
            f"archive: image {row['image_id']} has {row['rows']} rows, on {row['days']}",
            "restore the manifests of these nights with `catalog-pipeline manifest --as-of`",
        )


def _archive(home: Home) -> Iterator[CheckResult]:
    held = home.archive.quarantine
    days = sorted({*home.archive.days(), *held.days()})
    pictures = set(home.archive.image_keys())
    named: set[str] = set()
    held_back = 0
    problems = [
        problem for day in days[-NIGHTS_READ_IN_FULL:] for problem in home.archive.verify_day(day)
    ]
    for day in days:
        try:
            waiting = held.read_day(day)
            paths = {row.path for row in (*home.archive.read_day(day), *waiting)}
        except StoreError as error:
            if day not in days[-NIGHTS_READ_IN_FULL:]:
                problems.append(str(error))
            continue
        named |= paths
        held_back += sum(not row.superseded for row in waiting)
        if day not in days[-NIGHTS_READ_IN_FULL:]:
            problems += [f"{path} of {day} is not stored" for path in sorted(paths - pictures)]
    for problem in problems:
        yield CheckResult(
            "error",
            f"archive: {problem}",
            "do as it says; else restore it, or render the night again",
        )
    if not problems:
        yield CheckResult(
            "ok", f"archive: {len(days)} nights, {len(named)} pictures, all in place", ""
        )
    if held_back:
        yield CheckResult(
            "ok",
            f"archive: {held_back} pictures in quarantine did not pass the quality gate",
            "see them with `catalog-pipeline gallery`; docs/operations.md says what to do",
        )
    for day in home.archive.staged_days():
        yield from _staged(home, day, named)
    if pictures - named:
        yield CheckResult(
            "ok", f"archive: {len(pictures - named)} pictures in no manifest", _LEFT_OVER
        )


def _staged(home: Home, day: date, named: set[str]) -> Iterator[CheckResult]:
    staged = home.archive.staged(day)
    named |= {row.path for row in staged}
    settled = (*home.archive.read_day(day), *home.archive.quarantine.read_day(day))
    published = {row.image_id for row in settled}
    waiting = [row for row in staged if row.image_id not in published]
    if waiting:
        yield CheckResult(
            "warning",
            f"archive: {len(waiting)} pictures of {day} are rendered, but not published",
            f"run `catalog-pipeline generate --day {day}`; it renders only what is missing",
        )
    else:
        yield CheckResult("ok", f"archive: the published rows of {day} are still staged", _REPAIRED)


def _temporaries(home: Home) -> Iterator[CheckResult]:
    old = home.objects.temporaries(datetime.now(UTC) - OLD)
    if old:
        yield CheckResult(
            "warning",
            f"home: {len(old)} temporary files such as {old[0].key}",
            "left by a run that ended early, in the way of tools that read the folder: "
            "`catalog-pipeline doctor --repair` removes them, `gc` once old",
        )


_CHECKS: tuple[tuple[str, Callable[[Home], Iterator[CheckResult]]], ...] = (
    ("encryption", check_encryption),
    ("index", _index),
    ("words", check_words),
    ("photos", _photos),
    ("collections", _collections),
    ("forgetting", _retention),
    ("archive", _archive),
    ("image ids", _image_ids),
    ("nights as other tools read them", check_dataset),
    ("temporary files", _temporaries),
)
