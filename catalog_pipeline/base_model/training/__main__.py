"""``python -m catalog_pipeline.base_model.training --out DIR``: train a base model from nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from catalog_pipeline.base_model.training.presets import PRESETS
from catalog_pipeline.base_model.training.program import TrainingOptions, train_base_model
from catalog_pipeline.errors import CatalogPipelineError


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run; export/ in it is the model.")],
    preset: Annotated[
        str, typer.Option(help="full: the recipe of the embedded weights; smoke: minutes on a CPU.")
    ] = "full",
    emoji: Annotated[
        Path | None, typer.Option(help="Folder of the package @lobehub/fluent-emoji-3d.")
    ] = None,
    photos: Annotated[
        list[Path] | None, typer.Option(help="Folder of <class>/<photo>.jpg; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many minutes; --resume goes on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that render; default: one a core.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Default: on CUDA only.")
    ] = None,
) -> None:
    """Train VAE, tokenizer, text encoder and UNet from nothing and export a diffusers folder."""
    if preset not in PRESETS:
        raise typer.BadParameter(f"got '{preset}'; expected one of {', '.join(PRESETS)}")
    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_cuda:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    options = TrainingOptions(
        out=out,
        preset=PRESETS[preset],
        emoji_dir=emoji,
        photo_dirs=tuple(photos or ()),
        resume=resume,
        minutes=minutes,
        seed=seed,
        device=device,
        workers=(os.cpu_count() or 1) if workers is None else workers,
        compiled=on_cuda if compiled is None else compiled,
    )
    try:
        train_base_model(options)
    except CatalogPipelineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
