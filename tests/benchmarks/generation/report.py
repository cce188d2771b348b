"""``generation.md``, ``generation.json`` and the contact sheets, from what a home holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.generation.results import TARGETS, Row, read_rows
from tests.benchmarks.generation.scenes import SUITES
from tests.benchmarks.generation.sheets import draw_sheet
from tests.benchmarks.generation.speed import read_speed, summarize
from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("generation.md.j2")
SHOWN_SCENES = {"pairs": 12, "triples": 8, "same_class": 10, "swaps": 10}
DETECTOR = {
    "found_accuracy": "found or not, accuracy",
    "found_precision": "found, precision",
    "found_recall": "found, recall",
    "verdict_accuracy": "the very verdict, accuracy",
    "count_accuracy": "count, accuracy on good pictures",
    "blank_accuracy": "blank, accuracy",
}
SECTIONS = {
    "pairs": "Two products",
    "triples": "Three products",
    "same_class": "Two products of one class",
    "swaps": "Attribute swaps of the base",
}


def write_report(home: Path, out: Path, products: Path, note: str = "") -> None:
    """Write all files of the report; suites that were not run are said to be open.

    Args:
        home: the bench's home.
        out: where the files go.
        products: the folder of the learned products' photos.
        note: what a reader of the tables must know.
    """
    out.mkdir(parents=True, exist_ok=True)
    speed = read_speed(home)
    facts: dict[str, Any] = {
        "date": today(),
        "machine": machine(),
        "note": note,
        "sections": [_section(home, suite, out, products) for suite in SUITES],
        "speed": summarize(speed) if speed else None,
        "colour_judge": read_json(home / "colour_judge.json"),
        "detector": read_json(home / "detector" / "detector.json"),
    }
    write_json(out / "generation.json", facts, digits=4)
    write_page(out, TEMPLATE, **facts, detector_figures=DETECTOR)


def _section(home: Path, suite: str, out: Path, products: Path) -> dict[str, Any]:
    rows = read_rows(home, suite)
    sheet = ""
    if rows:
        sheet = f"generation-{suite.replace('_', '-')}.jpg"
        photos = None if suite == "swaps" else products
        (out / sheet).write_bytes(draw_sheet(rows, photos, SHOWN_SCENES[suite]))
    return {
        "suite": suite,
        "title": SECTIONS[suite],
        "target": TARGETS.get(suite),
        "sheet": sheet,
        "rows": {name: row.figures() for name, row in rows.items()},
        "images": _images(rows),
    }


def _images(rows: dict[str, Row]) -> list[dict[str, Any]]:
    """Of each scene, what each method's picture was judged to show."""
    if not rows:
        return []
    first = next(iter(rows.values()))
    return [
        {
            "things": list(scene.things),
            "text": scene.text,
            "seed": scene.seed,
            "verdicts": {
                name: [row.verdicts[index]["found"][thing] for thing in scene.things]
                for name, row in rows.items()
            },
        }
        for index, scene in enumerate(first.scenes)
    ]
