"""``stores.md`` and ``stores.json``: target beside measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("stores.md.j2")
TITLES = {
    "catalog": "Catalog, sensor and nightly refresh",
    "manifest": "A large manifest, read with other people's tools",
    "publish": "Publishing and verifying a night in a folder",
    "versions": "Versions of a collection in a folder",
    "s3": "The same in a bucket (SeaweedFS on this machine)",
    "growth": "How it grows with the catalog, in a folder",
}


def where() -> dict[str, Any]:
    """Where and when a section was measured, and how busy the machine was at its end."""
    load = os.getloadavg()[1]
    return {
        "date": today(),
        "processor": machine(),
        "python": platform.python_version(),
        "load_average_5_minutes": round(load, 1),
        "shared": load > (os.cpu_count() or 1),
    }


def write_report(out: Path, sections: Mapping[str, Mapping[str, Any]], note: str) -> None:
    """Write both files; ``sections`` is name -> machine and measurements."""
    facts = {"command": "make bench-stores", "note": note, "sections": sections}
    write_json(out / "stores.json", facts)
    write_page(out, TEMPLATE, **facts, titles=TITLES)
