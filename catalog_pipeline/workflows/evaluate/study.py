"""Learn one catalog in several ways and compare: which granularity, which update frequency."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.study_figures import StudyReport
from catalog_pipeline.records import StudyCell
from catalog_pipeline.settings import ArchiveSettings, Settings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.report_tables import encode_study
from catalog_pipeline.workflows.evaluate.study_cell import Cell, CellFiles, cell_files
from catalog_pipeline.workflows.evaluate.study_deliveries import (
    PERIODS,
    gather,
    in_a_stream,
    in_waves,
)
from catalog_pipeline.workflows.evaluate.study_products import (
    GRANULARITIES,
    StudyProduct,
    group,
    read_products,
    same_concepts,
)
from catalog_pipeline.workflows.evaluate.study_run import run_cell
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.models import check_base_model
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress

Study = Literal["granularity", "frequency"]
PICTURED = 8
"""Products with pictures on the page, evenly over the study's."""

_ALL_SLOTS = ("per_concept", "shared")
_SHOWN_PX = 128


@dataclass(frozen=True)
class StudyOptions:
    """What a study takes of a catalog; each is a flag of the command.

    Attributes:
        skus: products, evenly of the categories.
        categories: with the most variants.
        seeds: cells of each choice, with other seeds of learning and of deliveries.
        images: pictures of each product that are measured.
        steps: of training a concept; ``None``: those of learning.yaml.
        waves: days on which the products of a granularity study come.
        days: over which those of a frequency study come.
        later_share: of products a part of whose photos comes days later.
        equal_steps: a granularity study also learns families and categories with the steps of a
            concept times its products, so that each product is trained on as long as alone.
    """

    skus: int = 24
    categories: int = 4
    seeds: int = 1
    images: int = 4
    steps: int | None = None
    waves: int = 2
    days: int = 14
    later_share: float = 0.5
    equal_steps: bool = False

    def __post_init__(self) -> None:
        least = {"skus": 2, "categories": 1, "seeds": 1, "images": 1, "waves": 1, "days": 1}
        wrong = [
            f"--{name} {getattr(self, name)}; expected {bound} or more"
            for name, bound in least.items()
            if getattr(self, name) < bound
        ]
        if self.steps is not None and self.steps < 1:
            wrong.append(f"--steps {self.steps}; expected 1 or more")
        if not 0 <= self.later_share <= 1:
            wrong.append(f"--later-share {self.later_share:g}; expected 0 to 1")
        if wrong:
            raise ConfigurationError(", ".join(wrong))


@dataclass(frozen=True)
class WrittenStudy:
    """The report, and its files: ``page``, ``table`` and ``record``."""

    report: StudyReport
    paths: Mapping[str, Path]


def run_study(
    settings: Settings,
    study: Study,
    catalog: Path,
    out: Path,
    options: StudyOptions = StudyOptions(),
    *,
    progress: ProgressSink | None = None,
) -> WrittenStudy:
    """Learn the products of ``catalog`` in every way of ``study`` under ``out``, and compare.

    Writes ``<study>/study.html``, ``study.parquet`` and ``study.json``; cells lie beside them, each
    in a scratch home of its own. Safe to kill: a second run reads what is done and goes on. The
    home of ``settings`` is neither read nor written.

    Args:
        settings: how to learn, to render and to measure; see ``study_cell.cell_settings``.
        study: what to compare.
        catalog: a folder of product folders; only read.
        out: where everything goes.
        options: how much of it.
        progress: advanced at every step of training and every product measured.

    Raises:
        ConfigurationError: an option out of range, or fewer than two usable products.
        CatalogError: the catalog cannot be listed.
        BaseModelError: the base model cannot be opened.
        StoreError: something cannot be read or written.
    """
    sink = progress or SilentProgress()
    folder = out.expanduser().resolve() / study
    base = _asked(settings, options)
    check_base_model(base)
    source = open_home(_reading(base, catalog, folder))
    base = source.written
    products, refused = read_products(source, options.skus, options.categories)
    cells, skipped = plan_cells(base, study, products, options)
    files = [cell_files(folder, base, cell, products, options.images) for cell in cells]
    found = []
    for number, (cell, own) in enumerate(zip(cells, files, strict=True), 1):
        label = f"cell {number} of {len(cells)}: {cell.name}"
        sink.start(label, 1)
        found.append(run_cell(base, source, cell, products, own, options.images, sink))
        sink.finish(label)
    report = StudyReport(
        study=study,
        cells=found,
        facts=_facts(base, study, source, products, options),
        notes=(*skipped, *_notes(refused, found)),
        pictures=_pictures(products, cells, files),
    )
    return WrittenStudy(report, _write(folder, report))


def plan_cells(
    settings: Settings, study: Study, products: Sequence[StudyProduct], options: StudyOptions
) -> tuple[list[Cell], list[str]]:
    """The cells of a study, and in words which were not worth running."""
    make = _granularities if study == "granularity" else _frequencies
    first = settings.learning.seed
    seeds = [make(settings, products, options, first + n) for n in range(options.seeds)]
    ways: list[tuple[Cell, ...]] = []
    skipped: dict[str, None] = {}
    for way in zip(*seeds, strict=True):
        # With every seed: a choice that lacks one could not be compared product by product.
        alike = (
            known
            for known in ways
            if all(_same_work(*both, products) for both in zip(known, way, strict=True))
        )
        twin = next(alike, None)
        if twin is None:
            ways.append(way)
        else:
            skipped[
                f"{way[0].choice} is the same as {twin[0].choice} for these products: it was not "
                "run"
            ] = None
    return [cell for cells in zip(*ways, strict=True) for cell in cells], list(skipped)


def _granularities(
    settings: Settings, products: Sequence[StudyProduct], options: StudyOptions, seed: int
) -> Iterator[Cell]:
    updates = gather(in_waves(products, options.waves), PERIODS["nightly"])
    slots = settings.learning.adapter.slots
    for granularity in GRANULARITIES:
        yield Cell("granularity", granularity, slots, seed, granularity, updates)
    for granularity in GRANULARITIES[1:] if options.equal_steps else ():
        choice = f"{granularity}, equal steps"
        yield Cell("granularity", choice, slots, seed, granularity, updates, equal_steps=True)


def _frequencies(
    settings: Settings, products: Sequence[StudyProduct], options: StudyOptions, seed: int
) -> Iterator[Cell]:
    fewest = settings.catalog.min_photos
    deliveries = in_a_stream(products, options.days, options.later_share, fewest, seed)
    for slots in _ALL_SLOTS:
        for frequency, period in PERIODS.items():
            updates = gather(deliveries, period)
            yield Cell("frequency", frequency, slots, seed, "sku", updates)


def _same_work(one: Cell, other: Cell, products: Sequence[StudyProduct]) -> bool:
    """Whether two cells would learn the same things in the same order."""
    if (one.slots, one.seed) != (other.slots, other.seed):
        return False
    if one.equal_steps != other.equal_steps and "sku" not in (one.granularity, other.granularity):
        return False
    alike = same_concepts(products, one.granularity, other.granularity)
    return alike and [u.deliveries for u in one.updates] == [u.deliveries for u in other.updates]


def _asked(settings: Settings, options: StudyOptions) -> Settings:
    if options.steps is None:
        return settings
    learning = settings.learning.model_copy(
        update={"steps": options.steps, "minutes_per_sku": None}
    )
    return settings.model_copy(update={"learning": learning})


def _reading(settings: Settings, catalog: Path, folder: Path) -> Settings:
    """Settings of a home that only reads the catalog."""
    reading = settings.catalog.model_copy(
        update={"root": catalog.expanduser().resolve(), "s3": None, "settle_seconds": 0.0}
    )
    return settings.model_copy(
        update={"home": folder / "reading", "catalog": reading, "archive": ArchiveSettings()}
    )


def _facts(
    settings: Settings,
    study: Study,
    source: Home,
    products: Sequence[StudyProduct],
    options: StudyOptions,
) -> dict[str, str]:
    counts = ", ".join(f"{len(group(products, each))} {each}" for each in GRANULARITIES)
    learning, generation = settings.learning, settings.generation
    asked = ", ".join(f"{name} {value}" for name, value in asdict(options).items())
    return {
        "study": study,
        "catalog": source.photo_source.where,
        "products": f"{len(products)}: " + ", ".join(product.sku for product in products),
        "concepts by granularity": counts,
        "options": asked,
        "base model": settings.base_model.base_model,
        "learning": f"{learning.length} for a concept, {learning.batch_size} views a step, "
        f"{learning.latent_views} views a photo; gates open",
        "sampling": f"{generation.sampler}, {generation.steps} steps, {generation.width} x "
        f"{generation.height} px",
        "encoder": settings.evaluation.encoder,
    }


def _notes(refused: Mapping[str, str], cells: Sequence[StudyCell]) -> list[str]:
    notes = [f"{sku} was left out: {reason}" for sku, reason in sorted(refused.items())]
    for cell in cells:
        lacking = [row for row in cell.rows if row.likeness is None]
        notes += [f"{cell.name}: {row.sku} has no figure: {row.reason}" for row in lacking]
    return notes


def _pictures(
    products: Sequence[StudyProduct], cells: Sequence[Cell], files: Sequence[CellFiles]
) -> dict[str, dict[str, str]]:
    """SKU -> column -> a picture: a photo, and what each choice drew with the first seed."""
    from catalog_pipeline.evaluation.contact_sheet import decode_png
    from catalog_pipeline.evaluation.html_pages import picture_uri

    shown = products[:: -(-len(products) // PICTURED)]
    one_kind = len({cell.slots for cell in cells}) == 1
    found = {each.sku: {"photo": picture_uri(each.photos[0].pixels, _SHOWN_PX)} for each in shown}
    for cell, own in zip(cells, files, strict=True):
        if cell.seed != cells[0].seed:
            continue
        for sku, columns in found.items():
            png = own.picture(sku)
            if png is not None:
                title = cell.choice if one_kind else f"{cell.choice}, {cell.slots}"
                columns[title] = picture_uri(decode_png(png), _SHOWN_PX)
    return found


def _write(folder: Path, report: StudyReport) -> dict[str, Path]:
    from catalog_pipeline.evaluation.study_page import render_study

    objects = LocalObjectStore(folder)
    record = json.dumps(report.to_record(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    files = {
        "page": ("study.html", render_study(report).encode()),
        "table": ("study.parquet", encode_study(report.rows)),
        "record": ("study.json", record.encode()),
    }
    for name, data in files.values():
        objects.put(name, data)
    return {kind: folder / name for kind, (name, _) in files.items()}
