"""What one more product takes, against how many its collection had learned before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from catalog_pipeline.evaluation.costs import Growth
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.capacity_fit import FEWEST_POINTS, FIXED, Point, fit_line
from catalog_pipeline.workflows.upkeep.capacity_lines import Speeds, read_lines
from catalog_pipeline.workflows.upkeep.capacity_points import read_cards
from catalog_pipeline.workflows.upkeep.cost_spent import Attempt

_BEFORE = "existing"
_THIS_HOME = "this home"


def read_growth(
    home: Home, attempts: Sequence[Attempt], version_bytes: Mapping[tuple[str, str], int]
) -> tuple[Growth, ...]:
    """Seconds of learning, seconds of publishing, and bytes of a version's record.

    Learning is of attempts that trained as the newest one did: by the same steps or minutes,
    on the same base. Publishing is part of an attempt's seconds and not measured apart, so its line
    is that of a benchmark, and says so.

    Args:
        home: its settings choose no line; it is asked for the benchmark's.
        attempts: oldest first.
        version_bytes: of each collection and version that is still there.
    """
    learning, records = _points(attempts, version_bytes)
    card = next(iter(read_cards()))  # by name: no night of the home is read for it
    (publishing,) = read_lines(home, Speeds(card), ["publishing"])[0].values()
    return (
        _grown("learning", "s", learning),
        Growth(
            "publishing",
            "s",
            f"not measured by this home; a benchmark elsewhere: {publishing.source}",
            fixed=publishing.fit.coefficients.get(FIXED, 0.0),
            slope=publishing.fit.coefficients.get(_BEFORE, 0.0),
            error=publishing.fit.error,
        ),
        _grown("record of a version", "bytes", records),
    )


def places(attempts: Sequence[Attempt]) -> dict[str, int]:
    """SKU -> the how-manieth it was to be learned, from 1; ``attempts`` are oldest first."""
    order = dict.fromkeys(attempt.sku for attempt in attempts if attempt.learned)
    return {sku: place for place, sku in enumerate(order, 1)}


def _points(
    attempts: Sequence[Attempt], version_bytes: Mapping[tuple[str, str], int]
) -> tuple[list[Point], list[Point]]:
    """Seconds, and bytes of records, against the other products that were learned before."""
    trained = [attempt for attempt in attempts if attempt.trained]
    newest = (trained[-1].length, trained[-1].base) if trained else ((0, None), "")
    known: defaultdict[str, set[str]] = defaultdict(set)
    seconds: list[Point] = []
    records: list[Point] = []
    for attempt in attempts:
        if not attempt.learned:
            continue
        others = known[attempt.collection] - {attempt.sku}
        at, group = {_BEFORE: float(len(others))}, attempt.day.isoformat()
        alike = attempt.trained and (attempt.length, attempt.base) == newest
        if alike and attempt.seconds > 0:
            seconds.append(Point(attempt.seconds, at, group))
        size = version_bytes.get((attempt.collection, attempt.version))
        if size:
            records.append(Point(float(size), at, group))
        known[attempt.collection].add(attempt.sku)
    return seconds, records


def _grown(name: str, unit: str, points: Sequence[Point]) -> Growth:
    shown = tuple((int(point.at[_BEFORE]), point.value) for point in points)
    if len(points) < FEWEST_POINTS or len({n for n, _ in shown}) < 2:
        return Growth(name, unit, _THIS_HOME, shown)
    fit = fit_line(points, [_BEFORE])
    return Growth(
        name,
        unit,
        _THIS_HOME,
        shown,
        fit.coefficients.get(FIXED, 0.0),
        fit.coefficients.get(_BEFORE, 0.0),
        fit.error,
    )
