"""Somebody's own photos, wherever they lie, as a catalog of their own for a first try."""

from __future__ import annotations

import filecmp
import re
import shutil
from pathlib import Path

import yaml

from catalog_pipeline.catalog.card import CARD_NAMES
from catalog_pipeline.catalog.file_kinds import kind_of
from catalog_pipeline.catalog.keys import MAX_KEY_CHARS
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home

COPIES = "photos-tried"
"""Below the home: copies of photos that lay directly in the folder that is tried."""

_PICTURES_OF_ONE = 4
_PAIRS = 6


def trial_home(settings: Settings, folder: Path, class_noun: str = "") -> Home:
    """A home for a few pictures of the products of ``folder``, which is only read.

    ``folder`` holds either the photos of one product, of which ``<home>/photos-tried`` then
    mirrors a copy under the folder's name, or one folder a product. Nothing waits for an upload
    to settle: the photos are there. Idempotent.

    Args:
        settings: of everything else; ``settings.home`` is where the try lies.
        folder: the photos.
        class_noun: what the one product is, for a folder without a card.

    Raises:
        ConfigurationError: no such folder, nothing in it, or ``class_noun`` for many products.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"{folder} is no folder; expected the photos of a product, or one folder a product"
        )
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    photos = [name for name in names if kind_of(name) in ("photo", "other_picture")]
    if photos:
        root = settings.home / COPIES
        _mirror(folder, names, root / _sku_of(folder), class_noun)
    elif class_noun:
        raise ConfigurationError(
            f"{folder} holds one folder a product, and {shown(class_noun)} is what one is; "
            "write class_noun into the sku.yaml of each, or try one of the folders"
        )
    elif any(entry.is_dir() for entry in folder.iterdir()):
        root = folder.resolve()
    else:
        raise ConfigurationError(
            f"{folder} holds no photo; expected .jpg, .png or .webp files, or one folder a product"
        )
    catalog = settings.catalog.model_copy(update={"root": root, "s3": None, "settle_seconds": 0.0})
    policies = settings.generation.policies
    few = {
        "singles_per_sku": _PICTURES_OF_ONE,
        "pairs": 0 if photos else _PAIRS,
        "triples": 0,
        "coverage": policies.coverage.model_copy(update={"images": 0}),
    }
    generation = settings.generation.model_copy(
        update={"policies": policies.model_copy(update=few)}
    )
    archive = settings.archive.model_copy(update={"s3": None})
    changed = {"catalog": catalog, "generation": generation, "archive": archive}
    return Home(settings.model_copy(update=changed))


def _sku_of(folder: Path) -> str:
    """The folder's name, as far as it can be a SKU."""
    name = folder.resolve().name
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", name)).strip("._-")
    return plain[:MAX_KEY_CHARS] or "product"


def _mirror(folder: Path, names: list[str], target: Path, class_noun: str) -> None:
    """Make ``target`` hold the photos and the card of ``folder``, and nothing else."""
    target.mkdir(parents=True, exist_ok=True)
    sku = target.name
    wanted = [name for name in names if kind_of(name, sku) != "ignored"]
    for name in wanted:
        copy = target / name
        if not copy.is_file() or not filecmp.cmp(folder / name, copy, shallow=False):
            shutil.copyfile(folder / name, copy)
    if class_noun and not set(wanted) & set(CARD_NAMES):
        card = {"name": folder.resolve().name, "class_noun": class_noun}
        text = yaml.safe_dump(card, allow_unicode=True, sort_keys=False)
        wanted.append(CARD_NAMES[0])
        if not (target / CARD_NAMES[0]).is_file() or (
            (target / CARD_NAMES[0]).read_text("utf-8") != text
        ):
            (target / CARD_NAMES[0]).write_text(text, encoding="utf-8")
    for stale in target.iterdir():
        if stale.name not in wanted:
            stale.unlink()
