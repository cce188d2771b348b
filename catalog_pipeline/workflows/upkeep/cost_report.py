"""The cost report: what a home has measured of itself, at the prices of ``governance.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.evaluation.costs import (
    CostReport,
    energy_kwh,
    machine_cost,
    storage_cost_month,
)
from catalog_pipeline.records import IndexRow, NightCost, SkuCost
from catalog_pipeline.settings import CostSettings
from catalog_pipeline.stores.report_tables import encode_night_costs, encode_sku_costs
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.night_report import kept_figures
from catalog_pipeline.workflows.report_pages import write_page
from catalog_pipeline.workflows.upkeep.cost_growth import places, read_growth
from catalog_pipeline.workflows.upkeep.cost_spent import (
    DaySpent,
    SkuSpent,
    Spent,
    read_attempts,
    read_nights,
)
from catalog_pipeline.workflows.upkeep.cost_stored import SkuStored, Stored, read_stored
from catalog_pipeline.workflows.upkeep.destinations import write_file

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.nights_index import NightFigures

FOLDER = "cost"
_FILES = {"page": "index.html", "skus": "skus.parquet", "nights": "nights.parquet"}
_GONE = "gone"
"""The status of a product that the index does not know."""


@dataclass(frozen=True)
class WrittenCosts:
    """The report, and its files: ``page``, ``skus`` and ``nights``."""

    report: CostReport
    paths: Mapping[str, Path]


def write_cost_report(home: Home, out: Path | None = None) -> WrittenCosts:
    """Write the page and both tables; without ``out`` to ``reports/cost/`` of the home.

    Each file is replaced whole; the same again while nothing has changed. Under the home, the
    files are stored in the bucket as well where state lives in one.

    Raises:
        GenerationError: nothing was ever learned or rendered.
        IntegrityError: a manifest, the learning log or the figures of the nights are damaged.
        StoreError: something cannot be read or written.
    """
    from catalog_pipeline.evaluation.cost_page import render_cost_report

    report = collect_costs(home)
    prices = home.settings.governance.cost
    files = {
        "page": render_cost_report(report).encode(),
        "skus": encode_sku_costs(report.skus, prices.model_dump_json()),
        "nights": encode_night_costs(report.nights, prices.model_dump_json()),
    }
    paths = {kind: _write(home, out, _FILES[kind], data) for kind, data in files.items()}
    return WrittenCosts(report, paths)


def _write(home: Home, out: Path | None, name: str, data: bytes) -> Path:
    if out is None:
        return write_page(home, f"{FOLDER}/{name}", data)
    write_file(out / name, data)
    return out / name


def collect_costs(home: Home) -> CostReport:
    """Everything that the report says; see :func:`write_cost_report`. Writes nothing.

    Reads the learning log, every manifest (one night at a time), heads and listings.
    """
    spent, attempts = Spent(), read_attempts(home)
    for attempt in attempts:
        spent.add_attempt(attempt)
    stored = read_stored(home)
    for day, pictures in read_nights(home):
        stored.add_night(day, pictures)
        for made in pictures:
            spent.add_picture(day, made)
    if not spent.days:
        raise GenerationError(
            f"nothing was learned or rendered in {home.where}; expected an attempt in the "
            "learning log or a published night; run `catalog-pipeline learn` first"
        )
    growth = read_growth(home, attempts, stored.version_bytes)
    homeless = stored.settle()
    figures = {night.day: night for night in kept_figures(home)}
    prices = home.settings.governance.cost
    order = places(attempts)
    index = {row.sku: row for row in home.index.read()}
    known = sorted({*index, *spent.skus, *stored.skus})
    return CostReport(
        home=home.where,
        prices=prices,
        skus=tuple(
            _sku_cost(
                sku,
                spent.skus.get(sku, SkuSpent()),
                stored.skus.get(sku, SkuStored()),
                index.get(sku),
                order.get(sku),
                prices,
            )
            for sku in known
        ),
        nights=tuple(
            _night_cost(day, spent.days[day], stored, figures.get(day), prices)
            for day in sorted(spent.days)
        ),
        stored=tuple(stored.kinds.values()),
        growth=growth,
        missing=tuple(_missing(spent.days, figures, stored, homeless)),
    )


def _sku_cost(
    sku: str,
    spent: SkuSpent,
    stored: SkuStored,
    row: IndexRow | None,
    place: int | None,
    prices: CostSettings,
) -> SkuCost:
    seconds = spent.learning_seconds + spent.rendering_seconds
    total = stored.concept_bytes + stored.picture_bytes + stored.shared_bytes
    names = {"name": spent.name or sku, "collection": spent.collection, "status": _GONE}
    if row is not None:
        names = {"name": row.name, "collection": row.collection, "status": row.status.value}
    return SkuCost(
        sku=sku,
        place=place,
        energy_kwh=energy_kwh(seconds, prices),
        machine_cost=machine_cost(seconds, prices),
        storage_cost_month=storage_cost_month(total, prices),
        currency=prices.currency,
        **{**asdict(spent), **asdict(stored), **names},
    )


def _night_cost(
    day: date,
    spent: DaySpent,
    stored: Stored,
    figures: NightFigures | None,
    prices: CostSettings,
) -> NightCost:
    seconds = spent.learning_seconds + spent.rendering_seconds
    rendering = machine_cost(spent.rendering_seconds, prices)
    return NightCost(
        day=day,
        failed=figures.failed if figures else None,
        to_do=figures.to_do if figures else None,
        energy_kwh=energy_kwh(seconds, prices),
        machine_cost=machine_cost(seconds, prices),
        cost_per_picture=rendering / spent.published if spent.published else None,
        picture_bytes=stored.picture_bytes[day],
        record_bytes=stored.night_bytes.get(day, 0),
        currency=prices.currency,
        **asdict(spent),
    )


def _missing(
    days: Mapping[date, DaySpent],
    figures: Mapping[date, NightFigures],
    stored: Stored,
    homeless: float,
) -> Iterator[str]:
    """What nobody has measured, in words; what always is so comes last."""
    for words, number in _counted(days, figures, stored):
        if number:
            yield f"{words}: {number:,}"
    if homeless:
        yield f"Bytes in no row, since no product is served: {homeless:,.0f}"
    yield (
        "Energy is an estimate (seconds x watts of governance.yaml), no meter was read; prices are "
        "those of governance.yaml"
    )
    yield (
        "Not measured: people's time, listings, plans, evaluations, previews, exports, clean-up, "
        "and a machine that waits"
    )
    yield "Photos in the watched folder are not among the stored bytes"


def _counted(
    days: Mapping[date, DaySpent], figures: Mapping[date, NightFigures], stored: Stored
) -> Sequence[tuple[str, int]]:
    nights = [day for day, spent in days.items() if spent.picture_attempts]
    return (
        (
            "Attempts at learning without seconds (a crash lost them), whose cost is missing",
            sum(spent.untimed_attempts for spent in days.values()),
        ),
        (
            "Pictures without seconds (an earlier release made them), whose cost is missing",
            sum(spent.untimed_pictures for spent in days.values()),
        ),
        ("Pictures with a row and no file, whose bytes are missing", stored.without_file),
        (
            "Nights without a report, so without pictures that failed and what people had to do",
            len([day for day in nights if day not in figures]),
        ),
        (
            "Pictures that could not be made, whose seconds are not known",
            sum(night.failed for day, night in figures.items() if day in days),
        ),
    )
