"""What measured seconds and bytes come to at given prices, and what the cost report says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from catalog_pipeline.records import NightCost, SkuCost
from catalog_pipeline.settings import CostSettings

JOULES_PER_KWH = 3.6e6
BYTES_PER_GB = 1e9


def energy_kwh(seconds: float, prices: CostSettings) -> float:
    """An estimate: ``seconds * watts / 3.6e6``; nobody has read a meter."""
    return seconds * prices.watts / JOULES_PER_KWH


def machine_cost(seconds: float, prices: CostSettings) -> float:
    """``seconds / 3600 * machine price + energy * price of electricity``."""
    hours = seconds / 3600
    return hours * prices.machine_price_per_hour + energy_kwh(seconds, prices) * (
        prices.price_per_kwh
    )


def storage_cost_month(stored_bytes: float, prices: CostSettings) -> float:
    """``bytes / 1e9 * price of a GB and month``, each month that they are kept."""
    return stored_bytes / BYTES_PER_GB * prices.storage_price_per_gb_month


@dataclass(frozen=True)
class StoredKind:
    """Bytes of one kind under the home; ``spread`` says how they come to products."""

    kind: str
    objects: int
    stored_bytes: int
    spread: str


@dataclass(frozen=True)
class Growth:
    """What one more product takes, against the products that its collection had learned before.

    ``points`` hold ``(products before, value)``. The line is ``fixed + slope * products``, both
    ``None`` where there are too few points for one; ``error`` is the mean error on points that were
    held out. Without points the line is of ``source``, another machine.
    """

    name: str
    unit: str
    source: str
    points: Sequence[tuple[int, float]] = ()
    fixed: float | None = None
    slope: float | None = None
    error: float | None = None

    def at(self, products: float) -> float | None:
        """The line's value; ``None`` without a line."""
        if self.fixed is None or self.slope is None:
            return None
        return self.fixed + self.slope * products


@dataclass(frozen=True)
class Alternative:
    """What somebody else would have asked for the same; ``hours`` of people's work, if known.

    ``asked`` and ``ours`` are in the currency of the settings; ``counted`` says of what.
    """

    name: str
    asked: float
    ours: float
    counted: str
    hours: float | None = None

    @property
    def saved(self) -> float:
        """``asked - ours``; below 0 where ours is dearer."""
        return self.asked - self.ours


@dataclass(frozen=True)
class CostReport:
    """Everything that the page shows and the tables hold.

    ``learned_skus`` have been learned at least once, ``missing`` says in words what nobody has
    measured.
    """

    home: str
    prices: CostSettings
    skus: Sequence[SkuCost]
    nights: Sequence[NightCost]
    stored: Sequence[StoredKind]
    growth: Sequence[Growth]
    missing: Sequence[str]

    @property
    def period(self) -> tuple[date, date] | None:
        """The first and the last day with a figure."""
        return (self.nights[0].day, self.nights[-1].day) if self.nights else None

    @property
    def learned_skus(self) -> int:
        """Products that were learned at least once."""
        return sum(sku.learned > 0 for sku in self.skus)

    @property
    def published(self) -> int:
        """Pictures that are published and asked for."""
        return sum(night.published for night in self.nights)

    @property
    def learning_seconds(self) -> float:
        """Of every attempt, refused ones included."""
        return sum(night.learning_seconds for night in self.nights)

    @property
    def refused_seconds(self) -> float:
        """The part of them that went into attempts that failed."""
        return sum(night.refused_seconds for night in self.nights)

    @property
    def rendering_seconds(self) -> float:
        """Of every picture that was made, published or not."""
        return sum(night.rendering_seconds for night in self.nights)

    @property
    def unused_seconds(self) -> float:
        """The part of them that went into pictures which are not published."""
        return sum(night.unused_seconds for night in self.nights)

    @property
    def seconds(self) -> float:
        """Of learning and rendering."""
        return self.learning_seconds + self.rendering_seconds

    @property
    def stored_bytes(self) -> int:
        """Everything under the home that the program has written."""
        return sum(kind.stored_bytes for kind in self.stored)

    @property
    def cost(self) -> float:
        """Of the machine, learning and rendering."""
        return machine_cost(self.seconds, self.prices)

    @property
    def storage_cost_month(self) -> float:
        """Of everything stored."""
        return storage_cost_month(self.stored_bytes, self.prices)

    @property
    def cost_per_sku(self) -> float | None:
        """All learning, refused attempts included, over the products that were learned."""
        return _share(machine_cost(self.learning_seconds, self.prices), self.learned_skus)

    @property
    def cost_per_picture(self) -> float | None:
        """All rendering, unpublished pictures included, over the published ones."""
        return _share(machine_cost(self.rendering_seconds, self.prices), self.published)

    @property
    def full_cost_per_picture(self) -> float | None:
        """Learning and rendering over the published pictures."""
        return _share(self.cost, self.published)

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """A studio and a hosted trainer, at the prices of the settings."""
        prices, pictures, products = self.prices, self.published, self.learned_skus
        return (
            Alternative(
                "photo studio",
                pictures * prices.studio_price_per_picture,
                self.cost,
                f"{pictures:,} published pictures",
                pictures * prices.studio_minutes_per_picture / 60,
            ),
            Alternative(
                "hosted trainer",
                products * prices.hosted_price_per_sku + pictures * prices.hosted_price_per_picture,
                self.cost,
                f"{products:,} products, each trained once, and {pictures:,} published pictures",
            ),
        )

    def to_record(self) -> dict[str, Any]:
        """JSON-ready: totals, storage, growth, alternatives and what is missing."""
        names = (
            *("learned_skus", "published", "learning_seconds", "refused_seconds"),
            *("rendering_seconds", "unused_seconds", "cost", "cost_per_sku", "cost_per_picture"),
            *("full_cost_per_picture", "stored_bytes", "storage_cost_month"),
        )
        return {
            "period": [day.isoformat() for day in self.period or ()],
            "prices": self.prices.model_dump(mode="json"),
            **{name: getattr(self, name) for name in names},
            "energy_kwh": energy_kwh(self.seconds, self.prices),
            "stored": _records(self.stored),
            "growth": _records(self.growth),
            "alternatives": [{**asdict(each), "saved": each.saved} for each in self.alternatives],
            "missing": list(self.missing),
        }


def _records(found: Iterable[StoredKind] | Iterable[Growth]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]


def _share(total: float, count: int) -> float | None:
    return total / count if count else None
