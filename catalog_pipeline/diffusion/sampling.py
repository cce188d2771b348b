"""Batched latent sampling with classifier-free guidance, routes and regional prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from catalog_pipeline.diffusion.adapter import ConceptAdapter, Route
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.regional import AttentionObserver
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import AdapterSettings


@dataclass(frozen=True)
class RegionalPrompt:
    """The prompts of one image of a batch.

    Attributes:
        prompts: the text of each region, the first one being region 0.
        slots: the adapter slot of each region, ``None`` for the bare base.
        masks: ``(regions, height, width)`` in [0, 1] that sum to 1 at each pixel,
            or ``None`` for a single region.
        negative_prompt: what guidance moves away from.
    """

    prompts: tuple[str, ...]
    slots: tuple[str | None, ...]
    masks: Tensor | None = None
    negative_prompt: str = ""


@dataclass(frozen=True)
class Stage:
    """The prompts of a batch for so many steps."""

    steps: int
    batch: Sequence[RegionalPrompt]


@dataclass(frozen=True)
class SamplingPlan:
    """Solver settings that a whole batch shares; sizes in pixels."""

    steps: int
    guidance: float
    width: int
    height: int
    sampler: str = "dpmsolver++"


@dataclass(frozen=True)
class Start:
    """Where denoising starts instead of pure noise: a picture, noised (arXiv:2108.01073).

    Attributes:
        latents: ``(batch, channels, h, w)``, scaled as the denoiser sees them.
        strength: share of the steps that are taken, the last ones, in (0, 1]; at least one is.
    """

    latents: Tensor
    strength: float

    def skipped(self, steps: int) -> int:
        """How many of so many steps are left out, the first ones."""
        return steps - max(1, round(self.strength * steps))


@dataclass(frozen=True)
class Conditioning:
    """The encoded prompts of a batch.

    Attributes:
        encoder_hidden_states: ``(batch, regions, tokens, width)``.
        masks: ``(batch, regions, height, width)`` or ``None`` for one region.
        route: slots of the same batch and regions.
    """

    encoder_hidden_states: Tensor
    masks: Tensor | None
    route: Route


class SamplingControl(Protocol):
    """Takes part in :meth:`DiffusionEngine.sample`: changes latents, or attention, or both."""

    def before_step(
        self,
        engine: DiffusionEngine,
        latents: Tensor,
        timestep: Tensor,
        index: int,
        conditioning: Conditioning,
    ) -> Tensor:
        """The latents ``(batch, channels, h, w)`` from which step ``index`` starts.

        ``conditioning`` is that of the prompts, without the negative ones.
        """
        ...

    def observer(self, index: int) -> AttentionObserver | None:
        """Who watches the attention of the prediction of step ``index``.

        With guidance the batch that it sees holds the negative prompts first.
        """
        ...


class DiffusionEngine:
    """One base model with its adapter, text conditioner and regional attention installed."""

    def __init__(self, base: BaseModel, settings: AdapterSettings) -> None:
        self.base = base
        self.text = base.text_conditioner()
        self.text.reading = base.reading_texts
        base.install_attention(settings)
        self.adapter = ConceptAdapter(base, settings)

    def predict(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        masks: Tensor | None,
        route: Route,
    ) -> Tensor:
        """The denoiser's prediction with the slots of ``route``, fp32.

        Args:
            noisy_latents: ``(batch, channels, h, w)``.
            timesteps: ``(batch,)``.
            encoder_hidden_states: ``(batch, regions, tokens, width)`` text of each region.
            masks: ``(batch, regions, H, W)`` or ``None`` for one region.
            route: slots of the same ``batch`` and ``regions``.
        """
        with self.adapter.routed(route), self.base.saving_marks():
            return self.base.predict(noisy_latents, timesteps, encoder_hidden_states, masks)

    def probe(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        observer: AttentionObserver,
    ) -> None:
        """Show ``observer`` the attention on ``latents``, and compute nothing beyond it."""
        handle = self.base.probe_end.register_forward_pre_hook(_stop)
        self.base.regions.observer = observer
        try:
            self._predict(latents, timestep, conditioning)
        except _ProbeEndError:
            pass
        finally:
            self.base.regions.observer = None
            handle.remove()

    def encode_prompts(self, batch: Sequence[RegionalPrompt]) -> Tensor:
        """``encoder_hidden_states`` (batch, regions, tokens, width) of every region's text."""
        flat = [prompt for item in batch for prompt in item.prompts]
        distinct = list(dict.fromkeys(flat))
        encoded = dict(zip(distinct, self.text.encode(distinct), strict=True))
        regions = len(batch[0].prompts)
        return torch.stack([encoded[p] for p in flat]).unflatten(0, (len(batch), regions))

    @torch.no_grad()
    def sample(
        self,
        batch: Sequence[RegionalPrompt],
        seeds: Sequence[int],
        plan: SamplingPlan,
        control: SamplingControl | None = None,
        opening: Sequence[Stage] = (),
        start: Start | None = None,
    ) -> Tensor:
        """Latents ``(batch, channels, h, w)``, scaled as the denoiser sees them.

        Each image's noise depends on its own seed alone. All items of a batch must
        have the same number of regions. ``opening`` holds the prompts of the first
        steps, stage by stage; ``batch`` those of the steps after them. With a ``start``
        the steps that come before it are left out, and their prompts with them.
        """
        scheduler = self.base.make_scheduler(plan.sampler, plan.steps, plan.height, plan.width)
        latents = self.initial_noise(seeds, plan)
        skipped = 0
        if start is None:
            # Solvers of flow matching start from unit noise and take the latents as they are.
            latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
        else:
            skipped = start.skipped(len(scheduler.timesteps))
            timestep = scheduler.timesteps[skipped].expand(len(latents)).to(latents.device)
            latents = self.base.add_noise(start.latents, latents, timestep)
            scheduler.set_begin_index(skipped)
        scale_model_input = getattr(scheduler, "scale_model_input", lambda sample, _: sample)
        conditionings = self._conditionings([*opening, Stage(plan.steps, batch)], plan)
        for index, (timestep, (conditioning, negative)) in enumerate(
            zip(scheduler.timesteps, conditionings, strict=False)
        ):
            if index < skipped:
                continue
            if control is not None:
                latents = control.before_step(self, latents, timestep, index, conditioning)
                self.base.regions.observer = control.observer(index)
            model_input = latents if negative is None else torch.cat([latents, latents])
            model_input = scale_model_input(model_input, timestep)
            try:
                model_pred = self._predict(model_input, timestep, negative or conditioning)
            finally:
                self.base.regions.observer = None
            if negative is not None:
                unconditional, conditional = model_pred.chunk(2)
                model_pred = self.base.guide(unconditional, conditional, plan.guidance)
            latents = scheduler.step(model_pred, timestep, latents, return_dict=False)[0]
        return latents

    def _predict(self, latents: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return self.predict(
            latents,
            timestep.expand(len(latents)).to(self.base.device),
            conditioning.encoder_hidden_states,
            conditioning.masks,
            conditioning.route,
        )

    def _conditionings(
        self, stages: Sequence[Stage], plan: SamplingPlan
    ) -> Iterator[tuple[Conditioning, Conditioning | None]]:
        """Of each step; a stage is encoded when it begins, the last one has no end."""
        for stage in stages[:-1]:
            yield from repeat(self._encode_stage(stage, plan), stage.steps)
        yield from repeat(self._encode_stage(stages[-1], plan))

    def _encode_stage(
        self, stage: Stage, plan: SamplingPlan
    ) -> tuple[Conditioning, Conditioning | None]:
        """The prompts; and, where there is guidance, the negative prompts before them."""
        batch = stage.batch
        prompts = self.encode_prompts(batch)
        masks = stack_masks(batch, self.base.device)
        conditioning = Conditioning(prompts, masks, Route(tuple(i.slots for i in batch), masks))
        if plan.guidance <= 1.0:
            return conditioning, None
        negative = self.encode_prompts(
            [RegionalPrompt((i.negative_prompt,) * len(i.prompts), i.slots) for i in batch]
        )
        masks = None if masks is None else torch.cat([masks, masks])
        bare = tuple((None,) * conditioning.route.regions for _ in batch)
        route = Route(bare + conditioning.route.slots, masks)
        return conditioning, Conditioning(torch.cat([negative, prompts]), masks, route)

    def initial_noise(self, seeds: Sequence[int], plan: SamplingPlan) -> Tensor:
        """Standard normal latents, one generator a seed, drawn on the CPU."""
        factor = self.base.vae_scale_factor
        shape = (self.base.latent_channels, plan.height // factor, plan.width // factor)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise).to(self.base.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Pixels]:
        """Latents -> RGB pictures, uint8 ``(height, width, 3)``."""
        pixels_each = latents[0, 0].numel() * self.base.vae_scale_factor**2
        with self.base.on_device("vae"):
            chunks = latents.split(coded_together(pixels_each))
            images = torch.cat([self.base.decode(chunk) for chunk in chunks])
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        return list(pixels.cpu().numpy())

    @torch.no_grad()
    def encode_images(self, images: Sequence[Pixels]) -> Tensor:
        """Pictures of one size -> scaled latent means ``(images, channels, h, w)``."""
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        with self.base.on_device("vae"):
            return torch.cat(
                [
                    self.base.encode(chunk.to(self.base.device).float() / 127.5 - 1)
                    for chunk in stacked.split(coded_together(stacked[0, 0].numel()))
                ]
            )


def coded_together(pixels: int) -> int:
    """How many pictures of so many pixels a VAE is given at once: 16 of 256 x 256, 1 of 1,024."""
    return max(1, min(16, 1024**2 // pixels))


class _ProbeEndError(Exception):
    """Ends a forward pass whose output nobody needs."""


def _stop(*_: object) -> None:
    raise _ProbeEndError


def stack_masks(batch: Sequence[RegionalPrompt], device: torch.device) -> Tensor | None:
    """``(batch, regions, h, w)``, or ``None`` when every item has one region."""
    masks = [item.masks for item in batch]
    if all(mask is None for mask in masks):
        return None
    return torch.stack([m for m in masks if m is not None]).to(device)
