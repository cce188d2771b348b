"""What a slot may change: each parametrisation against slow loops, alone, mixed and composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.export import layer_factors
from catalog_pipeline.diffusion.parametrisation import (
    PARAMETRISATIONS,
    Dense,
    LowRank,
    Parametrisation,
    SpectralShift,
    make_parametrisation,
)
from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part
from catalog_pipeline.diffusion.regional import resize_masks
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings
from tests.tiny_model import fill_slot, open_tiny_engine

KINDS = ("low_rank", "spectral_shift", "dense")
Open = Callable[..., DiffusionEngine]


@pytest.fixture
def open_engine(tiny_model_folder: Path) -> Open:
    def make(kind: str, rank: int = 2) -> DiffusionEngine:
        adapter = AdapterSettings.model_validate({"parametrisation": kind, "rank": rank})
        return open_tiny_engine(tiny_model_folder, adapter=adapter)

    return make


def kind_of(name: str) -> Parametrisation:
    return make_parametrisation(AdapterSettings.model_validate({"parametrisation": name}))


def predict(engine: DiffusionEngine, route: Route) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    batch, regions = len(route.slots), route.regions
    latents = torch.randn(1, 4, 4, 4, generator=generator).expand(batch, -1, -1, -1)
    hidden = torch.randn(1, 1, 48, 16, generator=generator).expand(batch, regions, -1, -1)
    return engine.predict(latents, torch.full((batch,), 300), hidden, route.masks, route)


@torch.no_grad()
def slow_delta(kind: str, weight: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """``delta W`` entry by entry, from the definition of the parametrisation."""
    out, inner = weight.shape
    delta = torch.zeros(out, inner)
    if kind == "spectral_shift":
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    for o in range(out):
        for i in range(inner):
            if kind == "low_rank":
                pairs = zip(tensors["up"][o], tensors["down"][:, i], strict=True)
                delta[o, i] = sum(float(u) * float(d) for u, d in pairs)
            elif kind == "dense":
                delta[o, i] = float(tensors["delta"][o, i])
            else:
                for k in range(len(values)):
                    moved = max(float(values[k] + tensors["shift"][k]), 0.0)
                    change = moved - float(values[k])
                    delta[o, i] += float(left[o, k]) * change * float(right[k, i])
    return delta


# --- alone -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_slot_changes_nothing_and_can_learn(open_engine: Open, kind: str) -> None:
    engine = open_engine(kind)
    bare = predict(engine, whole_image([None]))
    engine.adapter.add_slot("A", torch.Generator().manual_seed(0))
    fresh = predict(engine, whole_image(["A"]))
    torch.testing.assert_close(fresh, bare, atol=0, rtol=0)
    fresh.square().sum().backward()
    gradients = [p.grad for p in engine.adapter.parameters_of("A")]
    assert any(g is not None and bool(g.any()) for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_factors_give_the_change_of_a_slow_loop(kind: str, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, parametrisation = torch.randn(shape, generator=generator), kind_of(kind)
    tensors = {
        name: torch.randn(size, generator=generator)
        for name, size in parametrisation.shapes(weight).items()
    }
    down, up = parametrisation.factors(weight, tensors)
    want = slow_delta(kind, weight, tensors)
    torch.testing.assert_close(up @ down, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_tensors_have_the_announced_shapes(kind: str) -> None:
    weight, parametrisation = torch.randn(6, 4), kind_of(kind)
    tensors = parametrisation.initial(weight, torch.Generator().manual_seed(0))
    assert {n: tuple(t.shape) for n, t in tensors.items()} == parametrisation.shapes(weight)
    down, up = parametrisation.factors(weight, tensors)
    assert torch.equal(up @ down, torch.zeros(6, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_with_a_slot_equals_a_layer_with_the_changed_weight(
    open_engine: Open, kind: str
) -> None:
    engine = open_engine(kind)
    fill_slot(engine, "A", 1)
    name = next(n for n in engine.adapter.layers_of("A") if "attn1" in n and n.endswith("to_k"))
    layer = engine.adapter.layers_of("A")[name]
    tensors = {n: p.detach() for n, p in layer.tensors("A").items()}
    hidden = torch.randn(2, 4, layer.base.in_features)
    with torch.no_grad(), engine.adapter.routed(whole_image(["A", "A"])):
        got = layer(hidden)
    changed = layer.base.weight + slow_delta(kind, layer.base.weight, tensors)
    want = torch.nn.functional.linear(hidden, changed, layer.base.bias)
    torch.testing.assert_close(got, want.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("parametrisation", [LowRank(2), SpectralShift(), Dense()])
def test_gradients_of_factors(parametrisation: Parametrisation) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 3, generator=generator)
    shapes = parametrisation.shapes(weight)
    inputs = tuple(
        (0.1 * torch.randn(size, generator=generator, dtype=torch.double)).requires_grad_(True)
        for size in shapes.values()
    )

    def change(*values: Tensor) -> Tensor:
        down, up = parametrisation.factors(weight, dict(zip(shapes, values, strict=True)))
        return up.double() @ down.double()

    assert torch.autograd.gradcheck(change, inputs)


def test_spectral_values_never_fall_below_zero() -> None:
    weight, spectral = torch.randn(5, 3), SpectralShift()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    shift = torch.stack([-2 * values[0], torch.tensor(0.0), torch.tensor(0.5)]).requires_grad_(True)
    down, up = spectral.factors(weight, {"shift": shift})
    after = weight + up @ down
    want = torch.stack([torch.tensor(0.0), values[1], values[2] + 0.5])
    torch.testing.assert_close(after, left @ torch.diag(want) @ right, atol=1e-5, rtol=1e-5)
    after.square().sum().backward()
    assert shift.grad is not None
    assert float(shift.grad[0]) == 0, "a value that is clamped to zero gets no gradient"
    assert float(shift.grad[1]) != 0
    nothing_left = spectral.factors(weight, {"shift": torch.full((3,), -1e3)})
    torch.testing.assert_close(
        weight + nothing_left[1] @ nothing_left[0], torch.zeros(5, 3), atol=1e-5, rtol=0
    )


def test_each_layer_is_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, svd = [], torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: counted.append(1) or svd(*a, **k))
    spectral, weights = SpectralShift(), [torch.randn(4, 3), torch.randn(4, 3)]
    for _ in range(3):
        for weight in weights:
            spectral.factors(weight, {"shift": torch.zeros(3)})
    assert len(counted) == 2


# --- stored ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_survives_being_stored(open_engine: Open, kind: str) -> None:
    engine, other = open_engine(kind), open_engine(kind)
    fill_slot(engine, "A", 1)
    data = encode_part(slot_part(engine, "A"))
    install_part(other, data, slot="B")
    route = whole_image(["A"])
    with torch.no_grad():
        want, got = predict(engine, route), predict(other, whole_image(["B"]))
    assert torch.equal(want, got)
    assert encode_part(slot_part(other, "B")) == data
    assert not any(p.requires_grad for p in other.adapter.parameters_of("B"))


@pytest.mark.parametrize(("kind", "other"), [("low_rank", "dense"), ("dense", "spectral_shift")])
def test_a_slot_of_another_parametrisation_is_refused(
    open_engine: Open, kind: str, other: str
) -> None:
    engine = open_engine(kind)
    fill_slot(engine, "A", 1)
    data = encode_part(slot_part(engine, "A"))
    with pytest.raises(ValueError, match=r"learning\.yaml: adapter"):
        install_part(open_engine(other), data, slot="A")


# --- together ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_use_their_own_slots(open_engine: Open, kind: str) -> None:
    engine = open_engine(kind)
    fill_slot(engine, "A", 1)
    fill_slot(engine, "B", 2)
    engine.adapter.compose("both", {"A": 1.0, "B": 0.5})
    assert engine.adapter.members("both") == {"A": 1.0, "B": 0.5}
    assert engine.adapter.members("A") == {"A": 1.0}
    slots = ["A", None, "both", "B", "A"]
    with torch.no_grad():
        mixed = predict(engine, whole_image(slots))
        for row, slot in enumerate(slots):
            alone = predict(engine, whole_image([slot]))
            torch.testing.assert_close(mixed[row], alone[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed[0], mixed[3], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compound_is_the_weighed_sum_of_its_members(open_engine: Open, kind: str) -> None:
    engine = open_engine(kind)
    weights = {"A": 0.7, "B": -0.4}
    for seed, slot in enumerate(weights):
        fill_slot(engine, slot, seed)
    engine.adapter.compose("sum", weights)
    layer = next(iter(engine.adapter.layers_of("A").values()))
    down, up = engine.adapter.factors(layer, "sum")
    want = sum(
        weight * slow_delta(kind, layer.base.weight, dict(layer.tensors(slot)))
        for slot, weight in weights.items()
    )
    torch.testing.assert_close((up @ down).detach(), want, atol=1e-5, rtol=1e-4)
    assert engine.adapter.slots == {"A", "B"}, "a compound holds no tensors of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_through_a_compound_to_its_members(open_engine: Open, kind: str) -> None:
    engine = open_engine(kind)
    fill_slot(engine, "A", 1)
    fill_slot(engine, "B", 2)
    fill_slot(engine, "C", 3)
    engine.adapter.compose("sum", {"A": 1.0, "B": 1.0})
    predict(engine, whole_image(["sum"])).square().sum().backward()
    for slot in "AB":
        gradients = [p.grad for p in engine.adapter.parameters_of(slot)]
        assert any(g is not None and bool(g.any()) for g in gradients)
    assert all(p.grad is None for p in engine.adapter.parameters_of("C"))


def test_a_compound_follows_its_members_and_can_be_dropped(open_engine: Open) -> None:
    engine = open_engine("low_rank")
    fill_slot(engine, "A", 1)
    engine.adapter.compose("twice", {"A": 2.0})
    with torch.no_grad():
        before = predict(engine, whole_image(["twice"]))
        for parameter in engine.adapter.parameters_of("A"):
            parameter.zero_()
        engine.adapter.parameters_changed()
        bare = predict(engine, whole_image([None]))
        after = predict(engine, whole_image(["twice"]))
    assert not torch.allclose(before, bare, atol=1e-3)
    torch.testing.assert_close(after, bare, atol=1e-6, rtol=0)
    engine.adapter.drop_slot("twice")
    with pytest.raises(KeyError):
        predict(engine, whole_image(["twice"]))
    assert engine.adapter.slots == {"A"}
    with pytest.raises(ValueError, match=r"not installed \['Z'\]"):
        engine.adapter.compose("more", {"A": 1.0, "Z": 1.0})
    with pytest.raises(ValueError, match="cannot compose"):
        engine.adapter.compose("empty", {})


def test_slots_of_several_ranks_share_a_picture(open_engine: Open) -> None:
    """A compound of two has twice the rank; the shorter factors are filled up with zeros."""
    engine = open_engine("low_rank")
    fill_slot(engine, "A", 1)
    fill_slot(engine, "B", 2)
    engine.adapter.compose("sum", {"A": 1.0, "B": 1.0})
    name = next(n for n in engine.adapter.layers_of("A") if "attn1" in n and n.endswith("to_q"))
    layer = engine.adapter.layers_of("A")[name]
    assert engine.adapter.factors(layer, "sum")[0].shape[0] == 4
    assert engine.adapter.factors(layer, "A")[0].shape[0] == 2
    masks = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    hidden = torch.randn(1, 4, layer.base.in_features)
    slots = ("A", "sum", None)
    with torch.no_grad(), engine.adapter.routed(Route((slots,), masks)):
        fast = layer(hidden)
    flat = resize_masks(masks, 4)
    for pixel in range(4):
        want = layer.base(hidden[0, pixel]).detach()
        for region, slot in enumerate(slots):
            if slot is not None:
                down, up = engine.adapter.factors(layer, slot)
                want = want + flat[0, region, pixel] * (up @ (down @ hidden[0, pixel])).detach()
        torch.testing.assert_close(fast[0, pixel], want, atol=1e-5, rtol=1e-4)


# --- one more ----------------------------------------------------------------


class OutputScale(Parametrisation):
    """``delta W = diag(scale) W``: every output of the layer is made stronger or weaker."""

    names = frozenset({"scale"})

    def shapes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        return {"scale": (int(weight.shape[0]),)}

    def initial(self, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"scale": torch.zeros(weight.shape[0])}

    def factors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return weight, torch.diag(tensors["scale"])


def test_a_parametrisation_is_a_class_a_line_of_the_table_and_one_of_the_settings(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = AdapterSettings.model_fields["parametrisation"].annotation
    assert choices is not None
    assert set(choices.__args__) == set(PARAMETRISATIONS)
    monkeypatch.setitem(PARAMETRISATIONS, "output_scale", OutputScale)
    adapter = AdapterSettings().model_copy(update={"parametrisation": "output_scale"})
    engine = open_tiny_engine(tiny_model_folder, adapter=adapter)
    source = BaseModelSettings(base_model=str(tiny_model_folder), dtype="float32")
    fill_slot(engine, "A", 1)
    name, layer = next(iter(engine.adapter.layers_of("A").items()))
    stored = engine.adapter.slot_tensors("A")
    down, up = layer_factors(stored, load_base_model(source).denoiser)[name]
    want = layer.base.weight * stored[f"{name}.scale"][:, None]
    torch.testing.assert_close(up @ down, want)
    rows = torch.randn(1, 4, layer.base.in_features)
    with torch.no_grad(), engine.adapter.routed(whole_image(["A"])):
        torch.testing.assert_close(layer(rows), layer.base(rows) + rows @ want.T)
