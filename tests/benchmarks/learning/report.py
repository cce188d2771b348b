"""The report of a home: ``learning.md``, ``learning.json`` and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.harness.report import today, write_json, write_page
from tests.benchmarks.learning.groups import Group, Unfinished, missing_cells, read_home
from tests.benchmarks.learning.pictures import draw_bars, draw_charts, draw_sheet, sheet_columns
from tests.benchmarks.learning.references import DREAM_SCENES
from tests.benchmarks.learning.suites import SUITES, TRAINED_ALIKE
from tests.benchmarks.learning.tables import make_tables

TEMPLATE = Path(__file__).with_name("learning.md.j2")
_PICTURED = ("main", "twelve", "scale", "quick")
_BARS = ("ablation",)


def write_report(home: Path, out: Path, *, note: str = "") -> None:
    """Write what ``home`` holds to ``out``; suites without a finished cell are told as such."""
    groups, unfinished = read_home(home)
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name, suite in SUITES.items():
        of_suite = [group for group in groups if group.suite == name]
        # The quick suite proves that the program runs; its figures say nothing.
        if name == "quick" and not of_suite:
            continue
        sections.append(
            {
                "name": name,
                "title": suite.title,
                "groups": [_section(group, home, out, i) for i, group in enumerate(of_suite)],
                "missing": missing_cells(name, [r for g in of_suite for r in g.results]),
                "unfinished": [_told(cell) for cell in unfinished if cell.suite == name],
            }
        )
    facts = {"date": today(), "note": note, "sections": sections}
    write_json(out / "learning.json", facts, digits=4, without=("tables",))
    write_page(out, TEMPLATE, **facts, trained_alike=TRAINED_ALIKE, dream_scenes=DREAM_SCENES)


def _section(group: Group, home: Path, out: Path, index: int) -> dict[str, Any]:
    """One protocol of a suite: what was run, its tables, figures and pictures."""
    results = group.results
    pictures: list[str] = []
    sheet = ""
    prefix = f"learning-{group.suite}" + (f"-{index + 1}" if index else "")
    if group.suite in _PICTURED:
        for name, data in draw_charts(group, prefix).items():
            (out / name).write_bytes(data)
            pictures.append(name)
        drawn = draw_sheet(group, home)
        if drawn is not None:
            sheet = f"{prefix}-pictures.jpg"
            (out / sheet).write_bytes(drawn)
    if group.suite in _BARS:
        for name, data in draw_bars(group, prefix).items():
            (out / name).write_bytes(data)
            pictures.append(name)
    return {
        "protocol": group.protocol,
        "cells": len(results),
        "seeds": sorted({result.seed for result in results}),
        "orders": sorted({result.order for result in results}),
        "machines": sorted({result.facts["machine"] for result in results}),
        "code_versions": sorted({result.facts["code_version"] for result in results}),
        "days": _days(group),
        "cpu_hours": sum(result.cpu_seconds for result in results) / 3600,
        "ceilings": _means(results[0].facts["ceilings"], group.encoders),
        "crop_ceilings": _means(results[0].facts["crop_ceilings"], group.encoders),
        "without_crops": sorted(results[0].without_crops),
        "base_text_following": results[0].last["base_text_following"],
        "tables": make_tables(group),
        "rows": _figures(group),
        "pictures": pictures,
        "sheet": sheet,
        "sheet_columns": sheet_columns(group),
    }


def _figures(group: Group) -> dict[str, Any]:
    """For the JSON: each row's figures a cell, and each cell's whole matrix."""
    rows = {}
    for label, cells in group.rows.items():
        rows[label] = {
            "cells": [
                {
                    "order": cell.order,
                    "seed": cell.seed,
                    "matrix": {
                        encoder: json.loads(cell.matrix(encoder, everything=True).to_json())
                        for encoder in group.encoders
                    },
                }
                for cell in cells
            ],
            "figures": {encoder: group.figures(label, encoder) for encoder in group.encoders},
        }
    return rows


def _days(group: Group) -> str:
    days = sorted(
        {r.facts["started_utc"][:10] for r in group.results}
        | {r.last["finished_utc"][:10] for r in group.results}
    )
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _told(cell: Unfinished) -> str:
    return (
        f"{cell.label} (order {cell.order}, seed {cell.seed}): "
        f"{cell.finished_tasks} of {cell.tasks} tasks"
    )


def _means(
    ceilings: Mapping[str, Mapping[str, float]], encoders: Sequence[str]
) -> dict[str, float]:
    """Of all products, by encoder; 0 of none."""
    return {e: float(np.mean([*ceilings[e].values()] or [0.0])) for e in encoders}
