"""How what a home costs grows with its catalog, each figure from a process of its own.

    python -m tests.benchmarks.stores.growth HOME WORK

does one piece of :data:`WORK` over ``HOME`` and prints what it cost; the section calls it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.catalog.local import RACY_SECONDS
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.schemas import encode_index
from catalog_pipeline.stores.versions import encode_version
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.serving import drop_elsewhere, read_heads
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.status import collect_status
from tests.benchmarks.harness.costs import measured, resident_bytes
from tests.benchmarks.stores.made_up import (
    COLLECTION,
    PART_KINDS,
    Sizes,
    learned_concept,
    make_versions,
    night,
    sku_name,
    write_products,
)
from tests.builders import next_version

PHOTOS = 1
SKUS_A_COLLECTION = 100
FIRST = "index: first listing, every file read"
WHOLE, SPREAD = "one collection", f"collections of {SKUS_A_COLLECTION}"
_log = logging.getLogger(__name__)
_MONTH = timedelta(days=30)
_SHORTEST_SECONDS = 0.001  # below it a clock tells nothing of growth


@dataclass(frozen=True)
class Point:
    """One piece of work at one size; memory is what the work added to its process at most."""

    skus: int
    wall_seconds: float
    cpu_seconds: float
    memory_bytes: int
    peak_rss_bytes: int


@dataclass(frozen=True)
class Growth:
    """A piece of work at every size, and the slopes of its costs on doubly logarithmic axes.

    An exponent of 1 is proportional to the catalog; ``None`` where there are not two sizes.
    """

    what: str
    points: tuple[Point, ...]

    @property
    def cpu_exponent(self) -> float | None:
        """Of the processor time."""
        return self._slope([max(p.cpu_seconds, _SHORTEST_SECONDS) for p in self.points])

    @property
    def memory_exponent(self) -> float | None:
        """Of the memory that the work added."""
        return self._slope([max(p.memory_bytes, 1_000_000) for p in self.points])

    def _slope(self, costs: Sequence[float]) -> float | None:
        if len(costs) < 2:
            return None
        sizes = np.log([point.skus for point in self.points])
        return float(np.polyfit(sizes, np.log(costs), 1)[0])

    def to_record(self) -> dict[str, Any]:
        """What the JSON report holds."""
        exponents = {"cpu_exponent": self.cpu_exponent, "memory_exponent": self.memory_exponent}
        return {**asdict(self), **exponents}


def measure_growth(folder: Path, sizes: Sizes, *, only: Collection[str] = ()) -> Iterator[Growth]:
    """Every piece of :data:`WORK` at every size of ``sizes.growth``; ``folder`` is empty.

    ``only`` leaves out the others, but the first listing, which the others need.
    """
    found: dict[tuple[str, str], list[Point]] = {}
    for skus in sizes.growth:
        homes = {WHOLE: folder / f"{skus}-whole", SPREAD: folder / f"{skus}-spread"}
        photos = folder / f"{skus}-photos"
        write_products(photos, skus, PHOTOS)
        for layout, home in homes.items():
            _make_home(home, photos, skus, spread=layout == SPREAD)
        time.sleep(RACY_SECONDS + 0.1)  # younger files are read again by the next listing
        for layout, home in homes.items():
            for work in WORK:
                wanted = not only or work in only
                if not wanted and work != FIRST:
                    continue
                point = Point(skus, **_in_a_process(home, work))
                if wanted and (layout == WHOLE or work not in _OF_THE_CATALOG):
                    found.setdefault((work, layout), []).append(point)
        for made in (photos, *homes.values()):
            shutil.rmtree(made)
    for (work, layout), points in found.items():
        where = "" if work in _OF_THE_CATALOG else f", {layout}"
        yield Growth(f"{work}{where}", tuple(points))


def _in_a_process(home: Path, work: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.stores.growth", str(home), work]
    environment = {**os.environ, CONFIG_ENV: str(home / "config"), HOME_ENV: str(home / "home")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    _log.info("%s: %s: %s", home.name, work, cost)
    return cost


def _make_home(folder: Path, photos: Path, skus: int, *, spread: bool) -> None:
    """Settings, and two versions of each collection of the products in ``photos``."""
    home = folder / "home"
    (folder / "config").mkdir(parents=True)
    for file, text in {
        "catalogs": f"root: {photos}\nsettle_seconds: 0\nmin_photos: 1\n",
        "generation": "mode: learned\n",
    }.items():
        (folder / "config" / f"{file}.yaml").write_text(text, "utf-8")
    size = SKUS_A_COLLECTION if spread else skus
    for first in range(0, skus, size):
        name = f"c{first:06d}" if spread else COLLECTION
        _write_collection(home, name, first, min(size, skus - first))


def _write_collection(home: Path, name: str, first: int, skus: int) -> None:
    """Plain files: a store's own writes are flushed one by one, which takes an hour at size."""
    folder = home / "collections" / name
    for kind in ("parts", "pages", "versions"):
        (folder / kind).mkdir(parents=True)
    for number in range(first, first + skus):
        for kind in PART_KINDS:
            data = _part(kind, sku_name(number))
            (folder / "parts" / f"{sha256_hex(data)}.safetensors").write_bytes(data)
    head = ""
    versions = make_versions(2, skus, first=first, collection=name, part=_part)
    for head, encoded in ((each.version, encode_version(each)) for each in versions):
        for digest, page in encoded.pages.items():
            (folder / "pages" / f"{digest}.json").write_bytes(page)
        (folder / "versions" / f"{head}.json").write_bytes(encoded.record)
    content = {"fence": 1, "issued_fence": 1, "version": head}
    (folder / "HEAD.json").write_text(json.dumps(content, sort_keys=True) + "\n")


def _part(kind: str, sku: str) -> bytes:
    return f"{kind} of {sku}".encode()


def _learned(home: Home) -> None:
    """The index as it is once every product was learned, in the collection that knows it."""
    serving = {c.sku: name for name, head in read_heads(home).items() for c in head.concepts}
    home.index.update(
        lambda rows: [
            replace(
                row,
                status=SkuStatus.LEARNED,
                learned_hash=row.content_hash,
                collection=serving[row.sku],
            )
            for row in rows
        ]
    )


def _update(home: Home) -> Callable[[], object]:
    def rename() -> None:
        home.index.update(lambda rows: [replace(rows[0], name="renamed"), *rows[1:]])

    return rename


def _tick(home: Home) -> Callable[[], object]:
    import dagster as dg

    from catalog_pipeline.defs.sku_shards import SKU_SHARDS, add_partitions
    from tests.benchmarks.stores.catalog import tick

    folder = home.settings.home.parent / "dagster_home"
    folder.mkdir()
    instance = dg.DagsterInstance.local_temp(str(folder))
    add_partitions(instance, {SKU_SHARDS[0]: [row.sku for row in home.index.read()]})
    return lambda: tick(instance)


def _publish(home: Home) -> Callable[[], object]:
    """What a finished task does: the parent is read, and served with a product more."""
    name = home.collections()[0]

    def publish() -> None:
        store = home.adapters(name)
        with store.lease(timeout_seconds=60) as lease:
            parent = store.current()
            assert parent is not None
            added = learned_concept(sku_name(10**8 + int(parent.concepts[0].sku)))
            part = store.write_part(_part("concept", added.sku))
            version = next_version(parent, added, part, collection=name)
            store.publish(version)
            store.promote(version.version, expected=parent.version, fence=lease.fence)

    return publish


def _drop(home: Home) -> Callable[[], object]:
    names = home.collections()
    known = home.adapters(names[0]).current()
    assert known is not None
    return lambda: drop_elsewhere(open_home(load_settings()), known.concepts[0].sku, names[0])


def _heads(home: Home) -> Callable[[], object]:
    return lambda: read_heads(home)


def _plan(home: Home) -> Callable[[], object]:
    return lambda: plan_night(home, night(0))


def _look_for_garbage(home: Home) -> Callable[[], object]:
    def look() -> None:
        report = collect_garbage(home, dry_run=True, now=datetime.now(UTC) + _MONTH)
        assert not report.skipped, report.skipped

    return look


WORK: Mapping[str, Callable[[Home], Callable[[], object]]] = {
    FIRST: lambda home: lambda: refresh_index(home),
    "index: listed again, nothing new": lambda home: lambda: refresh_index(home),
    "index: read": lambda home: home.index.read,
    "index: one row changed": _update,
    "sensor tick, nothing new": _tick,
    "heads opened": _heads,
    "a version published and served": _publish,
    "a product looked for in all other heads": _drop,
    "`plan`": _plan,
    "`gc --dry-run`": _look_for_garbage,
    "`doctor`": lambda home: lambda: run_doctor(home),
    "`status`": lambda home: lambda: collect_status(home),
}
_OF_THE_BASE = ("`plan`", "`doctor`")
_OF_THE_CATALOG = tuple(work for work in WORK if work.startswith(("index", "sensor")))


def main() -> None:
    """Do one piece of work over a home and print what it cost as a line of JSON."""
    home = open_home(load_settings())
    encode_index([])  # what a process pays once, whatever its catalog, is paid before
    if sys.argv[2] in _OF_THE_BASE:
        with tempfile.TemporaryDirectory() as empty:
            run_doctor(open_home(home.written.model_copy(update={"home": Path(empty)})))
    action = WORK[sys.argv[2]](home)
    before = resident_bytes()
    with measured() as cost:
        action()
    if sys.argv[2] == FIRST:
        _learned(home)
    print(json.dumps({**asdict(cost), "memory_bytes": max(0, cost.peak_rss_bytes - before)}))


if __name__ == "__main__":
    main()
