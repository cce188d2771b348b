"""What verification, clean-up, retirement and time travel return, as lines of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog_pipeline.stores.archive import ManifestState
    from catalog_pipeline.workflows.catalog.retire import RetireOutcome
    from catalog_pipeline.workflows.upkeep.collect_garbage import GarbageReport
    from catalog_pipeline.workflows.upkeep.time_travel import ManifestView
    from catalog_pipeline.workflows.upkeep.verify import VerifyReport


def state_lines(day: date, states: Sequence[ManifestState]) -> list[str]:
    """One line a state, oldest first; ``*`` marks the present one."""
    if not states:
        return [f"{day} has no manifest: the night was not published"]
    return [
        f"{'*' if state is states[-1] else ' '} {state.version}  "
        f"{state.published_utc:%Y-%m-%d %H:%M:%S} UTC  {state.rows} rows, "
        f"{state.superseded} superseded"
        for state in states
    ]


def manifest_lines(view: ManifestView) -> list[str]:
    """A heading, and one line a row."""
    state = view.state
    lines = [
        f"{view.day} version {state.version} of {state.published_utc:%Y-%m-%d %H:%M:%S} UTC: "
        f"{state.rows} rows, {state.superseded} superseded"
    ]
    if view.rows:
        products = ["+".join(row.skus) for row in view.rows]
        width = max(len(text) for text in (*products, "products"))
        columns = ("image", "sha256", "version", "", "products", "prompt")
        cells = [columns] + [
            (
                row.image_id[:12],
                row.sha256[:12],
                row.adapter_version[:8],
                "superseded" if row.superseded else "",
                shown,
                row.prompt,
            )
            for row, shown in zip(view.rows, products, strict=True)
        ]
        widths = (12, 12, 8, 10, width, 0)
        lines += [
            "  ".join(f"{cell:<{size}}" for cell, size in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
    return lines


def verify_lines(report: VerifyReport) -> list[str]:
    """What was read, and each problem."""
    read = (
        f"{len(report.days)} nights, {report.pictures} pictures, {report.states} manifest states, "
        f"{report.versions} versions, {report.objects} of their objects"
    )
    if not report.problems:
        return [f"verified {read}: all hashes are right"]
    return [*(f"broken   {p}" for p in report.problems), f"{len(report.problems)} broken of {read}"]


def garbage_lines(report: GarbageReport) -> list[str]:
    """Counts and sizes by kind, the keys in a dry run, and what was left alone."""
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for item in report.garbage:
        by_kind[item.kind].append(item.info.size_bytes)
    lines = []
    if report.dry_run:
        lines += [
            f"{item.kind:<11}  {item.info.modified_utc:%Y-%m-%d %H:%M}  "
            f"{_size(item.info.size_bytes):>9}  {item.key}"
            for item in report.garbage
        ]
    lines += [f"skipped {text}" for text in report.skipped]
    verb = "would remove" if report.dry_run else "removed"
    counts = ", ".join(f"{len(sizes)} {kind}" for kind, sizes in sorted(by_kind.items()))
    total = f"{len(report.garbage)} objects, {_size(report.size_bytes)}"
    lines.append(
        f"{verb} {total}" + (f" ({counts})" if counts else "") + " written before "
        f"{report.before_utc:%Y-%m-%d %H:%M} UTC"
    )
    return lines


def retirement_line(outcome: RetireOutcome) -> str:
    """One product: what went, or why it is still there."""
    if outcome.reason:
        return f"kept      {outcome.sku}: {outcome.reason}"
    done = ", ".join(outcome.done) or "nothing was left of it"
    return f"retired   {outcome.sku}: {done}"


def _size(size_bytes: int) -> str:
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
