"""Which column of a feed says what: own names, those of Google Merchant and of Shopify."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from catalog_pipeline.catalog.card import ProductCard
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import shown

SIZES = ("height_cm", "width_cm", "depth_cm")

_NAMES: Mapping[str, Sequence[str]] = {
    "sku": ("sku", "variantsku", "id"),
    "handle": ("handle",),
    "name": ("name", "title", "productname"),
    "class_noun": ("classnoun",),
    "category": ("category",),
    "collection": ("collection",),
    "tags": ("tags",),
    "height_cm": ("heightcm", "height", "productheight"),
    "width_cm": ("widthcm", "width", "productwidth"),
    "depth_cm": ("depthcm", "depth", "productlength"),
    "mode": ("mode",),
    "anchor_photos": ("anchorphotos",),
    "image_position": ("imageposition",),
}
"""Field -> what its column may be called, letters alone, the preferred name first."""

_TYPE_NAMES = (
    *("producttype", "type", "productcategory", "googleproductcategory"),
    "googleshopping/googleproductcategory",
)
"""Columns that say what kind of product it is, the preferred first; all of them are read."""

_PHOTOS = re.compile(
    r"(additional)?(photo|image|picture)s?(file|path|url|link|src)?s?(?P<number>[0-9]*)"
)
_LANGUAGE = re.compile(
    r"(?:names\s*[._(]\s*([a-z]{2,3}(?:[-_][a-z0-9]{2,8})*)|name\s*[._(]\s*([a-z]{2}))\s*\)?"
)
"""``names.ja``, ``names (pt-BR)``, ``name_ja``; two letters after ``name``: not ``name_tag``."""
_UNIT_IN_THE_NAME = re.compile(r"cm$")
LISTED = ("photos", "product_type")
FIELDS = (*_NAMES, *LISTED, "names.<language>")
"""What ``--column FIELD=COLUMN`` may set."""


@dataclass(frozen=True)
class FeedColumns:
    """The places of the columns that are read.

    Attributes:
        names: of every column, as the feed has them.
        one: field -> place, for fields of one column.
        photos: places of the columns that name photos, in their order.
        types: places of the columns that name the kind of product, the preferred first.
        languages: language -> place.
        in_cm: size fields whose column says the unit, so that its cells need none.
        ignored: the names of the columns that are not read.
    """

    names: tuple[str, ...]
    one: Mapping[str, int]
    photos: tuple[int, ...]
    types: tuple[int, ...]
    languages: Mapping[str, int] = field(default_factory=dict)
    in_cm: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """Places of all columns that are read."""
        one = (*self.one.values(), *self.languages.values())
        return tuple(dict.fromkeys((*one, *self.photos, *self.types)))


def find_columns(names: Sequence[str], chosen: Mapping[str, str] | None = None) -> FeedColumns:
    """Read the header ``names``; upper and lower case, spaces, ``_`` and ``-`` do not count.

    Args:
        names: the header, left to right.
        chosen: field -> column, for columns with other names; ``photos`` and
            ``product_type`` then mean that column alone.

    Raises:
        ConfigurationError: no column for the SKU, two for one field, or ``chosen`` names a field
            or a column that does not exist.
    """
    plain = [_plain(name) for name in names]
    picked = _chosen_places(names, plain, chosen or {})
    one: dict[str, int] = {}
    for wanted, known in _NAMES.items():
        if wanted in picked:
            one[wanted] = picked[wanted]
            continue
        called = next((name for name in known if name in plain), None)
        if called is not None:
            one[wanted] = _only_place(called, names, plain)
    if "sku" not in one and "handle" not in one:
        raise ConfigurationError(
            f"the feed has no column for the SKU; got {_listed(names)}; expected one called sku, "
            "id, Variant SKU or Handle; name yours with --column sku=COLUMN"
        )
    languages = {
        _language(found): place
        for place, name in enumerate(names)
        if (found := _LANGUAGE.fullmatch(name.strip().lower())) and place not in one.values()
    }
    languages |= {key[len("names.") :]: p for key, p in picked.items() if key[:6] == "names."}
    types = [plain.index(name) for name in _TYPE_NAMES if name in plain]
    columns = FeedColumns(
        names=tuple(names),
        one=one,
        photos=(picked["photos"],) if "photos" in picked else _photo_places(plain),
        types=(picked["product_type"],) if "product_type" in picked else tuple(types),
        languages=languages,
        in_cm=frozenset(
            size for size in SIZES if size in one and _UNIT_IN_THE_NAME.search(plain[one[size]])
        ),
    )
    ignored = [n for place, n in enumerate(names) if place not in columns.used and n]
    return replace(columns, ignored=tuple(dict.fromkeys(ignored)))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


def _language(found: re.Match[str]) -> str:
    """``ja``, ``pt-BR``, ``zh-Hant``: written as a card has it."""
    first, *others = re.split(r"[-_]", found[1] or found[2])
    cased = {2: str.upper, 4: str.title}
    return "-".join([first, *(cased.get(len(part), str.lower)(part) for part in others)])


def _photo_places(plain: Sequence[str]) -> tuple[int, ...]:
    """The main picture's column first, numbered ones by their number."""
    found = [(_PHOTOS.fullmatch(name), place) for place, name in enumerate(plain)]
    places = [(bool(match[1]), int(match["number"] or 0), place) for match, place in found if match]
    return tuple(place for *_, place in sorted(places))


def _chosen_places(
    names: Sequence[str], plain: Sequence[str], chosen: Mapping[str, str]
) -> dict[str, int]:
    places = {}
    for wanted, column in chosen.items():
        if wanted not in (*_NAMES, *LISTED) and not wanted.startswith("names."):
            raise ConfigurationError(
                f"--column {wanted}={column}: there is no field {shown(wanted)}; expected one of "
                f"{', '.join(FIELDS)}; a card's keys are {', '.join(ProductCard.model_fields)}"
            )
        if _plain(column) not in plain:
            raise ConfigurationError(
                f"--column {wanted}={column}: the feed has no column {shown(column)}; "
                f"expected one of {_listed(names)}"
            )
        places[wanted] = _only_place(_plain(column), names, plain)
    return places


def _only_place(called: str, names: Sequence[str], plain: Sequence[str]) -> int:
    places = [place for place, name in enumerate(plain) if name == called]
    if len(places) > 1:
        raise ConfigurationError(
            f"the feed has {len(places)} columns called {shown(names[places[0]])}; expected one; "
            "rename or remove the others"
        )
    return places[0]


def _listed(names: Sequence[str]) -> str:
    shorter = [shown(name) for name in names if name][:30]
    return ", ".join(shorter) + (", ..." if len(names) > len(shorter) else "")
