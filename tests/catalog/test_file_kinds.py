"""What an entry of a product folder is, by its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.catalog.file_kinds import (
    SYSTEM_NAMES,
    is_passed_over,
    kind_of,
    printable,
    why_not_read,
)
from catalog_pipeline.catalog.keys import validate_sku
from catalog_pipeline.errors import InvalidSkuError


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.jfif", "A.JFIF", "a.jpe", "a.pjpeg", "a b.png", "sku.webp"]
)
def test_a_photo_is_known_by_its_ending(name: str) -> None:
    assert kind_of(name, "mug") == "photo"


@pytest.mark.parametrize("name", ["sku.yaml", "Sku.YAML", "SKU.yml", "sku.JSON"])
def test_a_card_has_one_of_three_names_in_any_case(name: str) -> None:
    assert kind_of(name, "mug") == "card"


@pytest.mark.parametrize(
    "name",
    [
        "sku.yaml.txt",
        "sku (1).yaml",
        "sku - Copy.yaml",
        "Mug.yaml",
        "mug.yml.txt",
        "SKU.txt",
        "sku (1).json",
        "sku.json.txt",
        "sku.yaml.yaml",
        " sku.yaml",
        "sku.yaml ",
        "sku_de.yml",
    ],
)
def test_what_is_evidently_meant_as_the_card_is_known_as_such(name: str) -> None:
    assert kind_of(name, "mug") == "misnamed_card"


@pytest.mark.parametrize(
    "name",
    ["photo", "a.jpg?width=800", "a.jpg.1", "a.jpg_large", "photos.zip", "meta.yaml", "skus.yml"],
)
def test_what_could_be_meant_as_a_photo_or_card_is_told(name: str) -> None:
    assert kind_of(name, "mug") == "unknown"


@pytest.mark.parametrize(
    "name",
    [
        "._a.jpg",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "~$a.jpg",
        ".~lock.a.jpg#",
        "Icon\r",
        "a.jpg.part",
        "a.jpg.crdownload",
        "a.tmp",
        "a.jpg.filepart",
        "a.JPG.PART",
        "a.jpg~",
        "notes.txt",
        "a.jpg.json",
        "0.txt",
        "a.xmp",
        "a.AAE",
        "clip.MOV",
        "sku.yaml.bak",
        "README.md",
        "a.jpg:Zone.Identifier",
        "a.jpg@SynoEAStream",
        "originals_$folder$",
        "mug.json",
        "",
        " ",
    ],
)
def test_hidden_unfinished_and_side_files_are_no_noise(name: str) -> None:
    assert kind_of(name, "mug") == "ignored"


@pytest.mark.parametrize("name", [*sorted(SYSTEM_NAMES), "@eaDir", "$RECYCLE.BIN"])
def test_what_systems_put_into_every_share_hides_no_product(name: str) -> None:
    assert is_passed_over(name)
    with pytest.raises(InvalidSkuError):
        validate_sku(name)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.sampled_from(["", ".jpg", ".yaml", ".heic", ".Jpg "]))
def test_any_name_has_a_kind_and_can_be_told_in_one_line(stem: bytes, ending: str) -> None:
    name = stem.decode("utf-8", "surrogateescape") + ending
    kind = kind_of(name, "mug")
    assert (kind == "ignored") or not is_passed_over(name)
    assert printable(f"mug/{name}: {why_not_read(name, kind)}").isprintable()
    assert printable(name).encode().decode() == printable(name)
