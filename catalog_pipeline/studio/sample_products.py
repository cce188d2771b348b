"""The eight products of the sample catalog: all new to the base model.

Every class and colour among them is one that the base knows, every pattern one
that it has never seen. Two mugs and two backpacks ask for telling neighbours apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

COLLECTION = "default"


@dataclass(frozen=True)
class SampleProduct:
    """One product: its card, its looks, and which of the family's proportions it has."""

    sku: str
    names: Mapping[str, str]
    family: str
    category: str
    primary: str
    secondary: str
    pattern: str
    tags: tuple[str, ...]
    proportions_seed: int
    height_cm: float
    card_format: Literal["yaml", "json"] = "yaml"

    def card(self) -> dict[str, object]:
        """The card's content, in the order in which it is written."""
        return {
            "name": self.names["en"],
            "names": dict(self.names),
            "class_noun": self.family,
            "category": self.category,
            "collection": COLLECTION,
            "tags": list(self.tags),
            "height_cm": self.height_cm,
        }


SAMPLE_PRODUCTS = (
    SampleProduct(
        sku="MUG-ZIGZAG-01",
        names={"en": "Alpine Mug", "ja": "ジグザグ柄マグカップ", "de": "Zickzack-Becher"},
        family="mug",
        category="kitchen",
        primary="yellow",
        secondary="navy",
        pattern="zigzag",
        tags=("zigzag", "yellow", "navy"),
        proportions_seed=3,
        height_cm=9.5,
    ),
    SampleProduct(
        sku="BACKPACK-STAR-01",
        names={"en": "Ranger Backpack", "ja": "星柄リュックサック", "de": "Sternen-Rucksack"},
        family="backpack",
        category="bags",
        primary="teal",
        secondary="orange",
        pattern="star",
        tags=("star", "teal", "orange"),
        proportions_seed=1,
        height_cm=45.0,
    ),
    SampleProduct(
        sku="VASE-DIAGONAL-01",
        names={"en": "Twist Vase", "ja": "斜めストライプの花瓶", "de": "Vase mit Spiralstreifen"},
        family="vase",
        category="home",
        primary="white",
        secondary="blue",
        pattern="diagonal",
        tags=("diagonal", "white", "blue"),
        proportions_seed=2,
        height_cm=28.0,
    ),
    SampleProduct(
        sku="ROBOT-STAR-01",
        names={"en": "Captain Robot", "ja": "スターロボット", "de": "Sternen-Roboter"},
        family="toy robot",
        category="toys",
        primary="black",
        secondary="yellow",
        pattern="star",
        tags=("star", "black", "yellow"),
        proportions_seed=0,
        height_cm=24.0,
    ),
    SampleProduct(
        sku="MUG-HEARTS-01",
        names={"en": "Sweetheart Mug", "ja": "ハート柄マグカップ", "de": "Herzchen-Becher"},
        family="mug",
        category="kitchen",
        primary="white",
        secondary="red",
        pattern="hearts",
        tags=("hearts", "white", "red"),
        proportions_seed=4,
        height_cm=9.5,
        card_format="json",
    ),
    SampleProduct(
        sku="BACKPACK-DIAGONAL-01",
        names={"en": "Comet Backpack", "ja": "斜めストライプのリュック", "de": "Rucksack Komet"},
        family="backpack",
        category="bags",
        primary="purple",
        secondary="yellow",
        pattern="diagonal",
        tags=("diagonal", "purple", "yellow"),
        proportions_seed=6,
        height_cm=45.0,
    ),
    SampleProduct(
        sku="HANDBAG-HEARTS-01",
        names={"en": "Valentine Handbag", "ja": "ハート柄ハンドバッグ", "de": "Herz-Handtasche"},
        family="handbag",
        category="bags",
        primary="navy",
        secondary="pink",
        pattern="hearts",
        tags=("hearts", "navy", "pink"),
        proportions_seed=5,
        height_cm=30.0,
        card_format="json",
    ),
    SampleProduct(
        sku="LAMP-ZIGZAG-01",
        names={"en": "Zigzag Table Lamp", "ja": "ジグザグ柄テーブルランプ", "de": "Zickzack-Lampe"},
        family="lamp",
        category="home",
        primary="green",
        secondary="white",
        pattern="zigzag",
        tags=("zigzag", "green", "white"),
        proportions_seed=7,
        height_cm=46.0,
    ),
)
