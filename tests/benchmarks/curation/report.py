"""Precision and recall of each reason, the page, and a sheet of the mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from tests.benchmarks.curation.pollution import HARMLESS, KINDS
from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.report import machine, today, write_json, write_page

if TYPE_CHECKING:
    from tests.benchmarks.curation.trials import Verdict

TITLES = {
    "real": "Real photos",
    "household": "Rendered photos, seen when rules were set",
    "held_out": "Rendered photos, held out",
}
NAMES = {"real": "real", "household": "rendered, seen", "held_out": "rendered, held out"}
FAULTS = tuple(dict.fromkeys(fault for fault, _ in KINDS.values()))
_CELL_PX, _ACROSS = 150, 10


def rows_of(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    names = ("product", "kind", "expected", "found", "reason", "recalled")
    return [{name: getattr(one, name) for name in names} for one in verdicts]


def by_fault(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each fault: how often it was said, rightly so, and of how many it should have been."""
    table = []
    for fault in FAULTS:
        said = [row for row in rows if row["found"] == fault]
        bad = [row for row in rows if row["expected"] == fault]
        both = sum(row["expected"] == fault for row in said)
        clean = sum(not row["expected"] for row in said)
        table.append({
            "fault": fault.replace("_", " "), "bad": len(bad), "said": len(said),
            "precision": both / len(said) if said else None,
            "recall": both / len(bad) if bad else None,
            "any_reason": sum(bool(row["found"]) for row in bad) / len(bad) if bad else None,
            "of_good": clean,
        })  # fmt: skip
    return table


def by_kind(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind of photo: how many there were, and what was said of them."""
    table = []
    for kind in ("clean", *HARMLESS, *KINDS):
        ours = [row for row in rows if row["kind"] == kind]
        said = Counter(row["found"] for row in ours if row["found"])
        table.append({
            "kind": kind, "count": len(ours), "left_out": sum(said.values()),
            "said": ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in said.most_common()),
        })  # fmt: skip
    return table


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Over all reasons: of what was left out, how much was bad, and of the bad, left out."""
    said = [row for row in rows if row["found"]]
    bad = [row for row in rows if row["expected"]]
    right = sum(bool(row["expected"]) for row in said)
    good = [row for row in rows if not row["expected"]]
    return {
        "bad": len(bad), "good": len(good), "good_left_out": len(said) - right,
        "precision": right / max(1, len(said)), "recall": right / max(1, len(bad)),
    }  # fmt: skip


def write_report(home: Path, out: Path, note: str) -> None:
    """``curation.md`` and ``curation.json`` from what was judged and learned."""
    suites = {}
    for name in TITLES:
        rows = read_json(home / f"{name}.json")
        suites[name] = {
            "totals": totals(rows), "faults": by_fault(rows), "kinds": by_kind(rows),
            "products": len({row["product"] for row in rows}),
            "wrongly": sorted({
                f"{row['product']} ({row['kind']}): {row['reason']}"
                for row in rows if row["found"] and not row["expected"]
            }),
        }  # fmt: skip
    facts = {
        "date": today(), "machine": machine(), "note": note, "suites": suites,
        "duplicates": read_json(home / "duplicates.json"),
        "learned": read_json(home / "learned.json") or [],
    }  # fmt: skip
    write_json(out / "curation.json", facts, digits=4)
    write_page(out, Path(__file__).with_name("curation.md.j2"), titles=TITLES, names=NAMES, **facts)


def mistakes_sheet(verdicts: Sequence[Verdict]) -> Image.Image:
    """Good photos left out (red) and bad ones taken (blue), each with what was said."""
    wrong = [one for one in verdicts if bool(one.found) != bool(one.expected)]
    high = max(1, -(-len(wrong) // _ACROSS))
    page = Image.new("RGB", (_ACROSS * _CELL_PX, high * (_CELL_PX + 26)), "white")
    draw = ImageDraw.Draw(page)
    for place, one in enumerate(wrong):
        left, top = place % _ACROSS * _CELL_PX, place // _ACROSS * (_CELL_PX + 26)
        cell = Image.fromarray(one.pixels)
        cell.thumbnail((_CELL_PX - 6, _CELL_PX - 6))
        page.paste(cell, (left, top + 26))
        color = "red" if one.found else "blue"
        draw.text((left, top), f"{one.product[:22]}\n{one.kind}: {one.found or 'taken'}", color)
    return page
