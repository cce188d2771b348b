"""Judging blind: pairs of pictures, left and right by lot, and what a person said of them.

The sheet asks which picture of a pair looks like one scene rather than a collage: ``exact`` or
the plain cut-out on the same empty scene. ``judged.json`` keeps the answers, ``left``,
``right`` or ``same`` by pair; the lot is drawn anew from the seed when they are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.evaluation.contact_sheet import contact_sheet
from catalog_pipeline.records import Pixels
from tests.benchmarks.fidelity.scenes import SUITES

PAIRS = 40
RIVALS = ("exact", "plain")
JUDGED = Path(__file__).with_name("judged.json")
_CELL_PX, _PER_LINE = 256, 2


def write_sheets(home: Path, out: Path, pairs: int = PAIRS) -> list[str]:
    """Eight pairs a PNG, two a line; the names of the scenes, in order."""
    names = chosen(home, pairs)
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(names), 8):
        cells = []
        for index, name in enumerate(names[first : first + 8], start=first):
            folder = home / "pictures" / name
            order = RIVALS if exact_is_left(index) else RIVALS[::-1]
            cells.append([_read(folder / f"{rival}.png") for rival in order])
        lines = [
            [picture for cell in cells[i : i + _PER_LINE] for picture in cell]
            for i in range(0, len(cells), _PER_LINE)
        ]
        captions = [f"pairs {first + i} and {first + i + 1}" for i in range(0, len(cells), 2)]
        sheet = contact_sheet(lines, captions=captions, cell_px=_CELL_PX, square=True)
        Image.fromarray(sheet).save(out / f"pairs-{first:02d}.png")
    return names


def chosen(home: Path, pairs: int = PAIRS) -> list[str]:
    """Scenes of every suite, evenly."""
    folders = sorted((home / "pictures").iterdir())
    names = []
    for suite in SUITES:
        of = [folder.name for folder in folders if folder.name.startswith(f"{suite}-")]
        count = min(len(of), pairs // len(SUITES))
        names += [of[round(i * (len(of) - 1) / max(1, count - 1))] for i in range(count)]
    return names


def exact_is_left(index: int) -> bool:
    """The lot of a pair."""
    return bool(np.random.default_rng([2611, index]).random() < 0.5)


def read_judgement() -> dict[str, Any] | None:
    """``{exact, plain, same, note}``: how often each was preferred; ``None`` before that."""
    if not JUDGED.exists():
        return None
    content = json.loads(JUDGED.read_text("utf-8"))
    votes: Counter[str] = Counter(exact=0, plain=0, same=0)
    for index, answer in enumerate(content["answers"]):
        left, right = RIVALS if exact_is_left(index) else RIVALS[::-1]
        votes[{"left": left, "right": right}.get(answer, "same")] += 1
    return {**votes, "note": content["note"]}


def _read(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))
