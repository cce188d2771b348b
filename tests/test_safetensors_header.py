"""The text beside the tensors, read from bytes."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from catalog_pipeline.safetensors_header import read_metadata


def test_what_the_library_writes_is_read() -> None:
    tensors = {"a": np.zeros((2, 3), np.float32)}
    assert read_metadata(save(tensors, metadata={"sku": "マグ"})) == {"sku": "マグ"}
    assert read_metadata(save(tensors)) == {}


@pytest.mark.parametrize("header", [b"", b"rotten", b"[]", b'{"__metadata__": []}', b"\xff"])
def test_other_bytes_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError):
        read_metadata(len(header).to_bytes(8, "little") + header)
