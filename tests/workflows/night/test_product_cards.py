"""What a product's card says of its scenes reaches the night, however late it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.catalog.local import LocalPhotoSource
from catalog_pipeline.records import ProductPhotos
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from tests.evaluation.drawn import photo_of


@pytest.fixture
def shop(make_settings) -> Settings:
    """``mug``: three cut-outs, the name of one in decomposed letters; nothing has to settle."""
    settings = make_settings(catalog={"settle_seconds": 0})
    folder = settings.catalog_root / "mug"
    folder.mkdir()
    for place, name in enumerate(("front", "cafe\u0301", "side")):
        opacity = np.zeros((160, 160, 1), np.uint8)
        opacity[40:120, 50 : 110 + 10 * place] = 255
        pixels = np.concatenate([photo_of("crate", place, 160), opacity], axis=2)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return settings


def find(settings: Settings, card: str) -> ProductPhotos:
    """What a night knows of ``mug`` once its card says ``card`` and the index has seen it."""
    (settings.catalog_root / "mug" / "sku.yaml").write_text(card, encoding="utf-8")
    home = open_home(settings)
    (row,) = refresh_index(home).rows
    return PhotoBook(home, {"mug": row.content_hash}).find("mug")


def names(found: ProductPhotos) -> list[str]:
    return sorted(Path(photo.key).stem for photo in found.photos)


def test_a_card_written_later_counts_on_the_next_night(shop: Settings) -> None:
    first = find(shop, "name: Mug")
    assert (first.mode, first.height_cm, first.width_cm) == ("", 0.0, 0.0)
    assert names(first) == ["cafe\u0301", "front", "side"]
    second = find(shop, "mode: anchored\nheight_cm: 9.5\ndepth_cm: 8\nanchor_photos: [caf\u00e9]")
    assert (second.mode, second.height_cm, second.width_cm) == ("anchored", 9.5, 8.0)
    assert names(second) == ["cafe\u0301"]
    assert "no photo of this name" in find(shop, "anchor_photos: [back.png]").reason


@pytest.fixture
def keys_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the catalog that were opened, in order."""
    read = LocalPhotoSource.read
    keys: list[str] = []

    def noted(source: LocalPhotoSource, key: str) -> bytes:
        keys.append(key)
        return read(source, key)

    monkeypatch.setattr(LocalPhotoSource, "read", noted)
    return keys


def test_a_card_that_keeps_photos_out_has_none_of_them_read(
    shop: Settings, keys_read: list[str]
) -> None:
    found = find(shop, "anchor_photos: false\nheight_cm: 9.5")
    assert set(keys_read) == {"mug/sku.yaml"}
    assert (found.photos, found.height_cm) == ((), 9.5)
    assert found.reason == "its card says anchor_photos: false"
    assert find(shop, "anchor_photos: false\nheight_cm: 9.5") == found
    assert names(find(shop, "anchor_photos: true")) == ["cafe\u0301", "front", "side"]


@pytest.mark.parametrize("generation", [{"mode": "learned"}, {"mode": "exact"}])
def test_no_photo_is_read_where_only_learned_scenes_are_asked_for(
    shop: Settings, keys_read: list[str], generation: dict[str, str]
) -> None:
    settings = shop.model_copy(update={"generation": shop.generation.model_copy(update=generation)})
    card = "mode: learned" if generation["mode"] == "exact" else "name: Mug"
    assert find(settings, card).reason == "only learned scenes are asked for"
    assert set(keys_read) == {"mug/sku.yaml"}
    assert len(find(settings, "mode: anchored").photos) == 3
    policies = settings.generation.policies.model_copy(update={"modes": {"pairs": "exact"}})
    pairs = settings.generation.model_copy(update={"policies": policies})
    assert len(find(settings.model_copy(update={"generation": pairs}), "name: Mug").photos) == 3
