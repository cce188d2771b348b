"""What a night would make, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog_pipeline.workflows.night.preview_night import NightPreview

_SHORT_AT_MOST = 20


def preview_lines(preview: NightPreview) -> list[str]:
    """Pictures by kind, policy, layout and scene; every product; coverage; time."""
    record = preview.to_record()
    lines = []
    for title, key in (
        ("kind", "per_kind"),
        ("policy", "per_policy"),
        ("layout", "per_layout"),
        ("scene", "per_template"),
        ("collection", "per_collection"),
    ):
        lines += _table((title, "pictures"), record[key].items())
    lines += _table(("product", "pictures", "shown before", "short of"), _products(preview, record))
    lines.append(_coverage_line(preview))
    if preview.unseen:
        lines.append(f"no picture tonight: {_first(preview.unseen)}")
    speed = f"{preview.seconds_per_image:.2f} s a picture"
    source = "as the latest like night took" if preview.measured else "assumed, no night measured"
    todo = len(preview.plan.jobs) - preview.rendered
    lines.append(
        f"about {preview.minutes:.1f} minutes for {todo} pictures ({speed}, {source}; "
        f"{preview.rendered} already there); a picture that is tried again takes as long again"
    )
    lines.append(
        "this plan is stored already; nothing would change"
        if preview.stored
        else "dry run: nothing was written; `generate` without --dry-run makes this night"
    )
    return lines


def _products(
    preview: NightPreview, record: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> list[tuple[object, ...]]:
    tonight = {sku: sum(counts.values()) for sku, counts in record["per_sku"].items()}
    return [
        (sku, tonight.get(sku, 0), preview.shown.get(sku, 0), preview.deficits.get(sku, "-"))
        for sku in sorted({*tonight, *preview.deficits, *preview.unseen})
    ]


def _coverage_line(preview: NightPreview) -> str:
    coverage = preview.coverage
    if not coverage.images:
        return "coverage: off (policies.coverage.images is 0)"
    wanted = f"{coverage.images} pictures in {coverage.nights} nights"
    if not preview.deficits:
        return f"coverage: every product has {wanted}"
    return f"coverage: below {wanted}: {_first(sorted(preview.deficits))}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHORT_AT_MOST
    return ", ".join(names[:_SHORT_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Aligned columns, the first to the left, numbers to the right, and an empty line."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        *(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ),
        "",
    ]
