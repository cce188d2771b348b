"""The query that README offers for pasting runs as it stands, over a real manifest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA_VERSION
from catalog_pipeline.stores.local import LocalObjectStore
from tests.builders import NIGHT, make_archive_row

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")


def a_row(archive: ImageArchive, number: int, *skus: str) -> ArchiveRow:
    key, sha256 = archive.put_image(b"picture %d" % number)
    return make_archive_row(
        f"image-{number}",
        *skus,
        path=key,
        sha256=sha256,
        layout="single" if len(skus) == 1 else "pair",
        schema_version=MANIFEST_SCHEMA_VERSION,
    )


@pytest.fixture(scope="module")
def beside_a_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose ``demo/`` holds a night of two live rows and a superseded one."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(REPOSITORY / "assets_config", folder / "demo" / "config")
    archive = ImageArchive(LocalObjectStore(folder / "demo"))
    rows = [
        a_row(archive, 1, "00123"),
        a_row(archive, 2, "00123", "マグ"),
        a_row(archive, 3, "gone"),
    ]
    archive.publish_day(NIGHT, rows, {"image-1", "image-2"})
    return folder


def test_the_query_runs_as_it_stands_and_leaves_out_what_was_superseded(
    beside_a_demo: Path,
) -> None:
    (query,) = re.findall(r"^catalog-pipeline query .*$", README, flags=re.MULTILINE)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", query],
        cwd=beside_a_demo,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "gone" not in result.stdout
    assert re.search(r"00123\W+2\b", result.stdout)
    assert re.search(r"マグ\W+1\b", result.stdout)
