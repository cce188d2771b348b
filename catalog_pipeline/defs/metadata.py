"""Pictures, curves and tables as Dagster metadata, small enough to be stored with every event."""

import base64
import io
from collections.abc import Mapping, Sequence

import dagster as dg

MAX_PICTURE_BYTES = 70_000
"""Every event is stored for ever, so a picture stays below 100 kB as base64."""

TABLE_ROWS = 200


def picture(png: bytes, *, alt: str) -> dg.MarkdownMetadataValue:
    """A PNG that the UI shows inline; a large one as a JPEG, reduced until it fits an event."""
    from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_jpeg

    data, kind = png, "png"
    if len(png) > MAX_PICTURE_BYTES:
        data, kind = encode_jpeg(decode_png(png), max_bytes=MAX_PICTURE_BYTES), "jpeg"
    encoded = base64.b64encode(data).decode("ascii")
    return dg.MetadataValue.md(f"![{alt}](data:image/{kind};base64,{encoded})")


def loss_curve(points: Sequence[tuple[int, float]]) -> dg.MarkdownMetadataValue:
    """Loss over steps as a small line chart; ``points`` holds ``(step, loss)``, not empty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 2.4), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([step for step, _ in points], [loss for _, loss in points], linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return picture(buffer.getvalue(), alt="loss over steps")


def table(
    rows: Sequence[Mapping[str, str | int | float | bool | None]], columns: Mapping[str, str]
) -> dg.TableMetadataValue:
    """A table of at most ``TABLE_ROWS`` rows; ``columns`` maps a name to string/int/float/bool."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(row)) for row in rows[:TABLE_ROWS]],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name, type=kind) for name, kind in columns.items()]
        ),
    )


def numbers(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """Numbers that the UI plots over time, each named ``<prefix>/<name>``."""
    return {f"{prefix}/{name}": float(value) for name, value in sorted(values.items())}


def location(uri: str) -> dg.MetadataValue[str | None]:
    """Where an object is: a path on disk, or a link for a bucket."""
    if "://" in uri:
        return dg.MetadataValue.url(uri)
    return dg.MetadataValue.path(uri)
