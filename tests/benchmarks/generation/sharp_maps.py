"""Does attention control pay where attention maps are sharp? A tiny base, trained for it.

    python -m tests.benchmarks.generation.sharp_maps [--home HOME] [--minutes 12]

The base draws coloured shapes on 12 x 18 latents of the embedded autoencoder, with attention to
text at both its resolutions and a text encoder without a layer, so that a token knows its own word
alone. Trained plainly its maps are flat all the same; a copy is trained on for a quarter of the
time with the map of each word pulled into its thing (TokenCompose, arXiv:2312.03626). Both are
measured: their maps, and pictures without and with the gradient.

Writes ``HOME/sharp_maps.json``, which the report of attention control shows.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training.tokenizer import train_tokenizer
from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.regional import (
    RegionalContext,
    install_regional_attention,
    resize_masks,
)
from catalog_pipeline.diffusion.sampling import (
    Conditioning,
    DiffusionEngine,
    RegionalPrompt,
    SamplingPlan,
)
from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
from catalog_pipeline.generation.attention_maps import (
    MapRecorder,
    NamedConcept,
    fit_masks,
    select_tokens,
)
from catalog_pipeline.generation.guidance import GuidedBatch, make_control
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
from tests.benchmarks.harness.cells import json_bytes, read_json
from tests.benchmarks.harness.home import BUILD, log_to_stdout, make_parser

SCENES, BATCH, RATE = 6000, 16, 1e-3
THINGS = (1, 2, 3)
SHARES = (0.3, 0.5, 0.2)
"""Of the scenes that are learned, those of one, two and three things."""
DROPPED_CAPTIONS = 0.1
TOKEN_WEIGHT = 0.3
"""Of the token loss, beside the diffusion loss."""
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

FIGURES = "sharp_maps.json"

log = logging.getLogger("bench")


def main() -> None:
    options = command_line().parse_args()
    log_to_stdout()
    home: Path = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    folders = {"plain": home / "plain-base", "sharpened": home / "sharp-base"}
    if not (folders["plain"] / "model_index.json").exists():
        train(folders["plain"], options.minutes)
    if not (folders["sharpened"] / "model_index.json").exists():
        train(folders["sharpened"], options.minutes / 4, folders["plain"])
    facts = read_json(home / FIGURES) or {
        "size": f"{HEIGHT // 4} x {WIDTH // 4}",
        "scenes": MEASURED_SCENES,
        "prompts": PROMPTS[2],
        "seeds": SEEDS,
        "maps": {"embedded": sharpness(open_engine(EMBEDDED_WEIGHTS), studio_scenes())},
        "training": {},
        "tuning": {},
        "tables": [],
    }
    for name, folder in reversed(folders.items()):
        if name in facts["tuning"]:
            continue
        engine = open_engine(folder)
        facts["detector"] = detector_accuracy(engine)
        facts["training"][name] = (folder / "training.txt").read_text("utf-8").strip()
        facts["maps"][name] = sharpness(engine, shape_scenes())
        (home / FIGURES).write_bytes(json_bytes(facts))
        facts["tuning"][name], tables = compare(engine, home / f"shapes-{name}.png")
        facts["tables"] += [{"base": name, **table} for table in tables]
        (home / FIGURES).write_bytes(json_bytes(facts))


def command_line() -> argparse.ArgumentParser:
    parser = make_parser("generation.sharp_maps", __doc__)
    parser.add_argument("--home", type=Path, default=BUILD / "generation")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="of the processor, for training"
    )
    return parser


def open_engine(folder: Path) -> DiffusionEngine:
    settings = BaseModelSettings(base_model=str(folder))
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


def train(folder: Path, minutes: float, start: Path | None = None) -> None:
    """Train for so many minutes of the processor, and write a diffusers folder.

    From nothing; or from ``start``, and then each word's map is pulled into its thing as well.
    """
    torch.manual_seed(0)
    unet, text_encoder, tokenizer = write_parts()
    if start is not None:
        unet = UNet2DConditionModel.from_pretrained(start / "unet")
        text_encoder = CLIPTextModel.from_pretrained(start / "text_encoder")
    unet.train()
    text_encoder.train()
    context = RegionalContext()
    install_regional_attention(unet, context)
    for name, module in unet.named_modules():
        if name.endswith("attn1"):  # the fused one's gradient is slow in half precision
            module.set_processor(AttnProcessor())
    vae = AutoencoderKL.from_pretrained(EMBEDDED_WEIGHTS / "vae", torch_dtype=torch.float32)
    scheduler = DDIMScheduler.from_pretrained(EMBEDDED_WEIGHTS / "scheduler")
    started = time.process_time()
    latents, tokens, places = latent_bank(vae, tokenizer)
    null = tokenizer("", padding="max_length", return_tensors="pt").input_ids
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    step, gone, losses = 0, 0.0, []
    while gone < 1:
        gone = (time.process_time() - started) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * max(0.0, 1 - gone)
        chosen = torch.randint(len(latents), (BATCH,))
        told = torch.rand(BATCH, 1) >= DROPPED_CAPTIONS
        ids = torch.where(told, tokens[chosen], null)
        timesteps = torch.randint(1000, (BATCH,))
        noise = torch.randn_like(latents[chosen])
        noisy = scheduler.add_noise(latents[chosen], noise, timesteps)
        target = scheduler.get_velocity(latents[chosen], noise, timesteps)
        watcher = TokenWatcher(places[chosen].float() * told[..., None, None])
        context.observer = watcher if start is not None else None
        with torch.autocast("cpu", torch.bfloat16):
            hidden = text_encoder(ids)[0]
            pred = unet(noisy, timesteps, hidden, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(pred.float(), target)
        losses.append((loss.item(), watcher.loss.item()))
        optimizer.zero_grad()
        (loss + TOKEN_WEIGHT * watcher.loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            log.info("step %d, %.0f %%, losses %s", step, 100 * gone, np.mean(losses[-100:], 0))
    for name, part in (
        ("unet", unet),
        ("vae", vae),
        ("text_encoder", text_encoder),
        ("scheduler", scheduler),
        ("tokenizer", tokenizer),
    ):
        part.save_pretrained(folder / name)
    shutil.copy(EMBEDDED_WEIGHTS / "model_index.json", folder / "model_index.json")  # last
    words = f"{step} steps of {BATCH} pictures in {minutes:g} minutes of one thread"
    (folder / "training.txt").write_text(words + "\n", "utf-8")


class TokenWatcher:
    """An attention observer that sums the token loss of TokenCompose (arXiv:2312.03626).

    With ``A_t`` the map of word ``t`` and ``m_t`` where its thing is::

        L = mean_t (1 - sum_p m_t(p) A_t(p) / sum_p A_t(p))^2, mean over layers
    """

    def __init__(self, places: Tensor) -> None:
        """``places`` ``(batch, tokens, h, w)``: each word's thing; 0 for words of no thing."""
        self._places = places
        self._named = places.flatten(2).any(2)  # (batch, tokens)
        self._layers: list[Tensor] = []

    @property
    def loss(self) -> Tensor:
        """A scalar; 0 before a layer was seen."""
        return torch.stack(self._layers).mean() if self._layers else torch.zeros(())

    def wants(self, pixels: int) -> bool:
        """Every layer."""
        del pixels
        return True

    def bias(self, pixels: int) -> None:
        """It only watches."""
        del pixels

    def observe(self, probs: Tensor) -> None:
        """Add the layer's loss; ``probs`` is ``(batch, 1, pixels, tokens)``."""
        maps = probs[:, 0].transpose(1, 2)  # (batch, tokens, pixels)
        masks = resize_masks(self._places, maps.shape[2])
        inside = (maps * masks).sum(2) / maps.sum(2).clamp(min=1e-8)
        self._layers.append((1 - inside)[self._named].square().mean())


@torch.no_grad()
def latent_bank(vae: AutoencoderKL, tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``(scenes, 4, h, w)`` scaled latents, ``(scenes, tokens)`` ids, where the words' things are.

    The last is ``(scenes, tokens, h, w)`` in half precision, 0 for words of no thing.
    """
    rng = np.random.default_rng(0)
    height, width = HEIGHT // 4, WIDTH // 4
    rows, ids = [], []
    places = torch.zeros(
        SCENES // PAINTED_TOGETHER * PAINTED_TOGETHER, TOKENS, height, width
    ).half()
    for _ in range(SCENES // PAINTED_TOGETHER):
        counts = rng.choice(THINGS, PAINTED_TOGETHER, p=SHARES)
        scenes = [draw_scene(rng, draw_things(rng, int(count))) for count in counts]
        pixels = torch.from_numpy(np.stack([s.pixels for s in scenes])).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mean
        rows.append(mean.float() * vae.config.scaling_factor)
        for scene in scenes:
            read = tokenizer(scene.caption, padding="max_length").input_ids
            masks = torch.from_numpy(scene.masks[None]).float()
            for thing, mask in zip(scene.things, fit_masks(masks, height, width)[0], strict=True):
                colour, shape = tokenizer(thing, add_special_tokens=False).input_ids
                places[len(ids), [read.index(colour), read.index(shape)]] = mask.half()
            ids.append(read)
    return torch.cat(rows), torch.tensor(ids), places


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
            masks = fit_masks(torch.from_numpy(scene.masks[None]).float(), *maps.shape[-2:])[0]
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


def compare(engine: DiffusionEngine, sheet: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Off, the gradient as shipped, and tuned: shares found and paired differences.

    One prompt names all things, so regions are those that the maps suggest. Step and length of
    the tuned gradient are the best on other prompts, whose shares come first.
    """
    shipped = GenerationSettings().attention.model_dump() | {"method": "gradient"}
    control = AttentionControl(**shipped | {"silent_share": 0.0, "apart_share": 0.0})
    best, tuning = _tune(engine, control)
    tables: list[dict[str, Any]] = []
    lines = []
    for count, number in PROMPTS.items():
        rng = np.random.default_rng([3, count])
        prompts = [draw_things(rng, count) for _ in range(number)]
        off = _paint_all(engine, prompts, SEEDS, None)
        lines.append([painted.picture for painted in off[:10]])
        for name, chosen in (("shipped", control), ("tuned", best)):
            on = _paint_all(engine, prompts, SEEDS, chosen)
            lines.append([painted.picture for painted in on[:10]])
            size = f"{chosen.step_size:g} in {chosen.guided_share:.0%}"
            tables.append({"things": count, "gradient": name, "step": size, **_paired(off, on)})
            log.info("%s", tables[-1])
    sheet.write_bytes(encode_png(contact_sheet(lines)))
    return tuning, tables


@dataclass(frozen=True, eq=False)
class Painted:
    """A picture, what it shows of its things, and the CPU seconds that it cost.

    ``colours``: every named colour is there, once, and no other.
    """

    picture: Pixels
    said: Mapping[str, str]
    colours: bool
    seconds: float

    @property
    def right(self) -> bool:
        """Every thing is found, in its colour and its outline."""
        return all(verdict == "found" for verdict in self.said.values())


def _tune(
    engine: DiffusionEngine, control: AttentionControl
) -> tuple[AttentionControl, dict[str, float]]:
    """The step and the share of steps with which most pictures show the named colours."""
    rng = np.random.default_rng(4)
    prompts = [[draw_things(rng, count) for _ in range(TUNING)] for count in PROMPTS]
    found = {}
    for share in GUIDED_SHARES:
        for size in STEP_SIZES:
            tried = replace(control, guided_share=share, step_size=size)
            rows = [row for of in prompts for row in _paint_all(engine, of, (9,), tried)]
            found[tried] = float(np.mean([row.colours for row in rows]))
            log.info("step %s in %s of the steps: %.2f", size, share, found[tried])
    best = max(found, key=found.__getitem__)
    return best, {f"{c.step_size:g} in {c.guided_share:.0%}": s for c, s in found.items()}


def _paint_all(
    engine: DiffusionEngine,
    prompts: Sequence[Sequence[str]],
    seeds: Sequence[int],
    control: AttentionControl | None,
) -> list[Painted]:
    """Seed by seed, the prompts in order."""
    painted = []
    for seed in seeds:
        for start in range(0, len(prompts), PAINTED_TOGETHER):
            batch = prompts[start : start + PAINTED_TOGETHER]
            before = time.process_time()
            noises = [1000 * seed + start + index for index in range(len(batch))]
            pictures = _paint(engine, batch, noises, control)
            each = (time.process_time() - before) / len(batch)
            for picture, things in zip(pictures, batch, strict=True):
                colours = sorted(thing.split(" ")[0] for thing in find_things(picture))
                named = sorted(thing.split(" ")[0] for thing in things)
                said = judge_picture(picture, things)
                painted.append(Painted(picture, said, colours == named, each))
    return painted


def _paint(
    engine: DiffusionEngine,
    things: Sequence[Sequence[str]],
    seeds: Sequence[int],
    control: AttentionControl | None,
) -> list[Pixels]:
    shipped = GenerationSettings()
    plan = SamplingPlan(shipped.steps, shipped.guidance, WIDTH, HEIGHT, shipped.sampler)
    batch = [RegionalPrompt((caption(named),), (None,)) for named in things]
    guide = None
    if control is not None:
        height, width = HEIGHT // 4, WIDTH // 4
        selection = _selection(engine, [item.prompts for item in batch], things)
        pixels = _max_pixels(engine, height, width)
        guided = GuidedBatch(selection, plan.steps, height, width, pixels)
        guide = make_control(guided, control, 1.0)
    return engine.decode(engine.sample(batch, seeds, plan, guide))


def _paired(off: Sequence[Painted], on: Sequence[Painted]) -> dict[str, Any]:
    """Shares and their differences; intervals of 95 % over redrawn prompts."""

    def by_prompt(values: Sequence[float]) -> npt.NDArray[np.float64]:
        return np.array(values, np.float64).reshape(len(SEEDS), -1)

    facts: dict[str, Any] = {"pictures": len(off)}
    for name in ("colours", "right"):
        without, guided = (by_prompt([getattr(row, name) for row in rows]) for rows in (off, on))
        change = guided - without
        facts[name] = {
            "off": bootstrap(without.mean(0)),
            "on": bootstrap(guided.mean(0)),
            "difference": bootstrap(change.mean(0)),
            "gained": int((change > 0).sum()),
            "lost": int((change < 0).sum()),
        }
    for kind in ("missing", "swapped"):
        facts[kind] = [
            sum(list(row.said.values()).count(kind) for row in rows) for rows in (off, on)
        ]
    facts["cpu_ratio"] = sum(row.seconds for row in on) / sum(row.seconds for row in off)
    return facts


if __name__ == "__main__":
    main()
