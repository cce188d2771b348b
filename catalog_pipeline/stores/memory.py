"""The long-term memory of one concept: prompts, image features and colours, never pictures.

Neither photos nor latents are stored: a latent decodes back to nearly the photo, a
feature vector and shares of colours do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.records import Features, Palette, memory_part
from catalog_pipeline.safetensors_header import read_metadata

MEMORY_SCHEMA_VERSION = 1
ENCODER = "mobilenet_v2"
"""Whose features a memory holds."""
MAX_WIDTH = 2048
"""Numbers that a photo may leave in a memory; a latent of a base of 128 px has twice as many."""
MAX_COLORS = 256
"""Of a palette: no room for a thumbnail."""
_TENSOR = "features"
_PALETTE = "palette"


@dataclass(frozen=True)
class MemoryEntry:
    """What is remembered of ``sku`` for good.

    ``features`` is ``(photos, features)``, float32, L2-normalised; ``prompts`` are
    the sentences that the concept was learned with. ``palette`` holds shares of
    colours, ``(colours,)``, float32, summing to 1; ``None`` where no photo had a mask,
    and in memories of earlier releases.
    """

    sku: str
    prompts: tuple[str, ...]
    features: Features
    palette: Palette | None = None


def encode_memory(entry: MemoryEntry) -> bytes:
    """Safetensors bytes of ``entry``; the same entry gives the same bytes.

    Raises:
        StoreError: ``features`` is not a ``(photos, features)`` array of unit rows, or
            ``palette`` is not shares of colours.
    """
    features = _features(entry)
    tensors = {_TENSOR: features}
    if entry.palette is not None:
        tensors[_PALETTE] = _shares(entry.sku, entry.palette)
    # One metadata entry: safetensors writes several in an order that varies between runs.
    record = {
        "prompts": list(entry.prompts),
        "schema_version": MEMORY_SCHEMA_VERSION,
        "sku": entry.sku,
    }
    return save(
        tensors,
        metadata={"memory": json.dumps(record, ensure_ascii=False, sort_keys=True)},
    )


def decode_memory(data: bytes) -> MemoryEntry:
    """The entry of :func:`encode_memory`.

    Raises:
        IntegrityError: not the safetensors file of a memory entry.
        StoreError: written by a newer version of this program.
    """
    try:
        record = json.loads(read_metadata(data)["memory"])
        tensors = load(data)
        version = int(record["schema_version"])
        entry = MemoryEntry(
            str(record["sku"]), tuple(record["prompts"]), tensors[_TENSOR], tensors.get(_PALETTE)
        )
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


def memory_version(parts: Mapping[str, str]) -> str:
    """Names the long-term memory of a version with ``parts``: a hash over its entries."""
    kind = memory_part("")
    return canonical_sha256({k: v for k, v in parts.items() if k.startswith(kind)})[:16]


def _features(entry: MemoryEntry) -> Features:
    """Those of ``entry``, refused where they could be anything else: pixels have no unit length."""
    features = np.ascontiguousarray(entry.features, dtype=np.float32)
    shaped = features.ndim == 2 and features.shape[0] > 0 and features.shape[1] <= MAX_WIDTH
    if not shaped or not np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3):
        raise StoreError(
            f"memory of {entry.sku!r} has features of shape {features.shape}; expected (photos, "
            f"features) vectors of unit length and at most {MAX_WIDTH} numbers, never pictures or "
            "latents"
        )
    return features


def _shares(sku: str, palette: Palette) -> Palette:
    shares = np.ascontiguousarray(palette, dtype=np.float32)
    few = shares.ndim == 1 and len(shares) <= MAX_COLORS
    if not few or not (shares >= 0).all() or abs(float(shares.sum()) - 1) > 1e-3:
        raise StoreError(
            f"palette of {sku!r} has shape {shares.shape} and the sum {float(shares.sum()):.3f}; "
            f"expected (colours,), at most {MAX_COLORS}, shares that sum to 1"
        )
    return shares
