from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from catalog_pipeline.errors import CatalogError, InvalidSkuError
from catalog_pipeline.studio.families import FAMILIES
from catalog_pipeline.studio.palette import PALETTE
from catalog_pipeline.studio.patterns import UNSEEN_PATTERNS
from catalog_pipeline.studio.sample_catalog import (
    PHOTO_SIDE_PX,
    PHOTOS_PER_SKU,
    write_sample_catalog,
)
from catalog_pipeline.studio.sample_products import SAMPLE_PRODUCTS

_YAML_SKU, _JSON_SKU = "MUG-ZIGZAG-01", "MUG-HEARTS-01"
_SKUS = (_YAML_SKU, _JSON_SKU)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalog")
    assert write_sample_catalog(root, _SKUS) == list(_SKUS)
    return root


def _contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_the_eight_products() -> None:
    assert len(SAMPLE_PRODUCTS) == len({product.sku for product in SAMPLE_PRODUCTS}) == 8
    families = Counter(product.family for product in SAMPLE_PRODUCTS)
    assert families["mug"] == families["backpack"] == 2
    assert {product.pattern for product in SAMPLE_PRODUCTS} == set(UNSEEN_PATTERNS)
    looks = {(product.family, product.primary, product.pattern) for product in SAMPLE_PRODUCTS}
    assert len(looks) == 8
    for product in SAMPLE_PRODUCTS:
        assert product.family in FAMILIES
        contrast = np.subtract(PALETTE[product.primary], PALETTE[product.secondary])
        assert np.abs(contrast).max() > 100, product.sku


@pytest.mark.parametrize("product", SAMPLE_PRODUCTS, ids=lambda product: product.sku)
def test_every_card_is_complete(product: object) -> None:
    card = product.card()  # type: ignore[attr-defined]
    assert set(card) == {
        "name", "names", "class_noun", "category", "collection", "tags", "height_cm",
    }  # fmt: skip
    assert set(card["names"]) == {"en", "ja", "de"}
    assert card["name"] == card["names"]["en"]
    assert all(card.values())


def test_a_folder_holds_six_photos_and_a_card(catalog: Path) -> None:
    photos = [f"{index:02d}.jpg" for index in range(PHOTOS_PER_SKU)]
    assert sorted(path.name for path in catalog.iterdir()) == sorted(_SKUS)
    for sku, card_name in ((_YAML_SKU, "sku.yaml"), (_JSON_SKU, "sku.json")):
        folder = catalog / sku
        assert sorted(path.name for path in folder.iterdir()) == [*photos, card_name]
        text = (folder / card_name).read_text(encoding="utf-8")
        card = yaml.safe_load(text) if card_name.endswith("yaml") else json.loads(text)
        assert card == next(p for p in SAMPLE_PRODUCTS if p.sku == sku).card()
        assert "マグカップ" in text
    assert sum(product.card_format == "json" for product in SAMPLE_PRODUCTS) == 2


def test_photos_are_different_rgb_pictures(catalog: Path) -> None:
    for sku in _SKUS:
        pictures = []
        for path in sorted((catalog / sku).glob("*.jpg")):
            with Image.open(path) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert image.size == (PHOTO_SIDE_PX, PHOTO_SIDE_PX)
                pictures.append(np.asarray(image).astype(int))
        for index, picture in enumerate(pictures[1:]):
            assert np.abs(picture - pictures[index]).mean() > 8


def test_writing_again_gives_the_same_bytes_and_touches_nothing(
    catalog: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "deep" / "catalog"
    write_sample_catalog(fresh, [_YAML_SKU])
    expected = {name: data for name, data in _contents(catalog).items() if _YAML_SKU in name}
    assert _contents(fresh) == expected

    missing, leftover = fresh / _YAML_SKU / "03.jpg", fresh / _YAML_SKU / ".04.jpg.part"
    missing.unlink()
    leftover.write_bytes(b"half a photo")
    before = {path: path.stat().st_mtime_ns for path in fresh.rglob("*.jpg")}
    write_sample_catalog(fresh, [_YAML_SKU])
    assert _contents(fresh) == expected
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("sku", "file", "message"),
    [
        (_JSON_SKU, "holiday.jpg", r"holds other files \(holiday\.jpg\)"),
        (_YAML_SKU, "sku.yaml", r"sku\.yaml is not the sample's own"),
        (_YAML_SKU, "00.jpg", r"00\.jpg is not the sample's own"),
    ],
)
def test_somebodys_file_is_refused_and_left_alone(
    tmp_path: Path, sku: str, file: str, message: str
) -> None:
    folder = tmp_path / sku
    folder.mkdir()
    (folder / file).write_bytes(b"name: My own mug\n")
    with pytest.raises(CatalogError, match=message):
        write_sample_catalog(tmp_path)  # before anything of the first SKU is rendered
    assert _contents(tmp_path) == {f"{sku}/{file}": b"name: My own mug\n"}


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / _YAML_SKU).write_text("not a folder")
    with pytest.raises(CatalogError, match="is not a folder"):
        write_sample_catalog(tmp_path, [_YAML_SKU])


def test_an_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidSkuError, match="no 'MUG-TARTAN-01'; expected some of: MUG-ZIGZAG-01"
    ):
        write_sample_catalog(tmp_path, ["MUG-TARTAN-01"])
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_folder_that_is_still_to_be_made_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later")
    write_sample_catalog(tmp_path / "link", ["MUG-ZIGZAG-01"])
    assert (tmp_path / "later" / "MUG-ZIGZAG-01" / "00.jpg").is_file()
