"""The tables of the report: which columns a suite has, and how a figure is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.learning.results import Group


@dataclass(frozen=True)
class Column:
    """A figure of the rows; ``per_encoder`` figures differ between encoders."""

    key: str
    title: str
    write: Callable[[float], str]
    per_encoder: bool = True


def _three(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # no minus zero


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}x"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.2f} MiB"


COLUMNS = {
    column.key: column
    for column in (
        Column("own", "after own task", _three),
        Column("final", "final", _three),
        Column("forgetting", "forgetting", _three),
        Column("of_alone", "final / alone", _percent),
        Column("share", "share of ceiling", _percent),
        Column("whole_final", "final, whole picture", _three),
        Column("drift", "prior drift", _three),
        Column("text", "text following", _percent),
        Column("recognised", "recognised", _percent),
        Column("same_class", "taken for a class mate", _percent),
        Column("cpu_seconds", "CPU s a product", _whole, per_encoder=False),
        Column("state_bytes", "state", _mebibytes, per_encoder=False),
        Column("state_bytes_a_concept", "state a concept", _mebibytes, per_encoder=False),
        Column("peak_rss_bytes", "peak memory", _mebibytes, per_encoder=False),
        Column("cpu_ratio", "CPU, late / early task", _ratio, per_encoder=False),
        Column("rss_ratio", "memory, late / early task", _ratio, per_encoder=False),
        Column("state_ratio", "state, late / early task", _ratio, per_encoder=False),
    )
}

_QUALITY = ("own", "final", "forgetting")
_MAIN = (*_QUALITY, "of_alone", "share", "whole_final", "drift", "text", "recognised", "same_class")
SUITE_COLUMNS = {
    "main": (*_MAIN, "cpu_seconds", "state_bytes"),
    "quick": (*_MAIN, "cpu_seconds", "state_bytes"),
    "twelve": (*_MAIN, "cpu_seconds", "state_bytes"),
    "one_task": (
        "final",
        "share",
        "whole_final",
        "text",
        "recognised",
        "cpu_seconds",
        "peak_rss_bytes",
    ),
    "budget": ("final", "share", "whole_final", "text", "recognised", "cpu_seconds"),
    "stopping": ("final", "share", "whole_final", "text", "recognised", "cpu_seconds"),
    "ablation": (*_QUALITY, "drift", "text", "recognised", "same_class", "cpu_seconds"),
    "parametrisation": (
        *("final", "share", "whole_final", "text", "recognised"),
        *("cpu_seconds", "state_bytes_a_concept"),
    ),
    "few": ("final", "share", "whole_final", "text", "recognised", "same_class", "cpu_seconds"),
    "scale": (
        *(*_QUALITY, "drift", "text", "recognised"),
        *("cpu_seconds", "state_bytes", "cpu_ratio", "rss_ratio", "state_ratio"),
    ),
}


@dataclass(frozen=True)
class Table:
    """Ready to print: ``rows`` hold the label, the number of cells, and the figures."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_table(group: Group, encoder: str) -> Table:
    """The rows of ``group`` by one encoder; figures that no encoder changes stand in the first."""
    first = encoder == group.encoders[0]
    columns = [
        column
        for column in (COLUMNS[key] for key in SUITE_COLUMNS[group.suite])
        if first or column.per_encoder
    ]
    rows = []
    for label, cells in group.rows.items():
        figures = group.figures(label, encoder)
        written = [with_spread(figures[column.key], column.write) for column in columns]
        rows.append((label, str(len(cells)), *written))
    return Table(("method", "cells", *(column.title for column in columns)), tuple(rows))


def with_spread(values: Sequence[float], write: Callable[[float], str]) -> str:
    """``mean ± standard deviation`` over cells; no spread for one, a dash for none."""
    if not values:
        return "–"
    mean = write(float(np.mean(values)))
    if len(values) == 1:
        return mean
    return f"{mean} ± {write(float(np.std(values, ddof=1)))}"
