"""The lines that README offers for pasting run as they stand, over a real manifest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA, MANIFEST_SCHEMA_VERSION
from catalog_pipeline.stores.local import LocalObjectStore
from tests.builders import NIGHT, make_archive_row

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


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
    archive = ImageArchive(LocalObjectStore(folder / "demo"))
    rows = [
        a_row(archive, 1, "00123"),
        a_row(archive, 2, "00123", "マグ"),
        a_row(archive, 3, "gone"),
    ]
    archive.publish_day(NIGHT, rows, {"image-1", "image-2"})
    return folder


def test_the_readme_offers_a_query_for_each_library() -> None:
    offered = {name for name in ("duckdb", "pandas", "pyarrow") if f"import {name}" in README}
    assert offered == {"duckdb", "pandas", "pyarrow"}
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[s.split()[1].rstrip(";") for s in SNIPPETS])
def test_every_query_runs_as_it_stands_and_leaves_out_what_was_superseded(
    snippet: str, beside_a_demo: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", snippet], cwd=beside_a_demo, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "gone" not in result.stdout
    assert "image-3" not in result.stdout
    assert re.search(r"00123|pair|sandy beach", result.stdout)


def test_the_readme_names_every_column_of_the_manifest() -> None:
    row = README.partition("A row: ")[2].partition("Earlier states")[0]
    assert [name for name in MANIFEST_SCHEMA.names if name not in row] == []
