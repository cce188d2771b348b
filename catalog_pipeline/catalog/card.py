"""The product card: ``sku.yaml``, ``sku.yml`` or ``sku.json`` beside the photos.

Every key may be absent, or without a value (``null`` in YAML and in JSON), which is the
same. Without a ``name`` the product is called by its English
name, by its first name, or by its folder (``blue_mug-02`` -> ``blue mug 02``), in
that order. Without a ``class_noun`` it is a ``product``: a folder name is a key,
not a description, and a wrong noun (``duck_toy`` -> duck) would teach the model a
wrong thing, a general one only a little less.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from catalog_pipeline.catalog.keys import validate_collection
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages.english import as_typed_on_a_keyboard, is_plain
from catalog_pipeline.plain_text import read_json, read_yaml, shown, without_absent
from catalog_pipeline.records import Sku
from catalog_pipeline.settings import SceneMode

CARD_NAMES = ("sku.yaml", "sku.yml", "sku.json")
"""Card files in order of preference."""

DEFAULT_CLASS_NOUN = "product"
MAX_CARD_BYTES = 64 * 1024
MAX_NOUN_CHARS = 80
"""Above it no base reads a prompt whole; how many word pieces a noun has is asked when learning."""

DEFAULT_COLLECTION = "default"
MAX_NOUN_WORDS = 5
MAX_SIZE_CM = 10_000

_NOT_IN_A_NOUN = re.compile(r"[^a-z0-9 '&+%./-]")
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")
ReadNoun = Callable[[str], str]
"""A class noun as it was typed, in any language, to the English one that the base reads."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def _plain_text(value: str) -> str:
    """One line of composed (NFC) Unicode without control characters."""
    text = unicodedata.normalize("NFC", value).strip()
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("holds a line break or a control character; expected one line of text")
    return text


def _class_noun(value: str) -> str:
    """As it is typed; one of plain letters is such that a prompt can have it.

    It ends in a letter or a digit: a sign at the end would melt into the comma that follows it
    in a sentence, and the noun's own tokens were not found there.
    """
    typed = as_typed_on_a_keyboard(value)
    if not is_plain(typed):
        typed = _plain_text(typed)
        if len(typed) > MAX_NOUN_CHARS:
            raise ValueError(f"has {len(typed):,} letters, more than {MAX_NOUN_CHARS}")
        return typed
    problem = _noun_problem(typed.lower()) if typed else ""
    if problem:
        raise ValueError(
            f"{problem}; expected one to five plain English words such as 'coffee mug', or what "
            "the product is called in another language"
        )
    return typed


def _noun_problem(noun: str) -> str:
    if len(noun) > MAX_NOUN_CHARS:
        return f"has {len(noun):,} letters, more than {MAX_NOUN_CHARS}"
    stranger = _NOT_IN_A_NOUN.search(noun)
    if stranger:
        letter = stranger[0]
        called = unicodedata.name(letter, f"U+{ord(letter):04X}")
        return f"holds {shown(letter)} ({called}), which is none of a-z 0-9 ' & + % . / -"
    if len(noun.split()) > MAX_NOUN_WORDS:
        return f"has {len(noun.split())} words"
    if not any("a" <= letter <= "z" for letter in noun):
        return "has no letter"
    if not (noun[0].isalnum() and noun[-1].isalnum()):
        return "begins or ends with a sign"
    return ""


def _language(value: str) -> str:
    if not _LANGUAGE.fullmatch(value):
        raise ValueError("expected a language code such as en, ja or pt-BR")
    return value


def _collection(value: str) -> str:
    try:
        return validate_collection(value) if value.strip() else DEFAULT_COLLECTION
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _named_photos(value: object) -> object:
    """``false`` is no photo at all, ``true`` any: on a card both are text."""
    if not isinstance(value, str):
        return value
    answer = value.strip().lower()
    if answer not in (*_YES, *_NO):
        raise ValueError("expected a list of file names in the SKU's folder, or false")
    return None if answer in _YES else ()


_Text = Annotated[str, Field(max_length=200), AfterValidator(_plain_text)]
_Language = Annotated[str, AfterValidator(_language)]
_Centimetres = Annotated[float, Field(gt=0, lt=MAX_SIZE_CM, allow_inf_nan=False)]


class ProductCard(BaseModel):
    """The keys of ``sku.yaml``; any other key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Text = ""
    names: dict[_Language, _Text] = Field(default_factory=dict, max_length=50)
    class_noun: Annotated[str, AfterValidator(_class_noun)] = ""
    category: _Text = ""
    collection: Annotated[str, AfterValidator(_collection)] = DEFAULT_COLLECTION
    tags: tuple[_Text, ...] = Field(default=(), max_length=50)
    height_cm: _Centimetres | None = None
    width_cm: _Centimetres | None = None
    depth_cm: _Centimetres | None = None
    mode: SceneMode | None = None
    anchor_photos: Annotated[tuple[_Text, ...] | None, BeforeValidator(_named_photos)] = None


def read_no_language(noun: str) -> str:
    """The :data:`ReadNoun` that knows English alone.

    Raises:
        ConfigurationError: ``noun`` is in another language.
    """
    if is_plain(noun):
        return noun
    raise ConfigurationError(
        f"{shown(noun)} is not in plain English words, and nothing was given to read it; expected "
        "one such as 'coffee mug'"
    )


def default_card(sku: str) -> Sku:
    """The card of a SKU folder that has none."""
    return _fill(sku, ProductCard())


def parse_card(sku: str, key: str, data: bytes, read_noun: ReadNoun = read_no_language) -> Sku:
    """The card in ``data``, every gap filled.

    Every value is the text that was typed, in YAML and in JSON: ``name: 00123`` and
    ``no: Krus`` mean what they say. A key without a value counts as absent.

    Args:
        sku: the SKU whose card it is.
        key: where the card was read, for errors; its ending tells YAML from JSON.
        data: the file's bytes, UTF-8.
        read_noun: gets the class noun as it was typed.

    Raises:
        ConfigurationError: not YAML or JSON, not a mapping, an unknown key or one that
            is given twice, or a wrong value; names the file and the key.
    """
    card = decode_card(key, data)
    return _fill(sku, card, _english_noun(card.class_noun, key, read_noun))


def decode_card(key: str, data: bytes) -> ProductCard:
    """The keys of the card in ``data``, no gap filled; errors of :func:`parse_card`."""
    content = without_absent(_decode(key, data))
    if content is None or content == "":
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{key} holds a {type(content).__name__}; expected a mapping such as 'name: Blue mug'"
        )
    try:
        return validate_card(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: {error}") from error


def validate_card(content: dict[str, Any]) -> ProductCard:
    """The card with the keys of ``content``, whose values are text.

    Raises:
        ConfigurationError: an unknown key or a wrong value; names the key.
    """
    try:
        return ProductCard.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigurationError(problems) from error


def _english_noun(typed: str, key: str, read_noun: ReadNoun) -> str:
    """In lower case, as every text encoder of the family reads it.

    ConfigurationError where ``typed`` cannot be read, or not into a noun.
    """
    if not typed:
        return ""
    try:
        noun = read_noun(typed).lower()
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: 'class_noun' = {shown(typed)}: {error}") from error
    if problem := _noun_problem(noun):
        raise ConfigurationError(
            f"{key}: 'class_noun' = {shown(typed)} is read as {shown(noun)}, which {problem}; "
            "expected one to five plain English words such as 'coffee mug'"
        )
    return noun


def _fill(sku: str, card: ProductCard, noun: str = "") -> Sku:
    first_name = next(filter(None, card.names.values()), "")
    from_key = " ".join(re.split(r"[._-]+", sku)).strip() or sku
    return Sku(
        sku=sku,
        name=card.name or card.names.get("en", "") or first_name or from_key,
        class_noun=noun or DEFAULT_CLASS_NOUN,
        typed_noun=card.class_noun,
        names=dict(card.names),
        category=card.category,
        collection=card.collection,
        tags=card.tags,
        height_cm=card.height_cm or 0.0,
        width_cm=card.width_cm or 0.0,
        depth_cm=card.depth_cm or 0.0,
        mode=card.mode or "",
        anchor_photos=card.anchor_photos,
    )


def _decode(key: str, data: bytes) -> Any:
    if len(data) > MAX_CARD_BYTES:
        raise ConfigurationError(
            f"{key} has {len(data):,} bytes; expected a card of at most {MAX_CARD_BYTES:,}"
        )
    try:
        text = data.decode("utf-8-sig")
        return read_json(text) if key.lower().endswith(".json") else read_yaml(text)
    except ValueError as error:
        reason = " ".join(str(error).split())
        if "; expected" not in reason:
            reason += "; expected UTF-8 text such as 'name: Blue mug'"
        raise ConfigurationError(f"{key} is not readable: {reason}") from error


def _explain(problem: Any) -> str:
    where = shown(".".join(str(part) for part in problem["loc"] if part != "[key]") or "(file)")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(ProductCard.model_fields)
        return f"unknown key {where}; expected one of {known}"
    if problem["input"] is None and problem["type"] != "invalid_key":
        return f"{where} has no value; write one, or leave the item out"
    reason = str(problem["msg"]).removeprefix("Value error, ").replace("valid tuple", "valid list")
    return f"{where} = {shown(str(problem['input']))}: {reason}"
