"""Which products of a catalog a study takes, and how they group into concepts.

Three granularities: every product a concept of its own; a concept a *variant family*, whose
members differ by colour or size; a concept a category.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from catalog_pipeline.catalog.photo_set import load_card
from catalog_pipeline.errors import CatalogError, ConfigurationError
from catalog_pipeline.records import Photo, Sku
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import product_masker

Granularity = Literal["sku", "family", "category"]
GRANULARITIES: tuple[Granularity, ...] = ("sku", "family", "category")

FAMILY_TAG = "family:"
"""A tag ``family:ID`` of a card names the product's variant family."""

_COLOURS = (
    *("red", "orange", "yellow", "green", "teal", "turquoise", "blue", "navy", "cyan", "purple"),
    *("violet", "pink", "magenta", "brown", "beige", "cream", "ivory", "black", "gray", "grey"),
    *("white", "silver", "gold", "golden", "maroon", "khaki", "transparent", "clear"),
)
_SIZES = (
    *("xs", "s", "m", "l", "xl", "xxl", "mini", "small", "medium", "large", "big", "little"),
    *("tall", "short", "wide", "narrow", "size"),
)
_VARIANT = re.compile(
    rf"\b(?:(?:light|dark|pale|deep|bright)[ -])?(?:{'|'.join(_COLOURS)})\b"
    rf"|\b(?:{'|'.join(_SIZES)})\b"
    r"|\b(?:no\.? ?)?\d+(?:[.,]\d+)?(?: ?(?:mm|cm|m|in|inch|l|ml|cl|g|kg|seats?))?\b",
    re.IGNORECASE,
)
"""What two variants of one product may differ by in their names."""


@dataclass(frozen=True)
class StudyProduct:
    """A product that a study learns: its card, its usable photos with masks, its family."""

    card: Sku
    photos: tuple[Photo, ...]
    family: str

    @property
    def sku(self) -> str:
        """The product's key."""
        return self.card.sku

    @property
    def category(self) -> str:
        """Of its card, else its class noun."""
        return category_of(self.card)


@dataclass(frozen=True)
class Group:
    """What one concept is learned from: the folder that is learned, and its products."""

    folder: str
    members: tuple[StudyProduct, ...]

    @property
    def class_noun(self) -> str:
        """That of most members; of several as frequent, the first one's."""
        return Counter(member.card.class_noun for member in self.members).most_common(1)[0][0]


def category_of(card: Sku) -> str:
    """Of the card, else its class noun; case does not count."""
    return (card.category or card.class_noun).casefold()


def family_of(card: Sku) -> str:
    """What the variants of a product have in common: a tag ``family:ID``, else category and name.

    Words of colours and sizes, and measures, do not count in the name.
    """
    tags = [tag for tag in card.tags if tag.casefold().startswith(FAMILY_TAG)]
    if tags:
        return tags[0].casefold().replace(" ", "")
    words = " ".join(re.findall(r"[^\W_]+", _VARIANT.sub(" ", card.name).casefold()))
    return f"{category_of(card)}/{words or card.class_noun}"


def read_products(
    home: Home, count: int, categories: int
) -> tuple[list[StudyProduct], dict[str, str]]:
    """``count`` products of the catalog of ``home``, with their photos; and why others are not.

    Read whole and masked once; nothing is written. See :func:`choose` for which ones.

    Raises:
        CatalogError: the catalog cannot be listed.
        ConfigurationError: fewer than two products can be used.
    """
    from catalog_pipeline.evaluation.product_mask import with_mask

    cards, refused = _read_cards(home)
    products = []
    for card in choose(cards, count, categories):
        try:
            photos = validate_photo_set(home, card.sku).photos
        except CatalogError as error:
            refused[card.sku] = str(error).partition("\n")[0]
            continue
        masked = tuple(with_mask(photo, product_masker()) for photo in photos)
        products.append(StudyProduct(card, masked, family_of(card)))
    if len(products) < 2:
        why = "; ".join(f"{sku}: {reason}" for sku, reason in list(refused.items())[:3])
        raise ConfigurationError(
            f"{len(products)} products of {home.photo_source.where} can be used; expected at least "
            f"2 to compare{f' ({why})' if why else ''}; give another --catalog or more --skus"
        )
    return products, refused


def _read_cards(home: Home) -> tuple[list[Sku], dict[str, str]]:
    source = home.photo_source
    cards, refused = [], {}
    for listing in source.list_skus(read=False).listings:
        try:
            cards.append(load_card(source, listing, home.words.noun))
        except (ConfigurationError, CatalogError) as error:
            refused[listing.sku] = str(error)
    return cards, refused


def choose(cards: Sequence[Sku], count: int, categories: int) -> list[Sku]:
    """``count`` cards of the ``categories`` with most variants, sorted by SKU.

    The categories take turns; in each, large families come first, whole. The same cards
    give the same choice.
    """
    by_category: defaultdict[str, list[Sku]] = defaultdict(list)
    for card in sorted(cards, key=lambda card: card.sku):
        by_category[category_of(card)].append(card)
    size = Counter(map(family_of, cards))

    def variants(name: str) -> int:
        return sum(size[family_of(card)] > 1 for card in by_category[name])

    order = sorted(by_category, key=lambda name: (-variants(name), -len(by_category[name]), name))
    queues = [
        sorted(by_category[name], key=lambda c: (-size[family_of(c)], family_of(c), c.sku))
        for name in order[:categories]
    ]
    in_turn = [card for turn in zip_longest(*queues) for card in turn if card is not None]
    return sorted(in_turn[:count], key=lambda card: card.sku)


def group(products: Sequence[StudyProduct], granularity: Granularity) -> tuple[Group, ...]:
    """The concepts of a granularity, each with its products; folders are named in order."""
    if granularity == "sku":
        return tuple(Group(product.sku, (product,)) for product in products)
    by_name: defaultdict[str, list[StudyProduct]] = defaultdict(list)
    for product in products:
        name = product.family if granularity == "family" else product.category
        by_name[name].append(product)
    return tuple(
        Group(f"{granularity}-{number:03d}", tuple(by_name[name]))
        for number, name in enumerate(sorted(by_name), 1)
    )


def same_concepts(products: Sequence[StudyProduct], one: Granularity, other: Granularity) -> bool:
    """Whether two granularities put the same products together."""
    first, second = (
        {frozenset(member.sku for member in found.members) for found in group(products, each)}
        for each in (one, other)
    )
    return first == second


def groups_by_sku(groups: Sequence[Group]) -> Mapping[str, Group]:
    """SKU -> the concept that it belongs to."""
    return {member.sku: found for found in groups for member in found.members}
