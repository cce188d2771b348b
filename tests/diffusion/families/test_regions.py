"""What a region's text and slot reach, in every family: in one layer exactly, in several not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt
from tests.diffusion.families.two_regions import (
    CLOCK,
    FAMILIES,
    JUG,
    MUG,
    SIDE,
    Write,
    encode,
    halves,
    open_filled,
    run,
)
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)

LAYERS: dict[str, Write] = {
    "sd3_layer": partial(write_tiny_stable_diffusion_3, blocks=1),
    "klein_double": partial(write_tiny_klein, singles=0),
    "klein_single": partial(write_tiny_klein, blocks=0, singles=1),
    "qwen": partial(write_tiny_qwen_image, blocks=1),
}
"""A transformer of a single layer each."""
LEAKING = {
    "sd3_layer": {"attn.to_k", "attn.to_v", "attn2.to_k", "attn2.to_v"},
    "klein_double": {"attn.to_k", "attn.to_v"},
    "klein_single": {"attn.to_qkv_mlp_proj"},
    "qwen": {"attn.to_k", "attn.to_v"},
}
"""The layers whose deltas other regions' pixels read: they make keys and values of pixels."""
POOLED = {"xl", "sd3", "sd3_layer"}
"""Families that read the mean of the regions' pooled texts besides, from their last row."""


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp("family") / request.param)


@pytest.fixture(scope="module", params=LAYERS)
def layer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LAYERS[request.param](tmp_path_factory.mktemp("layer") / request.param)


@torch.no_grad()
def predict(
    engine: DiffusionEngine,
    prompts: Sequence[str],
    slots: Sequence[str | None],
    masks: Tensor | None = None,
    pooled: bool = True,
) -> Tensor:
    """``(channels, h, w)`` on the same noise each time; without ``pooled`` that row is zero."""
    encoded = encode(engine, [RegionalPrompt(tuple(prompts), tuple(slots), masks)])
    if not pooled:
        encoded.encoder_hidden_states[:, :, -1] = 0
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, engine.base.latent_channels, SIDE, SIDE, generator=generator)
    return run(engine, noise, encoded)[0]


def change(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest change at the pixels of each half."""
    moved = (one - other).abs()
    return moved[..., : SIDE // 2].max().item(), moved[..., SIDE // 2 :].max().item()


def root_mean_square(moved: Tensor) -> tuple[float, float]:
    """Of each half."""
    return tuple(half.square().mean().sqrt().item() for half in moved.chunk(2, -1))  # type: ignore[return-value]


# --- a region that is the whole image -----------------------------------------


def test_an_empty_region_changes_nothing(folder: Path) -> None:
    engine = open_filled(folder)
    whole = predict(engine, [MUG], ["a"])
    masks = torch.stack([torch.ones(SIDE, SIDE), torch.zeros(SIDE, SIDE)])
    second = MUG if folder.name in POOLED else CLOCK
    for slot in ("a", "b", None):
        split = predict(engine, [MUG, second], ["a", slot], masks)
        torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-5)
    assert (whole - predict(engine, [MUG], ["b"])).abs().max() > 1e-3


def test_two_halves_of_one_text_are_one_region_in_one_layer(layer: Path) -> None:
    """A pixel reads the two copies as one; see also tests/diffusion/test_joint_attention.py."""
    engine = open_filled(layer, attentions=("self",), feed_forward=False)
    whole = predict(engine, [MUG], ["a"])
    shared = torch.full((2, SIDE, SIDE), 0.5)
    for masks in (halves(), shared):
        split = predict(engine, [MUG, MUG], ["a", "a"], masks)
        torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-5)


def test_two_halves_of_one_text_are_two_texts_in_several_layers(folder: Path) -> None:
    """Behind the first layer each copy has read its own pixels; a UNet's texts read none."""
    engine = open_filled(folder)
    whole = predict(engine, [MUG], [None])
    split = predict(engine, [MUG, MUG], [None, None], halves())
    differs = (split - whole).abs().max().item()
    if folder.name == "xl":
        assert differs < 1e-5
    else:
        assert differs > 1e-5


# --- two regions ----------------------------------------------------------------


def test_in_one_layer_a_text_reaches_its_own_pixels_only(layer: Path) -> None:
    engine, pooled = open_filled(layer), layer.name not in POOLED
    one = predict(engine, [MUG, CLOCK], ["a", "b"], halves(), pooled)
    other = predict(engine, [MUG, JUG], ["a", "b"], halves(), pooled)
    left, right = change(one, other)
    assert left <= 1e-5
    assert right > 1e-3
    if layer.name in POOLED:  # which reaches the whole picture
        one = predict(engine, [MUG, CLOCK], ["a", "b"], halves())
        other = predict(engine, [MUG, JUG], ["a", "b"], halves())
        assert change(one, other)[0] > 1e-5


def test_in_one_layer_a_slot_leaks_by_keys_and_values_of_its_pixels_only(layer: Path) -> None:
    engine = open_filled(layer)
    bare = predict(engine, [MUG, CLOCK], ["a", None], halves())
    alone = {
        name: {key: value for key, value in engine.adapter.slot_tensors("b").items()
               if key.startswith(f"{name}.")}
        for name in engine.adapter.layers
    }  # fmt: skip
    reached = {}
    for name, tensors in alone.items():
        engine.adapter.load_slot("one layer of b", tensors)
        moved = predict(engine, [MUG, CLOCK], ["a", "one layer of b"], halves())
        reached[name.split(".", 2)[2]] = change(moved, bare)
    leaking = {name for name, (left, _) in reached.items() if left > 1e-5}
    assert leaking == LEAKING[layer.name]
    # A text is the end of its stream in the last layer: what lies behind its keys and
    # values reaches no pixel at all.
    silent = {name for name, (_, right) in reached.items() if right <= 1e-5}
    assert silent == {
        name
        for name in reached
        if name in ("attn.add_q_proj", "attn.to_add_out") or name.startswith(("ff_con", "txt_"))
    }


def test_in_one_layer_each_half_is_that_of_its_own_text_and_slot(layer: Path) -> None:
    """Where keys and values of pixels are the base's, a picture is cut out of two."""
    queries = () if layer.name == "klein_single" else ("to_q",)
    engine = open_filled(layer, targets=(*queries, "to_out.0"))
    pooled = layer.name not in POOLED
    split = predict(engine, [MUG, CLOCK], ["a", "b"], halves(), pooled)
    left = predict(engine, [MUG], ["a"], None, pooled)
    right = predict(engine, [CLOCK], ["b"], None, pooled)
    cut = torch.cat([left[..., : SIDE // 2], right[..., SIDE // 2 :]], -1)
    torch.testing.assert_close(split, cut, atol=1e-5, rtol=1e-5)
    assert min(change(left, right)) > 1e-3


@pytest.mark.parametrize("what", ["text", "slot"])
def test_in_several_layers_a_region_reaches_its_neighbour_but_itself_more(
    folder: Path, what: str
) -> None:
    """So it is in every base with self-attention; docs/benchmarks/regions.md has how much."""
    engine, pooled = open_filled(folder), folder.name not in POOLED
    one = predict(engine, [MUG, CLOCK], ["a", "b"], halves(), pooled)
    if what == "text":
        other = predict(engine, [MUG, JUG], ["a", "b"], halves(), pooled)
    else:
        other = predict(engine, [MUG, CLOCK], ["a", "c"], halves(), pooled)
    left, right = root_mean_square(one - other)
    assert 0 < left < right


def test_slots_act_in_their_own_regions(folder: Path) -> None:
    engine = open_filled(folder)
    both = predict(engine, [MUG, MUG], ["a", "b"], halves())
    left_alone = predict(engine, [MUG, MUG], ["a", None], halves())
    neither = predict(engine, [MUG, MUG], [None, None], halves())
    share = 1.0 if folder.name == "xl" else 0.5  # a UNet also mixes pixels by convolutions
    left, right = root_mean_square(both - left_alone)
    assert left < share * right
    left, right = root_mean_square(left_alone - neither)
    assert right < share * left
    assert min(change(both, predict(engine, [MUG, MUG], ["b", "a"], halves()))) > 1e-3


def test_items_of_a_batch_keep_to_themselves(folder: Path) -> None:
    engine = open_filled(folder)
    items = [
        RegionalPrompt((MUG, CLOCK), ("a", "b"), halves()),
        RegionalPrompt((JUG, MUG), (None, "c"), halves().flip(0)),
    ]
    noise = torch.randn(2, engine.base.latent_channels, SIDE, SIDE)
    with torch.no_grad():
        together = run(engine, noise, encode(engine, items))
        alone = [run(engine, noise[i : i + 1], encode(engine, [items[i]])) for i in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
