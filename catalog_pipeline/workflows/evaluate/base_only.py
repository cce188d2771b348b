"""Pictures of the base that name no product: before learning (cached), and with a version in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from catalog_pipeline.records import Features, Pixels
from catalog_pipeline.settings import GenerationSettings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import DiffusionEngine
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.prompts import BasePrompt


@dataclass(frozen=True)
class BasePictures:
    """Renders base-only prompts and encodes the pictures with every encoder.

    ``encoders`` maps an encoder's identity to it. Features of the bare base are kept
    in the home, ``base/<base model>/evaluation-<digest>.safetensors``: one tensor an
    encoder, ``(prompts, width)``. The digest is of all that could change a picture
    or its features, so a cached object is never stale.
    """

    engine: DiffusionEngine
    objects: ObjectStore
    encoders: Mapping[str, FeatureEncoder]
    generation: GenerationSettings
    progress: ProgressSink

    def before(
        self, prompts: Sequence[BasePrompt], label: str, *, surroundings: bool = False
    ) -> dict[str, Features]:
        """Features by encoder of ``prompts`` by the bare base; rendered once a home.

        With ``surroundings``, of the pictures with their middle hidden.
        """
        from catalog_pipeline.evaluation.text_following import surroundings as hide

        if not prompts:
            return self._encode([])
        key = self._key(prompts, surroundings)
        cached = self._cached(key, len(prompts))
        if cached is None:
            pictures = self._render(prompts, None, label)
            cached = self._encode([hide(one) for one in pictures] if surroundings else pictures)
            self.objects.put(
                key, save({name: np.ascontiguousarray(r) for name, r in cached.items()})
            )
        return cached

    def after(
        self, prompts: Sequence[BasePrompt], slot: str | None, label: str
    ) -> dict[str, Features]:
        """Features by encoder of ``prompts`` with what the engine has installed.

        ``slot`` is the one that such a prompt is routed through: the collection's
        shared slot, or ``None`` where every product has its own.
        """
        return self._encode(self._render(prompts, slot, label))

    def _render(self, prompts: Sequence[BasePrompt], slot: str | None, label: str) -> list[Pixels]:
        from catalog_pipeline.diffusion.sampling import RegionalPrompt, SamplingPlan

        if not prompts:
            return []
        wanted = self.generation
        plan = SamplingPlan(
            wanted.steps, wanted.guidance, wanted.width, wanted.height, wanted.sampler
        )
        pictures: list[Pixels] = []
        self.progress.start(label, len(prompts))
        for start in range(0, len(prompts), wanted.batch_size):
            part = prompts[start : start + wanted.batch_size]
            batch = [
                RegionalPrompt((one.prompt,), (slot,), negative_prompt=wanted.negative_prompt)
                for one in part
            ]
            latents = self.engine.sample(batch, [one.seed for one in part], plan)
            pictures += self.engine.decode(latents)
            self.progress.advance(label, len(part))
        self.progress.finish(label)
        return pictures

    def _encode(self, pictures: Sequence[Pixels]) -> dict[str, Features]:
        return {name: encoder.encode(pictures) for name, encoder in self.encoders.items()}

    def _key(self, prompts: Sequence[BasePrompt], surroundings: bool) -> str:
        base = self.engine.base
        content = {
            "asked": [(one.prompt, one.seed) for one in prompts],
            "surroundings": surroundings,
            "generation": rendering_settings(self.generation),
            "batch_size": self.generation.batch_size,
            "dtype": str(base.dtype),
            "device": base.device.type,
            "encoders": sorted(self.encoders),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"base/{base.content_hash[:16]}/evaluation-{digest[:16]}.safetensors"

    def _cached(self, key: str, rows: int) -> dict[str, Features] | None:
        if not self.objects.exists(key):
            return None
        try:
            found: dict[str, Features] = load(self.objects.read(key).data)
        except SafetensorError:
            return None  # A cache: what cannot be read is rendered and written again.
        fits = {name: (rows, encoder.width) for name, encoder in self.encoders.items()}
        return found if {name: value.shape for name, value in found.items()} == fits else None


def rendering_settings(generation: GenerationSettings) -> dict[str, object]:
    """The settings that change a picture of a given prompt and seed."""
    names = {"sampler", "steps", "guidance", "width", "height", "negative_prompt"}
    return {name: value for name, value in generation.model_dump().items() if name in names}
