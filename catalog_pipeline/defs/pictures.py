"""Pictures and pages that the UI shows: where they lie, and how an event names them.

Dagster's UI opens Markdown of less than 1,000 characters where it stands and hides longer
Markdown behind a click. A picture is therefore put beside the captured output of its run, which
the web server serves under ``/logs``, and the event holds only the link. Where that output is
not on a local disk, the picture itself is in the event.
"""

import base64
import hashlib
import os
from pathlib import Path
from typing import Protocol

import dagster as dg
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

MAX_PICTURE_BYTES = 70_000
"""Every event is stored for ever, so a picture in one stays below 100 kB as base64."""

PICTURES = "pictures"


class InARun(Protocol):
    """What a step's context has of its run."""

    @property
    def instance(self) -> dg.DagsterInstance:
        """Where its output is kept."""
        ...

    @property
    def run(self) -> dg.DagsterRun:
        """The run itself."""
        ...


def picture(png: bytes, *, alt: str, run: InARun | None = None) -> dg.MarkdownMetadataValue:
    """A PNG as metadata: a link to a file of ``run``, which the UI shows in place; else itself.

    In an event, a large one is a JPEG, reduced until it fits.
    """
    if run is not None and (link := _beside_output(png, run)):
        return dg.MetadataValue.md(f"![{alt}]({link})")
    from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_jpeg

    data, kind = png, "png"
    if len(png) > MAX_PICTURE_BYTES:
        data, kind = encode_jpeg(decode_png(png), max_bytes=MAX_PICTURE_BYTES), "jpeg"
    encoded = base64.b64encode(data).decode("ascii")
    return dg.MetadataValue.md(f"![{alt}](data:image/{kind};base64,{encoded})")


def page(path: Path, instance: dg.DagsterInstance) -> dg.MetadataValue[str | None]:
    """A page of the home: a link where the web server reaches it, else its path.

    A browser saves what it gets by such a link; the saved page opens by itself.
    """
    logs = instance.compute_log_manager
    if isinstance(logs, LocalComputeLogManager):
        base = Path(logs.get_captured_local_path(["x"], "x")).parent
        resolved = path.resolve()
        if base in resolved.parents and resolved.suffix:
            inside = resolved.relative_to(base)
            return dg.MetadataValue.url(
                f"/logs/{inside.with_suffix('').as_posix()}/{inside.suffix[1:]}"
            )
    return dg.MetadataValue.path(str(path))


def _beside_output(png: bytes, step: InARun) -> str | None:
    """Put ``png`` beside the output of the run; the link to it, ``None`` where there is no disk.

    Idempotent: named by content. It goes when the run does.
    """
    logs, run_id = step.instance.compute_log_manager, step.run.run_id
    if not isinstance(logs, LocalComputeLogManager):
        return None
    name = hashlib.sha256(png).hexdigest()[:16]
    target = Path(logs.get_captured_local_path([run_id, PICTURES, name], "png"))
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, not in the home: only a rename within one disk is atomic.
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(png)
        partial.replace(target)
    return f"/logs/{run_id}/{PICTURES}/{name}/png"
