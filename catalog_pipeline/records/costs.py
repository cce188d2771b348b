"""What products and days have cost, as far as a home has measured it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class SkuCost:
    """A product; grain of the table: one row per ``sku``.

    ``place`` is the how-manieth product it was to be learned, ``None`` where it never was.
    ``attempts`` are at learning it, ``refused`` those that failed; ``untimed_attempts`` have no
    seconds in the log. ``pictures`` are published and name it; of one that names k products
    ``picture_share`` counts 1/k, and so do ``rendering_seconds`` and ``picture_bytes``, of every
    picture that was made, published or not. ``concept_bytes`` are the product's alone,
    ``shared_bytes`` its share of what belongs to all. Costs are in ``currency``.
    """

    sku: str
    name: str
    collection: str
    status: str
    place: int | None
    attempts: int
    learned: int
    refused: int
    untimed_attempts: int
    learning_seconds: float
    refused_seconds: float
    pictures: int
    picture_share: float
    held_back: int
    untimed_pictures: int
    rendering_seconds: float
    energy_kwh: float
    machine_cost: float
    concept_bytes: float
    picture_bytes: float
    shared_bytes: float
    storage_cost_month: float
    currency: str


@dataclass(frozen=True)
class NightCost:
    """A day; grain of the table: one row per ``day`` on which anything was learned or rendered.

    Attempts at learning are those that ended on the day (UTC), pictures those of the night's plan.
    ``unused_seconds`` are the part of ``rendering_seconds`` that went into pictures which are not
    published: held back, or no longer asked for. ``failed`` pictures could not be made, ``to_do``
    is what the report asked people to do; both are ``None`` for a day without a report.
    ``cost_per_picture`` is that of rendering over the published pictures, ``None`` without any.
    """

    day: date
    attempts: int
    learned: int
    refused: int
    untimed_attempts: int
    learning_seconds: float
    refused_seconds: float
    published: int
    held_back: int
    superseded: int
    picture_attempts: int
    untimed_pictures: int
    rendering_seconds: float
    unused_seconds: float
    failed: int | None
    to_do: int | None
    energy_kwh: float
    machine_cost: float
    cost_per_picture: float | None
    picture_bytes: int
    record_bytes: int
    currency: str
