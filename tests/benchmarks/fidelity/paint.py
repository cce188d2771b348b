"""Every way of making one scene, from one empty scene and the same seeds.

plain       the cut-outs on the empty scene, nothing else: the picture to beat
learned     from noise, as before
anchored S  placed, noised to strength S, redrawn
exact       the redraw of the shipped strength, then the photos' own pixels back
bare        anchored at the shipped strength by the bare base: without slots and tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from catalog_pipeline.diffusion.sampling import RegionalPrompt, Start
from catalog_pipeline.generation.anchored import Cutouts, output_size, place_anchors, place_in
from catalog_pipeline.generation.compositing import compose, enlarge, to_floats, to_pixels
from catalog_pipeline.generation.prompts import empty_scene
from catalog_pipeline.generation.sampler import SceneSampler, _shared_plan
from catalog_pipeline.records import Concept, Pixels, RenderJob

STRENGTHS = (0.45, 0.6, 0.8)
VARIANTS = ("plain", "learned", *(f"anchored {s}" for s in STRENGTHS), "exact", "bare")


class BareSampler(SceneSampler):
    """Reads class nouns in place of what was learned, and so takes any product."""

    def _load(self, sku: str, concepts: Mapping[str, Concept]) -> None:
        """Nothing: no slot is used."""

    def _regional_prompt(self, job: RenderJob, concepts: Mapping[str, Concept]) -> RegionalPrompt:
        plain = {sku: replace(c, placeholder_tokens=()) for sku, c in concepts.items()}
        return replace(super()._regional_prompt(job, plain), slots=(None,) * len(job.skus))


class Painter:
    """Paints scenes of one size and number of products, in batches."""

    def __init__(self, sampler: SceneSampler, bare: BareSampler) -> None:
        self._sampler, self.bare = sampler, bare
        self._engine = sampler._engine

    def paint(
        self,
        jobs: Sequence[RenderJob],
        concepts: Mapping[str, Concept],
        cutouts: Cutouts,
        variants: Sequence[str] = VARIANTS,
    ) -> list[dict[str, Pixels]]:
        """``{variant: picture}`` of each job, and its ``empty`` scene; jobs share a batch."""
        engine, (plan, control) = self._engine, _shared_plan(jobs)
        painted: list[dict[str, Pixels]] = [{} for _ in jobs]
        if "learned" in variants:
            learned = [replace(job, mode="learned") for job in jobs]
            painted = [{"learned": p} for p in self._sampler.render(learned, concepts)]
        for sku in {sku for job in jobs for sku in job.skus}:
            self._sampler._load(sku, concepts)
        prompts = [RegionalPrompt((empty_scene(job.scene),), (None,)) for job in jobs]
        backdrop_plan = replace(plan, steps=jobs[0].backdrop_steps)
        scenes = engine.decode(engine.sample(prompts, [job.seed for job in jobs], backdrop_plan))
        for row, job, scene in zip(painted, jobs, scenes, strict=True):
            row["empty"], row["plain"] = scene, plain_cutout(job, scene, cutouts)
        for variant in variants:
            kind, _, strength = variant.partition(" ")
            if kind not in ("anchored", "exact", "bare"):
                continue
            mode = "exact" if kind == "exact" else "anchored"
            asked = [
                replace(job, mode=mode, strength=float(strength or job.strength)) for job in jobs
            ]
            sampler = self.bare if kind == "bare" else self._sampler
            placed = [place_in(s, j, cutouts) for s, j in zip(scenes, asked, strict=True)]
            latents = engine.encode_images([scene.start for scene in placed])
            start = Start(latents, asked[0].strength)
            drawn = engine.decode(sampler._sample(asked, concepts, plan, control, 1.0, start))
            given = engine.decode(latents)
            for row, scene, redraw, before in zip(painted, placed, drawn, given, strict=True):
                row[variant] = scene.finish(redraw, before)
        return painted


def plain_cutout(job: RenderJob, scene: Pixels, cutouts: Cutouts) -> Pixels:
    """The cut-outs on the empty scene: no shadow, no light, no redraw."""
    width, height = output_size(job)
    layers = place_anchors(job, cutouts, width, height)
    return to_pixels(compose(enlarge(to_floats(scene), width, height), layers))
