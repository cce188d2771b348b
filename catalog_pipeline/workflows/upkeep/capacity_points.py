"""What was measured: by this home's own log, manifests and sizes, or of a named card.

A set of points is named by what it measures: ``learning`` (seconds a SKU), ``rendering <mode>``
(seconds a picture), ``publishing`` (seconds that a SKU holds its collection), and in bytes
``parts`` (a SKU), ``version`` (the record of one), ``picture <mode>`` and ``row`` (a picture's
share of its manifest).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import read_yaml
from catalog_pipeline.records import ArchiveRow, LearningRow
from catalog_pipeline.stores.keys import IMAGE_PREFIX, manifest_key
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.capacity_fit import Point

NIGHTS_READ = 30
"""The newest of a home: what it took long ago was another machine, or another base."""

COLUMNS: Mapping[str, Sequence[str]] = {
    "learning": ("steps",),
    "rendering": ("step_megapixels", "further_products"),
    "publishing": ("existing",),
    "parts": (),
    "version": ("existing",),
    "picture": ("megapixels",),
    "row": (),
}
"""First word of a set's name -> what its values depend on, what matters most first."""

PointSets = Mapping[str, Sequence[Point]]

_SHIPPED = "capacity_points.yaml"


@dataclass(frozen=True)
class Card:
    """A processor whose points come with the program.

    ``sources`` says of each set what measured it and when, ``base`` is ``base_model`` of
    base_model.yaml that they are of; ``restart_seconds`` is what a new process needs
    before it trains.
    """

    name: str
    processor: str
    base: str
    restart_seconds: float
    points: PointSets
    sources: Mapping[str, str]


def read_cards() -> dict[str, Card]:
    """The cards with points in ``capacity_points.yaml``, by name."""
    content: dict[str, Any] = read_yaml((Path(__file__).parent / _SHIPPED).read_text("utf-8"))
    return {
        name: Card(
            name,
            card["processor"],
            card["base"],
            float(card["restart_seconds"]),
            {kind: list(_shipped(kind, each["rows"])) for kind, each in card["points"].items()},
            {kind: each["source"] for kind, each in card["points"].items()},
        )
        for name, card in content["cards"].items()
    }


def columns_of(name: str) -> Sequence[str]:
    """What the values of the point set ``name`` depend on."""
    return COLUMNS[name.partition(" ")[0]]


def _shipped(kind: str, rows: Sequence[Sequence[str]]) -> Iterator[Point]:
    """Rows of ``[group, value, *columns]``."""
    names = columns_of(kind)
    for group, value, *at in rows:
        if len(at) != len(names):
            raise ConfigurationError(
                f"{_SHIPPED}: a point of {kind!r} has {len(at)} columns; expected {len(names)}"
            )
        yield Point(float(value), dict(zip(names, map(float, at), strict=True)), group)


def read_home_points(home: Home) -> PointSets:
    """What ``home`` has measured in its newest nights, a set a name; empty ones are left out.

    Speeds are those of the base that was learned on last. Reads the learning log, the manifests
    and the sizes of what they name; loads no model.

    Raises:
        StoreError: something that is needed cannot be read.
    """
    found: defaultdict[str, list[Point]] = defaultdict(list)
    attempts = read_attempts(home)
    base = max(attempts, key=lambda row: row.ended_utc).base_model_hash if attempts else ""
    for row in (row for row in attempts if row.base_model_hash == base):
        steps = float(row.steps)
        if row.status == "learned" and "final_loss" in row.metrics and steps and row.seconds > 0:
            group = row.ended_utc.date().isoformat()
            found["learning"].append(Point(row.seconds, {"steps": steps}, group))
    sizes = {info.key: info.size_bytes for info in home.objects.scan(IMAGE_PREFIX)}
    for day in home.archive.days()[-NIGHTS_READ:]:
        rows = home.archive.read_day(day)
        held = home.archive.quarantine.read_day(day)
        made = [row for row in (*rows, *held) if row.base_model_hash == base or not base]
        for kind, point in _pictures(day, made, sizes):
            found[kind].append(point)
        if rows:
            size = home.objects.info(manifest_key(day)).size_bytes
            found["row"].append(Point(size / len(rows), {}, day.isoformat()))
    for name in home.collections():
        for kind, point in _stored(home, name):
            found[kind].append(point)
    return dict(found)


def read_attempts(home: Home) -> list[LearningRow]:
    """The attempts at learning of the newest nights."""
    days = home.learning_log.days()[-NIGHTS_READ:]
    return [row for day in days for row in home.learning_log.read_day(day)]


def refused_share(attempts: Sequence[LearningRow]) -> float | None:
    """How many of the SKUs that were tried have never been learned; ``None`` without any."""
    tried = {row.sku for row in attempts}
    learned = {row.sku for row in attempts if row.status == "learned"}
    return len(tried - learned) / len(tried) if tried else None


def _pictures(
    day: date, rows: Sequence[ArchiveRow], sizes: Mapping[str, int]
) -> Iterator[tuple[str, Point]]:
    """Seconds and bytes of each picture that was made, those held back among them."""
    for row in rows:
        megapixels = row.width * row.height / 1e6
        work = row.steps * megapixels
        if row.render_seconds > 0:
            at = {"step_megapixels": work, "further_products": (len(row.skus) - 1) * work}
            yield f"rendering {row.mode}", Point(row.render_seconds, at, day.isoformat())
        size = sizes.get(row.path)
        if size:
            yield f"picture {row.mode}", Point(size, {"megapixels": megapixels}, day.isoformat())


def _stored(home: Home, collection: str) -> Iterator[tuple[str, Point]]:
    """Bytes of the parts of each SKU that the served version knows."""
    store = home.adapters(collection)
    head = store.current()
    if head is None:
        return
    infos = home.objects.scan(f"collections/{collection}/")
    sizes = {info.key.rpartition("/")[2].partition(".")[0]: info.size_bytes for info in infos}
    by_sku: defaultdict[str, int] = defaultdict(int)
    for name, digest in head.parts.items():
        sku = name.partition("/")[2]
        if sku:
            by_sku[sku] += sizes.get(digest, 0)
    for sku, size in by_sku.items():
        if size:
            yield "parts", Point(size, {}, f"{collection}/{sku}")
