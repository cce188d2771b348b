"""The methods side by side: same scenes, seeds, steps and guidance, on one learned home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import torch

from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.planner import choose_width, list_names
from catalog_pipeline.generation.sampler import SceneSampler
from catalog_pipeline.records import (
    SHARED,
    AttentionControl,
    Concept,
    Features,
    Palette,
    Pixels,
    RenderJob,
    concept_part,
    memory_part,
    part_owner,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.memory import MemoryEntry, decode_memory
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import check_same_base, open_engine, read_named_part
from tests.benchmarks.generation.attend_and_excite import AttendAndExcite
from tests.benchmarks.generation.scenes import Scene

STEPS, GUIDANCE, BATCH = 20, 3.0, 8
GRADIENT_STEP = 0.02
"""Step of the gradient, in units of the latents' noise."""
REWEIGHT_BIAS = 1.0
"""Added to the attention logits of a concept inside its region, by the gradient-free variant."""
DAY = date(2026, 11, 23)


@dataclass(frozen=True)
class Method:
    """``attention``: how regions are controlled: none, ours (regions), gradient, reweight."""

    name: str
    title: str
    kind: str
    attention: str = "none"
    batch: int = BATCH


METHODS = {
    method.name: method
    for method in (
        Method("plain", "plain", "joint"),
        Method("attend_and_excite", "Attend-and-Excite", "excited", batch=1),
        Method("regional", "regional", "regional"),
        Method("ours", "ours", "regional", "ours"),
        Method("ours_gradient", "ours + gradient", "regional", "gradient"),
        Method("ours_reweight", "ours, reweight", "regional", "reweight"),
    )
}


class Workbench:
    """The learned products of a home, and what renders them."""

    def __init__(self, settings: Settings, collection: str = "default") -> None:
        """Opens the head of ``collection``; raises ``GenerationError`` when it is empty."""
        self.settings = settings
        self._store = open_home(settings).adapters(collection)
        head = self._store.current()
        if head is None:
            raise GenerationError(
                f"collection '{collection}' of {settings.home} has learned nothing; run "
                "`python -m tests.benchmarks.generation learn`"
            )
        self.version = head
        self.learned = {concept.sku: concept for concept in head.concepts}
        self.engine = self._fresh_engine(settings)
        check_same_base(head, self.engine.base.content_hash)
        side = self.engine.base.sample_size_px
        self.plan = SamplingPlan(STEPS, GUIDANCE, side, side)
        self.sampler = SceneSampler(
            self.engine, settings.learning.adapter, self._read_part, batch_size=BATCH
        )
        self._excited: tuple[DiffusionEngine, AttendAndExcite] | None = None

    @property
    def classes(self) -> dict[str, str]:
        return {sku: concept.class_noun for sku, concept in self.learned.items()}

    def banks(self) -> dict[str, Features]:
        """SKU -> the features of its photos, from its long-term memory."""
        return {sku: memory.features for sku, memory in self._memories().items()}

    def palettes(self) -> dict[str, Palette]:
        """SKU -> the colours of its photos, of every product that was learned with them."""
        memories = self._memories().items()
        return {sku: entry.palette for sku, entry in memories if entry.palette is not None}

    def _memories(self) -> dict[str, MemoryEntry]:
        names = {sku: self.version.parts[memory_part(sku)] for sku in self.learned}
        return {sku: decode_memory(self._store.read_part(name)) for sku, name in names.items()}

    def control(self, method: Method) -> AttentionControl:
        """The attention control of ``method``: the settings' own, varied or switched off."""
        if method.attention == "none":
            return AttentionControl()
        shipped = self.settings.generation.attention.model_dump()
        chosen = AttentionControl(**shipped | {"method": "none"})
        if method.attention == "gradient":
            return replace(chosen, method="gradient", step_size=GRADIENT_STEP)
        if method.attention == "reweight":
            return replace(chosen, method="reweight", step_size=REWEIGHT_BIAS, refinements=0)
        return chosen

    def facts(self, method: Method) -> dict[str, Any]:
        """Everything but the scenes that a picture of ``method`` depends on, the code apart."""
        control = asdict(self.control(method)) if method.kind == "regional" else {}
        base = self.engine.base.content_hash[:16]
        sizes = {**asdict(self.plan), "widening": self.settings.generation.widening}
        return {"version": self.version.version, "base": base, **sizes, **control}

    def render(
        self, method: Method, scenes: Sequence[Scene], strength: float = 1.0
    ) -> list[Pixels]:
        """One picture a scene; scenes of one number of things."""
        if method.kind == "regional":
            return self._render_regional(method, scenes, strength)
        if method.kind == "excited":
            return [self._render_excited(scene) for scene in scenes]
        batch = [self._joint(self.engine, scene) for scene in scenes]
        padded = batch + [batch[-1]] * (BATCH - len(batch))
        seeds = [scene.seed for scene in scenes]
        seeds += [seeds[-1]] * (BATCH - len(seeds))
        latents = self.engine.sample(padded, seeds, self.plan_of(scenes[0]))
        return self.engine.decode(latents)[: len(scenes)]

    def plan_of(self, scene: Scene) -> SamplingPlan:
        """The same for every method: as wide as the settings make a night's scene of so many."""
        settings = self.settings.generation.model_copy(update={"width": self.plan.width})
        return replace(self.plan, width=choose_width(settings, len(scene.things)))

    def _render_regional(
        self, method: Method, scenes: Sequence[Scene], strength: float
    ) -> list[Pixels]:
        known = {name: self.concept(name) for scene in scenes for name in scene.things}
        jobs = [self.job(scene, self.control(method)) for scene in scenes]
        stronger = {} if strength == 1.0 else {"strength": strength}
        return self.sampler.render(jobs, known, **stronger)

    def _render_excited(self, scene: Scene) -> Pixels:
        if self._excited is None:
            base = self.settings.base_model.model_copy(update={"dtype": "float32"})
            engine = self._fresh_engine(self.settings.model_copy(update={"base_model": base}))
            self._excited = engine, AttendAndExcite(engine, self.plan)
        engine, artist = self._excited
        # The identifier's last token is the class noun's: the thing that must appear.
        names = [self.concept(name).identifier for name in scene.things]
        regional_prompt = self._joint(engine, scene)
        return artist.render(regional_prompt, names, scene.seed, self.plan_of(scene))

    def _fresh_engine(self, settings: Settings) -> DiffusionEngine:
        """An engine with every learned product installed."""
        engine = open_engine(settings)
        shared = settings.learning.adapter.one_for_all
        if shared:
            install_part(engine, self._read_part(SHARED), slot=SHARED)
        for sku, concept in self.learned.items():
            data, tokens = self._read_part(concept_part(sku)), concept.placeholder_tokens
            install_part(engine, data, slot=None if shared else sku, tokens=tokens)
        return engine

    def _joint(self, engine: DiffusionEngine, scene: Scene) -> RegionalPrompt:
        """One prompt that names all; both products' deltas merged, as two loaded LoRAs are."""
        phrases = [f"a {self.concept(name).identifier}" for name in scene.things]
        prompt = f"a photo of {list_names(phrases)} {scene.text}"
        learned = [name for name in scene.things if name in self.learned]
        slot: str | None = None
        if learned and self.settings.learning.adapter.one_for_all:
            slot = SHARED
        elif learned:
            slot = " + ".join(learned)
            engine.adapter.compose(slot, dict.fromkeys(learned, 1.0))
        return RegionalPrompt((prompt,), (slot,))

    def concept(self, name: str) -> Concept:
        """The concept of a SKU; ``red mug`` becomes a mug whose only attribute is ``red``."""
        if name in self.learned:
            return self.learned[name]
        attribute, noun = name.split(" ", 1)
        return Concept(name, name, noun, "", (attribute,), "", 0)

    def _read_part(self, name: str) -> bytes:
        if name in self.version.parts or " " not in part_owner(name):
            return read_named_part(self._store, self.version, name)
        # A thing of the base alone: a slot that changes nothing. Its attribute is an ordinary
        # word, which the tokenizer reads as such, so the row that goes with it is never used.
        if "bare" not in self.engine.adapter.slots:
            self.engine.adapter.add_slot("bare", torch.Generator().manual_seed(0))
        width = self.engine.text.table.base.embedding_dim
        return encode_part({**slot_part(self.engine, "bare"), "token/0": torch.zeros(width)})

    def job(self, scene: Scene, control: AttentionControl) -> RenderJob:
        """The picture of ``scene``, drawn as learned."""
        names = [self.concept(name).name for name in scene.things]
        plan = self.plan_of(scene)
        return RenderJob(
            job_id=f"bench-{scene.number}",
            day=DAY,
            template="bench",
            prompt=f"{list_names(names)} {scene.text}",
            scene=scene.text,
            skus=scene.things,
            regions=split_layout(len(scene.things)),
            layout="columns",
            seed=scene.seed,
            sampler=plan.sampler,
            steps=plan.steps,
            guidance=plan.guidance,
            width=plan.width,
            height=plan.height,
            negative_prompt="",
            collection="default",
            adapter_version=self.version.version,
            attention=control,
        )
