"""Every stage learns, survives a kill without a trace, and the whole ends in a usable model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from typer.testing import CliRunner

from catalog_pipeline.base_model.training import architectures
from catalog_pipeline.base_model.training.__main__ import main
from catalog_pipeline.base_model.training.autoencoder import encode_decode, reconstruction_loss
from catalog_pipeline.base_model.training.checkpoint import load_tensors, save_tensors
from catalog_pipeline.base_model.training.diffusion import DiffusionObjective
from catalog_pipeline.base_model.training.latent_bank import LatentBank, read_latent_bank
from catalog_pipeline.base_model.training.presets import MAX_TOKENS, Preset
from catalog_pipeline.base_model.training.program import TrainingOptions, train_base_model
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.base_model.training.training_loop import Stage, run_stage
from catalog_pipeline.errors import BaseModelError, ConfigurationError, IntegrityError

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for whatever ends a process between two steps."""


def kill_at(step: int) -> Callable[[int], None]:
    def after_step(steps_done: int) -> None:
        if steps_done == step:
            raise KilledError

    return after_step


@pytest.fixture(scope="module")
def run_folder(tiny_preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run, undisturbed."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert train_base_model(TrainingOptions(out, tiny_preset)) == out / "export"
    return out


def test_the_autoencoder_learns_a_fixed_batch(tiny_preset: Preset) -> None:
    torch.manual_seed(0)
    vae = architectures.vae(tiny_preset.architecture)
    pictures = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32) * 2 - 1
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    losses = []
    for step in range(25):
        decoded, _ = encode_decode(vae, pictures, torch.Generator().manual_seed(step))
        loss = reconstruction_loss(decoded, pictures).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def make_objective(preset: Preset) -> tuple[nn.Module, DiffusionObjective]:
    torch.manual_seed(0)
    unet = architectures.unet(preset.architecture)
    text_encoder = architectures.text_encoder(64, 62, 63, preset.architecture)
    tokens = torch.randint(0, 62, (4, MAX_TOKENS), dtype=torch.int16)
    bank = LatentBank(torch.randn(4, 4, 8, 8).half(), tokens, 1.0)
    null_tokens = torch.full((1, MAX_TOKENS), 63)
    alphas = architectures.scheduler().alphas_cumprod
    objective = DiffusionObjective(unet, text_encoder, bank, null_tokens, alphas, preset.diffusion)
    return nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}), objective


def test_diffusion_learns_a_fixed_batch(tiny_preset: Preset) -> None:
    networks, objective = make_objective(tiny_preset)
    optimizer = torch.optim.Adam(networks.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss, _ = objective(0, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_captions_are_dropped_at_their_share(tiny_preset: Preset) -> None:
    settings = replace(tiny_preset.diffusion, batch_size=4000, caption_dropout=0.1)
    _, objective = make_objective(replace(tiny_preset, diffusion=settings))
    _, tokens = objective._draw(torch.Generator().manual_seed(0))
    dropped = (tokens == 63).all(1).float().mean()
    assert 0.08 < float(dropped) < 0.12


def test_a_killed_and_resumed_stage_ends_with_the_same_weights(
    tiny_preset: Preset, tmp_path: Path
) -> None:
    settings = tiny_preset.diffusion.optimizer

    def stage(name: str) -> tuple[Stage, DiffusionObjective]:
        networks, objective = make_objective(tiny_preset)
        return Stage("diffusion", networks, settings, tmp_path / name, 0, CPU), objective

    whole, objective = stage("whole")
    assert run_stage(whole, objective, log=TrainingLog(), deadline=Deadline())

    killed, objective = stage("killed")
    with pytest.raises(KilledError):
        run_stage(killed, objective, log=TrainingLog(), deadline=Deadline(), after_step=kill_at(5))
    resumed, objective = stage("killed")
    assert resumed.steps_done == 3  # the last checkpoint before the kill
    assert run_stage(resumed, objective, log=TrainingLog(), deadline=Deadline())

    expected, _ = load_tensors(tmp_path / "whole")
    found, facts = load_tensors(tmp_path / "killed")
    assert facts == {"stage": "diffusion", "steps": settings.steps}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(name.startswith("ema/unet") for name in expected)


def test_a_loss_that_is_not_finite_stops_the_stage_and_keeps_the_checkpoint(
    tiny_preset: Preset, tmp_path: Path
) -> None:
    module = nn.Linear(1, 1)
    path = tmp_path / "x"

    def step_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return module.weight.sum() * (float("nan") if step > 3 else 1.0), {}

    stage = Stage("x", module, tiny_preset.diffusion.optimizer, path, 0, CPU)
    with pytest.raises(BaseModelError, match="the loss is nan at step 6"):
        run_stage(stage, step_loss, log=TrainingLog(), deadline=Deadline())
    assert load_tensors(path)[1]["steps"] == 3


def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"x": torch.ones(2)}, {"steps": 1})

    def killed(self: Path, target: Path) -> Path:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            save_tensors(path, {"x": torch.zeros(2)}, {"steps": 2})
    tensors, facts = load_tensors(path)
    assert (tensors["x"].tolist(), facts) == ([1.0, 1.0], {"steps": 1})
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"x": torch.ones(64)}, {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match=r"state\.safetensors is not a checkpoint"):
        load_tensors(path)


def test_the_export_opens_as_a_pipeline_and_samples(run_folder: Path, tiny_preset: Preset) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        run_folder / "export", dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a red mug", num_inference_steps=2, guidance_scale=4.0).images
    assert image.size == (32, 32)
    assert pipeline.tokenizer.model_max_length == MAX_TOKENS
    assert pipeline.text_encoder.config.vocab_size == len(pipeline.tokenizer)
    bank = read_latent_bank(run_folder / "bank")
    assert len(bank.latents) == len(bank.tokens) == tiny_preset.bank.pictures
    assert pipeline.vae.config.scaling_factor == pytest.approx(bank.scaling_factor)
    stored, _ = load_tensors(run_folder / "diffusion.safetensors")
    name = "conv_in.weight"
    averaged = stored[f"ema/unet.{name}"].half().float()
    assert torch.equal(pipeline.unet.state_dict()[name], averaged)


def test_the_figures_of_every_stage_are_in_the_log(run_folder: Path) -> None:
    entries = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    losses = {entry["stage"] for entry in entries if "loss" in entry}
    assert losses == {"autoencoder", "diffusion"}
    assert {entry["stage"] for entry in entries if "seconds" in entry} >= {
        "product sprites",
        "backgrounds",
        "autoencoder",
        "latent bank",
        "diffusion",
    }


def test_a_run_stopped_in_every_stage_exports_the_same_bytes(
    run_folder: Path, tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert train_base_model(TrainingOptions(out, tiny_preset, minutes=0)) is None
    passes = iter([False] * 4 + [True] + [False] * 5 + [True] + [False] * 4 + [True])
    monkeypatch.setattr(Deadline, "passed", lambda self: next(passes, False))
    stops = 0
    while train_base_model(TrainingOptions(out, tiny_preset, resume=True)) is None:
        stops += 1
    assert stops == 3
    for path in sorted((run_folder / "export").rglob("*.safetensors")):
        other = out / "export" / path.relative_to(run_folder / "export")
        assert other.read_bytes() == path.read_bytes(), path.name


def test_a_folder_in_use_is_not_taken_over(
    run_folder: Path, tiny_preset: Preset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="pass --resume"):
        train_base_model(TrainingOptions(run_folder, tiny_preset))
    with pytest.raises(ConfigurationError, match="begun with another seed"):
        train_base_model(TrainingOptions(run_folder, tiny_preset, resume=True, seed=1))
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        train_base_model(TrainingOptions(tmp_path, tiny_preset))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named(tiny_preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'cuda:0' asked for"):
        train_base_model(TrainingOptions(tmp_path / "run", tiny_preset, device="cuda:0"))


def test_the_command_says_what_presets_there_are(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    out = tmp_path / "run"
    wrong = CliRunner().invoke(app, ["--out", str(out), "--preset", "huge"])
    assert wrong.exit_code == 2
    assert "expected one of full, smoke" in " ".join(wrong.output.split())
    assert not out.exists()


def test_the_command_ends_with_one_line_where_the_folder_is_taken(run_folder: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    refused = CliRunner().invoke(app, ["--out", str(run_folder), "--preset", "smoke"])
    assert refused.exit_code == 1
    assert refused.output.startswith("error: ")
    assert "--resume" in refused.output
