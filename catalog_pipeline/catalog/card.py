"""The product card: ``sku.yaml``, ``sku.yml`` or ``sku.json`` beside the photos.

Every key may be absent. Without a ``name`` the product is called by its English
name, by its first name, or by its folder (``blue_mug-02`` -> ``blue mug 02``), in
that order. Without a ``class_noun`` it is a ``product``: a folder name is a key,
not a description, and a wrong noun (``duck_toy`` -> duck) would teach the model a
wrong thing, a general one only a little less.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from catalog_pipeline.catalog.keys import shown, validate_collection
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Sku

CARD_NAMES = ("sku.yaml", "sku.yml", "sku.json")
"""Card files in order of preference."""

DEFAULT_CLASS_NOUN = "product"
MAX_CARD_BYTES = 64 * 1024
MAX_NOUN_CHARS = 80
"""Above it no base reads a prompt whole; how many word pieces a noun has is asked when learning."""

_NOUN = re.compile(r"[a-z][a-z'-]*(?: [a-z][a-z'-]*){0,4}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def _plain_text(value: str) -> str:
    """One line of composed (NFC) Unicode without control characters."""
    text = unicodedata.normalize("NFC", value).strip()
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("holds a line break or a control character; expected one line of text")
    return text


def _class_noun(value: str) -> str:
    noun = " ".join(value.lower().split())
    if len(noun) > MAX_NOUN_CHARS:
        raise ValueError(
            f"has {len(noun):,} letters; expected at most {MAX_NOUN_CHARS}, in one to five plain "
            "English words such as 'coffee mug' (the model reads a few dozen word pieces)"
        )
    if noun and not _NOUN.fullmatch(noun):
        raise ValueError(
            "expected one to five plain English words such as 'coffee mug' (the model reads "
            "English; other languages go into names)"
        )
    return noun


def _language(value: str) -> str:
    if not _LANGUAGE.fullmatch(value):
        raise ValueError("expected a language code such as en, ja or pt-BR")
    return value


def _collection(value: str) -> str:
    try:
        return validate_collection(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


_Text = Annotated[str, Field(max_length=200), AfterValidator(_plain_text)]
_Language = Annotated[str, AfterValidator(_language)]


class ProductCard(BaseModel):
    """The keys of ``sku.yaml``; any other key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Text = ""
    names: dict[_Language, _Text] = Field(default_factory=dict, max_length=50)
    class_noun: Annotated[str, AfterValidator(_class_noun)] = ""
    category: _Text = ""
    collection: Annotated[str, AfterValidator(_collection)] = "default"
    tags: tuple[_Text, ...] = Field(default=(), max_length=50)


def default_card(sku: str) -> Sku:
    """The card of a SKU folder that has none."""
    return _fill(sku, ProductCard())


def parse_card(sku: str, key: str, data: bytes) -> Sku:
    """The card in ``data``, every gap filled.

    In YAML every scalar is text: ``name: 00123`` and ``no: Krus`` mean what they say.

    Args:
        sku: the SKU whose card it is.
        key: where the card was read, for errors; its ending tells YAML from JSON.
        data: the file's bytes, UTF-8.

    Raises:
        ConfigurationError: not YAML or JSON, not a mapping, an unknown key, or a wrong
            value; names the file and the key.
    """
    content = _decode(key, data)
    if content is None or content == "":
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{key} holds a {type(content).__name__}; expected a mapping such as 'name: Blue mug'"
        )
    try:
        return _fill(sku, ProductCard.model_validate(content))
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigurationError(f"{key}: {problems}") from error


def _fill(sku: str, card: ProductCard) -> Sku:
    first_name = next(iter(card.names.values()), "")
    from_key = " ".join(re.split(r"[._-]+", sku)).strip() or sku
    return Sku(
        sku=sku,
        name=card.name or card.names.get("en", "") or first_name or from_key,
        class_noun=card.class_noun or DEFAULT_CLASS_NOUN,
        names=dict(card.names),
        category=card.category,
        collection=card.collection,
        tags=card.tags,
    )


def _decode(key: str, data: bytes) -> Any:
    if len(data) > MAX_CARD_BYTES:
        raise ConfigurationError(
            f"{key} has {len(data):,} bytes; expected a card of at most {MAX_CARD_BYTES:,}"
        )
    try:
        text = data.decode("utf-8-sig")
        if key.lower().endswith(".json"):
            return json.loads(text)
        # The base loader keeps every scalar a string: no octal numbers, dates or booleans.
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{key} is not readable: {reason}; expected UTF-8 text such as 'name: Blue mug'"
        ) from error
    except RecursionError as error:
        raise ConfigurationError(f"{key} is nested too deeply; expected a flat mapping") from error


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]") or "(file)"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(ProductCard.model_fields)
        return f"unknown key {shown(where)}; expected one of {known}"
    reason = str(problem["msg"]).removeprefix("Value error, ").replace("valid tuple", "valid list")
    return f"'{where}' = {shown(str(problem['input']))}: {reason}"
