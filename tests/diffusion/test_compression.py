"""A slot in fewer bytes: what may go goes, what stays is found again, and is what is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.compression import (
    by_layer,
    compress_slot,
    ranks_to_keep,
    restore_slot,
)
from catalog_pipeline.diffusion.export import layer_factors
from catalog_pipeline.diffusion.parts import (
    compressed_slot_part,
    encode_part,
    install_part,
    slot_part,
    stored_slot,
)
from catalog_pipeline.safetensors_header import read_metadata
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings
from tests.tiny_model import fill_slot, open_tiny_engine

SHAPES = {"wide": (24, 7), "tall": (5, 31), "still": (9, 9)}


def low_rank(rank: int = 5) -> dict[str, Tensor]:
    """Layers of odd sizes; ``still`` hardly moved."""
    generator = torch.Generator().manual_seed(1)
    slot = {}
    for name, (out, inner) in SHAPES.items():
        # Steep spectra, as trained ones are.
        fall = 0.6 ** torch.arange(rank)[:, None] * (1e-3 if name == "still" else 1.0)
        slot[f"{name}.down"] = torch.randn(rank, inner, generator=generator) * fall
        slot[f"{name}.up"] = torch.randn(out, rank, generator=generator)
    return slot


def changes(slot: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``delta W`` of every layer; zero where nothing was stored."""
    found = {n: (own["up"] @ own["down"]).double() for n, own in by_layer(slot).items()}
    return {n: found.get(n, torch.zeros(shape)) for n, shape in SHAPES.items()}


def lost_share(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Root of the share of the energy by which two slots differ."""
    old, new = changes(before), changes(after)
    lost = sum(float((old[n] - new[n]).square().sum()) for n in old)
    return math.sqrt(lost / sum(float(value.square().sum()) for value in old.values()))


def test_without_either_a_part_is_what_it_always_was() -> None:
    slot = low_rank()
    stored = {f"slot/{n}": v for n, v in compress_slot(slot, 16, 0).items()}
    earlier = {f"slot/{n}": slot[n].half() for n in sorted(slot)}
    assert encode_part(stored) == save(earlier, metadata={"format": "1"})


def test_a_part_of_an_earlier_release_is_read_as_ever() -> None:
    tensors = {
        "slot/wide.down": torch.randn(2, 7).half(),
        "slot/wide.up": torch.randn(24, 2).half(),
    }
    found = stored_slot(save(tensors | {"token/0": torch.ones(3)}, metadata={"format": "1"}))
    assert found.keys() == {"wide.down", "wide.up"}
    assert all(torch.equal(v, tensors[f"slot/{n}"].float()) for n, v in found.items())


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_tensors_are_those_that_the_docstring_names(bits: int) -> None:
    stored = compress_slot(low_rank(), bits, 0)
    again = encode_part(compress_slot(low_rank(), bits, 0))
    assert encode_part(stored) == again
    assert read_metadata(again) == {"format": "1" if bits == 16 else "2"}
    if bits == 16:
        assert {value.dtype for value in stored.values()} == {torch.float16}
        return
    dtype, half = (torch.uint8, 2) if bits == 4 else (torch.int8, 1)
    assert stored["tall.up_codes"].shape == (5, -(-5 // half))
    assert stored["tall.down_codes"].shape == (5, -(-31 // half))
    assert stored["scale"].shape == (15,)
    codes = {name: value for name, value in stored.items() if name != "scale"}
    assert {value.dtype for value in codes.values()} == {dtype}
    assert len(codes) == 6


@pytest.mark.parametrize(("bits", "most"), [(16, 1e-3), (8, 0.015), (4, 0.25)])
def test_rounding_alone_loses_little(bits: int, most: float) -> None:
    slot = low_rank()
    restored = restore_slot(compress_slot(slot, bits, 0))
    assert {n: v.shape for n, v in restored.items()} == {n: v.shape for n, v in slot.items()}
    assert {value.dtype for value in restored.values()} == {torch.float32}
    assert lost_share(slot, restored) < most


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from([4, 8]))
def test_codes_give_the_change_of_a_slow_loop(out: int, inner: int, rank: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(out + 10 * inner)
    slot = {
        "a.down": torch.randn(rank, inner, generator=generator),
        "a.up": torch.randn(out, rank, generator=generator),
    }
    stored = compress_slot(slot, bits, 0)
    restored = restore_slot(stored)
    want = torch.zeros(out, inner, dtype=torch.double)
    for k, scale in enumerate(stored["scale"]):
        for o in range(out):
            for i in range(inner):
                codes = [_code(stored["a.up_codes"][k], o), _code(stored["a.down_codes"][k], i)]
                assert all(abs(code) <= (7 if bits == 4 else 127) for code in codes)
                want[o, i] += float(scale) * codes[0] * codes[1]
    got = (restored["a.up"] @ restored["a.down"]).double()
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def _code(row: Tensor, index: int) -> int:
    if row.dtype == torch.int8:
        return int(row[index])
    byte = int(row[index // 2])
    return (byte % 16 if index % 2 else byte // 16) - 8


@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.3, 0.9])
def test_no_more_is_left_out_than_may_be(tolerance: float) -> None:
    slot = low_rank()
    kept = restore_slot(compress_slot(slot, 16, tolerance))
    assert lost_share(slot, kept) <= tolerance + 1e-3
    assert "still.down" not in kept, "a layer that hardly moved is the base's"
    sizes = [sum(map(Tensor.numel, s.values())) for s in (kept, slot)]
    assert sizes[0] < sizes[1]


def test_what_is_left_out_is_what_holds_least_for_its_bytes() -> None:
    """Against a loop that takes one component after the other."""
    generator = torch.Generator().manual_seed(4)
    values = {n: torch.rand(6, generator=generator).sort(descending=True).values for n in "abc"}
    widths = {"a": 10, "b": 200, "c": 40}
    for tolerance in (0.0, 0.2, 0.5, 0.8, 0.999):
        left = {name: [float(v) for v in found] for name, found in values.items()}
        budget = tolerance**2 * sum(v * v for found in left.values() for v in found)
        while True:
            name = min((n for n in left if left[n]), key=lambda n: left[n][-1] ** 2 / widths[n])
            budget -= left[name][-1] ** 2
            if budget < 0 or sum(map(len, left.values())) == 1:
                break
            left[name].pop()
        assert ranks_to_keep(values, widths, tolerance) == {n: len(v) for n, v in left.items()}


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_slot_that_moved_nothing_is_still_a_slot(bits: int) -> None:
    slot = {name: torch.zeros_like(value) for name, value in low_rank().items()}
    kept = restore_slot(compress_slot(slot, bits, 0.1))
    assert len(kept) == 2
    assert not any(value.any() for value in kept.values())


def test_a_rank_above_the_width_of_a_layer_is_brought_to_it() -> None:
    """As imported LoRAs may have it."""
    generator = torch.Generator().manual_seed(0)
    slot = {
        "a.down": torch.randn(12, 4, generator=generator),
        "a.up": torch.randn(6, 12, generator=generator),
    }
    kept = restore_slot(compress_slot(slot, 8, 0))
    assert kept["a.down"].shape == (4, 4)
    want = slot["a.up"] @ slot["a.down"]
    assert float((kept["a.up"] @ kept["a.down"] - want).norm() / want.norm()) < 0.015


@pytest.mark.parametrize("bits", [4, 8])
def test_other_parametrisations(bits: int) -> None:
    """``dense`` has a scale a row; ``spectral_shift`` and what comes later stay halves."""
    generator = torch.Generator().manual_seed(0)
    slot = {
        "b.delta": torch.randn(6, 5, generator=generator),
        "a.shift": torch.randn(5, generator=generator),
        "c.delta": torch.zeros(3, 4),
    }
    stored = compress_slot(slot, bits, 0.3)
    assert stored.keys() == {"b.delta_codes", "c.delta_codes", "a.shift", "scale"}
    assert stored["scale"].shape == (9,)
    restored = restore_slot(stored)
    assert torch.equal(restored["a.shift"], slot["a.shift"].half().float())
    error = (restored["b.delta"] - slot["b.delta"]).norm() / slot["b.delta"].norm()
    assert float(error) < (0.2 if bits == 4 else 0.01)
    assert torch.equal(restored["c.delta"], slot["c.delta"])


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_what_is_stored_renders_and_is_exported(tiny_model_folder: Path, bits: int) -> None:
    settings = AdapterSettings.model_validate(
        {"rank": 6, "stored_bits": bits, "stored_rank_tolerance": 0.3}
    )
    engine = open_tiny_engine(tiny_model_folder, adapter=settings)
    fill_slot(engine, "A", 1, scale=0.05)  # a change so small that a part of it does a part
    data = encode_part(compressed_slot_part(engine, "A", settings))
    assert len(data) < len(encode_part(slot_part(engine, "A", torch.float16)))
    install_part(engine, data, slot="B")
    ranks = {
        layer.tensors("B")["down"].shape[0] for layer in engine.adapter.layers_of("B").values()
    }
    assert len(ranks) > 1, "each layer has the rank that it needs"
    hidden = torch.randn(1, 1, 48, 16, generator=torch.Generator().manual_seed(3))
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    timestep = torch.full((1,), 300)
    with torch.no_grad():
        bare, full, small = (
            engine.predict(latents, timestep, hidden, None, whole_image([slot]))
            for slot in (None, "A", "B")
        )
    assert float((small - full).norm()) < 0.5 * float((full - bare).norm())
    source = BaseModelSettings(base_model=str(tiny_model_folder), dtype="float32")
    exported = layer_factors(stored_slot(data), load_base_model(source).denoiser)
    assert exported.keys() == engine.adapter.layers_of("B").keys()
    for name, layer in engine.adapter.layers_of("B").items():
        down, up = engine.adapter.factors(layer, "B")
        assert torch.equal(exported[name][1] @ exported[name][0], (up @ down).detach())
