"""What the operator's guide tells, done in a browser: a product fails, is mended, a night is made.

Each step is a function; the pictures that they take are those of docs/operator-guide.md. The
words that are looked for are those that the guide names, so a UI that renames them fails here.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from catalog_pipeline.records import SkuStatus
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from tests.e2e.conftest import BROKEN, GOOD, photos
from tests.e2e.screenshots import take
from tests.e2e.ui_stack import PAGE_SECONDS, PATIENCE_SECONDS, UiStack
from tests.faults.dagster_stack import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * PATIENCE_SECONDS)]

expect.set_options(timeout=PAGE_SECONDS * 1000)
UNTIL_A_RUN_ENDS = PATIENCE_SECONDS * 1000
RUN_ID = re.compile(r"^[0-9a-f]{8}$")


def test_a_failed_product_is_mended_and_a_night_is_made(
    page: Page, ui: UiStack, tmp_path: Path
) -> None:
    sees_what_to_do(page)
    opens_the_message(page)
    corrects_the_folder(ui, tmp_path)
    executes_again_from_failure(page, ui)
    sees_no_product_waiting(page, ui)
    starts_a_night(page)
    finds_the_contact_sheet(page)
    finds_report_and_gallery(page, ui)
    (night,) = ui.home.archive.days()
    assert {sku for row in ui.home.archive.read_day(night) for sku in row.skus} == {BROKEN, GOOD}


def sees_what_to_do(page: Page) -> None:
    """*Catalog*, ``catalog/index``, *Events*: the failed product first, and the one thing to do."""
    open_asset(page, "catalog", "index")
    table = page.locator("table").filter(has_text="what to do").last
    first = table.locator("tbody tr").first
    expect(first).to_contain_text(BROKEN)
    expect(first).to_contain_text("failed")
    expect(first).to_contain_text("is damaged or truncated")
    expect(first).to_contain_text(f"in the folder {BROKEN}")
    expect(table.locator("tbody tr").nth(1)).to_contain_text(GOOD)
    navigation = page.get_by_role("img", name=re.compile("panel_show_"))
    navigation.click()  # wide tables are cut at the right
    take(page, "products", until=table)
    navigation.click()


def opens_the_message(page: Page) -> None:
    """*Runs*, *Failed*, the run, its message."""
    page.get_by_role("link", name="Runs").first.click()
    page.get_by_text("Failed", exact=True).first.click()
    page.locator("a[href^='/runs/']").filter(has_text=RUN_ID).first.click()
    page.get_by_placeholder("Filter…").fill("type:STEP_FAILURE")
    message = page.get_by_text("1 of 2 SKUs were not learned").first
    expect(message).to_contain_text("copy or export it again")
    chart_is_drawn(page)
    take(page, "run-failed", until=message)


def corrects_the_folder(ui: UiStack, tmp_path: Path) -> None:
    """Copies the photo again."""
    write_sample_catalog(tmp_path, [BROKEN])
    broken = photos(ui.products, BROKEN)[-1]
    shutil.copy(tmp_path / BROKEN / broken.name, broken)


def executes_again_from_failure(page: Page, ui: UiStack) -> None:
    """*Re-execute all*, *From failure*: a new run, which becomes green."""
    failed = page.url
    page.get_by_role("button", name="Re-execute all").locator(
        "xpath=following-sibling::*//button"
    ).click()
    from_failure = page.get_by_text("From failure", exact=True)
    expect(from_failure).to_be_visible()
    take(page, "re-execute", until=page.get_by_text("From asset failure"))
    from_failure.click()
    page.wait_for_url(lambda url: "/runs/" in url and url != failed)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=UNTIL_A_RUN_ENDS)
    chart_is_drawn(page)
    take(page, "run-green", until=page.get_by_text("Re-executions (1)").locator("xpath=../../.."))
    run = ui.ended("learn_new_skus", "SUCCESS")
    assert run["runId"] in page.url
    assert run["parentRunId"] in failed


def sees_no_product_waiting(page: Page, ui: UiStack) -> None:
    """The same table after the watcher's next look: nothing is to be done, nor asked for."""
    runs = len(ui.runs("learn_new_skus"))
    open_asset(page, "catalog", "index")
    table = page.locator("table").filter(has_text="what to do").last
    with ui.watching():
        expect(table.locator("tbody tr").filter(has_text=BROKEN)).to_contain_text("learned")
    assert len(ui.runs("learn_new_skus")) == runs
    rows = {row.sku: row.status for row in ui.home.index.read()}
    assert rows == {GOOD: SkuStatus.LEARNED, BROKEN: SkuStatus.LEARNED}


def starts_a_night(page: Page) -> None:
    """*Jobs*, ``nightly_generation``, *Materialize all*, *Latest*; the run becomes green."""
    page.get_by_role("link", name="Jobs").first.click()
    page.get_by_text("nightly_generation", exact=True).first.click()
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_role("button", name="Latest").click()
    launch = page.get_by_role("button", name="Launch 1 run")
    expect(launch).to_be_enabled()
    take(page, "launch-night", until=launch)
    launch.click()
    page.get_by_role("button", name="View", exact=True).or_(
        page.get_by_role("link", name="View", exact=True)
    ).last.click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=UNTIL_A_RUN_ENDS)


def finds_the_contact_sheet(page: Page) -> None:
    """``generation/images`` shows the pictures of the night in place."""
    page.goto("/")  # what was launched is not announced any more
    open_asset(page, "generation", "images")
    sheet = page.locator("img[alt^='night of']").first
    expect(sheet).to_be_visible()
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    take(page, "contact-sheet", until=sheet)


def finds_report_and_gallery(page: Page, ui: UiStack) -> None:
    """``archive/image_manifest`` links the pages of the night, which can be fetched."""
    open_asset(page, "archive", "image_manifest")
    links = {name: metadata(page, name).get_by_role("link").first for name in ("report", "gallery")}
    for link in links.values():
        expect(link).to_be_visible()
        address = link.get_attribute("href")
        assert address is not None
        answer = page.request.get(address)
        assert answer.ok, f"{address}: {answer.status}"
        assert GOOD in answer.text()
    take(page, "night", until=metadata(page, "gallery"))


def chart_is_drawn(page: Page) -> None:
    """The bar of the step has its colour: its name is not behind a spinner any more."""
    bar = page.get_by_text("learning__concept").first
    edge = 275  # where the name of a finished step that took the whole time begins
    wait_for(lambda: (bar.bounding_box() or {"x": 1e9})["x"] < edge, "the chart", PAGE_SECONDS)


def open_asset(page: Page, group: str, name: str) -> None:
    """*Catalog*, the asset, *Events*."""
    page.get_by_role("link", name="Catalog").first.click()
    page.locator(f"a[href='/assets/{group}/{name}']").first.click()
    page.get_by_role("tab", name="Events").click()


def metadata(page: Page, name: str) -> Locator:
    """The row of the newest event's metadata that is called ``name``."""
    key = page.get_by_text(name, exact=True)
    return page.locator("tr").filter(has=page.locator("td").first.filter(has=key)).last
