"""Pictures of the UI for the operator's guide."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH_PX = 1280
MAX_BYTES = 150_000


def folder() -> Path:
    """Where pictures go: the guide's with ``SCREENSHOTS=1``, else a build folder."""
    wanted = os.environ.get("SCREENSHOTS", "") not in ("", "0")
    return REPOSITORY / ("docs/images/operator" if wanted else "build/operator")


def take(
    page: Page, name: str, *, top: Locator | None = None, until: Locator | None = None
) -> None:
    """The page at full width, from ``top`` (else its upper end) down to the end of ``until``.

    The PNG has a palette of its own: a page of text and lines loses nothing by that.
    """
    page.mouse.move(WIDTH_PX - 1, 0)  # nothing is hovered over
    start = 0.0 if top is None else max(0.0, _box(top)["y"] - 16)
    height = float(page.viewport_size["height"]) if page.viewport_size else 800.0
    end = height if until is None else min(height, _box(until)["y"] + _box(until)["height"] + 16)
    assert end > start, f"{name}: there is nothing between {start} and {end}"
    clip = {"x": 0.0, "y": start, "width": float(WIDTH_PX), "height": end - start}
    with Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))) as shot:  # type: ignore[arg-type]
        small = shot.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT)
    target = folder() / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    small.save(target, optimize=True)
    assert target.stat().st_size < MAX_BYTES, f"{target} has {target.stat().st_size} bytes"


def _box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None, f"{locator} is not to be seen"
    return dict(found)  # type: ignore[arg-type]
