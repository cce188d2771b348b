"""A UI over a home with a broken product, a browser, and pictures of what went wrong."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.screenshots import HEIGHT_PX, REPOSITORY, WIDTH_PX
from tests.e2e.ui_stack import PAGE_SECONDS, UiStack, running_ui

GOOD, BROKEN = "MUG-ZIGZAG-01", "VASE-DIAGONAL-01"
FEWEST_PHOTOS = 3
"""As few as are enough, so that one that cannot be read is one too many."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium; without one the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium: install one, for example with apt-get install chromium")


@pytest.fixture(scope="module")
def ui(chromium: str) -> Iterator[UiStack]:
    """``dagster dev`` over a home in which one product was learned and one was refused.

    The watcher found both and learned them in one run; then it was turned off, so that what
    follows is done by the person in the story alone. A short path keeps the pictures readable.
    """
    folder = Path(tempfile.mkdtemp(prefix="catalog-"))
    try:
        with running_ui(folder) as stack:
            _arrive(stack.products)
            with stack.watching():
                stack.ended("learn_new_skus", "FAILURE")
            yield stack
    finally:
        shutil.copy(folder / "dev.log", _left_behind() / "dev.log")
        shutil.rmtree(folder, ignore_errors=True)


def _arrive(products: Path) -> None:
    """Two product folders; the copying of a photo of the second one broke off."""
    from catalog_pipeline.studio.sample_catalog import write_sample_catalog

    write_sample_catalog(products, [GOOD, BROKEN])
    for sku in (GOOD, BROKEN):
        for photo in photos(products, sku)[FEWEST_PHOTOS:]:
            photo.unlink()
    broken = photos(products, BROKEN)[-1]
    broken.write_bytes(broken.read_bytes()[:3000])


def photos(products: Path, sku: str) -> list[Path]:
    """The photos of a product, by name."""
    return sorted((products / sku).glob("*.jpg"))


@pytest.fixture
def page(ui: UiStack, chromium: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of the UI in headless Chromium; one that a test failed on is kept as a picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(
            viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, base_url=ui.url, locale="en-GB"
        )
        shown.set_default_timeout(PAGE_SECONDS * 1000)
        shown.goto("/")
        failed_before = request.session.testsfailed
        yield shown
        if request.session.testsfailed > failed_before:
            shown.screenshot(path=_left_behind() / f"{request.node.name}.png")
        browser.close()


def _left_behind() -> Path:
    """Where the server's log, and the page that a test failed on, can be looked at."""
    folder = REPOSITORY / "build/e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
