"""What is foretold of memory, against what real steps and batches keep."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel, QwenImageTransformer2DModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion import memory_need as memory_module
from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.memory_need import free_bytes, memory_need, what_to_change
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import (
    BaseModelSettings,
    GenerationSettings,
    LearningSettings,
    Settings,
)
from catalog_pipeline.workflows.models import require_memory
from catalog_pipeline.workflows.upkeep.doctor_memory import check_memory
from tests.tiny_families import write_tiny_klein, write_tiny_qwen_image

SIDE_LATENTS, ROWS = 16, 2


def mid_klein(folder: Path) -> Path:
    """Eight blocks of width 256 in an otherwise tiny FLUX.2-klein."""
    write_tiny_klein(folder)
    Flux2Transformer2DModel(
        in_channels=16,
        num_layers=3,
        num_single_layers=5,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(16, 16, 16, 16),
        guidance_embeds=False,
    ).save_pretrained(folder / "transformer")
    return folder


def mid_qwen(folder: Path) -> Path:
    """Four blocks of width 256 in an otherwise tiny Qwen-Image."""
    write_tiny_qwen_image(folder)
    QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=4,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=16,
        axes_dims_rope=(16, 24, 24),
    ).save_pretrained(folder / "transformer")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "embedded": EMBEDDED_WEIGHTS,
        "klein": mid_klein(tmp_path_factory.mktemp("klein")),
        "qwen": mid_qwen(tmp_path_factory.mktemp("qwen")),
    }


def settings_of(folder: Path, **base: Any) -> Settings:
    """A step and a batch of two pictures of 16 x 16 latents."""
    side = 4 * SIDE_LATENTS
    source = {"base_model": str(folder), "dtype": "float32", "side_px": side, "device": "cpu"}
    return Settings(
        home=folder,
        config_dir=folder,
        base_model=BaseModelSettings(**{**source, **base}),
        learning=LearningSettings(batch_size=ROWS),
        generation=GenerationSettings(batch_size=1, width=side, height=side, widening=0),
    )


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside the block hold at one time."""

    def __init__(self, engine: DiffusionEngine) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen = weights_of(engine)  # whose views are nothing new

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def open_engine(settings: Settings) -> DiffusionEngine:
    engine = DiffusionEngine(load_base_model(settings.base_model), settings.learning.adapter)
    engine.adapter.add_slot("a", torch.Generator().manual_seed(0))
    for parameter in engine.adapter.parameters_of("a"):
        parameter.requires_grad_(True)
    return engine


def one_step(engine: DiffusionEngine, regions: int) -> Callable[[], Tensor]:
    """The loss of a step of ROWS pictures, learned rows in its texts where the base has some."""
    engine.text.start(["<x:0>"], "mug", torch.Generator().manual_seed(0))
    for row in engine.text.parameters_of(["<x:0>"]):
        row.requires_grad_(True)
    shape = (ROWS, engine.base.latent_channels, SIDE_LATENTS, SIDE_LATENTS)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    route, masks = whole_image(["a"] * ROWS), None
    if regions == 2:
        masks = torch.full((ROWS, 2, SIDE_LATENTS, SIDE_LATENTS), 0.5)
        route = Route((("a", None),) * ROWS, masks)

    def loss() -> Tensor:
        texts = engine.text.encode(["a photo of <x:0>"] * ROWS)[:, None]
        texts = texts.expand(-1, regions, -1, -1)
        timesteps = torch.full((ROWS,), 500.0)
        return engine.predict(latents, timesteps, texts, masks, route).square().mean()

    return loss


def weights_of(engine: DiffusionEngine) -> set[int]:
    """The storages of all that was opened and installed."""
    parts = (p for p in engine.base.parts.values() if isinstance(p, torch.nn.Module))
    tensors = (t for part in parts for t in (*part.parameters(), *part.buffers()))
    return {t.untyped_storage()._cdata for t in tensors}


class Kept:
    """What autograd keeps of the passes inside the block, each storage once; no frozen weights."""

    def __init__(self, engine: DiffusionEngine) -> None:
        self._weights = weights_of(engine)
        self._sizes: dict[int, int] = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._sizes[storage._cdata] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self._sizes.values())


@pytest.mark.parametrize("change", [{}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("family", ["embedded", "klein", "qwen"])
def test_a_step_keeps_what_is_foretold(
    folders: dict[str, Path], family: str, change: dict[str, Any]
) -> None:
    settings = settings_of(folders[family], **change)
    need = memory_need(settings, folders[family])
    assert need is not None
    engine = open_engine(settings)
    make = one_step(engine, 2 if family != "embedded" else 1)
    kept = Kept(engine)
    with Peak(engine) as peak:
        with kept.hooks:
            loss = make()
        loss.backward()
    print(
        f"\n{family} {change}: step {need.step / 1e6:.1f} kept {kept.bytes / 1e6:.1f} "
        f"peak {peak.most / 1e6:.1f}"
    )
    assert 0.9 * peak.most < need.step < 1.35 * peak.most


@pytest.mark.parametrize("family", ["embedded", "klein", "qwen"])
def test_a_batch_and_a_picture_take_what_is_foretold(folders: dict[str, Path], family: str) -> None:
    settings = settings_of(folders[family])
    need = memory_need(settings, folders[family])
    assert need is not None
    engine = open_engine(settings)
    make = one_step(engine, 2 if family != "embedded" else 1)
    with torch.no_grad(), Peak(engine) as batch:
        make()
    shape = (1, engine.base.latent_channels, SIDE_LATENTS, SIDE_LATENTS)
    with Peak(engine) as decoding:
        engine.decode(torch.zeros(shape))
    print(
        f"\n{family}: batch {need.batch / 1e6:.1f} peak {batch.most / 1e6:.1f}; "
        f"decoding {need.decoding / 1e6:.1f} peak {decoding.most / 1e6:.1f}"
    )
    assert 0.9 * batch.most < need.batch < 2.5 * batch.most
    assert 0.9 * decoding.most < need.decoding < 1.7 * decoding.most


@pytest.mark.parametrize("family", ["embedded", "klein"])
@pytest.mark.parametrize("change", [{}, {"quantise": "int8"}, {"dtype": "bfloat16"}])
def test_weights_are_those_that_are_opened(
    folders: dict[str, Path], family: str, change: dict[str, str]
) -> None:
    settings = settings_of(folders[family], **change)
    need = memory_need(settings, folders[family])
    assert need is not None
    base = load_base_model(settings.base_model)
    for part, foretold in need.weights.items():
        model = base.parts[part]
        tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
        found = sum(tensor.nbytes for tensor in tensors.values())
        assert foretold == pytest.approx(found, rel=0.02), part
    engine = DiffusionEngine(base, settings.learning.adapter)
    engine.adapter.add_slot("a", torch.Generator().manual_seed(0))
    slot = sum(p.nbytes for p in engine.adapter.parameters_of("a"))
    assert need.adapter == 4 * slot


def test_parts_in_cpu_memory_count_while_they_are_used(folders: dict[str, Path]) -> None:
    needs = {
        offload: memory_need(settings_of(folders["klein"], offload=offload), folders["klein"])
        for offload in ("none", "text_encoder", "groups")
    }
    none, text_encoder, groups = (need for need in needs.values() if need is not None)
    saved = none.of("learn") - text_encoder.of("learn")
    assert saved == none.weights["text_encoder"]
    assert groups.weights["transformer"] < none.weights["transformer"] / 8
    assert groups.of("night") < text_encoder.of("night")


def test_what_to_change_comes_in_order_and_is_enough(folders: dict[str, Path]) -> None:
    folder = folders["klein"]
    settings = settings_of(folder)
    need = memory_need(settings, folder)
    assert need is not None
    free = need.of("learn")
    words = what_to_change(settings, folder, "learn", int(free * 0.7))
    assert words.startswith("set dtype: bfloat16: about")
    words = what_to_change(settings, folder, "learn", int(free * 0.3))
    assert words.startswith("set dtype: bfloat16, gradient_checkpointing: true")
    words = what_to_change(settings, folder, "learn", 1000)
    assert words.startswith("even dtype: bfloat16, gradient_checkpointing: true")
    assert "offload: groups" in words
    assert "smaller base" in words


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_doctor_and_work_say_what_is_missing(
    folders: dict[str, Path],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No GPU is asked: the free bytes of the device are given."""
    settings = settings_of(folders["klein"], device=device)
    monkeypatch.setattr(memory_module, "free_bytes", lambda _: 1 << 40)
    assert [result.level for result in check_memory(settings)] == ["ok", "ok"]
    require_memory(settings, "learn")
    monkeypatch.setattr(memory_module, "free_bytes", lambda _: 30_000_000)
    learning, _ = check_memory(settings)
    assert learning.level == ("error" if device == "cuda" else "warning")
    assert "0.03 GB free" in learning.what
    assert "dtype: bfloat16" in learning.hint
    if device == "cpu":
        require_memory(settings, "learn")
        assert "dtype: bfloat16" in caplog.text
    else:
        with pytest.raises(ConfigurationError, match="dtype: bfloat16") as caught:
            require_memory(settings, "learn")
        assert "\n" not in str(caught.value)


def test_memory_that_is_free_is_read_of_the_machine() -> None:
    assert free_bytes(torch.device("cpu")) > 1e8
