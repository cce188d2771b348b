"""Labelled photo folders: which files, and what a caption calls them.

A folder holds JPEG, PNG or WebP files in sub-folders; the innermost one names
the class (``train/t-shirt/0001.jpg`` is a t-shirt). A ``labels.json`` at its
top overrides: it maps a sub-folder's name to the words captions use, or to
``null`` to leave it out. The two sets that the embedded weights saw need no
such file; their rules are here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

CLOTHING_NOUNS = {
    "longsleeve": "long sleeve shirt",
    "outwear": "jacket",
    "shoes": "pair of shoes",
    "shorts": "pair of shorts",
}
"""Folder names of clothing-dataset-small that a buyer would not say."""

HELD_OUT_GROCERIES = frozenset(
    {
        "Oatly-Natural-Oatghurt",
        "Tropicana-Mandarin-Morning",
        "God-Morgon-Orange-Red-Grapefruit-Juice",
        "Yoggi-Strawberry-Yoghurt",
        "Alpro-Blueberry-Soyghurt",
        "Arla-Standard-Milk",
        "Valio-Vanilla-Yoghurt",
        "Arla-Ecological-Sour-Cream",
        "Pineapple",
        "Red-Bell-Pepper",
        "Aubergine",
        "Watermelon",
    }
)
"""Classes of GroceryStoreDataset that the base must not see: benchmarks learn them as new."""

_CARTONS = frozenset({"Juice", "Milk", "Oat-Milk", "Sour-Milk", "Soy-Milk"})
_GROCERY_KINDS = frozenset({"Fruit", "Packages", "Vegetables"})


@dataclass(frozen=True)
class PhotoFile:
    """One photo and the noun phrase (no article) of what it shows."""

    path: Path
    noun: str


def photo_noun(folders: tuple[str, ...]) -> str | None:
    """The words for a photo in the nested ``folders`` (outermost first); ``None`` leaves it out.

    Groceries lie in ``.../<Fruit|Packages|Vegetables>/<coarse>[/<fine>]``: fruit is
    called ``royal gala apple``, packages ``bravo apple juice carton``.
    """
    name = folders[-1]
    kind = next((i for i, folder in enumerate(folders) if folder in _GROCERY_KINDS), None)
    if kind is None or kind == len(folders) - 1:
        return CLOTHING_NOUNS.get(name, _words(name))
    if name in HELD_OUT_GROCERIES:
        return None
    coarse = folders[kind + 1]
    if folders[kind] == "Packages":
        return f"{_words(name)} {'carton' if coarse in _CARTONS else 'pack'}"
    return _words(name) if _words(coarse) in _words(name) else f"{_words(name)} {_words(coarse)}"


def list_photos(folder: Path) -> list[PhotoFile]:
    """The usable photos below ``folder``, sorted by path; files named ``*iconic*`` are not photos.

    Raises:
        ConfigurationError: not a folder, a ``labels.json`` that is no mapping, or no photos.
    """
    labels = _read_labels(folder / "labels.json")
    photos = []
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        if path.suffix.lower() not in PHOTO_SUFFIXES or not folders:
            continue
        if "iconic" in path.relative_to(folder).as_posix().lower():
            continue
        noun = labels[folders[-1]] if folders[-1] in labels else photo_noun(folders)
        if noun:
            photos.append(PhotoFile(path, noun))
    if not photos:
        raise ConfigurationError(
            f"no labelled photos in {folder}; expected <class>/<name>.jpg below it, the folder's "
            "name being what the photo shows"
        )
    return photos


def _read_labels(path: Path) -> dict[str, str | None]:
    if not path.exists():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(labels, dict) or not all(
        value is None or isinstance(value, str) for value in labels.values()
    ):
        raise ConfigurationError(
            f"{path} must map sub-folder names to words or null; got {str(labels)[:80]}"
        )
    return labels


def _words(name: str) -> str:
    """``T-Shirt`` stays one word; other hyphens and underscores part words."""
    words = name.replace("_", " ").lower()
    return words if words == "t-shirt" else words.replace("-", " ")
