"""Write current pictures with what is known of them as a data set that others' tools load.

The folder is there complete, or not at all
(:mod:`~catalog_pipeline.workflows.upkeep.destinations`). The same pictures give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from catalog_pipeline.errors import ConfigurationError, ObjectNotFoundError
from catalog_pipeline.records import ArchiveRow, IndexRow
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import find_plan
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.upkeep.dataset_card import dataset_card
from catalog_pipeline.workflows.upkeep.destinations import check_destination, new_folder
from catalog_pipeline.workflows.upkeep.image_forms import (
    Example,
    Pictures,
    ProductInPicture,
    write_coco,
    write_image_folder,
    write_web_dataset,
)
from catalog_pipeline.workflows.upkeep.query import query_as_file

ImageFormat = Literal["webdataset", "imagefolder", "coco"]

_WRITERS: Mapping[str, Callable[[Path, Pictures], None]] = {
    "webdataset": write_web_dataset,
    "imagefolder": write_image_folder,
    "coco": write_coco,
}
_AT_ONCE = 64
"""Pictures that are read together; at most that many are held in memory."""


@dataclass(frozen=True)
class Selection:
    """Which current pictures: of these nights, naming any of these SKUs, fulfilling ``where``.

    Nothing given means all. ``where`` is an SQL condition over the view ``images``.
    """

    days: tuple[date, ...] = ()
    skus: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class ImageExport:
    """What was exported to ``folder``: pictures, and bytes of all files."""

    folder: Path
    form: ImageFormat
    pictures: int
    files: int
    bytes: int


def export_images(
    home: Home,
    out: Path,
    *,
    form: ImageFormat,
    selection: Selection = Selection(),
    progress: ProgressSink | None = None,
) -> ImageExport:
    """Write the current pictures of ``selection`` to the folder ``out``, with a dataset card.

    ``webdataset``: tar files of 1,000 pictures, each with its JSON and its prompt.
    ``imagefolder``: PNG files and ``metadata.jsonl``. ``coco``: PNG files and boxes in
    ``annotations.json``. Idempotent: the same pictures give the same bytes. A picture is written
    as it is stored; one from before metadata or signing were set gets them here, and of what is
    signed here two exports differ.

    Raises:
        ConfigurationError: ``out`` holds files, or lies among the program's own or the photos,
            no current picture fits, or ``where`` is no condition.
        CertificateError: pictures are to be signed, and certificate or key cannot be used.
        StoreError: a picture is gone or damaged, or ``out`` cannot be written.
    """
    check_destination(home.settings, out)
    home.marks.check()
    sink = progress or SilentProgress()
    with new_folder(out) as staging:
        examples = chosen_examples(home, selection)
        sink.start("pictures", len(examples))
        _WRITERS[form](staging, _pictures(home, examples, sink))
        sink.finish("pictures")
        (staging / "README.md").write_text(dataset_card(examples, form), encoding="utf-8")
        shown = sorted({sku for example in examples for sku in example.row.skus})
        facts = {"skus": shown, "form": form, "pictures": len(examples)}
        home.audit.append("export", str(out), facts=facts)
    folder = out.expanduser().resolve()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return ImageExport(folder, form, len(examples), len(sizes), sum(sizes))


def card_of(home: Home, selection: Selection = Selection()) -> str:
    """The dataset card of the current pictures of ``selection``; nothing is written."""
    return dataset_card(chosen_examples(home, selection), "card")


def chosen_examples(home: Home, selection: Selection) -> list[Example]:
    """The current pictures of ``selection``, sorted by image id, with their products and boxes.

    Raises:
        ConfigurationError: none fits, a night was not published, or ``where`` is no condition.
    """
    published = home.archive.days()
    unknown = [day.isoformat() for day in selection.days if day not in published]
    if unknown:
        raise ConfigurationError(
            f"no night of {', '.join(unknown)} has been published in {home.where}; "
            '`catalog-pipeline query "FROM nights"` lists them'
        )
    wanted = _fulfilling(home, selection.where) if selection.where else None
    index = {row.sku: row for row in home.index.read()}
    found: dict[str, Example] = {}
    for day in sorted(set(selection.days)) or published:
        rows = [row for row in home.archive.read_day(day) if _is_chosen(row, selection, wanted)]
        planned = _planned_boxes(home, day, rows)
        for row in rows:
            found[row.image_id] = Example(row, _products(row, index, planned))
    if not found:
        raise ConfigurationError(
            f"no current picture of {home.where} fits the choice; expected at least one; "
            '`catalog-pipeline query "FROM nights"` shows what there is'
        )
    return [found[image_id] for image_id in sorted(found)]


def _fulfilling(home: Home, where: str) -> frozenset[str]:
    sql = f"SELECT image_id FROM images WHERE (\n{where}\n)"
    return frozenset(row["image_id"] for row in json.loads(query_as_file(home, sql, "json")))


def _is_chosen(row: ArchiveRow, selection: Selection, wanted: frozenset[str] | None) -> bool:
    if row.superseded or (selection.skus and not set(selection.skus).intersection(row.skus)):
        return False
    return wanted is None or row.image_id in wanted


def _planned_boxes(
    home: Home, day: date, rows: Sequence[ArchiveRow]
) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(image id, SKU) -> the pixels of the region in which the night's plan wanted it."""
    from catalog_pipeline.generation.anchored import pixel_box

    unplaced = {row.image_id: row for row in rows if set(row.skus) - row.boxes.keys()}
    plan = find_plan(home, day) if unplaced else None
    return {
        (job.job_id, sku): pixel_box(region, row.width, row.height)
        for job in (plan.jobs if plan else ())
        if (row := unplaced.get(job.job_id)) is not None
        for sku, region in zip(job.skus, job.regions, strict=True)
    }


def _products(
    row: ArchiveRow,
    index: Mapping[str, IndexRow],
    planned: Mapping[tuple[str, str], tuple[int, int, int, int]],
) -> tuple[ProductInPicture, ...]:
    products = []
    for sku in row.skus:
        card = index.get(sku)
        box = row.boxes.get(sku) or planned.get((row.image_id, sku))
        source = "placed" if sku in row.boxes else "planned" if box else ""
        products.append(
            ProductInPicture(
                sku=sku,
                name=card.name if card else sku,
                class_noun=card.class_noun if card else "product",
                box=box,
                box_source=source,
            )
        )
    return tuple(products)


def _pictures(home: Home, examples: Sequence[Example], sink: ProgressSink) -> Pictures:
    """Each example with its PNG; some are read at once, where the store answers so."""

    def read(example: Example) -> bytes:
        try:
            return home.archive.read_image(example.row.path)
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError(
                f"the picture {example.row.image_id} of {example.row.day} is not stored "
                f"({error}); render the night again, or leave it out with --where"
            ) from error

    def each() -> Iterator[tuple[Example, bytes]]:
        for start in range(0, len(examples), _AT_ONCE):
            some = examples[start : start + _AT_ONCE]
            for example, png in zip(some, home.objects.each_of(read, some), strict=True):
                yield example, home.marks.completed(png, example.row)
                sink.advance("pictures")

    return each()
