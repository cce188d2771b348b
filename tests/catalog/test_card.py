"""The product card: what is filled in, and what is refused."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.catalog.card import MAX_CARD_BYTES, ProductCard, default_card, parse_card
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Sku

FULL = """
name: Blue mug
names: {en: Blue mug, ja: 青いマグ, no: Blå krus}
class_noun: Coffee  Mug
category: Kitchen
collection: spring-2027
tags: [ceramic, 2027]
height_cm: 9.5
width_cm: 12
depth_cm: 8
mode: exact
anchor_photos: [front.jpg, side]
use_photos: [back.jpg]
leave_out: [size-chart]
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
        height_cm=9.5,
        width_cm=12.0,
        depth_cm=8.0,
        mode="exact",
        anchor_photos=("front.jpg", "side"),
        typed_noun="Coffee Mug",
        use_photos=("back.jpg",),
        leave_out=("size-chart",),
    )
    assert parse_card("00123", "00123/sku.yaml", FULL.encode()) == expected
    content = {
        "name": "Blue mug",
        "names": dict(expected.names),
        "class_noun": "Coffee Mug",
        "category": "Kitchen",
        "collection": "spring-2027",
        "tags": ["ceramic", "2027"],
        "height_cm": 9.5,
        "width_cm": 12,
        "depth_cm": "8",
        "mode": "exact",
        "anchor_photos": ["front.jpg", "side"],
        "use_photos": ["back.jpg"],
        "leave_out": ["size-chart"],
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


@pytest.mark.parametrize(
    ("written", "photos"),
    [
        ("false", ()),
        ("No", ()),
        ("[]", ()),
        ("true", None),
        ("['false']", ("false",)),
        ("[cafe\u0301.jpg]", ("caf\u00e9.jpg",)),
    ],
)
def test_anchor_photos_are_names_or_a_switch(written: str, photos: tuple[str, ...] | None) -> None:
    text = f"anchor_photos: {written}"
    assert parse_card("x", "x/sku.yaml", text.encode()).anchor_photos == photos
    if written in ("true", "false", "[]"):
        as_json = f'{{"anchor_photos": {written}}}'
        assert parse_card("x", "x/sku.json", as_json.encode()).anchor_photos == photos


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
        ("class_noun: mug <sks>", r"holds '<' \(LESS-THAN SIGN\).*plain English words"),
        ("class_noun: caf\u00e9 table", "not in plain English words, and nothing was given"),
        (f"class_noun: {'マ' * 81}", "has 81 letters, more than 80"),
        ("class_noun: mug, blue", r"holds ',' \(COMMA\)"),
        ("class_noun: '42'", "has no letter"),
        ("class_noun: mug &", "begins or ends with a sign"),
        ('class_noun: "mug\\u007f"', r"holds '\\x7f' \(U\+007F\)"),
        ("class_noun: one two three four five six", "has 6 words"),
        ('name: "a\\nb"', "line break"),
        ("name: {a: b}", "valid string"),
        ("names: {Japanese!: x}", "language code"),
        ("tags: ceramic", "valid list"),
        (f"name: {'x' * 300}", "200 characters"),
        ("[\n" * 1_000, "not readable|nested too deeply"),
        ("x" * (MAX_CARD_BYTES + 1), "expected a card of at most"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("tags: [a, ~]", r"'tags\.1' has no value; write one, or leave the item out"),
        ("~: x", "Keys should be strings"),
        (
            "class_noun: a\nname: b\nclass_noun: c",
            r"'class_noun' is given twice \(on lines 1 and 3\)",
        ),
        ("names: {en: a, en: b}", r"'en' is given twice \(on line 1\)"),
        ("height_cm: tall", "'height_cm' = 'tall': Input should be a valid number"),
        ("height_cm: 12 cm", "valid number"),
        ("width_cm: 0", "'width_cm' = '0': Input should be greater than 0"),
        ("depth_cm: -3", "greater than 0"),
        ("height_cm: 10000", "'height_cm' = '10000': Input should be less than 10000"),
        ("height_cm: .nan", "valid number"),
        ("height_cm: nan", "finite number"),
        ("height_cm: inf", "finite number"),
        ("mode: photo", "'mode' = 'photo': Input should be 'learned', 'anchored' or 'exact'"),
        (
            "anchor_photos: front.jpg",
            "'anchor_photos' = 'front.jpg': expected a list of file names in the SKU's folder",
        ),
        ("anchor_photos: [{a: b}]", r"'anchor_photos\.0' = .*valid string"),
        ("anchor_photos: [front.jpg, ~]", r"'anchor_photos\.1' has no value"),
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
    with pytest.raises(ConfigurationError, match=r"'name' is given twice \(on lines 1 and 2\)"):
        parse_card("mug", "mug/sku.json", b'{"name": "a",\n "name": "b"}')
    with pytest.raises(ConfigurationError, match=r"'tags\.0' has no value"):
        parse_card("mug", "mug/sku.json", b'{"tags": [null]}')
    with pytest.raises(ConfigurationError, match=r"not readable|nested too deeply"):
        parse_card("mug", "mug/sku.json", b"[" * 60_000)


@pytest.mark.parametrize("noun", ["x" * 5000, " ".join(["incomprehensibility"] * 5)])
def test_a_noun_longer_than_any_base_reads_is_refused_in_one_line(noun: str) -> None:
    with pytest.raises(ConfigurationError, match=r"has [\d,]+ letters, more than 80") as got:
        parse_card("A", "A/sku.yaml", f"class_noun: {noun}".encode())
    assert len(str(got.value)) < 400
    assert parse_card("A", "A/sku.yaml", b"class_noun: " + b"x" * 80).class_noun == "x" * 80


@pytest.mark.parametrize("absent", ["", "~", "null", "Null", "NULL"])
@pytest.mark.parametrize("key", ProductCard.model_fields)
def test_a_key_without_a_value_is_an_absent_key_in_both_formats(key: str, absent: str) -> None:
    assert parse_card("mug", "mug/sku.yaml", f"{key}: {absent}".encode()) == default_card("mug")
    assert parse_card("mug", "mug/sku.json", f'{{"{key}": null}}'.encode()) == default_card("mug")


def test_an_absent_name_of_a_language_is_no_name_and_a_quoted_null_is_one() -> None:
    card = parse_card("x", "x/sku.yaml", b"names: {ja: ~, no: Krus, fr: }")
    assert (card.names, card.name) == ({"no": "Krus"}, "Krus")
    assert parse_card("x", "x/sku.json", b'{"names": {"ja": null, "no": "Krus"}}') == card
    assert parse_card("x", "x/sku.yaml", b'name: "null"').name == "null"
    assert parse_card("x", "x/sku.yaml", b'collection: " "').collection == "default"


def test_numbers_and_booleans_in_json_are_the_text_that_yaml_takes_them_for() -> None:
    text = '{"name": 123, "category": 1.50, "tags": [true, 1e3]}'
    card = parse_card("x", "x/sku.json", text.encode())
    assert (card.name, card.category, card.tags) == ("123", "1.50", ("true", "1e3"))
    assert parse_card("x", "x/sku.yaml", text.encode()) == card


@pytest.mark.parametrize(
    ("written", "noun"),
    [
        ("LED lamp 5W", "led lamp 5w"),
        ("3-seater sofa", "3-seater sofa"),
        ("salt & pepper shaker", "salt & pepper shaker"),
        ("men\u2019s T\u2011shirt", "men's t-shirt"),
        ("1.5 l bottle", "1.5 l bottle"),
        ("100% wool scarf", "100% wool scarf"),
        ("\uff2c\uff25\uff24 lamp", "led lamp"),
        ("12V/24V adapter", "12v/24v adapter"),
    ],
)
def test_a_class_noun_may_hold_digits_capitals_and_the_signs_of_product_names(
    written: str, noun: str
) -> None:
    text = json.dumps({"class_noun": written})
    assert parse_card("x", "x/sku.json", text.encode()).class_noun == noun


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("マグカップ", "マグカップ"),
        ("Café  au lait", "Café au lait"),
        ("ﾏｸﾞ", "マグ"),
        ("Mug", "Mug"),
    ],
)
def test_a_noun_of_any_language_is_read_by_whoever_knows_it(written: str, typed: str) -> None:
    asked = []

    def read(noun: str) -> str:
        asked.append(noun)
        return "Coffee mug"

    text = json.dumps({"class_noun": written})
    card = parse_card("x", "x/sku.json", text.encode(), read)
    assert (card.class_noun, card.typed_noun, asked) == ("coffee mug", typed, [typed])
    assert parse_card("x", "x/sku.json", b"{}", read).class_noun == "product"
    assert asked == [typed]


def test_what_a_noun_is_read_as_must_be_a_noun() -> None:
    data = "class_noun: マグ".encode()
    with pytest.raises(ConfigurationError, match=r"x/sku.yaml.*read as 'マグ', which holds"):
        parse_card("x", "x/sku.yaml", data, lambda noun: noun)

    def fail(noun: str) -> str:
        raise ConfigurationError("no encoder; expected one; install it")

    with pytest.raises(ConfigurationError, match=r"x/sku.yaml: 'class_noun' = 'マグ': no encoder"):
        parse_card("x", "x/sku.yaml", data, fail)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_KEYS = st.sampled_from([*ProductCard.model_fields, "x"])
_CARDS = st.dictionaries(_KEYS, _VALUES, max_size=4)


@pytest.mark.parametrize("key", ["x/sku.yaml", "x/sku.json"])
@given(
    data=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | _CARDS.map(lambda card: yaml.safe_dump(card, allow_unicode=True).encode())
    | _CARDS.map(lambda card: json.dumps(card).encode())
)
@settings(max_examples=60, derandomize=True)
def test_any_card_is_a_sku_or_one_line_that_names_it(key: str, data: bytes) -> None:
    problem = key
    try:
        card = parse_card("x", key, data)
        assert card.name
        assert card.class_noun
        assert card.collection
    except ConfigurationError as error:
        problem = str(error)
    assert problem.startswith(key)
    assert "\n" not in problem
