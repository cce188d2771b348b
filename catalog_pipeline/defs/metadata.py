"""Curves, tables and links as Dagster metadata, small enough to be stored with every event."""

import io
import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import dagster as dg

from catalog_pipeline.defs.pictures import InARun, picture

TABLE_ROWS = 200
_MARKED_POINTS = 30


def loss_curve(
    points: Sequence[tuple[int, float]], run: InARun | None = None
) -> dg.MarkdownMetadataValue:
    """Loss over steps as a small line chart; ``points`` holds ``(step, loss)``, not empty."""
    steps = [step for step, _ in points]
    losses = [loss for _, loss in points]
    return picture(line_chart(steps, {"": losses}, "step", "loss"), alt="loss over steps", run=run)


def line_chart(
    places: Sequence[float] | Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
) -> bytes:
    """A small line chart as a PNG: a line for each of ``series``, with gaps where it has none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 2.6), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    names = [place for place in places if isinstance(place, str)]
    along = range(len(names)) if names else places
    marker = "o" if len(places) <= _MARKED_POINTS else None
    for name, values in series.items():
        known = [math.nan if value is None else value for value in values]
        axes.plot(along, known, label=name, linewidth=1.2, marker=marker, markersize=3)
    if names:
        every = max(1, len(names) // 12)
        axes.set_xticks(
            range(len(names))[::every], names[::every], rotation=30, ha="right", fontsize=7
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if any(series):
        axes.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def table(
    rows: Sequence[Mapping[str, str | int | float | bool | None]],
    columns: Mapping[str, str],
    *,
    at_most: int = TABLE_ROWS,
) -> dg.TableMetadataValue:
    """A table of at most ``at_most`` rows; ``columns`` maps a name to string/int/float/bool."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(row)) for row in rows[:at_most]],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name, type=kind) for name, kind in columns.items()]
        ),
    )


def bullets(lines: Sequence[str], *, at_most: int = 50, none: str = "none") -> str:
    """Lines as a Markdown list of at most ``at_most``; ``none`` where there are none."""
    listed = [f"- {line}" for line in lines[:at_most]]
    if len(lines) > at_most:
        listed.append(f"- and {len(lines) - at_most} more")
    return "\n".join(listed) or none


def numbers(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """Numbers that the UI plots over time, each named ``<prefix>/<name>``."""
    return {f"{prefix}/{name}": float(value) for name, value in sorted(values.items())}


def location(uri: str) -> dg.MetadataValue[str | None]:
    """Where an object is: a path on disk, or a link for a bucket."""
    if "://" in uri:
        return dg.MetadataValue.url(uri)
    return dg.MetadataValue.path(uri)


def events_link(key: dg.AssetKey, partition: str) -> dg.UrlMetadataValue:
    """All events of one partition in the UI: its reason, its pictures, what to do."""
    where = "/".join(quote(part, safe="") for part in key.path)
    chosen = quote(partition, safe="")
    return dg.MetadataValue.url(
        f"/assets/{where}?view=partitions&partition={chosen}&showAllEvents=true"
    )
