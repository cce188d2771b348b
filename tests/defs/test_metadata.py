from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.defs.metadata import (
    TABLE_ROWS,
    location,
    loss_curve,
    numbers,
    picture,
    table,
)
from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_png


def shown(markdown: str | None) -> bytes:
    return base64.b64decode((markdown or "").partition("base64,")[2].rstrip(")"))


def test_a_small_picture_is_shown_as_it_is() -> None:
    png = encode_png(np.zeros((8, 8, 3), np.uint8))
    found = picture(png, alt="mug").value
    assert (found or "").startswith("![mug](data:image/png;base64,")
    assert shown(found) == png


def test_a_large_picture_is_reduced_until_an_event_may_hold_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    found = picture(encode_png(noise), alt="mug").value or ""
    assert found.startswith("![mug](data:image/jpeg;base64,")
    assert len(found) < 100_000
    with Image.open(io.BytesIO(shown(found)), formats=["JPEG"]) as image:
        assert image.height / image.width == pytest.approx(900 / 700, rel=0.05)


def test_a_loss_curve_is_a_picture() -> None:
    found = loss_curve([(0, 1.0), (1, 0.5)]).value
    assert decode_png(shown(found)).shape[2] == 3


def test_a_table_is_cut_and_numbers_are_named() -> None:
    rows = [{"sku": f"s{i}", "rows": i} for i in range(TABLE_ROWS + 5)]
    found = table(rows, {"sku": "string", "rows": "int"})
    assert len(found.records) == TABLE_ROWS
    assert numbers("metric", {"b": 1, "a": 0.5}) == {"metric/a": 0.5, "metric/b": 1.0}


def test_a_bucket_is_a_link_and_a_file_a_path() -> None:
    assert type(location("s3://arch/manifest")).__name__ == "UrlMetadataValue"
    assert type(location("/somewhere/manifest")).__name__ == "PathMetadataValue"
