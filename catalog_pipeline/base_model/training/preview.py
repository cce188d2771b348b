"""A sheet of samples at fixed prompts and seeds, to see at a glance what a base can do.

``python -m catalog_pipeline.base_model.training.preview --weights DIR --out FILE.png``
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS

PREVIEW_PROMPTS = (
    "a photo of a red mug on a white background",
    "a photo of a blue vase on a wooden table",
    "a photo of a purple backpack on a sandy beach",
    "a photo of a green book on a gray background",
    "a photo of a yellow teapot on green grass",
    "a photo of a black and white striped mug on pink fabric",
    "a green teapot on the left and a red book on the right on a white background",
    "a blue bottle next to a yellow backpack on a stone floor",
)
_CELL_PX = 128
_GAP_PX = 4
_LABEL_PX = 58


def sample_sheet(
    pipeline: Any,
    prompts: Sequence[str] = PREVIEW_PROMPTS,
    *,
    samples: int = 2,
    steps: int = 30,
    guidance: float = 4.0,
    seed: int = 0,
) -> Image.Image:
    """A column a prompt: its words, then ``samples`` pictures, all from fixed noise.

    Pictures are scaled to 128 px without smoothing, so a smaller model's pixels show.
    """
    columns = []
    for prompt in prompts:
        generator = torch.Generator("cpu").manual_seed(seed)
        pictures = pipeline(
            prompt,
            num_images_per_prompt=samples,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
        ).images
        columns.append((prompt, pictures))
    width = len(columns) * (_CELL_PX + _GAP_PX) + _GAP_PX
    height = _LABEL_PX + samples * (_CELL_PX + _GAP_PX)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (prompt, pictures) in enumerate(columns):
        left = _GAP_PX + number * (_CELL_PX + _GAP_PX)
        draw.multiline_text((left, 1), textwrap.fill(prompt, 24), fill="black", font_size=9)
        for row, picture in enumerate(pictures):
            cell = picture.resize((_CELL_PX, _CELL_PX), Image.Resampling.NEAREST)
            sheet.paste(cell, (left, _LABEL_PX + row * (_CELL_PX + _GAP_PX)))
    return sheet


def main(
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    weights: Annotated[
        Path, typer.Option(help="A diffusers folder; default: the embedded weights.")
    ] = EMBEDDED_WEIGHTS,
) -> None:
    """Draw the preview sheet of a base model."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        weights, dtype=torch.float32, local_files_only=True, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    sample_sheet(pipeline).save(out)


if __name__ == "__main__":
    typer.run(main)
