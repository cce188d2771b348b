"""What a night plans: the parts of ``generation.yaml`` that say which pictures are to exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

CATEGORY = "category:"
"""What an item of a list begins with when it means every product of a category."""

LAYOUT_COUNTS: Mapping[str, int] = {
    "single": 1,
    **{"left_right": 2, "wide_left": 2, "wide_right": 2},
    **{"three_columns": 3, "wide_centre": 3},
}
"""The layouts that come with the program, and for how many products each is."""

Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_text(items: Any) -> Any:
    """YAML reads the SKU ``1234`` as a number, and ``00123`` as another one."""
    if isinstance(items, list | tuple):
        numbers = [item for item in items if not isinstance(item, str)]
        if numbers:
            raise ValueError(
                f"{numbers[0]!r} is not text; put SKUs that look like numbers in quotes"
            )
    return items


def _check_items(items: tuple[str, ...]) -> tuple[str, ...]:
    checked = []
    for item in map(str.strip, items):
        name = item.removeprefix(CATEGORY).strip()
        if not name or ":" in name:
            raise ValueError(f"{item!r} is neither a SKU nor '{CATEGORY}<name>'")
        checked.append(item if name == item else CATEGORY + name.casefold())
    twice = sorted({item for item in checked if checked.count(item) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is listed more than once")
    return tuple(checked)


class SceneTemplate(_Strict):
    """A scene: ``text`` is everything after the products (``"on a sandy beach"``)."""

    name: Name
    text: str
    weight: float = Field(1.0, gt=0)
    negative_prompt: str | None = Field(
        None, description="instead of the night's negative_prompt; null = the night's"
    )


Items = Annotated[tuple[str, ...], BeforeValidator(_as_text), AfterValidator(_check_items)]
"""SKUs, and ``category:<name>`` (lower case) for every product of a category."""


class CrossSellList(_Strict):
    """What goes together: a pair takes two of ``items``, one product of each."""

    name: Name
    items: Items
    weight: float = Field(1.0, gt=0)

    @field_validator("items")
    @classmethod
    def _make_pairs(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        if len(items) < 2:
            raise ValueError(
                "a cross-sell list needs at least two items to make a pair of; for pairs inside "
                "one category use pair_rule: same_category"
            )
        return items


class CrossSellSettings(_Strict):
    """``generation.yaml: policies.cross_sell``: pairs out of the operator's lists."""

    pictures: int = Field(6, ge=0, description="pairs a night, shared out by the lists' weights")
    lists: tuple[CrossSellList, ...] = ()

    @field_validator("lists")
    @classmethod
    def _name_once(cls, lists: tuple[CrossSellList, ...]) -> tuple[CrossSellList, ...]:
        names = [entry.name for entry in lists]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"the list {twice[0]!r} is given {names.count(twice[0])} times; give every "
                "cross-sell list its own name"
            )
        return lists


class BestSellerSettings(_Strict):
    """``generation.yaml: policies.best_sellers``: what each new product is shown beside."""

    items: Items = ()
    per_new_sku: int = Field(2, ge=1, description="pairs of each new product with best-sellers")
    max_pictures: int = Field(24, ge=1, description="a night; the products learned last first")


class CoverageSettings(_Strict):
    """``generation.yaml: policies.coverage``: the least that every product is shown."""

    images: int = Field(0, ge=0, description="pictures of every SKU in `nights` nights; 0 = off")
    nights: int = Field(7, ge=1, le=60, description="counted back from the night, itself included")
    top_up: Literal["singles", "pairs"] = "singles"


class PolicySettings(_Strict):
    """How many scenes of each product count a night plans."""

    singles_per_sku: int = Field(2, ge=0)
    pairs: int = Field(12, ge=0)
    triples: int = Field(0, ge=0)
    pair_rule: Literal["any", "same_category", "cross_category"] = "any"
    cross_sell: CrossSellSettings = CrossSellSettings()
    best_sellers: BestSellerSettings = BestSellerSettings()
    coverage: CoverageSettings = CoverageSettings()

    @model_validator(mode="after")
    def _new_can_be_told(self) -> PolicySettings:
        if self.best_sellers.items and self.coverage.nights < 2:
            raise ValueError(
                "best_sellers needs coverage.nights of at least 2: a product is new while no "
                "picture of it was published in the nights before"
            )
        return self


class LayoutSettings(_Strict):
    """``generation.yaml: layouts``: how often each arrangement is drawn, by weight.

    ``boxes`` adds arrangements: for each product ``[left, top, right, bottom]`` in
    fractions of the picture, 0..1 from its upper left corner.
    """

    pairs: dict[str, Weight] = Field(default_factory=lambda: {"left_right": 1.0})
    triples: dict[str, Weight] = Field(default_factory=lambda: {"three_columns": 1.0})
    boxes: dict[Name, tuple[tuple[float, float, float, float], ...]] = Field(default_factory=dict)

    @field_validator("pairs", "triples")
    @classmethod
    def _one_is_drawn(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("every layout has weight 0; give at least one a positive weight")
        return weights

    @field_validator("boxes")
    @classmethod
    def _boxes_are_inside(
        cls, boxes: dict[str, tuple[tuple[float, float, float, float], ...]]
    ) -> dict[str, tuple[tuple[float, float, float, float], ...]]:
        for name, places in boxes.items():
            if name in LAYOUT_COUNTS:
                raise ValueError(f"{name!r} comes with the program; give yours another name")
            if len(places) not in (2, 3):
                raise ValueError(
                    f"{name!r} has {len(places)} boxes; expected one for each of 2 or 3"
                )
            for left, top, right, bottom in places:
                if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                    raise ValueError(
                        f"{name!r} has the box {[left, top, right, bottom]}; expected 0 <= left < "
                        "right <= 1 and 0 <= top < bottom <= 1"
                    )
        return boxes

    @model_validator(mode="after")
    def _names_are_known(self) -> LayoutSettings:
        counts = {**LAYOUT_COUNTS, **{name: len(places) for name, places in self.boxes.items()}}
        for key, size, weights in (("pairs", 2, self.pairs), ("triples", 3, self.triples)):
            fitting = [name for name, count in counts.items() if count == size]
            unknown = sorted(set(weights) - set(fitting))
            if unknown:
                raise ValueError(
                    f"{key} names {unknown[0]!r}, which is no layout of {size} products; expected "
                    f"one of {', '.join(fitting)}, or a new one under boxes"
                )
        return self

    def weights(self, count: int) -> dict[str, float]:
        """The weights of the layouts for ``count`` products, 1, 2 or 3."""
        return {1: {"single": 1.0}, 2: dict(self.pairs), 3: dict(self.triples)}[count]


class BudgetSettings(_Strict):
    """What a night may cost; the smaller of the two bounds wins."""

    max_images: int | None = Field(None, ge=1)
    max_minutes: float | None = Field(None, gt=0)
