"""``attention.md``, ``attention.json`` and the contact sheet: what attention control changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.generation.attention import GROUPS, suite_name
from tests.benchmarks.generation.results import Row, all_found, bootstrap, read_rows
from tests.benchmarks.generation.scenes import MODES
from tests.benchmarks.generation.sheets import as_sheet, sheet_lines
from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("attention.md.j2")
SHEET = "attention.jpg"
SHEET_BYTES = 390_000
SHOWN = {"pairs": 4, "triples": 3, "same_class": 2}
TITLES = {"pairs": "two products", "triples": "three products", "same_class": "two of one class"}
WITHOUT = "ours"
MOST_SEEDS = 10


def write_attention_report(home: Path, out: Path, products: Path, note: str = "") -> None:
    """Write page, figures and sheet of what a home holds; ``products`` has the photos."""
    tables, lines = [], []
    shown_products: set[str] = set()
    for mode in MODES:
        for group in GROUPS:
            rows = [
                found
                for seed in range(MOST_SEEDS)
                if WITHOUT in (found := read_rows(home, suite_name(mode, group, seed)))
            ]
            names = {name: None for found in rows for name in found if name != WITHOUT}
            for name in names:
                pairs = [(found[WITHOUT], found[name]) for found in rows if name in found]
                tables.append({"mode": mode, "group": TITLES[group], **compare(pairs)})
            if rows:
                shown_products |= {t for s in rows[0][WITHOUT].scenes for t in s.things}
                shown = [row for name, row in rows[0].items() if name in (WITHOUT, "ours_gradient")]
                drawn = sheet_lines(shown, products, range(SHOWN[group]), 3)
                lines += drawn[1:] if lines else drawn  # titles once
    facts: dict[str, Any] = {
        "date": today(),
        "machine": machine(),
        "note": note,
        "tables": tables,
        "products": len(shown_products),
        "sharp": read_json(home / "sharp_maps.json"),
    }
    write_json(out / "attention.json", facts, digits=4)
    write_page(out, TEMPLATE, **read_json(out / "attention.json"))
    (out / SHEET).write_bytes(as_sheet(lines, SHEET_BYTES))


def compare(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    """One way of control against none; a pair of rows a seed, on the same scenes.

    Intervals are of 95 %, over redrawn scenes; a scene counts with the mean over its seeds.
    """
    off, on = ([pair[side] for pair in pairs] for side in (0, 1))
    changes = _complete(on) - _complete(off)  # (seeds, scenes)
    cpu = [sum(c["cpu_seconds"] for row in rows for c in row.costs) for rows in (off, on)]
    return {
        "method": on[0].title,
        "scenes": changes.shape[1],
        "seeds": changes.shape[0],
        "off": _shares(off),
        "on": _shares(on),
        "all_difference": bootstrap(changes.mean(0)),
        "each_difference": bootstrap((_each(on) - _each(off)).mean(0)),
        "gained": int((changes > 0).sum()),
        "lost": int((changes < 0).sum()),
        "cpu_seconds": cpu[0] / changes.size,
        "cpu_ratio": cpu[1] / cpu[0],
    }


def _shares(rows: Sequence[Row]) -> dict[str, Any]:
    return {"all": bootstrap(_complete(rows).mean(0)), "each": bootstrap(_each(rows).mean(0))}


def _complete(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """``(seeds, scenes)``: 1 where every product was found."""
    return np.array([[all_found(said) for said in row.verdicts] for row in rows], np.float64)


def _each(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """``(seeds, scenes)``: the share of its products that was found."""
    return np.array(
        [
            [np.mean([v == "found" for v in said["found"].values()]) for said in row.verdicts]
            for row in rows
        ],
        np.float64,
    )
