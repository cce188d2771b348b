"""The checks of ``doctor`` over a home: writable, consistent, nothing lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from catalog_pipeline.errors import ConflictError, StoreError
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.leases import is_held, read_lease
from catalog_pipeline.stores.objects import LocalObjectStore
from catalog_pipeline.workflows.findings import Finding, guarded
from catalog_pipeline.workflows.home import Home

NIGHTS_READ_IN_FULL = 7
"""Pictures of so many latest nights are read and hashed; of older ones only looked for."""

_OLD_TEMPORARY_SECONDS = 3600.0
_HARMLESS = "harmless: left by a run that ended early; may be deleted while nothing is running"


def check_home(home: Home) -> list[Finding]:
    """Every finding about ``home``; only the first check when nothing can be written."""
    findings = guarded("home", _home_is_writable, home)
    if any(finding.level == "error" for finding in findings):
        return findings
    for title, check in _CHECKS:
        findings += guarded(title, check, home)
    return findings


def _home_is_writable(home: Home) -> Iterator[Finding]:
    key = f"reports/doctor-{secrets.token_hex(8)}"
    where = home.objects.uri("catalog").removesuffix("/catalog")
    try:
        created = home.objects.put_if_absent(key, b"first")
        created_twice = home.objects.put_if_absent(key, b"second")
        if not created or created_twice or not _refuses_stale_writes(home, key):
            yield Finding(
                "error",
                f"home: {where} ignores conditional writes (If-None-Match, If-Match)",
                "use a store that honours them; without them two runs overwrite each other",
            )
            return
    finally:
        home.objects.delete(key)
    yield Finding("ok", f"home: {where} is writable, conditional writes hold", "")


def _refuses_stale_writes(home: Home, key: str) -> bool:
    stale = home.objects.read(key).version
    home.objects.compare_and_swap(key, b"third", stale)
    try:
        home.objects.compare_and_swap(key, b"fourth", stale)
    except ConflictError:
        return home.objects.read(key).data == b"third"
    return False


def _index(home: Home) -> Iterator[Finding]:
    rows = home.index.read()
    failed = [row for row in rows if row.status is SkuStatus.FAILED]
    yield Finding("ok", f"index: {len(rows)} SKUs", "")
    for row in failed:
        yield Finding(
            "warning",
            f"index: {row.sku} failed: {row.reason}",
            f"correct its photos, or run `catalog-pipeline learn {row.sku}`",
        )


def _collections(home: Home) -> Iterator[Finding]:
    for name in home.collections():
        yield from guarded(f"collection {name}", _collection, (home, home.adapters(name)))


def _collection(subject: tuple[Home, AdapterStore]) -> Iterator[Finding]:
    home, store = subject
    title = f"collection {store.collection}"
    yield from _lease(home, store)
    head = store.head()
    if head is None:
        yield Finding("ok", f"{title}: nothing promoted yet", "")
    else:
        version = store.read(head.version)
        for digest in sorted(set(version.parts.values())):
            store.read_part(digest)
        yield Finding(
            "ok",
            f"{title}: version {head.version}, {len(version.concepts)} concepts, "
            f"{len(version.parts)} parts with the right hashes",
            "",
        )
    stored = set(store.part_names())
    versions, broken = store.readable_history()
    for version in versions:
        if not stored.issuperset(version.parts.values()):
            yield Finding(
                "warning",
                f"{title}: version {version.version} lacks parts; no rollback to it",
                "restore collections/.../parts from a backup",
            )
    if broken:
        yield Finding(
            "warning",
            f"{title}: version record(s) {', '.join(broken)} cannot be read",
            "restore collections/.../versions from a backup",
        )
    orphans = stored.difference(*(version.parts.values() for version in versions))
    if orphans:
        yield Finding("ok", f"{title}: {len(orphans)} parts belong to no version", _HARMLESS)
    checkpoints = store.staging_names()
    if checkpoints:
        yield Finding(
            "ok", f"{title}: {len(checkpoints)} checkpoints", "the next learning run takes them up"
        )


def _lease(home: Home, store: AdapterStore) -> Iterator[Finding]:
    record = read_lease(home.objects, store.lease_key)
    if record is None:
        return
    if is_held(home.objects, store.lease_key):
        yield Finding("ok", f"collection {store.collection}: {record.holder} is learning", "")
    else:
        yield Finding(
            "warning",
            f"collection {store.collection}: stale lock of {record.holder}, which ended early",
            "harmless: the next learning run takes over; start it again with `learn`",
        )


def _archive(home: Home) -> Iterator[Finding]:
    days = home.archive.days()
    pictures = set(home.archive.image_keys())
    named: set[str] = set()
    problems = [
        problem for day in days[-NIGHTS_READ_IN_FULL:] for problem in home.archive.verify_day(day)
    ]
    for day in days:
        try:
            paths = {row.path for row in home.archive.read_day(day)}
        except StoreError as error:
            if day not in days[-NIGHTS_READ_IN_FULL:]:
                problems.append(str(error))
            continue
        named |= paths
        if day not in days[-NIGHTS_READ_IN_FULL:]:
            problems += [f"{path} of {day} is not stored" for path in sorted(paths - pictures)]
    for problem in problems:
        yield Finding("error", f"archive: {problem}", "restore it, or render the night again")
    if not problems:
        yield Finding("ok", f"archive: {len(days)} nights, {len(named)} pictures, all in place", "")
    for day in home.archive.staged_days():
        staged = home.archive.staged(day)
        named |= {row.path for row in staged}
        yield Finding(
            "warning",
            f"archive: {len(staged)} pictures of {day} are rendered, but not published",
            f"run `catalog-pipeline generate --day {day}`; it renders only what is missing",
        )
    if pictures - named:
        yield Finding("ok", f"archive: {len(pictures - named)} pictures in no manifest", _HARMLESS)


def _temporaries(home: Home) -> Iterator[Finding]:
    if not isinstance(home.objects, LocalObjectStore):
        return
    limit = time.time() - _OLD_TEMPORARY_SECONDS
    old = [path for path in home.objects.temporaries() if _modified(path) < limit]
    if old:
        yield Finding("warning", f"home: {len(old)} temporary files such as {old[0]}", _HARMLESS)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()  # its writer has just finished


_CHECKS: tuple[tuple[str, Callable[[Home], Iterator[Finding]]], ...] = (
    ("index", _index),
    ("collections", _collections),
    ("archive", _archive),
    ("temporary files", _temporaries),
)
