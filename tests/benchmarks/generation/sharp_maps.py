"""Does attention control pay where attention maps are sharp? A tiny base, trained for it.

    python -m tests.benchmarks.generation.sharp_maps [--home HOME] [--minutes 12]

The base draws coloured shapes on 12 x 18 latents of the embedded autoencoder. Its text encoder is
a table of words without a layer, so that no token knows of its neighbours: what belongs where can
be read from the word itself alone, at every resolution. The embedded base's text encoder has
four layers, after which each token, padding too, knows the whole sentence.

Writes ``HOME/sharp_maps.json``, which the report of attention control shows.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training.tokenizer import train_tokenizer
from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.sampling import (
    Conditioning,
    DiffusionEngine,
    RegionalPrompt,
    SamplingPlan,
)
from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
from catalog_pipeline.generation.attention_maps import MapRecorder, NamedConcept, select_tokens
from catalog_pipeline.generation.guidance import GuidedBatch, make_control
from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.records import AttentionControl, Pixels
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings, GenerationSettings
from tests.benchmarks.generation.colours import studio_scene_and_masks
from tests.benchmarks.generation.results import bootstrap
from tests.benchmarks.generation.shapes import (
    COLOURS,
    HEIGHT,
    SHAPES,
    WIDTH,
    ShapeScene,
    caption,
    draw_scene,
    draw_things,
    find_things,
    judge_picture,
)
from tests.benchmarks.harness.cells import json_bytes
from tests.benchmarks.harness.home import BUILD, log_to_stdout, make_parser

SCENES, BATCH, RATE = 6000, 16, 1e-3
THINGS = (1, 2, 3)
SHARES = (0.3, 0.5, 0.2)
"""Of the scenes that are learned, those of one, two and three things."""
DROPPED_CAPTIONS = 0.1
WIDTH_OF_TEXT, TOKENS = 64, 20
NOISE_SHARES = (0.3, 0.5, 0.7)
"""How far up the schedule maps are read; 1 is noise alone."""
MEASURED_SCENES = 48
PROMPTS = {2: 30, 3: 30}
SEEDS = (0, 1, 2)
TUNING = 16
STEP_SIZES = (0.05, 0.1, 0.2)
GUIDED_SHARES = (0.25, 0.5)
PAINTED_TOGETHER = 16

log = logging.getLogger("bench")


def main() -> None:
    options = command_line().parse_args()
    log_to_stdout()
    home: Path = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    base = home / "sharp-base"
    if not (base / "model_index.json").exists():
        train(base, options.minutes)
    engine = open_engine(base)
    facts: dict[str, Any] = {
        "training": (base / "training.txt").read_text("utf-8").strip(),
        "detector": detector_accuracy(engine),
        "maps": {"this base": sharpness(engine, shape_scenes())},
    }
    facts["maps"]["embedded base"] = sharpness(open_engine(EMBEDDED_WEIGHTS), studio_scenes())
    log.info("%s", facts)
    facts["results"] = compare(engine, home)
    (home / "sharp_maps.json").write_bytes(json_bytes(facts))


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("generation.sharp_maps", __doc__)
    parser.add_argument("--home", type=Path, default=BUILD / "generation")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="of the processor, for training"
    )
    return parser


def open_engine(folder: Path) -> DiffusionEngine:
    settings = BaseModelSettings(base_model=str(folder), dtype="float32")
    return DiffusionEngine(load_base_model(settings), AdapterSettings())


# --- training ------------------------------------------------------------------------------


def write_parts() -> tuple[UNet2DConditionModel, CLIPTextModel, Any]:
    """A UNet with attention to text at both its resolutions, a table of words, a tokenizer."""
    words = [caption([f"{c} {s}", f"{c} {s}", f"{c} {s}"]) for c in COLOURS for s in SHAPES]
    tokenizer = train_tokenizer(words, 700)
    tokenizer.model_max_length = TOKENS
    unet = UNet2DConditionModel(
        sample_size=(HEIGHT // 4, WIDTH // 4),
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96),
        layers_per_block=1,
        cross_attention_dim=WIDTH_OF_TEXT,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH_OF_TEXT,
            intermediate_size=WIDTH_OF_TEXT,
            num_hidden_layers=0,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return unet, text_encoder, tokenizer


def train(folder: Path, minutes: float) -> None:
    """Train from nothing for so many minutes of the processor, and write a diffusers folder."""
    torch.manual_seed(0)
    unet, text_encoder, tokenizer = write_parts()
    unet.set_attn_processor(AttnProcessor())  # the fused one's gradient is slow in half precision
    vae = AutoencoderKL.from_pretrained(EMBEDDED_WEIGHTS / "vae", torch_dtype=torch.float32)
    scheduler = DDIMScheduler.from_pretrained(EMBEDDED_WEIGHTS / "scheduler")
    started = time.process_time()
    latents, captions = latent_bank(vae)
    encoded = tokenizer([*captions, ""], padding="max_length", return_tensors="pt").input_ids
    tokens, null = encoded[:-1], encoded[-1:]
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    step, gone, losses = 0, 0.0, []
    while gone < 1:
        gone = (time.process_time() - started) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * max(0.0, 1 - gone)
        chosen = torch.randint(len(latents), (BATCH,))
        ids = torch.where(torch.rand(BATCH, 1) < DROPPED_CAPTIONS, null, tokens[chosen])
        timesteps = torch.randint(1000, (BATCH,))
        noise = torch.randn_like(latents[chosen])
        noisy = scheduler.add_noise(latents[chosen], noise, timesteps)
        target = scheduler.get_velocity(latents[chosen], noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = text_encoder(ids)[0]
            pred = unet(noisy, timesteps, hidden, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(pred.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            log.info("step %d, %.0f %%, loss %.4f", step, 100 * gone, np.mean(losses[-100:]))
    for name, part in (
        ("unet", unet),
        ("vae", vae),
        ("text_encoder", text_encoder),
        ("scheduler", scheduler),
        ("tokenizer", tokenizer),
    ):
        part.save_pretrained(folder / name)
    words = f"{step} steps of {BATCH} pictures, {minutes:g} minutes of one thread, "
    words += f"loss {np.mean(losses[-200:]):.3f}"
    (folder / "training.txt").write_text(words + "\n", "utf-8")
    shutil.copy(EMBEDDED_WEIGHTS / "model_index.json", folder / "model_index.json")  # last


@torch.no_grad()
def latent_bank(vae: AutoencoderKL) -> tuple[Tensor, list[str]]:
    """``(scenes, 4, h, w)`` scaled latents, and the captions."""
    rng = np.random.default_rng(0)
    rows, captions = [], []
    for _ in range(SCENES // PAINTED_TOGETHER):
        counts = rng.choice(THINGS, PAINTED_TOGETHER, p=SHARES)
        scenes = [draw_scene(rng, draw_things(rng, int(count))) for count in counts]
        pixels = torch.from_numpy(np.stack([s.pixels for s in scenes])).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mean
        rows.append(mean.float() * vae.config.scaling_factor)
        captions += [scene.caption for scene in scenes]
    return torch.cat(rows), captions


# --- how sharp maps are ----------------------------------------------------------------------


def shape_scenes() -> Iterator[ShapeScene]:
    """Scenes of two things that no training saw."""
    rng = np.random.default_rng(1)
    for _ in range(MEASURED_SCENES):
        yield draw_scene(rng, draw_things(rng, 2))


def studio_scenes() -> Iterator[ShapeScene]:
    """The same of what the embedded base knows: plain products of the studio."""
    rng = np.random.default_rng(1)
    for _ in range(MEASURED_SCENES):
        pixels, things, masks = studio_scene_and_masks(rng)
        yield ShapeScene(things, pixels, masks >= 128)


@torch.no_grad()
def sharpness(engine: DiffusionEngine, scenes: Iterator[ShapeScene]) -> dict[str, float]:
    """Of the map of each thing's noun, on the true picture, noised: means over things and noises.

    ``inside``: share of the map in the thing's true mask; ``area``: the mask's share of the
    picture, which a flat map would have inside; ``entropy``: of the map over that of a flat one;
    ``own``: share of the map, of what it has in any thing's mask, in the own one.
    """
    rows: dict[str, list[float]] = {"inside": [], "area": [], "entropy": [], "own": []}
    generator = torch.Generator().manual_seed(0)
    for scene in scenes:
        latents = engine.encode_images([scene.pixels])
        noise = torch.randn(latents.shape, generator=generator)
        for share in NOISE_SHARES:
            timestep = torch.tensor([round(share * 999)])
            noisy = engine.base.add_noise(latents, noise, timestep)
            conditioning = Conditioning(
                engine.encode_prompts([RegionalPrompt((scene.caption,), (None,))]),
                None,
                Route(((None,),)),
            )
            recorder = _recorder(engine, [scene.things], *latents.shape[-2:])
            engine.probe(noisy, timestep[0], conditioning, recorder)
            maps = recorder.maps(*latents.shape[-2:])[0, :, 1]  # (things, h, w), of the nouns
            masks = torch.nn.functional.interpolate(
                torch.from_numpy(scene.masks[None]).float(), maps.shape[-2:], mode="area"
            )[0]
            shares = maps / maps.sum((-2, -1), keepdim=True)
            inside = torch.einsum("ihw,jhw->ij", shares, masks)
            rows["inside"] += inside.diag().tolist()
            rows["own"] += (inside.diag() / inside.sum(1)).tolist()
            rows["area"] += masks.mean((-2, -1)).tolist()
            entropy = -torch.xlogy(shares, shares).sum((-2, -1))
            rows["entropy"] += (entropy / np.log(maps[0].numel())).tolist()
    return {name: float(np.mean(values)) for name, values in rows.items()}


def _recorder(
    engine: DiffusionEngine, things: Sequence[Sequence[str]], height: int, width: int
) -> MapRecorder:
    prompts = [(caption(named),) for named in things]
    return MapRecorder(_selection(engine, prompts, things), _max_pixels(engine, height, width))


def _max_pixels(engine: DiffusionEngine, height: int, width: int) -> int:
    """The resolutions that are read: of 16 rows and coarser ones, on either base."""
    return engine.base.map_positions(height, width) if height > 16 else height * width


def _selection(
    engine: DiffusionEngine, prompts: Sequence[Sequence[str]], things: Sequence[Sequence[str]]
) -> Tensor:
    named = [[NamedConcept(*thing.split(" ", 1)) for thing in row] for row in things]
    return select_tokens(engine.text, prompts, named)


# --- what control is worth -------------------------------------------------------------------


def detector_accuracy(engine: DiffusionEngine) -> float:
    """Share of true scenes, through the autoencoder, in which just the true things are seen."""
    rng = np.random.default_rng(2)
    scenes = [draw_scene(rng, draw_things(rng, 2 + number % 2)) for number in range(96)]
    seen = engine.decode(engine.encode_images([scene.pixels for scene in scenes]))
    right = [
        sorted(find_things(picture)) == sorted(scene.things)
        for picture, scene in zip(seen, scenes, strict=True)
    ]
    return float(np.mean(right))


def compare(engine: DiffusionEngine, home: Path) -> dict[str, Any]:
    """Plain and region prompts, without and with the gradient: shares and paired differences.

    The gradient's step and length are chosen on other prompts, for one prompt and for regions.
    """
    shipped = GenerationSettings().attention.model_dump() | {"method": "gradient"}
    shipped |= {"silent_share": 0.0, "apart_share": 0.0}
    control = AttentionControl(**shipped)
    results: dict[str, Any] = {"tuning": {}, "tables": []}
    for regional in (False, True):
        best = _tune(engine, control, regional, results["tuning"])
        controls = {"off": None, "shipped": control, "tuned": best}
        for count in PROMPTS:
            rng = np.random.default_rng([3, count])
            prompts = [draw_things(rng, count) for _ in range(PROMPTS[count])]
            said = {
                name: _paint_all(engine, prompts, SEEDS, chosen, regional)
                for name, chosen in controls.items()
            }
            _write_sheet(home, f"sharp-{count}-{'regions' if regional else 'prompt'}", said)
            for name in ("shipped", "tuned"):
                results["tables"].append(
                    {
                        "things": count,
                        "regions": regional,
                        "gradient": name,
                        **_paired(said["off"], said[name]),
                    }
                )
                log.info("%s", results["tables"][-1])
    return results


Painted = list[tuple[Pixels, Mapping[str, str], float]]
"""``(picture, verdicts, CPU seconds)``, seed by seed, the prompts in order."""


def _tune(
    engine: DiffusionEngine, control: AttentionControl, regional: bool, noted: dict[str, Any]
) -> AttentionControl:
    """The step and the share of steps that find most, on prompts of two and three things."""
    rng = np.random.default_rng(4)
    prompts = [[draw_things(rng, count) for _ in range(TUNING)] for count in PROMPTS]
    best, most = control, -1.0
    for share in GUIDED_SHARES:
        for size in STEP_SIZES:
            tried = replace(control, guided_share=share, step_size=size)
            rows = [row for of in prompts for row in _paint_all(engine, of, (9,), tried, regional)]
            found = float(np.mean([_right(said) for _, said, _ in rows]))
            noted[f"{'regions' if regional else 'one prompt'}, {size} in {share}"] = found
            log.info("regions %s, step %s in %s of the steps: %.2f", regional, size, share, found)
            if found > most:
                best, most = tried, found
    return best


def _paint_all(
    engine: DiffusionEngine,
    prompts: Sequence[Sequence[str]],
    seeds: Sequence[int],
    control: AttentionControl | None,
    regional: bool,
) -> Painted:
    painted: Painted = []
    for seed in seeds:
        for start in range(0, len(prompts), PAINTED_TOGETHER):
            batch = prompts[start : start + PAINTED_TOGETHER]
            before = time.process_time()
            noises = [1000 * seed + start + index for index in range(len(batch))]
            pictures = _paint(engine, batch, noises, control, regional)
            each = (time.process_time() - before) / len(batch)
            painted += [
                (picture, judge_picture(picture, things), each)
                for picture, things in zip(pictures, batch, strict=True)
            ]
    return painted


def _paint(
    engine: DiffusionEngine,
    things: Sequence[Sequence[str]],
    seeds: Sequence[int],
    control: AttentionControl | None,
    regional: bool,
) -> list[Pixels]:
    shipped = GenerationSettings()
    plan = SamplingPlan(shipped.steps, shipped.guidance, WIDTH, HEIGHT, shipped.sampler)
    batch = []
    for named in things:
        if regional:
            masks = region_masks(split_layout(len(named)), HEIGHT // 2, WIDTH // 2)
            own = tuple(caption([thing]) for thing in named)
            batch.append(RegionalPrompt(own, (None,) * len(own), masks))
        else:
            batch.append(RegionalPrompt((caption(named),), (None,)))
    guide = None
    if control is not None:
        height, width = HEIGHT // 4, WIDTH // 4
        selection = _selection(engine, [item.prompts for item in batch], things)
        pixels = _max_pixels(engine, height, width)
        guided = GuidedBatch(selection, plan.steps, height, width, pixels)
        guide = make_control(guided, control, 1.0)
    return engine.decode(engine.sample(batch, seeds, plan, guide))


def _right(said: Mapping[str, str]) -> bool:
    return all(verdict == "found" for verdict in said.values())


def _paired(off: Painted, on: Painted) -> dict[str, Any]:
    """Shares and their difference; intervals of 95 % over redrawn prompts."""

    def by_prompt(rows: Painted, each: bool) -> np.ndarray:
        values = [
            np.mean([v == "found" for v in said.values()]) if each else float(_right(said))
            for _, said, _ in rows
        ]
        return np.array(values).reshape(len(SEEDS), -1)

    pair = [by_prompt(rows, False) for rows in (off, on)]
    kinds = [
        {
            kind: sum(list(said.values()).count(kind) for _, said, _ in rows)
            for kind in ("missing", "swapped", "duplicated")
        }
        for rows in (off, on)
    ]
    cpu = [sum(seconds for _, _, seconds in rows) for rows in (off, on)]
    return {
        "pictures": len(off),
        "off": bootstrap(pair[0].mean(0)),
        "on": bootstrap(pair[1].mean(0)),
        "difference": bootstrap((pair[1] - pair[0]).mean(0)),
        "each": [float(by_prompt(rows, True).mean()) for rows in (off, on)],
        "gained": int((pair[1] > pair[0]).sum()),
        "lost": int((pair[1] < pair[0]).sum()),
        "faults": kinds,
        "cpu_ratio": cpu[1] / cpu[0],
    }


def _write_sheet(home: Path, name: str, said: Mapping[str, Painted]) -> None:
    """Below one another: off, shipped, tuned, of the first prompts."""
    lines = [[picture for picture, _, _ in rows[:10]] for rows in said.values()]
    (home / f"{name}.png").write_bytes(encode_png(contact_sheet(lines, captions=list(said))))


if __name__ == "__main__":
    main()
