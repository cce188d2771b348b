"""The dataset card of exported pictures: README.md with the front matter of Hugging Face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from catalog_pipeline import __version__
from catalog_pipeline.records import ArchiveRow, collections_of, sources_of
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA
from catalog_pipeline.workflows.upkeep.image_forms import (
    PICTURES_PER_SHARD,
    RECORD_FIELDS,
    Example,
)

CardOf = Literal["webdataset", "imagefolder", "coco", "card"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_LARGEST = "10M<n<100M"

_FILES = {
    "webdataset": f"`train/000000.tar` and so on, {PICTURES_PER_SHARD:,} pictures each. A picture "
    "is `<image_id>.png`, with its prompt in `<image_id>.txt` and the fields below in "
    "`<image_id>.json`.",
    "imagefolder": "`train/<image_id>.png`, and in `train/metadata.jsonl` a line a picture with "
    "`file_name`, the fields below, and `objects`: the boxes (left, top, width, height) and "
    "their SKUs.",
    "coco": "`images/<image_id>.png`, and in `annotations.json` the boxes (left, top, width, "
    "height). Categories are SKUs, their supercategory is the class noun.",
    "card": "",
}
_CONFIGS = {"webdataset": "train/*.tar", "imagefolder": "train/**"}
_TASKS = {"coco": ["object-detection"]}

_OWN_WORDS = {
    "text": "the scene in words, with the products' names: the column `prompt`",
    "products": "of each product: `sku`, `name`, `class_noun`, `bbox` (left, top, width, height; "
    "null without one), `bbox_source` (`placed`: the photo stands there; `planned`: the region "
    "in which a drawn product was to stand), `photo_sha256` (empty when it is drawn), "
    "`concept_sha256`, `collection` and `adapter_version` (what drew it)",
    "scores": "`score` and `value`; scores of one product end in `/<sku>`",
}

_BODY = """\
# {title}

{count} generated pictures of {products} products. No camera took them: a diffusion model drew
them, or drew a scene around photos of the products. Superseded and held back pictures are not
among them.

| | |
|---|---|
{facts}
{files}
## Products

| SKU | name | class noun | pictures |
|---|---|---|---|
{table}

## Fields

| field | |
|---|---|
{fields}

## How they were made

Each product was learned from a few photos on a frozen base model, and scenes were planned and
rendered night by night by catalog-pipeline {version}. `seed`, `sampler`, `steps`, `guidance`,
`adapter_version`, `base_model_hash` and `concept_sha256` name what a picture was rendered from;
`sha256` is of its PNG file as it lies in the archive, `pixels_sha256` of what it shows.

## Limits

- They are generated, and must be told from photographs wherever a law or a platform asks for it.
  Each file says so in its metadata (XMP, IPTC's digital source type), unless that was switched off;
  take it along when you convert the files.
- Details of a product can be wrong, lettering above all. {verdicts}
- `planned` boxes say where a drawn product was to stand; nobody measured where it stands.
- The licence is not known: it follows from the licences of the base model and of the product
  photos, which this program does not know.
"""


def dataset_card(examples: Sequence[Example], form: CardOf) -> str:
    """The card of ``examples``, of which there is at least one; the same for the same ones."""
    rows = [example.row for example in examples]
    files = f"\n## Files\n\n{_FILES[form]}\n" if _FILES[form] else ""
    products = {p.sku: p for example in examples for p in example.products}
    shown = Counter(sku for row in rows for sku in row.skus)
    table = [
        _row(sku, products[sku].name, products[sku].class_noun, shown[sku])
        for sku in sorted(products)
    ]
    body = _BODY.format(
        title=_title(rows),
        count=len(rows),
        products=len(products),
        facts="\n".join(_row(name, value) for name, value in _facts(rows)),
        files=files,
        table="\n".join(table),
        fields="\n".join(_row(f"`{name}`", words) for name, words in _fields()),
        version=__version__,
        verdicts=_verdicts(rows),
    )
    return f"{_front_matter(rows, form)}\n{body}"


def _front_matter(rows: Sequence[ArchiveRow], form: CardOf) -> str:
    import yaml

    size = next((name for most, name in _SIZES if len(rows) < most), _LARGEST)
    matter: dict[str, Any] = {
        "license": "unknown",
        "pretty_name": _title(rows),
        "task_categories": _TASKS.get(form, ["text-to-image"]),
        "tags": ["synthetic", "diffusion", "product-images"],
        "size_categories": [size],
    }
    if form in _CONFIGS:
        split = {"split": "train", "path": _CONFIGS[form]}
        matter["configs"] = [{"config_name": "default", "data_files": [split]}]
    text = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def _title(rows: Sequence[ArchiveRow]) -> str:
    return f"Product scenes of {', '.join(_collections(rows))}"


def _collections(rows: Sequence[ArchiveRow]) -> list[str]:
    return sorted({name for row in rows for name in collections_of(row)})


def _facts(rows: Sequence[ArchiveRow]) -> list[tuple[str, str]]:
    days = sorted({row.day for row in rows})
    nights = f"{days[0]}" if len(days) == 1 else f"{len(days)}, from {days[0]} to {days[-1]}"
    sizes = Counter(f"{row.width} x {row.height}" for row in rows)
    return [
        ("nights", nights),
        ("sizes in pixels", _counts(sizes)),
        ("modes", _counts(Counter(row.mode for row in rows))),
        ("collections", ", ".join(_collections(rows))),
        ("versions", _codes(s.adapter_version for row in rows for s in sources_of(row).values())),
        ("SHA-256 of the base model", _codes(row.base_model_hash for row in rows)),
        ("judged", _counts(Counter(row.verdict for row in rows))),
    ]


def _fields() -> list[tuple[str, str]]:
    """The fields of a record in words: the published column's, unless it is made here."""
    told = {field.name: field.metadata[b"description"].decode() for field in MANIFEST_SCHEMA}
    return [(name, _OWN_WORDS.get(name) or told[name]) for name in RECORD_FIELDS]


def _verdicts(rows: Sequence[ArchiveRow]) -> str:
    passed = sum(row.verdict == "passed" for row in rows)
    rest = "" if passed == len(rows) else "; it did not judge the others"
    return f"A program found every named product in {passed} of the {len(rows)}{rest}."


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in sorted(counter.items()))


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(names)))


def _row(*cells: object) -> str:
    texts = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(texts)} |"
