"""The text that a safetensors file carries beside its tensors."""

from __future__ import annotations

import json


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes; ``{}`` when they carry none.

    Eight little-endian length bytes come first, then JSON of that length
    (https://huggingface.co/docs/safetensors). The library reads it from files only.

    Raises:
        ValueError: not safetensors bytes.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("the header is not a JSON object of tensors and a map __metadata__")
    return {str(key): str(value) for key, value in metadata.items()}
