"""Images a second of stock diffusers and of our paths, interleaved in one run.

Each round times every path once, so that what else the machine does falls on all of them;
medians over the rounds are compared, and a stopped run keeps its finished rounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from catalog_pipeline.diffusion.base import resolve_base_model
from catalog_pipeline.diffusion.sampling import RegionalPrompt
from catalog_pipeline.generation.planner import list_names
from catalog_pipeline.settings import BaseModelSettings
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.generation.methods import BATCH, METHODS, Workbench
from tests.benchmarks.generation.scenes import Scene, draw_scenes
from tests.benchmarks.harness.cells import json_bytes, read_json
from tests.benchmarks.harness.costs import measured

log = logging.getLogger("bench")
FILE = "speed.json"
PATHS = {
    "stock": "stock diffusers at its defaults (fp32, 50 steps, guidance 7.5, one at a time)",
    "stock_tuned": "stock diffusers at our steps, batch, guidance and width of a pair (fp32)",
    "plain": "our plain path: one prompt of the base, square pictures as stock's defaults",
    "regional": "regions, two learned products",
    "ours": "regions, composition first",
    "ours_gradient": "the same, with both attention modules by gradient",
    "ours_reweight": "the same, with reweighted attention",
}
TARGETS = (
    ("ours", "stock_tuned", 0.6),
    ("ours_gradient", "stock_tuned", 0.6),
    ("plain", "stock", 1.5),
)
"""Path, the path that it is compared with, and the ratio of images a second asked for."""


def measure_speed(home: Path, bench: Workbench, rounds: int, threads: int) -> None:
    """Measure until ``rounds`` rounds of this version and these settings are written."""
    torch.set_num_threads(threads)
    facts = {
        "version": bench.version.version,
        "threads": threads,
        "batch": BATCH,
        "dtype": str(bench.engine.base.dtype).removeprefix("torch."),
        "control": bench.facts(METHODS["ours_gradient"]),
    }
    known = read_speed(home)
    done = known["rounds"] if known and known["facts"] == facts else []
    if len(done) >= rounds:
        return
    paths = make_paths(bench)
    for paint, _ in paths.values():
        paint()  # the first call of a path also sets up caches and kernels
    while len(done) < rounds:
        seconds: dict[str, dict[str, float]] = {}
        for name, (paint, images) in paths.items():
            with measured() as cost:
                paint()
            seconds[name] = {
                "wall": cost.wall_seconds / images,
                "cpu": cost.cpu_seconds / images,
            }
        done = [*done, seconds]
        LocalObjectStore(home).put(FILE, json_bytes({"facts": facts, "rounds": done}))
        log.info("speed: round %d of %d", len(done), rounds)


def read_speed(home: Path) -> dict[str, Any] | None:
    """What is measured; ``None`` for nothing."""
    found: dict[str, Any] | None = read_json(home / FILE)
    return found


def summarize(found: dict[str, Any]) -> dict[str, Any]:
    """Medians a path, and the ratios that the targets name."""
    rounds = found["rounds"]
    paths = {
        name: {
            "title": PATHS[name],
            "images_per_second": 1 / float(np.median([r[name]["wall"] for r in rounds])),
            "cpu_seconds_an_image": float(np.median([r[name]["cpu"] for r in rounds])),
        }
        for name in rounds[0]
    }
    ratios = []
    for path, other, target in TARGETS:
        each = [r[other]["wall"] / r[path]["wall"] for r in rounds]
        ratios.append(
            {
                "path": path,
                "of": other,
                "target": target,
                "ratio": float(np.median(each)),
                "cpu_ratio": float(np.median([r[other]["cpu"] / r[path]["cpu"] for r in rounds])),
                "range": [min(each), max(each)],
            }
        )
    return {**found["facts"], "rounds": len(rounds), "paths": paths, "ratios": ratios}


def make_paths(bench: Workbench) -> dict[str, tuple[Callable[[], object], int]]:
    """Path -> what paints one round of it, and how many images that are."""
    scenes = draw_scenes("pairs", bench.classes, BATCH)
    prompts = [
        f"a photo of {list_names([bench.concept(n).class_noun for n in s.things])} {s.text}"
        for s in scenes
    ]
    pipeline, plan = _stock(bench.settings.base_model), bench.plan
    default = pipeline.scheduler

    def stock() -> None:
        pipeline.scheduler = default
        pipeline(prompts[0])

    def stock_tuned() -> None:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(default.config)
        wide = bench.plan_of(scenes[0])  # as the paths with regions, which it is compared with
        pipeline(
            prompts,
            num_inference_steps=wide.steps,
            guidance_scale=wide.guidance,
            width=wide.width,
            height=wide.height,
        )

    def plain() -> None:
        batch = [RegionalPrompt((prompt,), (None,)) for prompt in prompts]
        seeds = [scene.seed for scene in scenes]
        bench.engine.decode(bench.engine.sample(batch, seeds, plan))

    paths: dict[str, tuple[Callable[[], object], int]] = {
        "stock": (stock, 1),
        "stock_tuned": (stock_tuned, len(scenes)),
        "plain": (plain, len(scenes)),
    }
    for name in ("regional", "ours", "ours_gradient", "ours_reweight"):
        paths[name] = (_regional(bench, name, scenes), BATCH)
    return paths


def _regional(bench: Workbench, name: str, scenes: tuple[Scene, ...]) -> Callable[[], object]:
    return lambda: bench.render(METHODS[name], scenes)


def _stock(settings: BaseModelSettings) -> Any:
    pipeline = StableDiffusionPipeline.from_pretrained(
        resolve_base_model(settings),
        local_files_only=True,
        dtype=torch.float32,
        safety_checker=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
