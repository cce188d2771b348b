"""Which scenes the fidelity benchmark paints: fixed draws over the learned products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from catalog_pipeline.generation.anchors import anchor_job
from catalog_pipeline.generation.draws import Slot
from catalog_pipeline.generation.layouts import LAYOUTS
from catalog_pipeline.generation.planner import draft_job
from catalog_pipeline.records import Concept, ProductPhotos, RenderJob
from catalog_pipeline.settings import GenerationSettings, LayoutSettings

SUITES: Mapping[str, int] = {"singles": 1, "pairs": 2, "triples": 3, "five": 5}
COUNTS = {"singles": 28, "pairs": 10, "triples": 6, "five": 4}
LAYOUT_NAMES = {1: "single", 2: "left_right", 3: "three_columns", 5: "five_columns"}
SEEDS = (0, 1)
_DAY = date(2026, 11, 29)


@dataclass(frozen=True)
class Scene:
    """One picture to paint in every mode; ``job`` is exact, with its photos."""

    suite: str
    seed: int
    job: RenderJob

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.seed}-{'+'.join(self.job.skus)}"


def draw_scenes(
    suite: str,
    count: int,
    seed: int,
    concepts: Mapping[str, Concept],
    photos: Mapping[str, ProductPhotos],
    settings: GenerationSettings,
) -> list[Scene]:
    """``count`` scenes of products that have a photo, each product about equally often."""
    size = SUITES[suite]
    usable = sorted(sku for sku in concepts if photos[sku].photos)
    rng = np.random.default_rng([seed, size])
    deck: list[str] = []
    scenes = []
    for turn in range(count):
        while len(deck) < size:
            deck += [sku for sku in rng.permutation(usable) if sku not in deck[-size:]]
        skus, deck = tuple(deck[:size]), deck[size:]
        template = settings.scenes[(turn + seed) % len(settings.scenes)]
        slot = Slot(skus, template, LAYOUT_NAMES[size], seed, "singles")
        scenes.append(
            Scene(suite, seed, make_job(slot, concepts, photos, settings, f"{seed}|{turn}"))
        )
    return scenes


def make_job(
    slot: Slot,
    concepts: Mapping[str, Concept],
    photos: Mapping[str, ProductPhotos],
    settings: GenerationSettings,
    draw: str,
) -> RenderJob:
    """The exact scene of ``slot``, with its photos."""
    named: Sequence[Concept] = [concepts[sku] for sku in slot.skus]
    fifths = tuple((i / 5, 0.0, (i + 1) / 5, 1.0) for i in range(5))
    # The settings hold boxes of two and three; a scene of five is of the benchmark alone.
    boxes = {} if slot.layout in LAYOUTS else {slot.layout: fifths}
    layouts = LayoutSettings.model_construct(boxes=boxes)
    asked = settings.model_copy(update={"layouts": layouts, "mode": "exact"})
    job = draft_job(slot, named, asked, _DAY, "default", "bench", draw)
    return anchor_job(job, slot, named, asked, photos.__getitem__, draw)
