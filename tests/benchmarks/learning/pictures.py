"""The pictures of the report: heat maps, curves, and sheets of what the methods paint."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from catalog_pipeline.evaluation.charts import (
    cost_against_tasks,
    line_chart,
    retention_curves,
    retention_heat_map,
)
from catalog_pipeline.evaluation.contact_sheet import (
    contact_sheet,
    decode_png,
    encode_jpeg,
    encode_png,
)
from tests.benchmarks.harness.report import first_photo
from tests.benchmarks.learning.groups import Group
from tests.benchmarks.learning.scenes import SCENE_SIZES

SHOWN = ("ours", "finetune", "l2dm")
"""Methods whose pictures are shown; of a suite with fewer than two of them, its first rows."""
BARS = {"own": "after own task", "final": "final", "forgetting": "forgetting"}
CHART_BYTES = 80_000
SHEET_BYTES = 150_000
_EACH = 4
_CELL_PX = 64


def draw_charts(group: Group, prefix: str) -> dict[str, bytes]:
    """File name -> PNG: heat maps of :data:`SHOWN`; of all methods likeness and cost over tasks,
    and how many products of a picture are found."""
    encoder = group.encoders[0]
    charts = {}
    for method in SHOWN:
        result = group.representative(method)
        if result is not None and result.in_sequence:
            matrix = result.matrix(encoder, everything=True)
            if not np.isnan(matrix.values).all():
                charts[f"{prefix}-retention-{method}.png"] = retention_heat_map(matrix, method)
    lifelong = [
        (label, result)
        for label in group.rows
        if (result := group.representative(label)) is not None and result.in_sequence
    ]
    if lifelong:
        fidelity = {label: result.fidelity_curve(encoder) for label, result in lifelong}
        costs = {label: result.cost_curve() for label, result in lifelong}
        y_label = "mean likeness so far"
        charts[f"{prefix}-forgetting.png"] = retention_curves(fidelity, y_label)
        charts[f"{prefix}-cost.png"] = cost_against_tasks(costs, "CPU s of the task")
        found = {label: _all_found(group, label) for label, _ in lifelong}
        if any(found.values()):
            charts[f"{prefix}-all-found.png"] = line_chart(
                found, "products in a picture", "share with all found", from_zero=True
            )
    return {name: _small(data) for name, data in charts.items()}


def _all_found(group: Group, label: str) -> list[tuple[int, float]]:
    """``(products in a picture, share of pictures in which all are found)``, over all cells."""
    figures = group.figures(label, group.encoders[0])
    return [
        (size, float(np.mean(shares)))
        for size in (1, *SCENE_SIZES)
        if (shares := figures.get(f"all_found@{size}"))
    ]


def draw_sheet(group: Group, home: Path) -> bytes | None:
    """JPEG: a row a product; one photo, then pictures of the shown methods after the last task.

    ``None`` where none of them has been run.
    """
    found = [group.representative(method) for method in sheet_columns(group)]
    results = [result for result in found if result is not None]
    if not results:
        return None
    rows = [
        [
            first_photo(home / "products" / sku),
            *(picture for r in results for picture in r.pictures(len(r.skus), sku)[:_EACH]),
        ]
        for sku in results[0].skus
    ]
    return encode_jpeg(contact_sheet(rows, cell_px=_CELL_PX), SHEET_BYTES, quality=85)


def sheet_columns(group: Group) -> Sequence[str]:
    """Which methods the sheet shows, from left to right."""
    usual = [method for method in SHOWN if method in group.rows]
    return usual if len(usual) > 1 else list(group.rows)[: len(SHOWN)]


def draw_bars(group: Group, prefix: str) -> dict[str, bytes]:
    """File name -> PNG: a bar for each figure of :data:`BARS`, a group of bars a row."""
    encoder, labels = group.encoders[0], list(group.rows)
    figure = Figure(figsize=(7.2, 0.9 + 0.42 * len(labels)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places, thick = np.arange(len(labels)), 0.8 / len(BARS)
    for index, (key, title) in enumerate(BARS.items()):
        cells = [group.figures(label, encoder)[key] for label in labels]
        means = [float(np.mean(values)) if values else 0.0 for values in cells]
        axes.barh(places + (index - 1) * thick, means, thick, label=title)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"mean-centred cosine, {encoder}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return {f"{prefix}-bars.png": _small(buffer.getvalue())}


def _small(png: bytes) -> bytes:
    return png if len(png) <= CHART_BYTES else encode_png(decode_png(png), CHART_BYTES)
