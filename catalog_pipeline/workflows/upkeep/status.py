"""Where products, versions and nights stand, ready for JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from catalog_pipeline.records import AdapterVersion, SkuStatus, sources_of
from catalog_pipeline.workflows.home import Home

NIGHTS_SHOWN = 7


def collect_status(home: Home) -> dict[str, Any]:
    """The state of a home; reads only, and only what is needed.

    Keys: ``home``, ``index`` (SKUs and photos, a count per status, reasons of the
    failed ones), ``collections`` (name -> head, concept count, SKUs with an imported
    LoRA and the SHA-256 of its file, the SKU learned last with its figures, SKU -> who is
    learning), ``nights`` (the last seven, newest first), ``staged`` (rendered, not yet
    published). Values are plain JSON types.

    Raises:
        StoreError: something that is needed cannot be read.
    """
    days = sorted({*home.archive.days(), *home.archive.quarantine.days()})
    return {
        "home": home.where,
        "index": _index(home),
        "collections": {name: _collection(home, name) for name in home.collections()},
        "nights": [_night(home, day) for day in reversed(days[-NIGHTS_SHOWN:])],
        "staged": [
            {"day": day.isoformat(), "rows": len(home.archive.staged(day))}
            for day in home.archive.staged_days()
        ],
    }


def _index(home: Home) -> dict[str, Any]:
    rows = home.index.read()
    counts = Counter(row.status for row in rows)
    return {
        "skus": len(rows),
        "photos": sum(row.photo_count for row in rows if row.status is not SkuStatus.RETIRED),
        **{status.value: counts[status] for status in SkuStatus},
        "reasons": {row.sku: row.reason for row in rows if row.status is SkuStatus.FAILED},
    }


def _collection(home: Home, name: str) -> dict[str, Any]:
    store = home.adapters(name)
    head = store.head()
    version = store.read(head.version) if head else None
    learning = {
        sku: record.holder
        for sku in store.claimed()
        if (record := store.claim_object(sku).read()) and store.claim_object(sku).is_held()
    }
    return {
        "version": head.version if head else None,
        "fence": head.fence if head else None,
        "concepts": len(version.concepts) if version else 0,
        "imported": {c.sku: c.imported_from for c in version.concepts if c.imported_from}
        if version
        else {},
        "created_utc": version.created_utc.isoformat() if version else None,
        "versions": len(store.version_names()),
        "learning": learning,
        "last_learned": _last_learned(version),
    }


def _last_learned(version: AdapterVersion | None) -> dict[str, Any]:
    """The newest concept and what was measured of it; nothing before the first."""
    newest = max(version.concepts, key=lambda c: c.task, default=None) if version else None
    if newest is None:
        return {}
    figures = {name: float(value) for name, value in sorted(newest.metrics.items())}
    return {"sku": newest.sku, **figures}


def _night(home: Home, day: Any) -> dict[str, Any]:
    rows = home.archive.read_day(day)
    current = [row for row in rows if not row.superseded]
    return {
        "day": day.isoformat(),
        "rows": len(rows),
        "superseded": len(rows) - len(current),
        "quarantined": sum(not row.superseded for row in home.archive.quarantine.read_day(day)),
        "skus": len({sku for row in current for sku in row.skus}),
        "adapter_versions": sorted(
            {source.adapter_version for row in current for source in sources_of(row).values()}
        ),
    }
