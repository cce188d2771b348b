"""What `measure` left behind, as the points that come with the program."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import yaml

from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.capacity_fit import Point
from catalog_pipeline.workflows.upkeep.capacity_points import (
    PointSets,
    columns_of,
    read_home_points,
)
from tests.benchmarks.capacity.measure import FIRST_NIGHT
from tests.benchmarks.harness.report import today


def read_measured(root: Path) -> PointSets:
    """Every point below ``root``, by what it measures."""
    found: defaultdict[str, list[Point]] = defaultdict(list)
    for folder in sorted(root.glob("learn-*/")):
        home = open_home(load_settings(folder / "config", folder))
        points = read_home_points(home)
        found["learning"] += [Point(p.value, p.at, folder.name) for p in points["learning"]]
        # A row's bytes are of nights of thousands; of these it is their files' frame.
        for kind in set(points) - {"learning", "row"}:
            # The first night of a home is not like the others.
            later = [p for p in points[kind] if p.group != FIRST_NIGHT.isoformat()]
            found[kind] += _averaged(later)
    for file in sorted(root.glob("publish-*/points.json"), key=lambda file: len(str(file))):
        measured = json.loads(file.read_text("utf-8"))
        for known, seconds in measured["seconds"]:
            at = {"existing": float(known)}
            found["publishing"].append(Point(seconds, at, file.parent.name))
        at = {"existing": float(measured["seconds"][0][0])}
        found["version"].append(Point(measured["bytes"], at, file.parent.name))
    return found


def renew_card(path: Path, name: str, root: Path) -> None:
    """Put what ``root`` has measured in place of these sets of the card ``name`` in ``path``."""
    text = path.read_text("utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    content = yaml.safe_load(text)
    card = content["cards"][name]
    for kind, points in read_measured(root).items():
        source = f"tests.benchmarks.capacity.measure, {today()}, one thread, processor seconds"
        card["points"][kind] = {"source": source, "rows": [_row(kind, each) for each in points]}
    restart = root / "restart" / "0.json"
    if restart.exists():
        card["restart_seconds"] = round(float(json.loads(restart.read_text("utf-8"))), 1)
    body = yaml.safe_dump(content, sort_keys=False, width=100, default_flow_style=None)
    path.write_text(head + body, "utf-8")


def _row(kind: str, point: Point) -> list[str | float]:
    values = [point.value, *(point.at[name] for name in columns_of(kind))]
    return [point.group, *(float(f"{value:.6g}") for value in values)]


def _averaged(points: Sequence[Point]) -> list[Point]:
    """One point a group and place: a night's pictures of one kind share their batches."""
    together: defaultdict[tuple[str, tuple[tuple[str, float], ...]], list[float]]
    together = defaultdict(list)
    for point in points:
        together[point.group, tuple(sorted(point.at.items()))].append(point.value)
    return [Point(mean(values), dict(at), group) for (group, at), values in together.items()]
