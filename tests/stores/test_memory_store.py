"""The long-term memory of a concept on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from catalog_pipeline.errors import IntegrityError, StoreError
from catalog_pipeline.stores.memory import MemoryEntry, decode_memory, encode_memory


@pytest.fixture
def entry() -> MemoryEntry:
    features = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return MemoryEntry("00123", ("a photo of <m> mug", "マグの写真"), features)


def test_an_entry_comes_back_bit_for_bit(entry: MemoryEntry) -> None:
    data = encode_memory(entry)
    found = decode_memory(data)
    assert (found.sku, found.prompts) == (entry.sku, entry.prompts)
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features, entry.features)
    assert encode_memory(found) == data


def test_colours_come_back_where_they_were_kept(entry: MemoryEntry) -> None:
    palette = np.full(8, 1 / 8, np.float32)
    found = decode_memory(encode_memory(replace(entry, palette=palette)))
    assert found.palette is not None
    np.testing.assert_array_equal(found.palette, palette)
    np.testing.assert_array_equal(found.features, entry.features)
    assert decode_memory(encode_memory(entry)).palette is None


@pytest.mark.parametrize(
    "palette",
    [
        np.full((2, 2), 0.25),
        np.array([1.5, -0.5]),
        np.ones(4),
        np.array([np.nan, 1.0]),
        np.full(32 * 32, 1 / 32**2),
    ],
    ids=["no vector", "negative", "another sum", "not finite", "a thumbnail"],
)
def test_what_is_no_palette_is_refused(entry: MemoryEntry, palette: Any) -> None:
    with pytest.raises(StoreError, match="shares that sum to 1"):
        encode_memory(replace(entry, palette=palette))


def test_the_bytes_follow_from_the_content_alone(entry: MemoryEntry) -> None:
    strided = MemoryEntry(entry.sku, entry.prompts, np.asfortranarray(entry.features))
    assert encode_memory(strided) == encode_memory(entry)


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((4, 32, 32, 3), np.float32),
        np.zeros((0, 16), np.float32),
        np.full((2, 16), np.nan, np.float32),
        np.random.default_rng(0).normal(size=(2, 4 * 16 * 16)),
        np.random.default_rng(0).random((2, 16 * 16 * 3)),
        np.full((1, 4 * 32 * 32), 1 / 64),
    ],
    ids=["pictures", "nothing", "not finite", "flat latents", "flat pixels", "of unit length"],
)
def test_pictures_and_nonsense_are_refused(entry: MemoryEntry, features: Any) -> None:
    with pytest.raises(StoreError, match="never pictures or latents"):
        encode_memory(MemoryEntry(entry.sku, entry.prompts, features))


def test_what_is_no_entry_is_refused(entry: MemoryEntry) -> None:
    data = encode_memory(entry)
    for broken in (b"", b"short", data[:-4], data[:40], save({"features": entry.features})):
        with pytest.raises(IntegrityError, match="not a memory entry"):
            decode_memory(broken)


def test_a_newer_entry_asks_for_an_upgrade(entry: MemoryEntry) -> None:
    record = {"sku": entry.sku, "prompts": list(entry.prompts), "schema_version": 2}
    data = save(load(encode_memory(entry)), metadata={"memory": json.dumps(record)})
    with pytest.raises(StoreError, match="upgrade catalog-pipeline"):
        decode_memory(data)
