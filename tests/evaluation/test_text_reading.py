from __future__ import annotations

import logging
import socket

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from catalog_pipeline.evaluation import text_reading
from catalog_pipeline.evaluation.text_reading import (
    TextReader,
    character_error,
    normalised,
    open_text_reader,
    read_reference,
    text_error,
)


def label(*lines: str) -> np.ndarray:
    image = Image.new("RGB", (220, 260), "#f4efe2")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((15, 40 + 60 * row), line, fill="#20307a", font=ImageFont.load_default(30))
    return np.asarray(image)


@pytest.fixture(scope="module")
def reader() -> TextReader:
    pytest.importorskip("rapidocr", reason="text is read by the package rapidocr")
    opened = open_text_reader()
    assert opened is not None
    return opened


def test_a_label_is_read_offline_and_in_silence(reader, monkeypatch, capfd, caplog):
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket.socket, "connect", None)
    with caplog.at_level(logging.DEBUG):
        assert reader.read(label("Oat Drink", "1 LITRE")) == "oatdrink\n1litre"
        assert reader.read(label()) == ""
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_error_is_above_the_photos_own_reading(reader):
    photo = label("Oat Drink", "1 LITRE")
    reference = read_reference(reader, photo)
    assert text_error(reader, photo, reference) == 0
    light = np.clip(photo * (1.1, 1.0, 0.9), 0, 255).astype(np.uint8)
    assert text_error(reader, light, reference) == 0
    melted = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(8)))
    assert text_error(reader, melted, reference) > 0.8
    misspelt = label("Oak Drink", "1 LITRE")
    assert text_error(reader, misspelt, reference) == pytest.approx(1 / 14)


def test_a_photo_without_readable_text_has_no_reference(reader):
    assert read_reference(reader, label("L")) == ""


@pytest.mark.parametrize(
    ("reference", "found", "error"),
    [
        ("kitten", "kitten", 0),
        ("kitten", "sitting", 2 / 6),
        ("kitten", "", 1),
        ("ab\ncdef", "cdef\nab", 0),
        ("milk", "freshmilk1l", 0),
        ("abcd", "abxcd", 1 / 4),
        ("abcd", "abd", 1 / 4),
    ],
)
def test_lines_are_sought_where_they_fit_best(reference, found, error):
    assert character_error(reference, found) == pytest.approx(error)


def test_an_empty_reference_is_refused():
    with pytest.raises(ValueError, match="empty reference"):
        character_error("\n", "text")


def test_case_width_and_white_space_do_not_count():
    assert normalised(" Ｏat  DRINK ") == "oatdrink"


def test_without_the_package_there_is_no_reader(monkeypatch):
    monkeypatch.setattr(text_reading, "find_spec", lambda name: None)
    assert open_text_reader() is None
