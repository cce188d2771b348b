"""The rows of a feed as products, each with its card and the photos that it names.

Pure: nothing is looked up, so a name of a photo is only text here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from catalog_pipeline.catalog.card import DEFAULT_CLASS_NOUN, validate_card
from catalog_pipeline.catalog.feeds.cells import centimetres, sku_problem, sku_text, split_list
from catalog_pipeline.catalog.feeds.columns import SIZES, FeedColumns
from catalog_pipeline.catalog.feeds.nouns import noun_of_type
from catalog_pipeline.catalog.feeds.readers import Row
from catalog_pipeline.catalog.file_kinds import is_passed_over
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import shown

_SCALARS = ("name", "class_noun", "category", "collection", *SIZES, "mode")
_SPREADSHEET_ERRORS = frozenset(
    {"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!"}
)
_CARD_ORDER = ("name", "names", "class_noun", "category", "collection", "tags", *SIZES)
_SWITCHES = ("true", "false", "yes", "no", "on", "off")


class NamedPhoto(NamedTuple):
    """A photo, a folder or a pattern as a cell names it, and where the cell is."""

    text: str
    row: int
    column: str


@dataclass(frozen=True, slots=True)
class RowRemark:
    """What is wrong with a row, or, of a warning, what to know of it; ``sku`` may be empty."""

    row: int
    sku: str
    text: str

    def __str__(self) -> str:
        """``row 17 (sku ABC): ...``."""
        return f"row {self.row}{f' (sku {self.sku})' if self.sku else ''}: {self.text}"


@dataclass(frozen=True, slots=True)
class FeedProduct:
    """One product: ``card`` holds the keys of its ``sku.yaml``, every value text.

    ``problems`` is all that is wrong with its rows; where there are none, SKU and card are valid.
    """

    row: int
    sku: str
    card: dict[str, Any]
    photos: tuple[NamedPhoto, ...]
    warnings: tuple[RowRemark, ...] = ()
    problems: tuple[RowRemark, ...] = ()


def read_products(rows: Iterable[Row], columns: FeedColumns) -> Iterator[FeedProduct]:
    """The products of ``rows`` in their order, wrong ones with their problems.

    With a ``handle`` column (Shopify) the rows of one handle that follow each other are one
    product: the first describes it, each names photos. Else a row is a product. A SKU or a handle
    that comes back later is a problem of the later product; neither can be imported.
    """
    first_rows: dict[str, int] = {}
    for group in _groups(rows, columns):
        yield _Reader(columns, group).read(first_rows)


def _groups(rows: Iterable[Row], columns: FeedColumns) -> Iterator[list[Row]]:
    handle = columns.one.get("handle")
    group: list[Row] = []
    for number, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        key = _cell(cells, handle) if handle is not None else ""
        if group and key and key == _cell(group[0][1], handle):
            group.append((number, cells))
            continue
        if group:
            yield group
        group = [(number, cells)]
    if group:
        yield group


def _cell(cells: Sequence[str], place: int | None) -> str:
    """One cell as text of one line; empty where the row ends before it."""
    return "" if place is None or place >= len(cells) else " ".join(cells[place].split())


class _Reader:
    """Reads one product; what is wrong with it gathers in ``problems``."""

    def __init__(self, columns: FeedColumns, group: list[Row]) -> None:
        self.columns = columns
        self.group = group
        self.row, self.cells = group[0]
        self.sku = ""
        self.problems: list[RowRemark] = []
        self.warnings: list[RowRemark] = []

    def read(self, first_rows: dict[str, int]) -> FeedProduct:
        """The product; notes its row in ``first_rows``, which maps SKUs to where they stand."""
        self.sku = self._sku()
        for number, cells in self.group:
            self._check_cells(number, cells)
        self._check_sku(first_rows)
        card = self._card()
        photos = self._photos()
        try:
            validate_card(card)
        except ConfigurationError as error:
            self._wrong(str(error))
        warnings, problems = tuple(self.warnings), tuple(self.problems)
        return FeedProduct(self.row, self.sku, card, photos, warnings, problems)

    def _check_sku(self, first_rows: dict[str, int]) -> None:
        if not self.sku:
            self._wrong("it has no SKU; expected one; write it")
            return
        if problem := sku_problem(self.sku):
            self._wrong(problem)
        elif is_passed_over(self.sku):
            self._wrong(
                f"{shown(self.sku)} ends as an unfinished copy does; expected another ending"
            )
        before = first_rows.setdefault(self.sku, self.row)
        if before != self.row:
            self._wrong(
                f"this SKU stands in row {before} as well; expected one product a SKU, so neither "
                "is imported; correct or remove one"
            )

    def _wrong(self, text: str, row: int | None = None) -> None:
        self.problems.append(RowRemark(row or self.row, self.sku, text))

    def _value(self, field: str) -> str:
        return _cell(self.cells, self.columns.one.get(field))

    def _sku(self) -> str:
        """The only SKU of the rows; of several variants, or none, the handle."""
        if "handle" not in self.columns.one:
            return sku_text(self._value("sku"))
        place = self.columns.one.get("sku")
        variants = list(
            dict.fromkeys(sku for _, cells in self.group if (sku := sku_text(_cell(cells, place))))
        )
        handle = sku_text(self._value("handle"))
        if len(variants) == 1:
            return variants[0]
        if variants:
            text = (
                f"its {len(variants)} variants ({', '.join(variants[:3])}"
                f"{', ...' if len(variants) > 3 else ''}) are one product here, under the handle; "
                "give those that look different a handle and photos of their own"
            )
            self.warnings.append(RowRemark(self.row, handle, text))
        return handle

    def _check_cells(self, number: int, cells: Sequence[str]) -> None:
        width = len(self.columns.names)
        if any(cell.strip() for cell in cells[width:]):
            self._wrong(
                f"it has {len(cells)} cells; expected at most {width}, one a column; put values "
                "that hold the separator in quotes",
                number,
            )
        for place in self.columns.used:
            if _cell(cells, place) in _SPREADSHEET_ERRORS:
                self._wrong(
                    f"{self.columns.names[place]} holds {cells[place].strip()}, the error of a "
                    "formula; expected a value; correct the formula",
                    number,
                )

    def _card(self) -> dict[str, Any]:
        card: dict[str, Any] = {key: value for key in _SCALARS if (value := self._value(key))}
        names = {
            language: value
            for language, place in self.columns.languages.items()
            if (value := _cell(self.cells, place))
        }
        for size in SIZES:
            if size in card:
                try:
                    required = size not in self.columns.in_cm
                    card[size] = centimetres(card[size], unit_required=required)
                except ValueError as error:
                    del card[size]
                    self._wrong(f"{self.columns.names[self.columns.one[size]]} {error}")
        kinds = [value for place in self.columns.types if (value := _cell(self.cells, place))]
        if kinds and "category" not in card:
            card["category"] = kinds[0]
        if kinds and "class_noun" not in card:
            noun, why = self._noun(kinds)
            card |= {"class_noun": noun} if noun else {}
            if why:
                self.warnings.append(RowRemark(self.row, self.sku, why))
        if names:
            card["names"] = names
        if tags := self._list("tags"):
            card["tags"] = list(tags)
        if photos := self._list("anchor_photos"):
            switch = len(photos) == 1 and photos[0].lower() in _SWITCHES
            card["anchor_photos"] = photos[0].lower() if switch else list(photos)
        order = {key: place for place, key in enumerate(_CARD_ORDER)}
        return dict(sorted(card.items(), key=lambda item: order.get(item[0], len(order))))

    def _list(self, field: str) -> tuple[str, ...]:
        place = self.columns.one.get(field)
        return (
            split_list(self.cells[place]) if place is not None and place < len(self.cells) else ()
        )

    def _noun(self, kinds: list[str]) -> tuple[str, str]:
        found = [noun_of_type(kind) for kind in kinds]
        noun = next((noun for noun, _ in found if noun), "")
        if noun:
            return noun, ""
        return "", (
            f"{found[0][1]}, so the class noun is {DEFAULT_CLASS_NOUN!r}; expected a type such as "
            "'Kitchen > Mugs'; give the noun in a column class_noun"
        )

    def _photos(self) -> tuple[NamedPhoto, ...]:
        """Every photo that the rows name, once; of several rows by their ``Image Position``."""
        position = self.columns.one.get("image_position")
        found: list[tuple[int, NamedPhoto]] = []
        for number, cells in self.group:
            place_in_order = _cell(cells, position)
            order = int(place_in_order) if place_in_order.isdecimal() else len(self.group)
            for column in self.columns.photos:
                for text in split_list(cells[column]) if column < len(cells) else ():
                    found.append((order, NamedPhoto(text, number, self.columns.names[column])))
        found.sort(key=lambda one: one[0])
        once: dict[str, NamedPhoto] = {}
        for _, named in found:
            once.setdefault(named.text, named)
        return tuple(once.values())
