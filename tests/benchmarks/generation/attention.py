"""Attention control off and on, paired: the same scenes, seeds and noise, learned and from photos.

Scenes are of the products that a photo shows alone, in both modes the same, at the shipped steps,
guidance and widths, in one attempt. Each of ``seeds`` is another noise (and other photos).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog_pipeline.generation.anchors import anchor_job
from catalog_pipeline.generation.draws import Slot
from catalog_pipeline.records import Cutout, Pixels, RenderJob
from catalog_pipeline.settings.generation import SceneTemplate
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import base_size_plan
from catalog_pipeline.workflows.night.anchor_cutouts import CutoutBook
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from tests.benchmarks.generation.cells import run_suite
from tests.benchmarks.generation.judging import ProductJudge
from tests.benchmarks.generation.methods import METHODS, Method, Workbench
from tests.benchmarks.generation.scenes import COMPARED, MODES, Scene, draw_scenes

GROUPS = {"pairs": 60, "triples": 40, "same_class": 1000}
"""Scenes of each kind; of one class all that there are."""
SEED_STEP = 7919


def suite_name(mode: str, group: str, seed: int) -> str:
    """Under which the cells of one noise are kept."""
    return f"attention-{mode}-{group}-{seed}"


class ModeBench:
    """Paints scenes in one mode, at the shipped settings; a ``Renderer`` of cells."""

    def __init__(self, bench: Workbench, mode: str) -> None:
        generation = bench.settings.generation
        self._bench = bench
        self._settings = generation.model_copy(update={"mode": mode})
        home = open_home(bench.settings)
        contents = {row.sku: row.content_hash for row in home.index.read()}
        self._photos, self._book = PhotoBook(home, contents), CutoutBook(home)
        self._cutouts: dict[str, Cutout] = {}
        bench.plan = base_size_plan(bench.engine, generation)

    @property
    def classes(self) -> dict[str, str]:
        """SKU -> class noun, of the products that may stand in scenes of either mode."""
        known = self._bench.classes.items()
        return {sku: noun for sku, noun in known if self._photos.find(sku).photos}

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Cut the photos of ``scenes`` out, so that no method pays for it."""
        self._cutouts |= self._book.of(self._job(s, METHODS["ours"]) for s in scenes)

    def render(
        self, method: Method, scenes: Sequence[Scene], strength: float = 1.0
    ) -> list[Pixels]:
        """One picture a scene; the scenes were prepared."""
        jobs = [self._job(scene, method) for scene in scenes]
        concepts = self._bench.learned
        return self._bench.sampler.render(jobs, concepts, strength=strength, cutouts=self._cutouts)

    def facts(self, method: Method) -> dict[str, Any]:
        """The workbench's, and how photos stand in the scenes."""
        anchoring = self._settings.anchoring.model_dump()
        photos = anchoring if self._settings.mode != "learned" else {}
        return {**self._bench.facts(method), "mode": self._settings.mode, **photos}

    def _job(self, scene: Scene, method: Method) -> RenderJob:
        job = self._bench.job(scene, self._bench.control(method))
        template = SceneTemplate(name="bench", text=scene.text)
        slot = Slot(scene.things, template, job.layout, 0, "bench")
        concepts = [self._bench.learned[sku] for sku in scene.things]
        draw = str(scene.seed)
        return anchor_job(job, slot, concepts, self._settings, self._photos.find, draw)


def run_attention(
    home: Path,
    bench: Workbench,
    *,
    modes: Sequence[str] = MODES,
    methods: Sequence[str] = COMPARED,
    seeds: int = 3,
    count: int | None = None,
) -> None:
    """Paint and judge what is missing; all kinds of scenes of a seed before those of the next."""
    judge = ProductJudge(bench)
    renderers = {mode: ModeBench(bench, mode) for mode in modes}
    for seed in range(seeds):
        for mode, renderer in renderers.items():
            for group, most in GROUPS.items():
                drawn = draw_scenes(group, renderer.classes, count or most)
                scenes = tuple(replace(s, seed=(s.seed + SEED_STEP * seed) % 2**31) for s in drawn)
                renderer.prepare(scenes)
                run_suite(home, suite_name(mode, group, seed), scenes, methods, renderer, judge)
