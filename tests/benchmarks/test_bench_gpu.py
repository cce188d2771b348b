"""The benchmark of an accelerator, dry on a CPU: both sides run, and they compute the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import DiffusionEngine
from tests.benchmarks.gpu.__main__ import NEEDS_CUDA, main
from tests.benchmarks.gpu.floor import Peaks, count_flops
from tests.benchmarks.gpu.models import build
from tests.benchmarks.gpu.ours import OurSide, adapter_settings, random_latents, set_trained
from tests.benchmarks.gpu.pairs import Spread, ratio_of
from tests.benchmarks.gpu.report import section, write_report
from tests.benchmarks.gpu.runner import Bench, Rounds
from tests.benchmarks.gpu.scripts import SIDES
from tests.benchmarks.gpu.sizes import FULL, Size
from tests.benchmarks.gpu.small_sizes import TINY
from tests.benchmarks.gpu.theirs import TheirSide

CPU = torch.device("cpu")
Both = tuple[OurSide, TheirSide]
PEAKS = Peaks(flops=1e11, bytes=1e10)
ONCE = Rounds(steps=1, pictures=1, warm_up=1)


@pytest.fixture(scope="module", params=TINY, ids=lambda size: size.name)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Of one tiny model; without guidance, with which our negative prompts read the bare base."""
    size: Size = replace(request.param, guidance=1.0)
    return _both_sides(size, torch.float32, tmp_path_factory.mktemp("vocabulary"))


def _both_sides(size: Size, dtype: torch.dtype, scratch: Path) -> Both:
    base = build(size, CPU, dtype, scratch, seed=0)
    theirs = SIDES[type(base).__name__](base, size)
    ours = OurSide(DiffusionEngine(base, adapter_settings("ours")), size, seed=0)
    theirs.add_adapter(ours.factors())
    return ours, theirs


def test_both_sides_compute_the_same(both: Both) -> None:
    ours, theirs = both
    set_trained(ours.parameters, True)
    draw = theirs.draw(random_latents(ours.engine, 2, seed=1))
    losses = ours.loss(draw), theirs.loss(draw)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for loss in losses:
        loss.backward()
    for name, (down, up) in ours.factors().items():
        layer = theirs.denoiser.get_submodule(name)
        for mine, other in ((down, layer.lora_A), (up, layer.lora_B)):
            assert mine.grad is not None
            assert torch.allclose(mine.grad, other["default"].weight.grad, rtol=1e-3, atol=1e-6)
    set_trained(ours.parameters, False)
    ours.engine.adapter.parameters_changed()


def test_both_sides_paint_the_same_picture(both: Both) -> None:
    ours, theirs = both
    mine, other = ours.picture(seed=3), theirs.picture(ours.noise_of(3))
    assert mine.std() > 10
    assert np.abs(mine.astype(int) - other.astype(int)).max() <= 1
    assert np.abs(mine.astype(int) - ours.picture(seed=4).astype(int)).max() > 10


@pytest.mark.parametrize("size", TINY, ids=lambda size: size.name)
def test_both_sides_run_in_the_type_of_a_card(size: Size, tmp_path: Path) -> None:
    ours, theirs = _both_sides(size, torch.bfloat16, tmp_path)
    draw = theirs.draw(random_latents(ours.engine, 1, seed=1))
    with torch.no_grad():
        assert ours.loss(draw).item() == pytest.approx(theirs.loss(draw).item(), rel=0.02)
    mine, other = ours.picture(seed=3), theirs.picture(ours.noise_of(3))
    assert mine.shape == other.shape == (size.side_px, size.side_px, 3)
    assert other.std() > 10


def test_the_twin_shares_all_weights_but_convolutions(both: Both) -> None:
    ours, theirs = both
    base = ours.engine.base
    convolutions = [
        module.weight.nbytes
        for part in (base.denoiser, base.parts["vae"])
        for module in part.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    channels_last = base.memory_format == torch.channels_last
    assert (0 < theirs.copied_bytes() <= sum(convolutions)) == channels_last


def test_flops_of_a_product_and_its_gradient_are_counted() -> None:
    left = torch.randn(8, 16, requires_grad=True)
    right = torch.randn(16, 32, requires_grad=True)
    assert count_flops(lambda: left @ right) == 2 * 8 * 16 * 32
    assert count_flops(lambda: (left @ right).sum().backward()) == 3 * 2 * 8 * 16 * 32


def test_ratios_say_how_many_times_as_fast_ours_is() -> None:
    assert ratio_of([1.0, 2.0, 1.0], [2.0, 4.0, 2.0]) == Spread(2.0, 2.0, 2.0)
    assert Peaks(10.0, 5.0).floor_seconds(flops=20.0, read_bytes=5.0) == 2.0
    assert Peaks(10.0, 5.0).floor_seconds(flops=20.0, read_bytes=50.0) == 10.0


def test_the_models_have_the_published_numbers_of_parameters() -> None:
    """In millions; of the denoiser and of the text encoders."""
    counts = {}
    with torch.device("meta"):
        for size in FULL:
            for name in (size.family.denoiser_part, "text_encoder", "text_encoder_2"):
                if name in size.parts:
                    kind = size.family.part_classes[name]
                    config = getattr(kind, "config_class", None)
                    options = size.parts[name]
                    part = kind(config(**options)) if config else kind(**options)
                    counts[size.name, name] = sum(p.numel() for p in part.parameters()) / 1e6
    assert {key: round(value) for key, value in counts.items()} == {
        ("SD-1.5", "unet"): 860,
        ("SD-1.5", "text_encoder"): 123,
        ("SDXL", "unet"): 2567,
        ("SDXL", "text_encoder"): 123,
        ("SDXL", "text_encoder_2"): 695,
        ("FLUX.2-klein-4B", "transformer"): 3876,
        ("FLUX.2-klein-4B", "text_encoder"): 4022,
    }


@pytest.mark.slow
def test_the_dry_run_times_every_way_and_its_page_is_written(tmp_path: Path) -> None:
    bench = Bench(CPU, torch.float32, PEAKS, ONCE, seed=0)
    rows = [row for size in TINY for row in bench.measure(size)]
    steps = [row for row in rows if row.task == "step"]
    pictures = [row for row in rows if row.task == "picture"]
    assert [row.size for row in pictures] == [size.name for size in TINY]
    assert [row.layers for row in steps] == ["ours", "script"] * len(TINY)
    for row in steps:
        assert set(row.seconds) == set(row.losses) == {"ours", "diffusers", "as shipped"}
        assert all(math.isfinite(loss) for loss in row.losses.values())
    for row in pictures:
        assert set(row.seconds) == {"ours", "diffusers", "two products"}
    for row in rows:
        assert row.flops > 0
        assert 0 < row.floor_seconds < row.seconds["ours"].median
    facts = section("a command", _where(), PEAKS, ONCE, 0, rows, ["SDXL, compile: no compiler"])
    write_report(tmp_path, cpu=facts)
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert "Not measured yet" in page
    assert "Not measured: SDXL, compile: no compiler" in page
    assert page.count("| FLUX.2-klein-4B, 16 px | base |") == 3
    write_report(tmp_path, gpu={**facts, "where": {**_where(), "device": "a card"}})
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert "## a card" in page
    assert "On a CPU" in page
    assert "Not measured yet" not in page


def _where() -> dict[str, object]:
    names = ("date", "device", "driver", "cuda", "threads", "dtype", "torch", "diffusers", "peft")
    return {**dict.fromkeys(names, "x"), "load_average_5_minutes": 0.5}


def test_without_a_card_one_line_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == NEEDS_CUDA
    assert "--dry-run" in NEEDS_CUDA
    assert "\n" not in NEEDS_CUDA
