"""What `measure` left behind, as the points that come with the program."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.capacity_fit import Point
from catalog_pipeline.workflows.upkeep.capacity_points import (
    PointSets,
    columns_of,
    read_home_points,
)
from tests.benchmarks.capacity.measure import FIRST_NIGHT
from tests.benchmarks.harness.report import machine, today

HEAD = """\
# Measured points of the cards that `plan-capacity` knows. Written by
# `python -m tests.benchmarks.capacity --measured DIR`; a row is [group, value, what it depends on],
# the columns of workflows/upkeep/capacity_points.py. No card is here that was not measured.
"""


def read_measured(root: Path) -> PointSets:
    """Every point below ``root``, by what it measures."""
    found: defaultdict[str, list[Point]] = defaultdict(list)
    for folder in sorted(root.glob("learn-*/")):
        home = open_home(load_settings(folder / "config", folder))
        points = read_home_points(home)
        found["learning"] += [Point(p.value, p.at, folder.name) for p in points["learning"]]
        for kind in set(points) - {"learning"}:
            # The first night of a home is not like the others.
            later = [p for p in points[kind] if p.group != FIRST_NIGHT.isoformat()]
            found[kind] += _averaged(later)
    for file in sorted(root.glob("publish-*/points.json"), key=lambda file: len(str(file))):
        for known, seconds, size in json.loads(file.read_text("utf-8"))[1:]:
            at = {"existing": float(known)}
            found["publishing"].append(Point(seconds, at, file.parent.name))
            found["version"].append(Point(size, at, file.parent.name))
    return found


def write_card(path: Path, name: str, root: Path, processor: str) -> None:
    """Write ``capacity_points.yaml`` with one card."""
    facts = [json.loads(file.read_text("utf-8")) for file in sorted(root.glob("*-*.json"))]
    loads = [fact["load"] for fact in facts]
    restart = float(json.loads((root / "restart" / "0.json").read_text("utf-8")))
    lines = [
        HEAD + "cards:",
        f"  {name}:",
        f"    processor: {processor}, {machine()}, one thread, seconds of the processor",
        f"    date: {today()}",
        "    command: python -m tests.benchmarks.capacity.measure",
        f"    load_average: {mean(loads):.1f}",
        "    base: embedded",
        f"    restart_seconds: {restart:.1f}",
        "    points:",
    ]
    for kind, points in sorted(read_measured(root).items()):
        lines.append(f"      {kind}:")
        lines += [f"        - [{row}]" for row in _rows(kind, points)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _rows(kind: str, points: Sequence[Point]) -> Iterable[str]:
    for point in points:
        values = [point.value, *(point.at[name] for name in columns_of(kind))]
        yield ", ".join([point.group, *(f"{value:.6g}" for value in values)])


def _averaged(points: Sequence[Point]) -> list[Point]:
    """One point a group and place: a night's pictures of one kind share their batches."""
    together: defaultdict[tuple[str, tuple[tuple[str, float], ...]], list[float]]
    together = defaultdict(list)
    for point in points:
        together[point.group, tuple(sorted(point.at.items()))].append(point.value)
    return [Point(mean(values), dict(at), group) for (group, at), values in together.items()]
