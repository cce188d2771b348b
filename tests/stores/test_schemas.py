"""Parquet is read alike by every door, and without a thread of Arrow, which may abort a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.stores.schemas import (
    decode_manifest,
    decode_shards,
    encode_manifest,
    encode_shard,
    read_columns,
)
from tests.builders import make_archive_row

GOLDEN = Path(__file__).parent / "golden"
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
assert len(schemas.decode_shards([(schemas.encode_shard(rows[:8]), "x")] * 9)) == 9
assert len(schemas.read_columns(manifest, "x", "path")[0]) == 2000
assert schemas.decode_index(schemas.encode_index([make_index_row("00123")]), "x")
assert threads() == before, (before, threads())
"""


def test_reading_and_writing_start_no_thread() -> None:
    result = subprocess.run(
        [sys.executable, "-c", READ_AND_WRITE], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_shards_are_read_as_each_manifest_is() -> None:
    rows = [make_archive_row(f"{n:02}", "00123", "マグ") for n in range(12)]
    golden = sorted(GOLDEN.glob("*/manifest/*/part-0.parquet"))
    shards = [
        (encode_shard(rows[:8]), "new"),
        *((path.read_bytes(), str(path)) for path in golden),
        (encode_manifest(rows[8:]), "of an earlier release"),
        (encode_shard([]), "empty"),
    ]
    assert len(golden) == 7
    assert decode_shards(shards) == [decode_manifest(*shard)[0] for shard in shards]
    assert decode_shards([]) == []
    with pytest.raises(IntegrityError, match=r"^rotten is not a readable Parquet file"):
        decode_shards([*shards, (b"rotten", "rotten")])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/manifest/*/part-0.parquet")))
def test_columns_alone_hold_what_the_rows_do(path: Path) -> None:
    rows, stamps = decode_manifest(path.read_bytes(), "x")
    some = ("path", "superseded", "verdict")
    assert read_columns(path.read_bytes(), "x", *some) == (
        [tuple(getattr(row, name) for name in some) for row in rows],
        stamps,
    )
