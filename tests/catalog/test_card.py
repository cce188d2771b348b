"""The product card: what is filled in, and what is refused."""

from __future__ import annotations

import json

import pytest

from catalog_pipeline.catalog.card import MAX_CARD_BYTES, default_card, parse_card
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Sku

FULL = """
name: Blue mug
names: {en: Blue mug, ja: 青いマグ, no: Blå krus}
class_noun: Coffee  Mug
category: Kitchen
collection: spring-2027
tags: [ceramic, 2027]
"""


def test_a_full_card_in_yaml_and_in_json_is_the_same_sku() -> None:
    expected = Sku(
        sku="00123",
        name="Blue mug",
        class_noun="coffee mug",
        names={"en": "Blue mug", "ja": "青いマグ", "no": "Blå krus"},
        category="Kitchen",
        collection="spring-2027",
        tags=("ceramic", "2027"),
    )
    assert parse_card("00123", "00123/sku.yaml", FULL.encode()) == expected
    content = {
        "name": "Blue mug",
        "names": dict(expected.names),
        "class_noun": "coffee mug",
        "category": "Kitchen",
        "collection": "spring-2027",
        "tags": ["ceramic", "2027"],
    }
    assert parse_card("00123", "00123/sku.json", json.dumps(content).encode()) == expected


def test_a_missing_card_takes_the_name_from_the_key() -> None:
    assert default_card("blue_mug-02") == Sku("blue_mug-02", "blue mug 02", "product")
    assert default_card("00123").name == "00123"


@pytest.mark.parametrize("text", ["", "{}", "# nothing yet\n", "\ufeff"])
def test_an_empty_card_is_a_missing_card(text: str) -> None:
    assert parse_card("mug", "mug/sku.yaml", text.encode()) == default_card("mug")


def test_the_name_falls_back_to_the_english_then_to_the_first_name() -> None:
    names = "names: {ja: 青いマグ, en: Blue mug}"
    assert parse_card("x", "x/sku.yaml", names.encode()).name == "Blue mug"
    assert parse_card("x", "x/sku.yaml", "names: {ja: 青いマグ}".encode()).name == "青いマグ"


def test_numbers_dates_and_booleans_in_yaml_stay_what_was_typed() -> None:
    card = parse_card("x", "x/sku.yml", b"name: 00123\ncategory: 2027-01-02\ntags: [yes, 1e3]")
    assert (card.name, card.category, card.tags) == ("00123", "2027-01-02", ("yes", "1e3"))


def test_decomposed_letters_are_composed() -> None:
    assert parse_card("x", "x/sku.yaml", "name: Cafe\u0301".encode()).name == "Caf\u00e9"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nmae: Mug", "unknown key 'nmae'; expected one of name, names, class_noun"),
        ("- a\n- b", "holds a list"),
        ("just words", "holds a str"),
        ("name: [a", "not readable"),
        ("collection: ../x", r"collection '\.\./x' holds '\.\.'"),
        ("collection: 春", "outside ASCII"),
        ("class_noun: マグ", "plain English words"),
        ("class_noun: mug <sks>", "plain English words"),
        ("class_noun: one two three four five six", "plain English words"),
        ('name: "a\\nb"', "line break"),
        ("name: {a: b}", "valid string"),
        ("names: {Japanese!: x}", "language code"),
        ("tags: ceramic", "valid list"),
        (f"name: {'x' * 300}", "200 characters"),
        ("[\n" * 1_000, "not readable|nested too deeply"),
        ("x" * (MAX_CARD_BYTES + 1), "expected a card of at most"),
        ("!!python/object/apply:os.getcwd []", "holds a list"),
    ],
)
def test_a_wrong_card_names_the_file_and_the_key(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_card("mug", "mug/sku.yaml", text.encode())
    assert str(caught.value).startswith("mug/sku.yaml")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_json_that_is_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"mug/sku.yaml is not readable"):
        parse_card("mug", "mug/sku.yaml", b"\xff\xfe\x00name")
    with pytest.raises(ConfigurationError, match=r"mug/sku.json is not readable"):
        parse_card("mug", "mug/sku.json", b"{'name': 1}")
    with pytest.raises(ConfigurationError, match=r"'name' = '123'.*valid string"):
        parse_card("mug", "mug/sku.json", b'{"name": 123}')
    with pytest.raises(ConfigurationError, match=r"not readable|nested too deeply"):
        parse_card("mug", "mug/sku.json", b"[" * 60_000)


@pytest.mark.parametrize("noun", ["x" * 5000, " ".join(["incomprehensibility"] * 5)])
def test_a_noun_longer_than_any_base_reads_is_refused_in_one_line(noun: str) -> None:
    with pytest.raises(ConfigurationError, match=r"has [\d,]+ letters; expected at most 80") as got:
        parse_card("A", "A/sku.yaml", f"class_noun: {noun}".encode())
    assert len(str(got.value)) < 400
    assert parse_card("A", "A/sku.yaml", b"class_noun: " + b"x" * 80).class_noun == "x" * 80
