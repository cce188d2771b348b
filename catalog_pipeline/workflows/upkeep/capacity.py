"""How many cards a night needs, for how long, and what is stored: from measured points.

The model is simple on purpose. A SKU takes ``a + b * steps`` seconds, a picture of one mode
``a + (b + c * further products) * steps * megapixels``, publishing and bytes are lines likewise
(``capacity_fit``); ``capacity_night`` says how workers side by side share them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import LearningSettings, Settings
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.capacity_lines import Line, Speeds, read_lines
from catalog_pipeline.workflows.upkeep.capacity_night import MOST_WORKERS, NightWork
from catalog_pipeline.workflows.upkeep.capacity_points import read_attempts, refused_share

__all__ = ["CapacityPlan", "Demand", "Figure", "Speeds", "home_failure_rate", "plan_capacity"]

TRIES = 3
"""Nights on which a SKU that was refused is learned again, the first one among them."""


@dataclass(frozen=True)
class Demand:
    """What is asked of the nights; each is a flag of the command.

    Attributes:
        skus: learned already.
        new_skus: to learn a night, on average.
        nights: of the plan.
        pictures: to render a night, on average.
        hours: that a night has.
        peak: new SKUs of the busiest night that must fit, over the average one's.
        products: in a picture, on average.
        collections: among which the SKUs are spread evenly.
        workers: side by side, a card each; ``None``: as many as it takes.
        failure_rate: share of SKUs that are refused.
        mtbf_hours: between two crashes of a worker; ``None``: none.
        price_per_hour: of a card; ``None``: no money in the plan.
    """

    skus: int
    new_skus: float
    nights: int
    pictures: float
    hours: float
    peak: float = 1.0
    products: float = 1.5
    collections: int = 1
    workers: int | None = None
    failure_rate: float = 0.0
    mtbf_hours: float | None = None
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        wrong = []
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and least <= value <= most):
                bound = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
                wrong.append(f"--{name.replace('_', '-')} {value:g}; expected {bound}")
        if wrong or not (self.new_skus or self.pictures):
            nothing = "no new SKU and no picture a night; give --new-skus or --pictures"
            raise ConfigurationError(", ".join(wrong) or nothing)


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "skus": (0, math.inf),
    "new_skus": (0, math.inf),
    "nights": (1, math.inf),
    "pictures": (0, math.inf),
    "hours": (0.01, 24),
    "peak": (1, math.inf),
    "products": (1, 16),
    "collections": (1, math.inf),
    "workers": (1, MOST_WORKERS),
    "failure_rate": (0, 1),
    "mtbf_hours": (0.01, math.inf),
    "price_per_hour": (0, math.inf),
}


@dataclass(frozen=True)
class Figure:
    """One figure that a plan goes by: ``high`` is what 9 in 10 held-out points stayed below.

    ``error`` is the mean error of points that were held out, ``None`` where fewer than four were;
    ``left_out`` says how they were. ``outside`` says what lies beyond the measured points.
    """

    name: str
    value: float
    unit: str
    high: float
    error: float | None
    points: int
    left_out: str
    outside: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class CapacityPlan:
    """What a demand takes.

    Attributes:
        figures: what the plan goes by.
        cards: workers side by side, as asked for, else the fewest that fit the busiest night.
        fewest_cards: that do; ``None`` where no number does.
        cautious_cards: likewise, with every second at its high end.
        hours: of an average night.
        busiest_hours: of the peak one.
        least_hours: of the peak one with any number of cards.
        seconds: of an average night's work, by ``learning``, ``publishing`` and ``rendering``.
        card_hours: of work in all nights.
        stored_bytes: after the last night, by ``parts``, ``versions``, ``pictures`` and
            ``manifests``; photos, reports, checkpoints and what is in quarantine come on top.
        cost: of the hours that the cards are held in all nights; ``None`` without a price.
        advice: what to change so that the night fits, and what the figures cannot say.
    """

    demand: Demand
    figures: tuple[Figure, ...]
    cards: int
    fewest_cards: int | None
    cautious_cards: int | None
    hours: float
    busiest_hours: float
    least_hours: float
    seconds: Mapping[str, float]
    card_hours: float
    stored_bytes: Mapping[str, float]
    cost: float | None
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the busiest night ends in time."""
        return self.busiest_hours <= self.demand.hours

    @property
    def dominates(self) -> str:
        """What most of the work of a night is."""
        return max(self.seconds, key=lambda name: self.seconds[name])

    def to_record(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "fits": self.fits, "dominates": self.dominates}


def home_failure_rate(home: Home) -> float:
    """The share of SKUs that the home's newest nights have refused; 0 where none were tried."""
    return refused_share(read_attempts(home)) or 0.0


def plan_capacity(home: Home, demand: Demand, speeds: Speeds) -> CapacityPlan:
    """What ``demand`` takes at the settings of ``home``; writes nothing and loads no model.

    Raises:
        ConfigurationError: the card has no points, or too few; they are of another base; or a
            speed is no number above 0.
        StoreError: what the home has measured cannot be read.
    """
    settings = home.settings
    asked = _asked(settings, demand)
    lines, restart = read_lines(home, speeds, list(asked))
    if "learning" in asked and "learning" in lines:
        asked["learning"] = {"steps": _steps_of(settings.learning, lines["learning"])}
    figures = tuple(_figure(name, lines[name], at) for name, at in asked.items() if name in lines)
    middle = {each.name.partition(" ")[0]: each.value for each in figures}
    high = {each.name.partition(" ")[0]: each.high for each in figures}
    crashes = _crash_factor(settings, demand, lines, asked, restart)
    busiest = _work(demand, middle, crashes, demand.peak)
    average = _work(demand, _halfway(demand, lines, middle), crashes, 1.0)
    fewest = busiest.fewest_workers(demand.hours)
    cards = demand.workers or fewest or MOST_WORKERS
    hours = average.hours(cards)
    price = demand.price_per_hour
    seconds = {
        "learning": average.tasks * average.train_seconds,
        "publishing": average.tasks * average.publish_seconds,
        "rendering": average.picture_seconds,
    }
    plan = CapacityPlan(
        demand=demand,
        figures=figures,
        cards=cards,
        fewest_cards=fewest,
        cautious_cards=_work(demand, high, crashes, demand.peak).fewest_workers(demand.hours),
        hours=hours,
        busiest_hours=busiest.hours(cards),
        least_hours=busiest.least_hours,
        seconds=seconds,
        card_hours=sum(seconds.values()) / 3600 * demand.nights,
        stored_bytes=_stored(settings, demand, lines, middle),
        cost=None if price is None else price * cards * hours * demand.nights,
    )
    missing = [f"storage lacks {name}: not measured" for name in asked if name not in lines]
    return replace(plan, advice=(*_advice(settings, plan, busiest, lines), *missing))


def _asked(settings: Settings, demand: Demand) -> dict[str, dict[str, float]]:
    """Point set -> what its line is asked at."""
    generation = settings.generation
    mode = generation.mode
    scale = generation.anchoring.output_scale if mode == "exact" else 1
    megapixels = generation.width * generation.height * scale**2 / 1e6
    work = generation.steps * megapixels
    pixels = {"step_megapixels": work, "further_products": (demand.products - 1) * work}
    existing = {"existing": _last_size(demand)}
    asked: dict[str, dict[str, float]] = {}
    if demand.new_skus:
        asked["learning"] = {"steps": float(settings.learning.steps)}
        asked["publishing"] = asked["version"] = existing
    if demand.new_skus or demand.skus:
        asked["parts"] = {}
    if demand.pictures:
        asked[f"rendering {mode}"] = pixels
        asked[f"picture {mode}"] = {"megapixels": megapixels}
        asked["row"] = {}
    return asked


def _steps_of(learning: LearningSettings, line: Line) -> float:
    """Of a task; with ``minutes_per_sku`` as many as ``line`` fits into them beside its rest."""
    if learning.minutes_per_sku is None:
        return float(learning.steps)
    from catalog_pipeline.learning.schedule import fewest_steps

    step_seconds = line.fit.coefficients.get("steps", 0.0)
    least = float(fewest_steps(learning.early_stop.min_steps))
    # Seconds as typed say nothing of a step: they are what a SKU takes, whatever its steps.
    return max(least, 60 * learning.minutes_per_sku / step_seconds) if step_seconds else least


def _last_size(demand: Demand) -> float:
    """SKUs of a collection after the last night."""
    return (demand.skus + demand.new_skus * demand.nights) / demand.collections


def _halfway(
    demand: Demand, lines: Mapping[str, Line], values: Mapping[str, float]
) -> dict[str, float]:
    """``values``, publishing in the middle of the nights and not after the last one."""
    if "publishing" not in lines:
        return dict(values)
    existing = (demand.skus + demand.new_skus * demand.nights / 2) / demand.collections
    return {**values, "publishing": lines["publishing"].fit.at(existing=existing)}


def _figure(name: str, line: Line, at: Mapping[str, float]) -> Figure:
    value = line.fit.at(**at)
    unit = "bytes" if name.partition(" ")[0] in ("parts", "version", "picture", "row") else "s"
    return Figure(
        name=name,
        value=value,
        unit=unit,
        high=value * line.fit.high,
        error=line.fit.error,
        points=line.fit.points,
        left_out=line.fit.left_out,
        outside=tuple(line.fit.outside(**at)),
        source=line.source,
    )


def _crash_factor(
    settings: Settings,
    demand: Demand,
    lines: Mapping[str, Line],
    asked: Mapping[str, Mapping[str, float]],
    restart: float,
) -> float:
    """How much longer work takes with crashes: a restart, and half of what no checkpoint holds."""
    if demand.mtbf_hours is None:
        return 1.0
    lost = restart
    if "learning" in lines:
        fit, steps = lines["learning"].fit, asked["learning"]["steps"]
        kept = min(settings.learning.checkpoint_every, steps)
        lost += fit.at(steps=steps) * kept / steps / 2
    return 1.0 + lost / (demand.mtbf_hours * 3600)


def _work(demand: Demand, values: Mapping[str, float], crashes: float, peak: float) -> NightWork:
    """One night, of ``peak`` times the SKUs; a refused one is tried :data:`TRIES` times."""
    tries = 1 + demand.failure_rate * (TRIES - 1)
    return NightWork(
        tasks=demand.new_skus * tries * peak,
        train_seconds=values.get("learning", 0.0) * crashes,
        publish_seconds=values.get("publishing", 0.0),
        collections=demand.collections,
        picture_seconds=demand.pictures * values.get("rendering", 0.0) * crashes,
    )


def _stored(
    settings: Settings, demand: Demand, lines: Mapping[str, Line], values: Mapping[str, float]
) -> dict[str, float]:
    """Bytes after the last night: what the plan's nights add, and what was learned already."""
    learned = demand.new_skus * demand.nights * (1 - demand.failure_rate)
    versions, kept = learned, settings.archive.keep_versions
    middle = _last_size(demand) - learned / demand.collections / 2
    if kept is not None:
        versions, middle = min(learned, float(kept * demand.collections)), _last_size(demand)
    record = lines["version"].fit.at(existing=middle) if "version" in lines else 0.0
    pictures = demand.pictures * demand.nights
    return {
        "parts": (demand.skus + learned) * values.get("parts", 0.0),
        "versions": versions * record,
        "pictures": pictures * values.get("picture", 0.0),
        "manifests": pictures * values.get("row", 0.0),
    }


def _advice(
    settings: Settings, plan: CapacityPlan, busiest: NightWork, lines: Mapping[str, Line]
) -> Iterator[str]:
    """What to change, in words."""
    demand = plan.demand
    if plan.fewest_cards is not None and not plan.fits:
        yield f"{plan.fewest_cards} workers side by side fit the busiest night"
    if plan.least_hours > demand.hours:
        yield (
            f"no number of cards fits: publishing in sequence and one task take "
            f"{plan.least_hours:.1f} h of the busiest night's {demand.hours:g} h"
        )
    sequence = busiest.tasks * busiest.publish_seconds / busiest.collections / 3600
    if sequence > demand.hours / 2:
        enough = _enough_collections(demand, lines["publishing"], busiest.tasks)
        yield (
            f"publishing holds a collection for {sequence:.1f} h of the busiest night: spread the "
            f"products over {enough} collections"
        )
    if not plan.fits and demand.workers:
        share = demand.hours / plan.busiest_hours
        what = {
            "learning": f"learning.yaml: {settings.learning.length} a SKU",
            "rendering": f"generation.yaml: steps {settings.generation.steps}",
            "publishing": f"{demand.collections} collection(s)",
        }[plan.dominates]
        yield (
            f"with {demand.workers} worker(s) {share:.0%} of the busiest night's work fits; "
            f"{plan.dominates} dominates ({what})"
        )
    for figure in plan.figures:
        for words in figure.outside:
            yield f"{figure.name} goes beyond what was measured: {words}"


def _enough_collections(demand: Demand, line: Line, tasks: float) -> int:
    """The fewest in which publishing takes half of the night at most, a power of two."""
    count = demand.collections
    while count < 2**20:
        count *= 2
        existing = (demand.skus + demand.new_skus * demand.nights) / count
        if tasks * line.fit.at(existing=existing) / count <= demand.hours * 1800:
            break
    return count
