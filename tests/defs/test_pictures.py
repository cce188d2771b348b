"""Pictures of a run lie beside its output, where the web server finds them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster_webserver.webserver import DagsterWebserver
from PIL import Image
from starlette.testclient import TestClient

from catalog_pipeline.defs.ops.jobs import delete_run
from catalog_pipeline.defs.pictures import page, picture
from catalog_pipeline.evaluation.contact_sheet import encode_png

PNG = encode_png(np.full((8, 8, 3), 200, np.uint8))


@dataclass(frozen=True)
class Run:
    """A run as a step knows it."""

    instance: dg.DagsterInstance
    run: dg.DagsterRun = field(
        default_factory=lambda: dg.DagsterRun("job", run_id="11111111-2222-3333-4444-555555555555")
    )


@pytest.fixture
def logging_run(tmp_path: Path) -> Run:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", "utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        return Run(instance)


def test_a_picture_of_a_run_is_a_short_link_that_the_web_server_serves(logging_run: Run) -> None:
    found = picture(PNG, alt="mug", run=logging_run)
    assert picture(PNG, alt="mug", run=logging_run) == found
    shown = str(found.value)
    assert len(shown) < 1000  # what is longer, the UI hides behind a click
    link = shown.removeprefix("![mug](").removesuffix(")")
    with WorkspaceProcessContext(logging_run.instance, None) as process:
        client = TestClient(DagsterWebserver(process).create_asgi_app())
        answer = client.get(link)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == PNG


def test_the_pictures_of_a_run_go_with_it(logging_run: Run) -> None:
    picture(PNG, alt="mug", run=logging_run)
    logs = logging_run.instance.compute_log_manager
    assert isinstance(logs, LocalComputeLogManager)
    folder = Path(logs.get_captured_local_path([logging_run.run.run_id, "x"], "x")).parent
    assert [path.suffix for path in (folder / "pictures").iterdir()] == [".png"]
    delete_run(logging_run.instance, logging_run.run.run_id)
    assert not folder.exists()


def test_without_a_disk_for_output_the_picture_is_in_the_event(
    instance: dg.DagsterInstance,
) -> None:
    shown = str(picture(PNG, alt="mug", run=Run(instance)).value)
    data = base64.b64decode(shown.partition("base64,")[2].rstrip(")"))
    assert Image.open(io.BytesIO(data), formats=["PNG"]).size == (8, 8)


def test_a_page_is_a_link_where_the_web_server_reaches_it(logging_run: Run, tmp_path: Path) -> None:
    inside = tmp_path / "storage" / "reports" / "gallery-2026-02-03.html"
    assert page(inside, logging_run.instance).value == "/logs/reports/gallery-2026-02-03/html"
    outside = tmp_path / "elsewhere" / "gallery.html"
    assert page(outside, logging_run.instance).value == str(outside)
