"""A capacity plan against a simulated year of 100,000 SKUs.

    python -m tests.benchmarks.capacity [--seeds N] [--skus N] [--out docs/benchmarks]
    python -m tests.benchmarks.capacity --measured DIR    first makes DIR the shipped card's points

Writes ``capacity.md`` and ``capacity.json``. ``tests.benchmarks.capacity.measure`` measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep import capacity_points
from catalog_pipeline.workflows.upkeep.capacity import CapacityPlan, Demand, plan_capacity
from catalog_pipeline.workflows.upkeep.capacity_fit import fit_line
from catalog_pipeline.workflows.upkeep.capacity_lines import Speeds, read_lines
from tests.benchmarks.capacity.points import renew_card
from tests.benchmarks.capacity.simulation import Year, arrivals, simulate
from tests.benchmarks.harness.home import DOCS, REPOSITORY, make_parser
from tests.benchmarks.harness.report import machine, today, write_json, write_page

CARD = "cpu-2-threads"
POINTS = Path(capacity_points.__file__).with_name("capacity_points.yaml")
TEMPLATE = Path(__file__).with_name("capacity.md.j2")
NIGHTS = 365
PICTURES = 1000
HOURS = 8.0
REFUSED = 0.04
MTBF_HOURS = 100.0
COLLECTIONS = (1, 16)
AMDAHL_WORKERS = (1, 2, 4, 8, 16, 32)


def main() -> None:
    """Plan, simulate, compare, write."""
    parser = make_parser("capacity", __doc__)
    parser.add_argument("--skus", type=int, default=100_000, help="in the simulated year")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measured", type=Path, help="the home of `measure`")
    parser.add_argument("--note", default="")
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    if options.measured:
        renew_card(POINTS, CARD, options.measured.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        home = open_home(load_settings(REPOSITORY / "assets_config", Path(scratch)))
        years = [compare_year(home, options.skus, count, options.seeds) for count in COLLECTIONS]
        facts = {
            "date": today(),
            "machine": machine(),
            "note": options.note,
            "skus": options.skus,
            "seeds": options.seeds,
            "nights": NIGHTS,
            "pictures": PICTURES,
            "hours": HOURS,
            "refused": REFUSED,
            "mtbf_hours": MTBF_HOURS,
            "figures": next(iter([year.pop("figures") for year in years])),
            "years": years,
            "amdahl": [
                compare_night(home, options.skus, workers, options.seeds)
                for workers in AMDAHL_WORKERS
            ],
        }
    write_json(options.out / "capacity.json", facts, digits=4)
    write_page(options.out, TEMPLATE, **facts)


def compare_year(home: Home, skus: int, collections: int, seeds: int) -> dict[str, Any]:
    """The plan of a year and what the simulation makes of it, mean and range over seeds."""
    counts = [arrivals(skus, NIGHTS, np.random.default_rng(seed)) for seed in range(seeds)]
    peak = float(np.mean([np.quantile(each, 0.95) / np.mean(each) for each in counts]))
    demand = Demand(
        skus=0,
        new_skus=skus / NIGHTS,
        nights=NIGHTS,
        pictures=PICTURES,
        hours=HOURS,
        peak=peak,
        collections=collections,
        failure_rate=REFUSED,
        mtbf_hours=MTBF_HOURS,
    )
    plan = plan_capacity(home, demand, Speeds(card=CARD))
    year = simulated(home, plan, skus)
    # Without a deadline first: how long the nights would be; then as they are.
    free = [simulate(replace(year, hours=1000.0), seed) for seed in range(seeds)]
    bound = [simulate(year, seed) for seed in range(seeds)]
    learned = [sum(night.learned for night in nights) for nights in bound]
    made = [sum(night.pictures for night in nights) for nights in bound]
    return {
        "collections": collections,
        "cards": plan.cards,
        "peak": peak,
        "figures": [vars(figure) for figure in plan.figures],
        "dominates": plan.dominates,
        "mean_hours": versus(plan.hours, [np.mean([n.hours for n in each]) for each in free]),
        "p95_hours": versus(
            plan.busiest_hours, [np.quantile([n.hours for n in each], 0.95) for each in free]
        ),
        "cards_needed": versus(
            float(plan.fewest_cards or 0),
            [float(enough(year, seed, plan.cards)) for seed in range(seeds)],
        ),
        "stored_bytes": versus(
            sum(plan.stored_bytes.values()),
            [stored(plan, a, b) for a, b in zip(learned, made, strict=True)],
        ),
        "learned": float(np.mean(learned)),
        "longest_wait": float(np.mean([max(n.waiting for n in each) for each in bound])),
        "pictures_made": float(np.mean(made) / (PICTURES * NIGHTS)),
        "crashes": float(np.mean([sum(n.crashes for n in each) for each in bound])),
    }


def compare_night(home: Home, skus: int, workers: int, seeds: int) -> dict[str, Any]:
    """One night in mid-year, one collection: from where on more workers do not help."""
    demand = Demand(
        skus=skus // 2,
        new_skus=skus / NIGHTS,
        nights=1,
        pictures=0,
        hours=24,
        workers=workers,
        mtbf_hours=MTBF_HOURS,
    )
    plan = plan_capacity(home, demand, Speeds(card=CARD))
    year = replace(
        simulated(home, plan, round(skus / NIGHTS)), nights=1, refused=0.0, pictures=0, hours=1000.0
    )
    at = year.publish.at(existing=float(demand.skus))
    year = replace(year, publish=replace(year.publish, coefficients={"fixed": at}))
    hours = [simulate(year, seed)[0].hours for seed in range(4 * seeds)]
    return {"workers": workers, "hours": versus(plan.hours, hours)}


def simulated(home: Home, plan: CapacityPlan, skus: int) -> Year:
    """What the plan is of, as the simulation takes it."""
    demand, settings = plan.demand, home.settings
    picture = next((f.name for f in plan.figures if f.name.startswith("rendering")), None)
    names = ["learning", "publishing", *([picture] if picture else [])]
    lines, restart = read_lines(home, Speeds(card=CARD), names)
    generation, scale = settings.generation, settings.generation.anchoring.output_scale
    work = generation.steps * generation.width * generation.height * scale**2 / 1e6
    steps = settings.learning.steps
    return Year(
        skus=skus,
        nights=demand.nights,
        pictures=round(demand.pictures),
        hours=demand.hours,
        workers=plan.cards,
        collections=demand.collections,
        train=lines["learning"].fit,
        publish=lines["publishing"].fit,
        picture=lines[picture].fit if picture else lines["learning"].fit,
        steps=float(steps),
        picture_at={"step_megapixels": work, "further_products": work * (demand.products - 1)},
        kept=min(1.0, settings.learning.checkpoint_every / steps),
        restart_seconds=restart,
        mtbf_hours=MTBF_HOURS,
        refused=demand.failure_rate,
    )


def enough(year: Year, seed: int, guess: int) -> int:
    """The fewest workers with which 19 of 20 simulated nights end in time, from ``guess`` on."""

    def fits(workers: int) -> bool:
        nights = simulate(replace(year, workers=workers, hours=1000.0), seed)
        return bool(np.quantile([night.hours for night in nights], 0.95) <= year.hours)

    workers = guess
    if fits(workers):
        while workers > 1 and fits(workers - 1):
            workers -= 1
        return workers
    while workers < guess + 16 and not fits(workers):
        workers += 1
    return workers


def stored(plan: CapacityPlan, learned: int, pictures: int) -> float:
    """Bytes of what the simulated year has made, record by record."""
    by_name = {figure.name.partition(" ")[0]: figure.value for figure in plan.figures}
    card = capacity_points.read_cards()[CARD]
    record = fit_line(card.points["version"], capacity_points.columns_of("version"))
    spread = plan.demand.collections
    records = sum(record.at(existing=number / spread) for number in range(learned))
    return learned * by_name["parts"] + records + pictures * (by_name["picture"] + by_name["row"])


def versus(planned: float, simulated: Sequence[float]) -> dict[str, float]:
    """A planned figure, the simulated mean and range, and the plan's error against the mean."""
    mean = float(np.mean(simulated))
    return {
        "planned": planned,
        "simulated": mean,
        "least": float(min(simulated)),
        "most": float(max(simulated)),
        "error": abs(planned - mean) / mean,
    }


if __name__ == "__main__":
    main()
