"""What a region's text and slot reach, in every family: in one layer exactly, in several not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.sampling import (
    Conditioning,
    DiffusionEngine,
    RegionalPrompt,
    SamplingPlan,
)
from catalog_pipeline.generation.attention_maps import MapRecorder, NamedConcept, select_tokens
from catalog_pipeline.generation.guidance import (
    AttentionBoost,
    AttentionGuide,
    GuidedBatch,
    make_control,
)
from catalog_pipeline.records import AttentionControl
from catalog_pipeline.settings import AdapterSettings
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)
from tests.tiny_model import fill_slot, open_tiny_engine, write_tiny_xl

SIDE = 8
"""Latents along a side."""
MUG, CLOCK, JUG = "a photo of a red mug", "a photo of a blue clock", "an empty jug on a table"

Write = Callable[[Path], Path]
FAMILIES: dict[str, Write] = {
    "xl": write_tiny_xl,
    "sd3": write_tiny_stable_diffusion_3,
    "klein": write_tiny_klein,
    "qwen": write_tiny_qwen_image,
}
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


@cache
def open_filled(folder: Path, **adapter: object) -> DiffusionEngine:
    """With slots ``a``, ``b`` and ``c`` that change the picture clearly; no test changes these."""
    engine = open_tiny_engine(folder, adapter=AdapterSettings(rank=2, **adapter))  # type: ignore[arg-type]
    for seed, slot in enumerate("abc"):
        fill_slot(engine, slot, seed)
    return engine


def halves() -> Tensor:
    """Region 0 left, region 1 right, ``(regions, h, w)`` finer than the latents."""
    left = torch.zeros(2 * SIDE, 2 * SIDE)
    left[:, :SIDE] = 1
    return torch.stack([left, 1 - left])


def encode(engine: DiffusionEngine, items: Sequence[RegionalPrompt]) -> Conditioning:
    masks = None if items[0].masks is None else torch.stack([i.masks for i in items])
    route = Route(tuple(item.slots for item in items), masks)
    return Conditioning(engine.encode_prompts(items), masks, route)


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


def run(engine: DiffusionEngine, noise: Tensor, encoded: Conditioning) -> Tensor:
    return engine.predict(
        noise,
        torch.tensor([600.0]).expand(len(noise)),
        encoded.encoder_hidden_states,
        encoded.masks,
        encoded.route,
    )


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


# --- attention control ------------------------------------------------------------

NAMED = [NamedConcept("red", "mug"), NamedConcept("blue", "clock")]
CONTROL = AttentionControl(
    guided_share=1.0,
    step_size=0.02,
    refinements=10,
    attend_floor=0.5,
    unmix_weight=1.0,
    attend_weight=1.0,
    orthogonal_weight=1.0,
    binding_weight=1.0,
)


def guided(engine: DiffusionEngine, items: Sequence[RegionalPrompt]) -> GuidedBatch:
    selection = select_tokens(engine.text, [i.prompts for i in items], [NAMED] * len(items))
    pixels = engine.base.map_positions(SIDE, SIDE)
    return GuidedBatch(selection, 1, SIDE, SIDE, pixels, classifier_free_guidance=False)


class BoostedRecorder(MapRecorder):
    """Records what attention is once ``boost`` has raised it."""

    def __init__(self, batch: GuidedBatch, boost: AttentionBoost | None) -> None:
        super().__init__(batch.selection, batch.max_pixels)
        self._boost = boost

    def bias(self, pixels: int) -> Tensor | None:  # type: ignore[override]
        return None if self._boost is None else self._boost.bias(pixels)


@torch.no_grad()
def maps(engine: DiffusionEngine, item: RegionalPrompt, size: float | None) -> Tensor:
    """``(concepts, h, w)`` of a whole pass, raised by ``size`` where that is given."""
    batch, encoded = guided(engine, [item]), encode(engine, [item])
    boost = None
    latents = engine.initial_noise([1], plan_of(engine))
    if size is not None:
        control = AttentionControl(method="reweight", guided_share=1.0, step_size=size)
        boost = AttentionBoost(batch, control)
        boost.before_step(engine, latents, torch.tensor(600.0), 0, encoded)
        assert boost.observer(0) is boost
    recorder = BoostedRecorder(batch, boost)
    engine.probe(latents, torch.tensor(600.0), encoded, recorder)
    return recorder.maps()[0].mean(1)


def plan_of(engine: DiffusionEngine) -> SamplingPlan:
    side = SIDE * engine.base.vae_scale_factor
    return SamplingPlan(1, 1.0, side, side)


@pytest.mark.parametrize("regional", [True, False], ids=["regions", "one_prompt"])
def test_reweight_raises_a_concept_in_its_region(folder: Path, regional: bool) -> None:
    engine = open_filled(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", "b"), halves())
    if not regional:
        item = RegionalPrompt((f"{MUG} and a blue clock",), (None,))
    plain, still, raised = (maps(engine, item, size) for size in (None, 0.0, 2.0))
    side = round(engine.base.map_positions(SIDE, SIDE) ** 0.5)
    assert plain.shape == (2, side, side)
    assert torch.equal(plain, still)
    ratio = raised / plain
    if not regional:
        assert (ratio > 1.1).all()
        return
    own = torch.stack([ratio[0, :, : side // 2], ratio[1, :, side // 2 :]])
    foreign = torch.stack([ratio[0, :, side // 2 :], ratio[1, :, : side // 2]])
    assert (own > 1.5).all()
    assert ((foreign - 1).abs() < 0.2).all()


@pytest.mark.parametrize("regional", [True, False], ids=["regions", "one_prompt"])
def test_gradient_lowers_its_own_loss(folder: Path, regional: bool) -> None:
    engine = open_filled(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", "b"), halves())
    if not regional:
        item = RegionalPrompt((f"{MUG} and a blue clock",), (None,))
    guide = AttentionGuide(guided(engine, [item]), CONTROL)
    latents = engine.initial_noise([1], plan_of(engine))
    with torch.no_grad():
        encoded = encode(engine, [item])
    moved = guide.before_step(engine, latents, torch.tensor(600.0), 0, encoded)
    assert len(guide.losses) == 11
    assert guide.losses[-1] < guide.losses[0]
    assert moved.shape == latents.shape
    assert moved.isfinite().all()


@pytest.mark.parametrize("method", ["gradient", "reweight"])
def test_half_precision_is_guided_too(folder: Path, method: str) -> None:
    engine = open_half(folder)
    item = RegionalPrompt((MUG, CLOCK), ("a", None), halves())
    guide = make_control(
        guided(engine, [item]), replace(CONTROL, method=method, refinements=1), 1.0
    )
    plan = plan_of(engine)
    plain, moved = (engine.sample([item], [1], plan, control) for control in (None, guide))
    assert moved.isfinite().all()
    assert not torch.equal(plain, moved)


@cache
def open_half(folder: Path) -> DiffusionEngine:
    engine = open_tiny_engine(folder, "bfloat16")
    fill_slot(engine, "a", 0)
    return engine
