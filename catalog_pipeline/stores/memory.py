"""The long-term memory of one concept: prompts and image features, never pictures.

Neither photos nor latents are stored: a latent decodes back to nearly the photo,
a feature vector does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import Features

MEMORY_SCHEMA_VERSION = 1
_TENSOR = "features"


@dataclass(frozen=True)
class MemoryEntry:
    """What is remembered of ``sku`` for good.

    ``features`` is ``(photos, features)``, float32, L2-normalised; ``prompts`` are
    the sentences that the concept was learned with.
    """

    sku: str
    prompts: tuple[str, ...]
    features: Features


def encode_memory(entry: MemoryEntry) -> bytes:
    """Safetensors bytes of ``entry``; the same entry gives the same bytes.

    Raises:
        StoreError: ``features`` is not a finite ``(photos, features)`` array.
    """
    features = np.ascontiguousarray(entry.features, dtype=np.float32)
    if features.ndim != 2 or features.shape[0] == 0 or not np.isfinite(features).all():
        raise StoreError(
            f"memory of {entry.sku!r} has features of shape {features.shape}; expected finite "
            "(photos, features) vectors, never pictures or latents"
        )
    # One metadata entry: safetensors writes several in an order that varies between runs.
    record = {
        "prompts": list(entry.prompts),
        "schema_version": MEMORY_SCHEMA_VERSION,
        "sku": entry.sku,
    }
    return save(
        {_TENSOR: features},
        metadata={"memory": json.dumps(record, ensure_ascii=False, sort_keys=True)},
    )


def decode_memory(data: bytes) -> MemoryEntry:
    """The entry of :func:`encode_memory`.

    Raises:
        IntegrityError: not the safetensors file of a memory entry.
        StoreError: written by a newer version of this program.
    """
    try:
        record = _record(data)
        features = load(data)[_TENSOR]
        version = int(record["schema_version"])
        entry = MemoryEntry(str(record["sku"]), tuple(record["prompts"]), features)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{len(data)} bytes are not a memory entry ({error}); expected a safetensors file "
            f"with the tensor {_TENSOR!r}"
        ) from error
    if version > MEMORY_SCHEMA_VERSION:
        raise StoreError(
            f"memory of {entry.sku!r} has schema version {version}; this program reads up to "
            f"{MEMORY_SCHEMA_VERSION}: upgrade catalog-pipeline"
        )
    return entry


def _record(data: bytes) -> dict[str, Any]:
    """The metadata of a safetensors file: 8 little-endian length bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    record = json.loads(header["__metadata__"]["memory"])
    if not isinstance(record, dict):
        raise TypeError("the memory record is not a mapping")
    return record
