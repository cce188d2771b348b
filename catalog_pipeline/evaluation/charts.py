"""Small charts as PNG bytes, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 110
_LABELLED_LINES = 10


def loss_chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> bytes:
    """One line a SKU: loss over steps, ``(step, loss)`` in order."""
    figure, axes = _figure("step", "loss")
    for sku, curve in curves.items():
        axes.plot([step for step, _ in curve], [loss for _, loss in curve], lw=1.4, label=sku)
    return _png(figure, axes, len(curves))


def fidelity_chart(history: Mapping[str, Sequence[float | None]], versions: Sequence[str]) -> bytes:
    """One line a SKU: fidelity in each version, ``None`` where it was not measured."""
    figure, axes = _figure("version", "fidelity")
    places = range(len(versions))
    for sku, values in history.items():
        drawn = [float("nan") if value is None else value for value in values]
        axes.plot(places, drawn, marker="o", ms=4, lw=1.4, label=sku)
    axes.set_xticks(list(places), [version[:8] for version in versions])
    return _png(figure, axes, len(history))


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
        axes.legend(frameon=False, fontsize="small", ncols=2)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
