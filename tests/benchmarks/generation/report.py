"""``generation.md``, ``generation.json`` and the contact sheets, from what a home holds."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.benchmarks.generation.results import TARGETS, Row, read_rows
from tests.benchmarks.generation.scenes import SUITES
from tests.benchmarks.generation.sheets import draw_sheet
from tests.benchmarks.generation.speed import read_speed, summarize

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
    sections = [_section(home, suite, out, products) for suite in SUITES]
    speed = read_speed(home)
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} hardware threads, {platform.machine()}",
        "note": note,
        "sections": sections,
        "speed": summarize(speed) if speed else None,
        "colour_judge": _read(home / "colour_judge.json"),
        "detector": _read(home / "detector" / "detector.json"),
    }
    text = json.dumps(_rounded(facts), indent=1, ensure_ascii=False)
    (out / "generation.json").write_text(text + "\n", "utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.0f} %"
    template = environment.get_template("generation.md.j2")
    (out / "generation.md").write_text(template.render(**facts, detector_figures=DETECTOR), "utf-8")


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


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _rounded(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return round(content, 4) if isinstance(content, float) else content
