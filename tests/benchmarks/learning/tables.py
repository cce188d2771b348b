"""The tables of the report: which columns a suite has, and how a figure is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.learning.groups import Group
from tests.benchmarks.learning.scenes import SCENE_SIZES


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


def _kilobytes(value: float) -> str:
    return f"{value / 1000:.0f} kB"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.2f} MiB"


COUNTED_AT = ("", "@10", "@30")
"""After the last task, and after earlier checkpoints of the suite ``scale``."""

COLUMNS = {
    column.key: column
    for column in (
        Column("own", "after own task", _three),
        Column("final", "final", _three),
        Column("forgetting", "forgetting", _three),
        Column("of_alone", "final / alone", _percent),
        Column("share", "share of ceiling", _percent),
        Column("whole_final", "final, whole picture", _three),
        Column("plasticity", "likeness a CPU minute, last / first third", _ratio),
        Column("drift", "prior drift", _three),
        Column("text", "text following", _percent),
        Column("dream", "likeness, DreamBench prompts", _three),
        Column("dream_text", "text following, DreamBench prompts", _percent),
        Column("wrong_slot", "wrong slot", _percent, per_encoder=False),
        Column("base_routed", "base-only through a slot", _percent, per_encoder=False),
        *(
            Column(f"confused_{key}{at}", f"{title}{at.replace('@', ' of ')}", _percent)
            for at in COUNTED_AT
            for key, title in (
                ("own", "own product"),
                ("class_mate", "class mate"),
                ("another", "another"),
            )
        ),
        *(
            Column(f"{key}@{size}", f"{size} named", _percent, per_encoder=False)
            for key in ("all_found", "missing", "collapsed")
            for size in (1, *SCENE_SIZES)
        ),
        Column("cpu_seconds", "CPU s a product", _whole, per_encoder=False),
        Column("state_bytes", "state", _mebibytes, per_encoder=False),
        Column("state_bytes_a_concept", "state a product", _kilobytes, per_encoder=False),
        Column("marginal_bytes", "state of one more", _kilobytes, per_encoder=False),
        Column("peak_rss_bytes", "peak memory", _mebibytes, per_encoder=False),
        Column("cpu_ratio", "CPU, late / early task", _ratio, per_encoder=False),
        Column("rss_ratio", "memory, late / early task", _ratio, per_encoder=False),
        Column("state_ratio", "state, late / early task", _ratio, per_encoder=False),
    )
}

Tables = Mapping[str, tuple[str, ...]]
"""Title -> keys of the columns."""


def _by_size(key: str) -> tuple[str, ...]:
    return tuple(f"{key}@{size}" for size in (1, *SCENE_SIZES))


_LIKENESS = ("own", "final", "forgetting", "of_alone", "share", "whole_final", "plasticity")
_CONFUSION = ("confused_own", "confused_class_mate", "confused_another")
_COST = ("cpu_seconds", "state_bytes", "state_bytes_a_concept", "marginal_bytes")
_IN_SEQUENCE: Tables = {
    "Likeness": _LIKENESS,
    "The base and the prompts": (
        *("drift", "text", "dream", "dream_text", "wrong_slot", "base_routed"),
    ),
    "Taken for": _CONFUSION,
    "All found": _by_size("all_found"),
    "Missing": _by_size("missing"),
    "Collapsed": _by_size("collapsed"),
    "Cost": _COST,
}
_EACH_ALONE: Tables = {
    "Likeness": ("final", "share", "whole_final", "text", *_CONFUSION),
    "Cost": ("cpu_seconds", "peak_rss_bytes", "state_bytes_a_concept"),
}
SUITE_TABLES: Mapping[str, Tables] = {
    "main": _IN_SEQUENCE,
    "quick": _IN_SEQUENCE,
    "twelve": _IN_SEQUENCE,
    "one_task": _EACH_ALONE,
    "budget": _EACH_ALONE,
    "stopping": _EACH_ALONE,
    "ablation": _IN_SEQUENCE,
    "parametrisation": _EACH_ALONE,
    "few": _EACH_ALONE,
    "scale": {
        **_IN_SEQUENCE,
        "Taken for": tuple(key + at for at in reversed(COUNTED_AT) for key in _CONFUSION),
        "Cost": (*_COST, "cpu_ratio", "rss_ratio", "state_ratio"),
    },
}


@dataclass(frozen=True)
class Table:
    """Ready to print: ``rows`` hold the label, the number of cells, and the figures.

    ``encoder`` is empty where no figure is of one.
    """

    title: str
    encoder: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(group: Group) -> list[Table]:
    """The tables of ``group``: by one encoder after the other, then those of none.

    Figures that no encoder changes stand in the first one's. What no row has is left out.
    """
    figures = {
        encoder: {label: group.figures(label, encoder) for label in group.rows}
        for encoder in group.encoders
    }
    tables: dict[bool, list[Table]] = {True: [], False: []}
    for encoder in group.encoders:
        for title, keys in SUITE_TABLES[group.suite].items():
            of_encoder = any(COLUMNS[key].per_encoder for key in keys)
            rows = figures[encoder]
            columns = [
                COLUMNS[key]
                for key in keys
                if encoder == group.encoders[0] or COLUMNS[key].per_encoder
                if any(found.get(key) for found in rows.values())
            ]
            if columns:
                written = tuple(
                    (
                        *(label, str(len(group.rows[label]))),
                        *(with_spread(found.get(c.key, []), c.write) for c in columns),
                    )
                    for label, found in rows.items()
                )
                titles = ("method", "cells", *(column.title for column in columns))
                table = Table(title, encoder if of_encoder else "", titles, written)
                tables[of_encoder].append(table)
    return tables[True] + tables[False]


def with_spread(values: Sequence[float], write: Callable[[float], str]) -> str:
    """``mean ± standard deviation`` over cells; no spread for one, a dash for none."""
    if not values:
        return "–"
    mean = write(float(np.mean(values)))
    if len(values) == 1:
        return mean
    return f"{mean} ± {write(float(np.std(values, ddof=1)))}"
