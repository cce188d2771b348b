"""The text beside the tensors, read from bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from catalog_pipeline.safetensors_header import read_metadata, told_size_bytes


def test_what_the_library_writes_is_read() -> None:
    tensors = {"a": np.zeros((2, 3), np.float32)}
    assert read_metadata(save(tensors, metadata={"sku": "マグ"})) == {"sku": "マグ"}
    assert read_metadata(save(tensors)) == {}


@pytest.mark.parametrize("header", [b"", b"rotten", b"[]", b'{"__metadata__": []}', b"\xff"])
def test_other_bytes_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError):
        read_metadata(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize("tensors", [{}, {"a": np.zeros((2, 3), np.float32), "b": np.ones(5)}])
def test_a_file_tells_its_own_size(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    whole = save(tensors, metadata={"sku": "mug"})
    for kept in (len(whole), len(whole) - 1, len(whole) // 2, 20):
        (tmp_path / "file").write_bytes(whole[:kept])
        told = told_size_bytes(tmp_path / "file")
        assert kept < told <= len(whole) or kept == told == len(whole)


@pytest.mark.parametrize(
    "header", [b"", b"rotten", b"{]", b'{"a": 1}', b'{"a": {"data_offsets": []}}', b"[]", b"\xff"]
)
def test_of_other_files_no_size_is_told(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError):
        told_size_bytes(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="length of a header"):
        told_size_bytes(tmp_path / "file")
