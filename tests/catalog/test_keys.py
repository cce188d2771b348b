"""Which folder names are SKUs, and what the others are told."""

from __future__ import annotations

import pytest

from catalog_pipeline.catalog.keys import MAX_KEY_CHARS, validate_collection, validate_sku
from catalog_pipeline.errors import ConfigurationError, InvalidSkuError


@pytest.mark.parametrize(
    "name", ["00123", "7", "mug", "Blue_Mug-02.b", "a" * MAX_KEY_CHARS, "a.b.c", "trailing."]
)
def test_a_slug_is_a_sku_and_stays_the_same_string(name: str) -> None:
    assert validate_sku(name) == name
    assert isinstance(validate_sku(name), str)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "..",
        "a..b",
        "a/b",
        "a\\b",
        "a\nb",
        "mug\n",
        "a b",
        ".hidden",
        "-rf",
        "_x",
        "mug\0",
        "青いマグ",
        "mug\u202e",
        "\udcff",
        "１２３",
        "a" * (MAX_KEY_CHARS + 1),
        "x" * 10_000,
    ],
)
def test_anything_else_is_refused_in_one_line_that_can_be_printed(name: str) -> None:
    with pytest.raises(InvalidSkuError) as caught:
        validate_sku(name)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    assert "expected 1 to 63 characters" in message
    assert "rename the folder" in message
    assert "sku.yaml" in message


def test_the_message_shows_what_was_got() -> None:
    with pytest.raises(InvalidSkuError, match=r"'a\\nb' cannot be a SKU"):
        validate_sku("a\nb")
    with pytest.raises(InvalidSkuError, match=r"'\.\./x' .* holds '\.\.'"):
        validate_sku("../x")


def test_a_japanese_name_is_told_where_it_belongs() -> None:
    with pytest.raises(InvalidSkuError, match=r"sku.yaml \(in Japanese: names: \{ja: '青いマグ'\}"):
        validate_sku("青いマグ")


def test_a_collection_follows_the_same_rule() -> None:
    assert validate_collection("spring-2027") == "spring-2027"
    with pytest.raises(ConfigurationError, match=r"collection '../x' holds"):
        validate_collection("../x")
