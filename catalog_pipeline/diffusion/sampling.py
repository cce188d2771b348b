"""Batched latent sampling with classifier-free guidance, routes and regional prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from catalog_pipeline.diffusion.adapter import ConceptAdapter, Route
from catalog_pipeline.diffusion.base import BaseModel
from catalog_pipeline.diffusion.regional import (
    AttentionObserver,
    RegionalContext,
    install_regional_attention,
)
from catalog_pipeline.diffusion.text import TextConditioner
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import AdapterSettings


@dataclass(frozen=True)
class RegionalPrompt:
    """What one image of a batch is told.

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
    """What a batch is told for so many steps."""

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
class Conditioning:
    """What the images of a batch are told, encoded; without the empty half of guidance.

    Attributes:
        hidden: ``(batch, regions, tokens, width)``.
        masks: ``(batch, regions, height, width)`` or ``None`` for one region.
        route: slots of the same batch and regions.
    """

    hidden: Tensor
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
        given: Conditioning,
    ) -> Tensor:
        """The latents ``(batch, channels, h, w)`` from which step ``index`` starts."""
        ...

    def observer(self, index: int) -> AttentionObserver | None:
        """Who watches the attention of the prediction of step ``index``.

        With guidance the batch that it sees holds the empty half first.
        """
        ...


class DiffusionEngine:
    """One base model with its adapter, text conditioner and regional attention installed."""

    def __init__(self, base: BaseModel, settings: AdapterSettings) -> None:
        self.base = base
        self.text = TextConditioner(base)
        self.context: RegionalContext = install_regional_attention(base.unet)
        self.adapter = ConceptAdapter(base, settings)

    def predict(
        self, latents: Tensor, timesteps: Tensor, hidden: Tensor, masks: Tensor | None, route: Route
    ) -> Tensor:
        """The UNet's prediction, fp32.

        Args:
            latents: ``(batch, channels, h, w)`` noisy latents.
            timesteps: ``(batch,)``.
            hidden: ``(batch, regions, tokens, width)`` text of each region.
            masks: ``(batch, regions, H, W)`` or ``None`` for one region.
            route: slots of the same ``batch`` and ``regions``.
        """
        self.context.set(hidden, masks)
        try:
            with self.adapter.routed(route):
                out = self.base.unet(
                    latents.to(self.base.dtype).contiguous(memory_format=torch.channels_last),
                    timesteps,
                    hidden[:, 0].to(self.base.dtype),
                    return_dict=False,
                )[0]
        finally:
            self.context.set(None, None)
        assert isinstance(out, Tensor)
        return out.float()

    def probe(
        self, latents: Tensor, timestep: Tensor, given: Conditioning, observer: AttentionObserver
    ) -> None:
        """Show ``observer`` the attention on ``latents``, and compute nothing beyond it.

        The forward pass ends at the UNet's decoder: at the middle of the network the
        observer has seen every resolution, at about 40 % of the cost of a whole pass.
        """
        handle = self.base.unet.up_blocks[0].register_forward_pre_hook(_stop)
        self.context.observer = observer
        try:
            times = timestep.expand(len(latents)).to(self.base.device)
            self.predict(latents, times, given.hidden, given.masks, given.route)
        except _SeenEnoughError:
            pass
        finally:
            self.context.observer = None
            handle.remove()

    def encode_prompts(self, batch: Sequence[RegionalPrompt]) -> Tensor:
        """``(batch, regions, tokens, width)`` hidden states of every region's text."""
        flat = [prompt for item in batch for prompt in item.prompts]
        distinct = list(dict.fromkeys(flat))
        hidden = dict(zip(distinct, self.text.encode(distinct), strict=True))
        regions = len(batch[0].prompts)
        return torch.stack([hidden[p] for p in flat]).unflatten(0, (len(batch), regions))

    @torch.no_grad()
    def sample(
        self,
        batch: Sequence[RegionalPrompt],
        seeds: Sequence[int],
        plan: SamplingPlan,
        control: SamplingControl | None = None,
        opening: Sequence[Stage] = (),
    ) -> Tensor:
        """Latents ``(batch, channels, h, w)``, scaled as the UNet sees them.

        Each image's noise depends on its own seed alone. All items of a batch must
        have the same number of regions. ``opening`` says what the first steps are
        told, stage by stage; ``batch`` is what the steps after them are told.
        """
        latents = self.initial_noise(seeds, plan)
        stages = [*opening, Stage(plan.steps, batch)]
        scheduler = make_scheduler(self.base, plan)
        latents = latents * scheduler.init_noise_sigma
        for index, (step, told) in enumerate(
            zip(scheduler.timesteps, self._told(stages, plan), strict=False)
        ):
            given, doubled_given = told
            if control is not None:
                latents = control.before_step(self, latents, step, index, given)
                self.context.observer = control.observer(index)
            guided = doubled_given is not given
            doubled = torch.cat([latents, latents]) if guided else latents
            doubled = scheduler.scale_model_input(doubled, step)
            times = step.expand(len(doubled)).to(self.base.device)
            try:
                prediction = self.predict(
                    doubled, times, doubled_given.hidden, doubled_given.masks, doubled_given.route
                )
            finally:
                self.context.observer = None
            if guided:
                free, conditional = prediction.chunk(2)
                prediction = free + plan.guidance * (conditional - free)
            latents = scheduler.step(prediction, step, latents, return_dict=False)[0]
        return latents

    def _told(
        self, stages: Sequence[Stage], plan: SamplingPlan
    ) -> Iterator[tuple[Conditioning, Conditioning]]:
        """What each step is told; a stage is encoded when it begins, the last one has no end."""
        for stage in stages[:-1]:
            yield from repeat(self._encode_stage(stage, plan), stage.steps)
        yield from repeat(self._encode_stage(stages[-1], plan))

    def _encode_stage(self, stage: Stage, plan: SamplingPlan) -> tuple[Conditioning, Conditioning]:
        """The conditional half alone, and with the empty half before it where there is guidance."""
        batch = stage.batch
        hidden = self.encode_prompts(batch)
        masks = stack_masks(batch, self.base.device)
        given = Conditioning(hidden, masks, Route(tuple(item.slots for item in batch), masks))
        if plan.guidance <= 1.0:
            return given, given
        negative = self.encode_prompts(
            [RegionalPrompt((i.negative_prompt,) * len(i.prompts), i.slots) for i in batch]
        )
        masks = None if masks is None else torch.cat([masks, masks])
        silent = tuple((None,) * given.route.regions for _ in batch)
        route = Route(silent + given.route.slots, masks)
        return given, Conditioning(torch.cat([negative, hidden]), masks, route)

    def initial_noise(self, seeds: Sequence[int], plan: SamplingPlan) -> Tensor:
        """Standard normal latents, one generator a seed, drawn on the CPU."""
        factor, channels = self.base.latent_factor, self.base.unet.config.in_channels
        shape = (channels, plan.height // factor, plan.width // factor)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise).to(self.base.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Pixels]:
        """Latents -> RGB pictures, uint8 ``(height, width, 3)``."""
        scaled = (latents / self.base.vae.config.scaling_factor).to(self.base.dtype)
        images = self.base.vae.decode(
            scaled.contiguous(memory_format=torch.channels_last), return_dict=False
        )[0].float()
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        return list(pixels.cpu().numpy())

    @torch.no_grad()
    def encode_images(self, images: Sequence[Pixels], batch_size: int = 16) -> Tensor:
        """Pictures of one size -> scaled latent means ``(images, channels, h, w)``."""
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        latents = []
        for chunk in stacked.split(batch_size):
            pixels = (chunk.to(self.base.device).float() / 127.5 - 1).to(self.base.dtype)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            latents.append(self.base.vae.encode(pixels).latent_dist.mean.float())
        return torch.cat(latents) * self.base.vae.config.scaling_factor


class _SeenEnoughError(Exception):
    """Ends a forward pass whose output nobody needs."""


def _stop(*_: object) -> None:
    raise _SeenEnoughError


def stack_masks(batch: Sequence[RegionalPrompt], device: torch.device) -> Tensor | None:
    """``(batch, regions, h, w)``, or ``None`` when every item has one region."""
    masks = [item.masks for item in batch]
    if all(mask is None for mask in masks):
        return None
    return torch.stack([m for m in masks if m is not None]).to(device)


def make_scheduler(base: BaseModel, plan: SamplingPlan) -> Any:
    """The solver named by ``plan.sampler`` with its timesteps set.

    Raises:
        ValueError: an unknown sampler name.
    """
    classes = {"dpmsolver++": DPMSolverMultistepScheduler, "ddim": DDIMScheduler}
    if plan.sampler not in classes:
        raise ValueError(f"unknown sampler {plan.sampler!r}; expected one of {sorted(classes)}")
    scheduler = classes[plan.sampler].from_config(base.scheduler_config)
    scheduler.set_timesteps(plan.steps)
    return scheduler
