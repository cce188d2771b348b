"""What a benchmark starts from: its command line, settings like the shipped ones, real products."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = REPOSITORY / "build"
DOCS = REPOSITORY / "docs" / "benchmarks"


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of ``python -m tests.benchmarks.<name>``."""
    return argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Where a report goes, and what stands above its tables."""
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--note", default="", help="what a reader of the tables must know")


def log_to_stdout() -> None:
    """Progress, with the time of day."""
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stdout
    )


def write_settings(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """The shipped settings with ``changes``: file stem -> keys."""
    folder.mkdir(parents=True, exist_ok=True)
    for shipped in sorted((REPOSITORY / "assets_config").glob("*.yaml")):
        content = yaml.safe_load(shipped.read_text("utf-8")) or {}
        merged = {**content, **changes.get(shipped.stem, {})}
        (folder / shipped.name).write_text(yaml.safe_dump(merged, sort_keys=False), "utf-8")


def write_real_products(data: Path, root: Path, count: int) -> list[str]:
    """Copy the first ``count`` folders of real photos; their SKUs."""
    meta = json.loads((data / "photos" / "meta.json").read_text("utf-8"))
    skus = []
    for name, entry in sorted(meta.items())[:count]:
        skus.append(name.replace("_", "-"))
        photos = sorted((data / "photos" / name).glob("*.jpg"))
        write_product(root / skus[-1], photos, entry["class_noun"])
    return skus


def write_household(data: Path, root: Path, chosen: int | Sequence[int]) -> list[str]:
    """Copy household products, by number or so many evenly over the catalog; their SKUs."""
    renders = data / "household_catalog"
    catalog = json.loads((renders / "catalog.json").read_text("utf-8"))
    products = {int(product["id"]): product for product in catalog}
    if isinstance(chosen, int):
        chosen = sorted(products)[:: max(1, len(products) // max(1, chosen))][:chosen]
    skus = []
    for number in chosen:
        product = products[number]
        skus.append(f"household-{number:04d}")
        views = [renders / "views" / view for view in product["views"]]
        names = {"ja": product["name_ja"]}
        write_product(root / skus[-1], views, product["name"].lower(), names)
    return skus


def write_product(
    folder: Path, photos: Sequence[Path], noun: str, names: Mapping[str, str] | None = None
) -> None:
    """A product folder as a catalog has it: photos and a card; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        if not (folder / photo.name).exists():
            shutil.copyfile(photo, folder / photo.name)
    words = " ".join("".join(c if c.isalpha() else " " for c in noun).split())
    card = {"name": noun, "names": dict(names or {}), "class_noun": words}
    if not (folder / "sku.yaml").exists():
        (folder / "sku.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), "utf-8")
