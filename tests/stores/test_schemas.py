"""Parquet is read and written without a thread of Arrow, which may abort a process that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

READ_AND_WRITE = """
import os
from catalog_pipeline.stores import schemas
from tests.builders import make_archive_row, make_index_row

def threads():
    return sorted(os.listdir("/proc/self/task"))

before = threads()
rows = [make_archive_row(f"{n:04}", "00123", "マグ") for n in range(2000)]
manifest = schemas.encode_manifest(rows)
assert len(schemas.decode_manifest(manifest, "x")[0]) == 2000
assert schemas.decode_index(schemas.encode_index([make_index_row("00123")]), "x")
assert threads() == before, (before, threads())
"""


def test_reading_and_writing_start_no_thread() -> None:
    result = subprocess.run(
        [sys.executable, "-c", READ_AND_WRITE], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
