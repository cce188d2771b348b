"""A line through measured points, and how far off it is on points that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np

from catalog_pipeline.errors import ConfigurationError

FIXED = "fixed"
"""The coefficient that nothing multiplies."""

FEWEST_POINTS = 4
"""Fewer say nothing of how far off a line is, nor make a home a source."""

_FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Point:
    """One measurement: ``value`` where the columns had the values of ``at``.

    Points of one ``group`` (a night, a setting) were measured together and are left out together:
    what they share, such as other work on the machine, must not vouch for itself.
    """

    value: float
    at: Mapping[str, float]
    group: str


@dataclass(frozen=True)
class Fit:
    """``value = fixed + sum of coefficient * column``, none of them below 0.

    Attributes:
        coefficients: by column; :data:`FIXED` where the line does not start at 0.
        points: how many it goes through.
        ratios: measured / predicted of each point, by a line that had not seen it.
        left_out: what was left out at a time, in words.
        ranges: column -> its least and greatest value among the points.
    """

    coefficients: Mapping[str, float]
    points: int = 0
    ratios: tuple[float, ...] = ()
    left_out: str = ""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def error(self) -> float | None:
        """Mean of ``|predicted - measured| / measured`` on held-out points; ``None`` of too few."""
        return mean(abs(1.0 - 1.0 / ratio) for ratio in self.ratios) if self.ratios else None

    @property
    def high(self) -> float:
        """What 9 in 10 held-out points were below, measured / predicted; at least 1."""
        if not self.ratios:
            return 1.0
        return max(1.0, float(np.quantile(self.ratios, 0.9, method="higher")))

    def at(self, **columns: float) -> float:
        """The value where the columns are so; a column that the line lacks does not count."""
        return sum(
            factor * (1.0 if name == FIXED else columns[name])
            for name, factor in self.coefficients.items()
        )

    def outside(self, **columns: float) -> list[str]:
        """The columns whose value lies outside of what was measured, with both, in words."""
        return [
            f"{name.replace('_', ' ')} {columns[name]:,.6g}, measured {least:,.6g} to {most:,.6g}"
            for name, (least, most) in self.ranges.items()
            if not least * 0.999 <= columns[name] <= most * 1.001
        ]


def fit_line(points: Sequence[Point], columns: Sequence[str] = ()) -> Fit:
    """Least squares of the relative errors, and the error on what was left out.

    A column that has one value in all points cannot be told from the fixed part: it is dropped,
    but for the first column, in whose proportion the value then grows.

    Raises:
        ConfigurationError: no points, or one of them is not above 0.
    """
    if not points or any(point.value <= 0 for point in points):
        got = ", ".join(f"{point.value:g}" for point in points[:5]) or "none"
        raise ConfigurationError(f"measured points: {got}; expected some, each above 0")
    ratios, left_out = _held_out_ratios(points, columns)
    return Fit(
        coefficients=_solve(points, columns),
        points=len(points),
        ratios=tuple(ratios),
        left_out=left_out,
        ranges={
            name: (min(p.at[name] for p in points), max(p.at[name] for p in points))
            for name in columns
        },
    )


def typed(value: float) -> Fit:
    """What a person has given, without points.

    Raises:
        ConfigurationError: it is not above 0.
    """
    if not value > 0 or not np.isfinite(value):
        raise ConfigurationError(f"a speed of {value:g}; expected a number above 0")
    return Fit({FIXED: value})


def _held_out_ratios(points: Sequence[Point], columns: Sequence[str]) -> tuple[list[float], str]:
    """Measured / predicted of every point, by a line through the other groups."""
    if len(points) < FEWEST_POINTS:
        return [], ""
    by_group = {point.group for point in points}
    grouped = len(by_group) >= _FEWEST_GROUPS
    names = [point.group if grouped else str(n) for n, point in enumerate(points)]
    ratios = []
    for name in dict.fromkeys(names):
        seen = [p for p, group in zip(points, names, strict=True) if group != name]
        unseen = [p for p, group in zip(points, names, strict=True) if group == name]
        line = Fit(_solve(seen, columns))
        predicted = [line.at(**point.at) for point in unseen]
        ratios += [
            point.value / guess if guess > 0 else float("inf")
            for point, guess in zip(unseen, predicted, strict=True)
        ]
    count = len(dict.fromkeys(names))
    return ratios, f"{count} groups in turn" if grouped else "each point in turn"


def _solve(points: Sequence[Point], columns: Sequence[str]) -> dict[str, float]:
    """Coefficients of the smallest squared relative error, none below 0."""
    from scipy.optimize import nnls

    varying = [name for name in columns if len({point.at[name] for point in points}) > 1]
    through_zero = bool(columns) and columns[0] not in varying
    names = [columns[0] if through_zero else FIXED, *varying]
    values = np.array([point.value for point in points])
    table = np.array(
        [[1.0 if name == FIXED else point.at[name] for name in names] for point in points]
    )
    scale = np.abs(table).max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(table / scale / values[:, None], np.ones(len(points)))
    return dict(zip(names, (float(each) for each in found / scale), strict=True))
