"""One SKU's photos as learning will see them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import open_home

MakePhoto = Callable[..., Path]


@pytest.fixture
def mug(settings: Settings, make_photo: MakePhoto) -> Path:
    folder = settings.catalog_root / "00123"
    for n in range(4):
        make_photo(folder / f"{n}.jpg", seed=n)
    then = time.time() - 3600
    os.utime(folder, (then, then))
    return folder


def test_a_photo_set_is_validated_without_an_index(settings: Settings, mug: Path) -> None:
    loaded = validate_photo_set(open_home(settings), "00123")
    assert loaded.sku.sku == "00123"
    assert len(loaded.photos) == 4
    assert not (settings.home / "catalog").exists()


def test_the_content_hash_is_the_one_of_the_index(settings: Settings, mug: Path) -> None:
    (row,) = refresh_index(open_home(settings)).rows
    assert validate_photo_set(open_home(settings), "00123").content_hash == row.content_hash


def test_a_set_that_still_moves_is_refused_until_it_is_still(settings: Settings, mug: Path) -> None:
    (mug / "3.jpg").touch()
    with pytest.raises(PhotoSetError, match=r"still being uploaded.*still for 120 s"):
        validate_photo_set(open_home(settings), "00123")
    later = datetime.now(UTC) + timedelta(minutes=3)
    assert len(validate_photo_set(open_home(settings), "00123", now=later).photos) == 4


def test_a_touch_of_what_the_index_knows_does_not_hold_it_up(settings: Settings, mug: Path) -> None:
    refresh_index(open_home(settings))
    (mug / "3.jpg").touch()
    assert len(validate_photo_set(open_home(settings), "00123").photos) == 4


def test_unknown_and_impossible_skus_are_told_apart(settings: Settings, mug: Path) -> None:
    with pytest.raises(CatalogError, match=r"no usable folder '123' in .*check the name"):
        validate_photo_set(open_home(settings), "123")
    with pytest.raises(InvalidSkuError, match=r"'\.\./x' cannot be a SKU"):
        validate_photo_set(open_home(settings), "../x")
    (settings.catalog_root / "loop").symlink_to(settings.catalog_root / "loop")
    with pytest.raises(CatalogError, match="'loop' is a symlink that leads nowhere"):
        validate_photo_set(open_home(settings), "loop")


def test_too_few_usable_photos_name_the_bad_ones(settings: Settings, mug: Path) -> None:
    (mug / "0.jpg").write_bytes((mug / "0.jpg").read_bytes()[:300])
    (mug / "1.jpg").write_text("text", encoding="utf-8")
    later = datetime.now(UTC) + timedelta(minutes=3)
    with pytest.raises(PhotoSetError, match="2 usable photos of 4 listed") as caught:
        validate_photo_set(open_home(settings), "00123", now=later)
    assert "'00123/0.jpg' has a damaged header" in str(caught.value)
    assert "'00123/1.jpg' is a text file" in str(caught.value)
