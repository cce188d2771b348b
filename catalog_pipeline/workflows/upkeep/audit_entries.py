"""Entries of the audit log for people and other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from catalog_pipeline.stores.audit_log import AuditEntry
from catalog_pipeline.workflows.home import Home

_COLUMNS = ("number", "at_utc", "actor", "run", "action", "subject", "version", "facts", "sha256")


def matching_entries(
    home: Home, *, sku: str | None = None, action: str | None = None, since: datetime | None = None
) -> list[AuditEntry]:
    """The entries that fulfil all that is given, oldest first.

    ``sku`` is the subject, or one of the products that the facts list. With ``since`` the log is
    read from its end only as far as needed: until some hundred entries in a row are older.

    Raises:
        IntegrityError: an entry that is read cannot be; `audit verify` says which others.
    """
    found: list[AuditEntry] = []
    for entries in home.audit.newest_first():
        young = [entry for entry in entries if since is None or entry.at_utc >= since]
        if entries and not young:
            break
        found += [entry for entry in young if _fits(entry, sku, action)]
    return found[::-1]


def _fits(entry: AuditEntry, sku: str | None, action: str | None) -> bool:
    if action is not None and entry.action != action:
        return False
    return sku is None or entry.subject == sku or sku in entry.facts.get("skus", ())


def entries_as_file(entries: Sequence[AuditEntry], suffix: str) -> bytes:
    """CSV for ``.csv``, with facts as JSON, else a JSON list."""
    records = [_record(entry) for entry in entries]
    if suffix != ".csv":
        return json.dumps(records, ensure_ascii=False, indent=1).encode() + b"\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        facts = json.dumps(record["facts"], ensure_ascii=False, sort_keys=True)
        writer.writerow({**record, "facts": facts})
    return text.getvalue().encode()


def _record(entry: AuditEntry) -> Mapping[str, Any]:
    return {
        "number": entry.number,
        "at_utc": entry.at_utc.astimezone(UTC).isoformat(),
        "actor": entry.signed.actor,
        "run": entry.signed.run,
        "action": entry.action,
        "subject": entry.subject,
        "version": entry.version,
        "facts": dict(entry.facts),
        "sha256": entry.sha256,
    }
