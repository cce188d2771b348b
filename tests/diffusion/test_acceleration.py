"""Checkpointed, quantised, offloaded and compiled denoisers, against the plain one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion import acceleration, residence
from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.quantised_linear import QuantisedLinear
from catalog_pipeline.diffusion.residence import Residence
from catalog_pipeline.diffusion.routed_linear import RoutedLinear
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings
from tests.tiny_families import write_tiny_klein, write_tiny_qwen_image
from tests.tiny_model import fill_slot, write_tiny_model

WRITERS: dict[str, Callable[[Path], Path]] = {
    "sd": write_tiny_model,
    "klein": lambda folder: write_tiny_klein(folder, blocks=2),
    "qwen": write_tiny_qwen_image,
}
SIDE_LATENTS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny folder of each family."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


def open_engine(folder: Path, adapter: AdapterSettings | None = None, **settings: object):
    """An engine with the slots a and b; fp32 unless said."""
    source = BaseModelSettings(base_model=str(folder), **{"dtype": "float32", **settings})
    engine = DiffusionEngine(load_base_model(source), adapter or AdapterSettings(rank=2))
    for number, slot in enumerate("ab"):
        fill_slot(engine, slot, number)
    return engine


class Pass:
    """A prediction of fixed inputs, and its gradients."""

    def __init__(self, engine: DiffusionEngine, regions: int) -> None:
        self.engine = engine
        generator = torch.Generator().manual_seed(7)
        channels = engine.base.latent_channels
        shape = (2, channels, SIDE_LATENTS, SIDE_LATENTS)
        self.latents = torch.randn(shape, generator=generator)
        prompts = ["a photo of a mug", "a clock on a wooden table"][:regions]
        texts = engine.text.encode(prompts).detach()
        self.texts = texts[None].repeat(2, 1, 1, 1).requires_grad_()
        self.masks, slots = None, ("a",)
        if regions == 2:
            left = torch.linspace(1, 0, SIDE_LATENTS).expand(2, 1, SIDE_LATENTS, -1)
            self.masks, slots = torch.cat([left, 1 - left], 1), ("a", "b")
        self.route = Route((slots,) * 2, self.masks)
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        return [p for slot in "ab" for p in self.engine.adapter.parameters_of(slot)]

    def predict(self) -> Tensor:
        timesteps = torch.tensor([300.0, 700.0])
        return self.engine.predict(self.latents, timesteps, self.texts, self.masks, self.route)

    def gradients(self, model_pred: Tensor) -> list[Tensor]:
        """Of every factor and of the texts; zeros where the loss does not read one."""
        wanted = [*self.parameters(), self.texts]
        found = torch.autograd.grad(model_pred.square().sum(), wanted, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]


def assert_same(found: list[Tensor], wanted: list[Tensor], rtol: float = 1e-5) -> None:
    """Equal up to rounding, by the largest entry of each."""
    assert sum(bool(w.abs().max() > 0) for w in wanted) > 4
    for have, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=rtol * (1e-6 + float(want.abs().max())))


@pytest.mark.parametrize("regions", [1, 2])
@pytest.mark.parametrize("family", WRITERS)
def test_checkpointed_gradients_are_the_plain_ones_even_after_another_route(
    folders: dict[str, Path], family: str, regions: int
) -> None:
    plain = Pass(open_engine(folders[family]), regions)
    model_pred = plain.predict()
    wanted = plain.gradients(model_pred)
    again = Pass(open_engine(folders[family], gradient_checkpointing=True), regions)
    found = again.predict()
    assert torch.equal(found, model_pred)
    # Before the backward pass other routes have been in use, and their packed weights gone.
    with torch.no_grad():
        for slot in ("b", None, "b"):
            other = Route(((slot,) * regions,) * 2, again.masks)
            again.engine.predict(
                again.latents, torch.tensor([1.0, 2.0]), again.texts, again.masks, other
            )
    assert_same(again.gradients(found), wanted)


def saved_bytes(run: Pass) -> int:
    """What autograd keeps of a pass, each storage once; frozen weights are not counted."""
    weights = {p.data_ptr() for p in run.engine.base.denoiser.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model_pred = run.predict()
    del model_pred
    return sum(kept.values())


@pytest.mark.parametrize("family", ["klein", "qwen"])
def test_checkpointing_keeps_less(folders: dict[str, Path], family: str) -> None:
    plain, less = (
        saved_bytes(Pass(open_engine(folders[family], gradient_checkpointing=on), 1))
        for on in (False, True)
    )
    assert less < plain / 2


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).detach().norm() / exact.detach().norm())


@pytest.mark.parametrize(("kind", "largest"), [("int8", 0.02), ("nf4", 0.25)])
@pytest.mark.parametrize("family", WRITERS)
def test_a_quantised_base_predicts_and_learns_nearly_the_same(
    folders: dict[str, Path], family: str, kind: str, largest: float
) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    plain = Pass(open_engine(folders[family]), 2)
    rounded = Pass(open_engine(folders[family], quantise=kind), 2)
    rounded.texts = plain.texts.detach().clone().requires_grad_()
    layers = [m for m in rounded.engine.base.denoiser.modules() if isinstance(m, QuantisedLinear)]
    assert len(layers) > 10
    exact, found = plain.predict(), rounded.predict()
    assert 0 < relative_error(found, exact) < largest
    wanted, got = (
        torch.cat([g.flatten() for g in run.gradients(out)])
        for run, out in ((plain, exact), (rounded, found))
    )
    assert torch.isfinite(got).all()
    assert relative_error(got, wanted) < 2 * largest


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_product_is_that_of_its_restored_weight(kind: str) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    linear = nn.Linear(64, 24)
    rounded = QuantisedLinear(linear, kind, torch.device("cpu"))  # type: ignore[arg-type]
    hidden = torch.randn(2, 3, 64, requires_grad=True)
    want = nn.functional.linear(hidden, rounded.weight, linear.bias)
    assert torch.equal(rounded(hidden), want)
    (found,) = torch.autograd.grad(rounded(hidden).square().sum(), hidden)
    (wanted,) = torch.autograd.grad(want.square().sum(), hidden)
    torch.testing.assert_close(found, wanted)
    worst = (rounded.weight - linear.weight).abs().amax(1)
    room = linear.weight.abs().amax(1) * (0.5 / 127 if kind == "int8" else 0.16)
    assert (worst <= room * 1.001).all()
    assert not list(rounded.parameters())[1:]  # the bias alone
    assert rounded.outline.shape == linear.weight.shape


def test_a_missing_package_is_one_line_that_names_the_extra(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(ConfigurationError, match=r"catalog-pipeline\[quantise\]") as caught:
        open_engine(folders["klein"], quantise="nf4")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"quantise": "int8"}, {"offload": "groups"}])
def test_a_parametrisation_that_reads_weights_is_refused(
    folders: dict[str, Path], change: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="expected low_rank"):
        open_engine(folders["sd"], AdapterSettings(parametrisation="spectral_shift"), **change)


def uses_of(tensor: Tensor) -> int:
    """How many hold the memory of ``tensor``."""
    return int(torch._C._storage_Use_Count(tensor.untyped_storage()._cdata))


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A copy on the device is overwritten when it is let go, as freed memory of a GPU may be."""
    let_go, released = Residence._let_go, []
    alone = uses_of(torch.empty(1))

    def spoil(self: Residence) -> None:
        for tensor, home in self.homes.values():
            fetched = tensor.data_ptr() != home.data_ptr() and tensor.is_floating_point()
            if fetched and uses_of(tensor) <= alone:
                tensor.data.fill_(torch.nan)
                released.append(1)
        let_go(self)

    monkeypatch.setattr(Residence, "_let_go", spoil)
    return released


@pytest.mark.parametrize("change", [{}, {"gradient_checkpointing": True}, {"quantise": "int8"}])
@pytest.mark.parametrize("family", WRITERS)
def test_weights_that_are_gone_between_uses_give_the_same_gradients(
    folders: dict[str, Path], family: str, change: dict[str, object], spoilt: list[int]
) -> None:
    plain = Pass(open_engine(folders[family], **change), 2)
    model_pred = plain.predict()
    wanted = plain.gradients(model_pred)
    moved = Pass(open_engine(folders[family], offload="groups", **change), 2)
    found = moved.predict()
    assert spoilt
    torch.testing.assert_close(found, model_pred, rtol=1e-5, atol=1e-5)
    assert_same(moved.gradients(found), wanted)
    slots = {id(p) for p in moved.parameters()}
    moving = {
        key for each in moved.engine.base.residences.values() for r in each for key in r.homes
    }
    assert not slots & moving  # deltas stay on the device


def test_learned_rows_get_their_gradient_through_an_encoder_that_was_put_away(
    folders: dict[str, Path], spoilt: list[int]
) -> None:
    rows = []
    for offload in ("none", "text_encoder"):
        engine = open_engine(folders["sd"], offload=offload)
        engine.text.start(["<x:0>"], "mug", torch.Generator().manual_seed(0))
        (row,) = engine.text.parameters_of(["<x:0>"])
        text = engine.text.encode(["a photo of <x:0>"])
        with torch.no_grad():
            engine.text.encode(["an empty scene"])
        rows.append(torch.autograd.grad(text.square().sum(), row)[0])
    assert spoilt
    torch.testing.assert_close(*rows)


@pytest.mark.parametrize("family", WRITERS)
@pytest.mark.parametrize("offload", ["text_encoder", "groups"])
def test_pictures_are_the_same_with_parts_in_cpu_memory(
    folders: dict[str, Path], family: str, offload: str, spoilt: list[int]
) -> None:
    pictures = []
    for where in ("none", offload):
        engine = open_engine(folders[family], offload=where)
        side = SIDE_LATENTS * engine.base.vae_scale_factor
        plan = SamplingPlan(2, 2.0, side, side)
        prompt = RegionalPrompt(("a photo of a mug",), ("a",))
        latents = engine.sample([prompt], [1], plan)
        pictures.append(torch.from_numpy(engine.decode(latents)[0]).float())
        engine.encode_images(engine.decode(latents))
    assert spoilt
    torch.testing.assert_close(*pictures, rtol=0, atol=1.0)


def test_which_parts_wait() -> None:
    waits = residence.waits_in_cpu_memory
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer")
    assert [p for p in parts if waits(p, "none", "transformer")] == []
    assert [p for p in parts if waits(p, "text_encoder", "transformer")] == list(parts[2:4])
    assert [p for p in parts if waits(p, "groups", "transformer")] == list(parts[:4])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own
@pytest.mark.parametrize("family", WRITERS)
def test_compiled_blocks_give_the_same_picture_and_gradients(
    folders: dict[str, Path], family: str
) -> None:
    """Traced as for the compiler, run by torch: code that dynamo cannot follow would differ."""
    torch._dynamo.reset()
    plain = Pass(open_engine(folders[family]), 2)
    model_pred = plain.predict()
    compiled = Pass(open_engine(folders[family]), 2)
    seen: list[int] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        seen.append(len(graph.graph.nodes))
        return graph.forward

    acceleration.compile_blocks(compiled.engine.base.denoiser, backend=count)
    found = compiled.predict()
    assert len(seen) > 1
    torch.testing.assert_close(found, model_pred, rtol=1e-5, atol=1e-5)
    assert_same(compiled.gradients(found), plain.gradients(model_pred))
    # Another route is no reason to compile anew.
    before = len(seen)
    compiled.route = Route((("b", "a"),) * 2, compiled.masks)
    plain.route = compiled.route
    torch.testing.assert_close(compiled.predict(), plain.predict(), rtol=1e-5, atol=1e-5)
    assert len(seen) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's own
def test_compiled_blocks_can_be_checkpointed(folders: dict[str, Path]) -> None:
    """A pass with a gradient is then not compiled, one without is."""
    torch._dynamo.reset()
    plain = Pass(open_engine(folders["klein"]), 2)
    wanted = plain.gradients(plain.predict())
    both = Pass(open_engine(folders["klein"], gradient_checkpointing=True), 2)
    seen: list[int] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        seen.append(len(graph.graph.nodes))
        return graph.forward

    acceleration.compile_blocks(both.engine.base.denoiser, backend=count)
    assert_same(both.gradients(both.predict()), wanted)
    assert not seen
    with torch.no_grad():
        both.predict()
    assert seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_compiled_blocks_are_said_to_take_time(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    open_engine(folders["klein"], compile=True)
    assert "the first batch takes minutes" in caplog.text


def test_layers_that_move_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        BaseModelSettings(compile=True, offload="groups")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", WRITERS)
def test_deltas_and_predictions_stay_fp32_over_a_half_precision_base(
    folders: dict[str, Path], family: str, dtype: str
) -> None:
    exact = Pass(open_engine(folders[family]), 2)
    wanted = exact.predict()
    run = Pass(open_engine(folders[family], dtype=dtype), 2)
    run.texts = exact.texts.detach().to(run.texts.dtype).requires_grad_()
    model_pred = run.predict()
    assert model_pred.dtype == torch.float32
    assert relative_error(model_pred, wanted) < 0.05
    layers = [m for m in run.engine.base.denoiser.modules() if isinstance(m, RoutedLinear)]
    assert {layer.base.weight.dtype for layer in layers} == {getattr(torch, dtype)}
    parameters = run.parameters()
    gradients = run.gradients(model_pred)[: len(parameters)]
    assert {p.dtype for p in parameters} == {g.dtype for g in gradients} == {torch.float32}
    plain = exact.gradients(wanted)[: len(parameters)]
    flat, flat_plain = (torch.cat([g.flatten() for g in gs]) for gs in (gradients, plain))
    assert torch.isfinite(flat).all()
    assert relative_error(flat, flat_plain) < 0.1
