"""A report: ``<name>.json`` for programs, ``<name>.md`` from a template, and where it is from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from catalog_pipeline.records import Pixels

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def today() -> str:
    """The day of a report, ``2026-11-23``."""
    return datetime.now(UTC).date().isoformat()


def machine() -> str:
    """What figures were measured on."""
    return f"{os.cpu_count()} hardware threads, {platform.machine()}"


def percent(share: float | None) -> str:
    """``97 %``; a dash for none."""
    return "–" if share is None else f"{100 * share:.0f} %"


def seconds(value: float | None) -> str:
    """``0.026``, ``1.4`` or ``17``: two figures, in seconds; a dash for none."""
    if value is None:
        return "–"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


FILTERS: Mapping[str, Callable[..., str]] = {"percent": percent, "seconds": seconds}


def write_json(
    path: Path, facts: Any, *, digits: int | None = None, without: Sequence[str] = ()
) -> None:
    """The figures of a report; keys in ``without`` are for its page only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(facts, digits, without), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


def write_page(out: Path, template: Path, **facts: Any) -> None:
    """Render ``<name>.md.j2`` to ``out/<name>.md``."""
    out.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    (out / template.stem).write_text(environment.get_template(template.name).render(facts), "utf-8")


def first_photo(folder: Path) -> Pixels:
    """The first photo of a product's folder, cut-outs on white."""
    photo = min(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    with Image.open(photo) as image:
        opaque = image.convert("RGBA")
    paper = Image.new("RGBA", opaque.size, "white")
    return np.asarray(Image.alpha_composite(paper, opaque).convert("RGB"))


def _plain(content: Any, digits: int | None, without: Sequence[str]) -> Any:
    if isinstance(content, Mapping):
        kept = {key: value for key, value in content.items() if key not in without}
        return {key: _plain(value, digits, without) for key, value in kept.items()}
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [_plain(value, digits, without) for value in content]
    rounded = isinstance(content, float) and digits is not None
    return round(content, digits) if rounded else content
