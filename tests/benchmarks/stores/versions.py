"""A collection of a thousand SKUs that a thousand versions lead to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.versions import encode_version
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.versions import list_versions
from tests.benchmarks.stores.made_up import (
    COLLECTION,
    PART_KINDS,
    Sizes,
    make_versions,
    part_content,
)
from tests.benchmarks.stores.measurement import Measurement, measure

HEAD_SECONDS = 0.1


def store_versions(objects: ObjectStore, *, versions: int, concepts: int) -> AdapterVersion:
    """Write parts, pages and records; promote and return the last version."""
    store = AdapterStore(objects, COLLECTION)
    last = None
    written: set[str] = set()
    for last in make_versions(versions, concepts):
        encoded = encode_version(last)
        for digest, data in encoded.pages.items():
            if digest not in written:
                objects.put(store.page_key(digest), data)
        written.update(encoded.pages)
        objects.put(f"{store.folder}versions/{last.version}.json", encoded.record)
    assert last is not None
    for name in last.parts:
        kind, _, sku = name.partition("/")
        store.write_part(part_content(kind, sku))
    with store.lease(timeout_seconds=60) as lease:
        store.promote(last.version, expected=None, fence=lease.fence)
    return last


def measure_heads(settings: Settings, where: str, sizes: Sizes) -> Iterator[Measurement]:
    """What a learning run and a plan read first; the stores are opened anew each time."""
    head = store_versions(open_home(settings).objects, versions=1, concepts=sizes.concepts)
    pages = len(encode_version(head).pages)
    open_home(settings).index.read()  # the first request of a process also resolves the server

    def open_head() -> str:
        current = open_home(settings).adapters(COLLECTION).current()
        assert current is not None
        assert len(current.concepts) == sizes.concepts
        return f"{pages} pages"

    yield measure(
        f"opening the head of {sizes.concepts:,} SKUs, {where}",
        open_head,
        target_seconds=HEAD_SECONDS,
    )
    opened = open_home(settings).adapters(COLLECTION)

    def read_head() -> None:
        current = opened.current()
        assert current is not None

    yield measure(
        f"reading it again with the store open, {where}", read_head, target_seconds=HEAD_SECONDS
    )

    def read_memories() -> str:
        digests = [d for name, d in head.parts.items() if name.startswith(f"{PART_KINDS[2]}/")]
        entries = [decode_memory(opened.read_part(digest)) for digest in digests]
        assert len(entries) == sizes.concepts
        return f"{sum(entry.features.nbytes for entry in entries):,} bytes of features"

    yield measure(f"the memory of all {sizes.concepts:,} SKUs, {where}", read_memories)


def measure_history(settings: Settings, sizes: Sizes) -> Iterator[Measurement]:
    """Every version read, hashed and compared with its name; and what a clean-up looks at."""
    store_versions(open_home(settings).objects, versions=sizes.versions, concepts=sizes.concepts)
    what = f"{sizes.versions:,} versions that grow to {sizes.concepts:,} SKUs"

    def read_all() -> None:
        assert len(list_versions(open_home(settings))) == sizes.versions

    yield measure(f"`versions`: {what}, each hash checked", read_all)
    later = datetime.now(UTC) + timedelta(days=30)
    for keep in (None, 20):
        chosen = settings.model_copy(
            update={"archive": settings.archive.model_copy(update={"keep_versions": keep})}
        )

        def look(chosen: Settings = chosen) -> str:
            report = collect_garbage(open_home(chosen), dry_run=True, now=later)
            assert not report.skipped, report.skipped
            return f"{len(report.garbage):,} objects to remove"

        kept = "all kept" if keep is None else f"the newest {keep} kept"
        yield measure(f"`gc --dry-run`: {what}, {kept}", look)
