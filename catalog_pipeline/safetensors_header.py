"""What a safetensors file says before its tensors: the text beside them, and its own size.

Eight little-endian length bytes come first, then JSON of that length, then the bytes of the
tensors (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LENGTH_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000
"""The library refuses a longer one."""


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes; ``{}`` when they carry none.

    The library reads it from files only.

    Raises:
        ValueError: not safetensors bytes.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length].decode("utf-8"))
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("the header is not a JSON object of tensors and a map __metadata__")
    return {str(key): str(value) for key, value in metadata.items()}


def told_size_bytes(path: Path) -> int:
    """How long the file should be by its own header; of one cut off in the header, at least.

    Raises:
        ValueError: no safetensors header.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 0 < length <= _LONGEST_HEADER_BYTES:
            raise ValueError("it does not begin with the length of a header")
        text = stream.read(length)
    if not text.startswith(b"{"):
        raise ValueError("its header is not a JSON object")
    if len(text) < length:
        return _LENGTH_BYTES + length
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [int(told["data_offsets"][1]) for name, told in header.items() if name[:2] != "__"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"its header does not tell tensors: {error}") from error
    return _LENGTH_BYTES + length + max(ends, default=0)
