"""Pictures of the UI for the operator's guide."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH_PX, HEIGHT_PX = 1280, 1000
MARGIN_PX = 16
MAX_BYTES = 150_000


def folder() -> Path:
    """Where pictures go: the guide's with ``SCREENSHOTS=1``, else a build folder."""
    wanted = os.environ.get("SCREENSHOTS", "") not in ("", "0")
    return REPOSITORY / ("docs/images/operator" if wanted else "build/operator")


def take(page: Page, name: str, *, until: Locator) -> None:
    """The page at full width, from its upper end down to that of ``until``.

    The PNG has a palette of its own: a page of text and lines loses nothing by that.
    """
    page.mouse.move(WIDTH_PX - 1, 0)  # nothing is hovered over
    box = until.bounding_box()
    assert box is not None, f"{name}: {until} is not to be seen"
    height = min(float(HEIGHT_PX), box["y"] + box["height"] + MARGIN_PX)
    clip = FloatRect(x=0, y=0, width=WIDTH_PX, height=height)
    with Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))) as shot:
        small = shot.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT)
    target = folder() / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    small.save(target, optimize=True)
    assert target.stat().st_size < MAX_BYTES, f"{target} has {target.stat().st_size} bytes"
