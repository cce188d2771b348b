"""An object of every place in a home, by who besides the service may read it."""

from __future__ import annotations

TABLES_AND_PICTURES = (
    "catalog/index.parquet",
    "manifest/dt=2026-03-01/part-0.parquet",
    "quarantine/dt=2026-03-02/part-0.parquet",
    "learning/dt=2026-02-28/part-0.parquet",
)
"""What readers may read, of a filled home (`tests/workflows/upkeep/data_home.py`); and pictures."""

INNER = (
    "audit/000000/000000000001.json",
    "base/0123456789abcdef/empty-scenes.safetensors",
    "catalog/anchors/MUG.json",
    "catalog/IMPORT_LEASE.json",
    "catalog/matches.json",
    "collections/default/HEAD.json",
    f"collections/default/parts/{'0' * 64}.safetensors",
    f"collections/default/parts/{'1' * 64}.safetensors.sealed",
    "collections/default/quarantine/MUG-0123456789ab/pictures.png",
    "collections/default/staging/MUG-step-1",
    "plans/dt=2026-03-09/plan.json",
    "removals/0123456789abcdef.json",
    "reports/gallery-2026-03-01.html",
    "reports/nights/dt=2026-03-01.html",
    "_staging/dt=2026-03-09/0123456789abcdef.arrow",
)
"""What operators may read as well."""

KEYS = ("keys/0123456789abcdef0123456789abcdef.json",)
"""What nobody but the service may read."""
