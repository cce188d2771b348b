"""The product families; a family's key is the class noun that captions and cards use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from numpy.random import Generator

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.studio.families import furniture, household, tableware, toys, wearables
from catalog_pipeline.studio.palette import Color
from catalog_pipeline.studio.product import Part

Family = Callable[[Generator, Color, Color], list[Part]]
"""``(rng, primary, secondary)`` to the parts of one member; ``rng`` decides its proportions."""

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "mug": tableware.mug,
        "bottle": tableware.bottle,
        "vase": tableware.vase,
        "bowl": tableware.bowl,
        "teapot": tableware.teapot,
        "lamp": furniture.lamp,
        "chair": furniture.chair,
        "stool": furniture.stool,
        "table": furniture.table,
        "sofa": furniture.sofa,
        "backpack": wearables.backpack,
        "handbag": wearables.handbag,
        "sneaker": wearables.sneaker,
        "boot": wearables.boot,
        "hat": wearables.hat,
        "headphones": wearables.headphones,
        "candle": household.candle,
        "alarm clock": household.alarm_clock,
        "camera": household.camera,
        "toy car": toys.toy_car,
        "toy robot": toys.toy_robot,
        "teddy bear": toys.teddy_bear,
        "rubber duck": toys.rubber_duck,
        "book": household.book,
        "gift box": household.gift_box,
        "can": household.can,
        "milk carton": household.milk_carton,
        "jar": household.jar,
        "potted plant": household.potted_plant,
    }
)
"""Its order is part of the recipe: a random product's seed picks its family by position."""


def build_parts(family: str, rng: Generator, primary: Color, secondary: Color) -> tuple[Part, ...]:
    """One member of ``family``.

    Raises:
        ConfigurationError: no such family.
    """
    if family not in FAMILIES:
        raise ConfigurationError(
            f"unknown product family {family!r}; expected one of: {', '.join(FAMILIES)}"
        )
    return tuple(FAMILIES[family](rng, primary, secondary))
