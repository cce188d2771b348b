"""Writers in processes of their own, which can be killed at any call to a store.

``kill="compare_and_swap:2:before"`` ends the process with SIGKILL before (or
``after``) its second call of that method of the store or of ``os``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from catalog_pipeline.records import AdapterVersion, ArchiveRow, IndexRow
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.audit_log import AuditLog
from catalog_pipeline.stores.garbage import CollectionGarbage, find_images, remove
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.keys import manifest_key, sha256_hex, version_key
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.retention import find_held_back, find_refused
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.stores.schemas import encode_manifest
from tests.builders import NIGHT, make_archive_row, make_concept, make_index_row, next_version

PATIENCE_SECONDS = 60.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.stores.store_processes"])


@dataclass(frozen=True)
class Location:
    """A folder, or a bucket with the environment that holds its credentials."""

    root: str = ""
    s3: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def open(self) -> ObjectStore:
        os.environ.update(dict(self.environment))
        if self.root:
            return LocalObjectStore(Path(self.root))
        return S3ObjectStore(S3Settings.model_validate_json(self.s3))


class Worker:
    """A task that runs in a process of its own."""

    def __init__(
        self, location: Location, task: str, arguments: tuple[Any, ...], kill: str | None
    ) -> None:
        self.process = _processes.Process(target=_run, args=(location, task, arguments, kill))
        self.process.start()

    def wait(self) -> int:
        """The exit code: 0 for success, -9 for killed."""
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, "the process hangs"
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        if self.process.is_alive():
            self.kill()
        self.process.close()


def count_up(objects: ObjectStore, times: int) -> None:
    """Add one to a number, ``times`` times."""
    for _ in range(times):
        until_won(lambda: _add_one(objects), "counter")


def _add_one(objects: ObjectStore) -> None:
    if not objects.exists("counter"):
        objects.compare_and_swap("counter", b"1", None)
        return
    stored = objects.read("counter")
    objects.compare_and_swap("counter", b"%d" % (int(stored.data) + 1), stored.version)


def rewrite(objects: ObjectStore, size_bytes: int, seconds: float) -> None:
    """Replace one object by another letter's worth of bytes, over and over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for letter in b"abc":
            objects.put("blob", bytes([letter]) * size_bytes)


def add_skus(objects: ObjectStore, name: str, count: int) -> None:
    """Put ``count`` SKUs into the index, one update each."""
    for number in range(count):
        IndexStore(objects).update(partial(_with_sku, sku=f"{name}-{number}"))


def _with_sku(rows: list[IndexRow], sku: str) -> list[IndexRow]:
    return [*rows, make_index_row(sku)]


def publish_rows(objects: ObjectStore, name: str, count: int, planned: list[str]) -> None:
    """Render and publish ``count`` pictures, one publication each."""
    archive = ImageArchive(objects)
    for number in range(count):
        archive.publish_day(NIGHT, [picture(archive, f"{name}-{number}")], planned)


def publish_batches(objects: ObjectStore, batches: int, size: int) -> None:
    """Publish ``size`` pictures at once, ``batches`` times, in turn to two nights."""
    archive = ImageArchive(objects)
    planned: dict[date, list[str]] = {NIGHT: [], NIGHT + timedelta(days=1): []}
    for batch in range(batches):
        day = list(planned)[batch % 2]
        names = [f"{batch}-{number}" for number in range(size)]
        planned[day] += names
        rows = [replace(picture(archive, name), day=day) for name in names]
        archive.publish_day(day, rows, planned[day])


def render_and_publish(objects: ObjectStore, image_ids: list[str]) -> None:
    """What a night does: pictures, staging, manifest, clearing."""
    archive = ImageArchive(objects)
    done = {row.image_id for row in [*archive.staged(NIGHT), *archive.read_day(NIGHT)]}
    rows = [picture(archive, name) for name in image_ids if name not in done]
    if rows:
        archive.stage(NIGHT, rows[0].image_id, rows)
    archive.publish_day(NIGHT, archive.staged(NIGHT), image_ids)
    archive.clear_staging(NIGHT)


def publish_staged(objects: ObjectStore, image_ids: list[str]) -> None:
    """Publish what is staged, and clear what was read."""
    archive = ImageArchive(objects)
    staging = archive.read_staging(NIGHT)
    archive.publish_day(NIGHT, staging.rows, image_ids)
    archive.clear_published(staging, image_ids)


def learn(objects: ObjectStore, sku: str) -> None:
    """What learning does with the store: parts, version, head."""
    store = AdapterStore(objects, "default")
    with store.lease(timeout_seconds=PATIENCE_SECONDS) as lease:
        current = store.current()
        if current is not None and current.concept(sku) is not None:
            return
        version = learned_version(store, current, sku)
        store.write_staging("checkpoint", b"half learned")
        store.publish(version)
        store.promote(
            version.version, expected=current.version if current else None, fence=lease.fence
        )
        store.delete_staging("checkpoint")


def learn_all(objects: ObjectStore, name: str, count: int) -> None:
    """Learn ``count`` SKUs, each under a lease of its own."""
    for number in range(count):
        learn(objects, f"{name}-{number}")


def hold(objects: ObjectStore, seconds: float, lease_seconds: float) -> None:
    """Hold the collection's lease; say so with an object."""
    store = AdapterStore(objects, "default")
    with store.lease(timeout_seconds=PATIENCE_SECONDS, lease_seconds=lease_seconds):
        objects.put("held", b"yes")
        time.sleep(seconds)


def sweep(objects: ObjectStore, keep: int, before: str) -> None:
    """Remove all that is unreferenced and older than ``before``, under the lease."""
    store = AdapterStore(objects, "default")
    moment = datetime.fromisoformat(before)
    with store.lease(timeout_seconds=PATIENCE_SECONDS) as lease:
        found = CollectionGarbage(objects, store, keep=keep, named=(), before=moment)
        found.sweep(lease)


def expire(objects: ObjectStore, before: str) -> None:
    """Remove what is kept for a time only and older than ``before``, then pictures unnamed."""
    moment = datetime.fromisoformat(before)
    remove(objects, find_refused(objects, ["mugs"], moment), moment)
    remove(objects, find_held_back(objects, moment), moment)
    remove(objects, find_images(objects, ImageArchive(objects), moment), moment)


def note(objects: ObjectStore, count: int) -> None:
    """Append ``count`` entries to the audit log."""
    for number in range(count):
        AuditLog(objects).append("learn", f"child-{number}")


def upgrade(objects: ObjectStore) -> None:
    """Write a night of an earlier release anew."""
    ImageArchive(objects).upgrade_day(NIGHT)


def replace_night(objects: ObjectStore, seconds: float) -> None:
    """Publish states of very different sizes of one night, over and over."""
    states = [encode_manifest(rows) for rows in night_states()]
    for data in states:
        objects.put_if_absent(version_key(NIGHT, sha256_hex(data)), data)
    end = time.monotonic() + seconds
    for data in cycle(states):
        objects.put(manifest_key(NIGHT), data)
        if time.monotonic() > end:
            return


def night_states() -> list[list[ArchiveRow]]:
    """What :func:`replace_night` publishes in turn."""
    return [
        [
            make_archive_row(f"{count}-{number}", prompt=f"{number**5}" * 9)
            for number in range(count)
        ]
        for count in (3, 400, 30, 900)
    ]


def picture(archive: ImageArchive, image_id: str) -> ArchiveRow:
    """Store a picture; its row."""
    key, digest = archive.put_image(b"\x89PNG " + image_id.encode())
    return make_archive_row(image_id, path=key, sha256=digest, created_utc=datetime.now(UTC))


def learned_version(
    store: AdapterStore, current: AdapterVersion | None, sku: str
) -> AdapterVersion:
    """``current`` with one more concept, its part written."""
    part = store.write_part(b"weights of " + sku.encode())
    return next_version(current, make_concept(sku), part, created_utc=datetime.now(UTC))


TASKS: dict[str, Callable[..., None]] = {
    task.__name__: task
    for task in (
        count_up,
        rewrite,
        add_skus,
        publish_rows,
        publish_batches,
        replace_night,
        upgrade,
        render_and_publish,
        publish_staged,
        learn,
        learn_all,
        hold,
        note,
        sweep,
        expire,
    )
}


def _run(location: Location, task: str, arguments: tuple[Any, ...], kill: str | None) -> None:
    objects = location.open()
    if kill is not None:
        _arm(objects, *kill.split(":"))
    TASKS[task](objects, *arguments)


def _arm(objects: ObjectStore, method: str, call: str, moment: str) -> None:
    owner: Any = os if hasattr(os, method) else type(objects)
    original = getattr(owner, method)
    calls = 0

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(call) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return original(*arguments, **options)
        finally:
            if calls == int(call):
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, watched)
