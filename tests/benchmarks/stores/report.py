"""``stores.md`` and ``stores.json``: target beside measured."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TITLES = {
    "catalog": "Catalog, sensor and nightly refresh",
    "manifest": "A large manifest, read with other people's tools",
    "publish": "Publishing and verifying a night in a folder",
    "versions": "Versions of a collection in a folder",
    "s3": "The same in a bucket (SeaweedFS on this machine)",
}


def machine() -> dict[str, Any]:
    """Where and when a section was measured, and how busy the machine was at its end."""
    load = os.getloadavg()[1]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} hardware threads, {platform.machine()}",
        "python": platform.python_version(),
        "load_average_5_minutes": round(load, 1),
        "shared": load > (os.cpu_count() or 1),
    }


def write_report(out: Path, sections: Mapping[str, Mapping[str, Any]], note: str) -> None:
    """Write both files; ``sections`` is name -> machine and measurements."""
    out.mkdir(parents=True, exist_ok=True)
    facts = {"command": "make bench-stores", "note": note, "sections": sections}
    (out / "stores.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = seconds
    template = environment.get_template("stores.md.j2")
    (out / "stores.md").write_text(template.render(**facts, titles=TITLES), "utf-8")


def seconds(value: float | None) -> str:
    """``0.026``, ``1.4`` or ``17``: two figures, in seconds; a dash for none."""
    if value is None:
        return "–"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"
