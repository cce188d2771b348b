"""Small charts as PNG bytes, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from catalog_pipeline.evaluation.confusion import ConfusionMatrix
from catalog_pipeline.evaluation.retention import Matrix, RetentionMatrix

_DPI = 110
_NUMBERED_CONCEPTS = 14
"""Up to so many, a heat map prints its figures; beyond, they would not be readable."""

_UNMEASURED = "#eef0f3"
_LARGEST_SIDE = 11.0  # inches, however many concepts
_LABEL_CHARS = 24
_LABELLED_LINES = 10


def loss_chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> bytes:
    """One line a SKU: loss over steps, ``(step, loss)`` in order."""
    figure, axes = _figure("step", "loss")
    for sku, curve in curves.items():
        axes.plot([step for step, _ in curve], [loss for _, loss in curve], lw=1.4,
                  label=_short(sku))  # fmt: skip
    return _png(figure, axes, len(curves))


def fidelity_chart(
    history: Mapping[str, Sequence[float | None]],
    versions: Sequence[str],
    mean: Sequence[float | None] = (),
) -> bytes:
    """One line a SKU: fidelity in each version, ``None`` where it was not measured.

    ``mean`` is drawn over them, where it is given.
    """
    figure, axes = _figure("version", "fidelity")
    places = range(len(versions))
    for sku, values in history.items():
        axes.plot(places, _gaps(values), marker="o", ms=4, lw=1.4, label=_short(sku))
    if mean:
        axes.plot(places, _gaps(mean), color="#20242c", ls="--", lw=1.8, label="mean of all")
    every = max(1, math.ceil(len(versions) / 10))
    names = [version[:8] for version in versions[::every]]
    axes.set_xticks(places[::every], names, rotation=30, ha="right", rotation_mode="anchor")
    return _png(figure, axes, len(history))


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def retention_heat_map(matrix: RetentionMatrix, title: str) -> bytes:
    """``R[k, j]`` as colours: a row a measured task, a column a concept; grey: not measured."""
    rows = np.flatnonzero(~np.isnan(matrix.values).all(axis=1))
    values = matrix.values[rows]
    # From 0 on: a scale that starts at the lowest figure would paint noise as forgetting.
    limits = min(0.0, np.nanmin(values)), max(0.1, np.nanmax(values))
    labels = [matrix.concepts[row] for row in rows]
    figure = _heat_map(values, labels, matrix.concepts, limits, title, "fidelity")
    axes = figure.axes[0]
    axes.set_xlabel("concept measured")
    axes.set_ylabel("after learning")
    return _png_of(figure)


def confusion_heat_map(matrix: ConfusionMatrix, title: str) -> bytes:
    """Named x recognised as colours, 0 to 1; the diagonal is what one wants to see dark.

    A product that is never taken for another, or has no picture, is grey there.
    """
    names = matrix.concepts
    # Nothing is the rule off the diagonal, and a grid of noughts would hide the rest.
    values = np.where(matrix.values == 0, np.nan, matrix.values)
    figure = _heat_map(values, names, names, (0.0, 1.0), title, "share of pictures")
    axes = figure.axes[0]
    axes.set_xlabel("looks most like")
    axes.set_ylabel("prompt named")
    return _png_of(figure)


def _heat_map(
    values: Matrix,
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    title: str,
    unit: str,
) -> Figure:
    cell = min(max(0.24, 0.64 - 0.016 * len(columns)), _LARGEST_SIDE / len(columns))
    height = 1.9 + cell * max(len(rows), 2)
    figure = Figure(figsize=(3.0 + cell * len(columns), height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(_UNMEASURED)
    low, high = limits
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap="Blues", interpolation="nearest", vmin=low, vmax=high
    )
    every = max(1, math.ceil(0.2 / cell))  # A label needs a fifth of an inch.
    shown = [_short(name) for name in columns[::every]]
    axes.set_xticks(
        range(0, len(columns), every), shown, rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(0, len(rows), every), [_short(name) for name in rows[::every]])
    axes.tick_params(
        length=0, labelsize="small" if len(columns) <= _NUMBERED_CONCEPTS else "x-small"
    )
    axes.set_title(title, fontsize="medium")
    axes.spines[:].set_visible(False)
    if len(columns) <= _NUMBERED_CONCEPTS:
        for row, column in np.argwhere(~np.isnan(values)):
            value = values[row, column]
            dark = value > low + 0.6 * (high - low)
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="x-small",
                      color="white" if dark else "#20242c")  # fmt: skip
    figure.colorbar(image, ax=axes, shrink=0.8, label=unit)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_CHARS else name[: _LABEL_CHARS - 1] + "…"


def retention_curves(series: Mapping[str, Sequence[tuple[int, float]]], ylabel: str) -> bytes:
    """One line a method: ``(task, figure)`` in order."""
    return line_chart(series, "tasks learned", ylabel)


def cost_against_tasks(series: Mapping[str, Sequence[tuple[int, float]]], ylabel: str) -> bytes:
    """One line a method: ``(task, cost of that task)`` in order; the axis starts at 0."""
    return line_chart(series, "task", ylabel, from_zero=True)


def line_chart(
    series: Mapping[str, Sequence[tuple[int, float]]],
    x_label: str,
    y_label: str,
    *,
    from_zero: bool = False,
) -> bytes:
    """One line a name: ``(count, figure)`` in order, counts being whole numbers."""
    figure, axes = _figure(x_label, y_label)
    for name, points in series.items():
        axes.plot(
            [count for count, _ in points],
            [value for _, value in points],
            marker="o",
            ms=3.5,
            lw=1.4,
            label=name,
        )
    if from_zero:
        _from_zero(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure, axes, len(series))


def _from_zero(axes: Axes) -> None:
    """Room above: the margin of near equal values is thinner than a marker."""
    axes.set_ylim(0, 1.06 * axes.dataLim.y1 or None)


def growth_chart(
    points: Sequence[tuple[int, float]],
    line: Sequence[tuple[int, float]],
    x_label: str,
    y_label: str,
) -> bytes:
    """Points, and the line through them where there is one; the axis starts at 0."""
    figure, axes = _figure(x_label, y_label)
    axes.plot(*zip(*points, strict=True), ls="", marker="o", ms=3.5, label="measured")
    if line:
        axes.plot(*zip(*line, strict=True), lw=1.6, label="line")
    _from_zero(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    return _png(figure, axes, 2)


def interval_chart(
    rows: Sequence[tuple[str, float, float | None, float | None]], x_label: str
) -> bytes:
    """A line a row, the first on top: a mean, and what lies between ``low`` and ``high``."""
    figure, axes = _figure(x_label, "")
    figure.set_figheight(1.0 + 0.32 * len(rows))
    for place, (_, mean, low, high) in enumerate(reversed(rows)):
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color="#2f6fed", lw=2)
        axes.plot([mean], [place], marker="o", ms=6, color="#2f6fed")
    axes.set_yticks(range(len(rows)), [_short(name) for name, *_ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", color="#e2e5ea", linewidth=0.8)
    return _png(figure, axes, 0)


def _figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 3.0), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color="#e2e5ea", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure, axes: Axes, lines: int) -> bytes:
    if 0 < lines <= _LABELLED_LINES:
        # Beside the axes: no line is hidden.
        axes.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return _png_of(figure)


def _png_of(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
