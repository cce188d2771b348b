"""Guiding a batch so that every concept appears, once, in its own region.

Three ways, chosen by :class:`~catalog_pipeline.records.AttentionControl`: ``gradient``
moves the latents down the gradient of the concept attention artist and of orthogonal
attention; ``reweight`` raises attention in the processor and needs no gradient;
``none`` samples as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.regional import AttentionObserver, resize_masks
from catalog_pipeline.diffusion.sampling import Conditioning, DiffusionEngine, SamplingControl
from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.attention_maps import MapRecorder, fit_masks, found_regions
from catalog_pipeline.generation.concept_attention import dynamic_attend_loss, unmix_loss
from catalog_pipeline.generation.orthogonal_attention import binding_loss, orthogonal_loss
from catalog_pipeline.records import AttentionControl

_LOSS_SCALE = 1024.0
"""Keeps half-precision gradients above underflow; the step is normalised, so it cancels."""


@dataclass(frozen=True)
class GuidedBatch:
    """What is guided.

    Attributes:
        selection: ``(batch, concepts, groups, tokens)`` of ``select_tokens``.
        steps: denoising steps of the plan.
        latent_height, latent_width: of the latents.
        max_pixels: attention layers above it are not read.
        classifier_free_guidance: whether predictions hold the negative prompts, first.
        first_step: where the guided steps begin; the selection is of the texts from there on.
    """

    selection: Tensor
    steps: int
    latent_height: int
    latent_width: int
    max_pixels: int
    classifier_free_guidance: bool = True
    first_step: int = 0

    def progress(self, index: int, share: float) -> float | None:
        """How far step ``index`` is in the guided steps, in [0, 1); ``None`` outside of them."""
        guided = round(share * self.steps)
        done = index - self.first_step
        return done / guided if 0 <= done < guided else None


def make_control(
    batch: GuidedBatch, control: AttentionControl, strength: float
) -> SamplingControl | None:
    """The way that ``control.method`` names.

    Raises:
        GenerationError: an unknown method.
    """
    if control.method == "none":
        return None
    if control.method == "gradient":
        return AttentionGuide(batch, control, strength)
    if control.method == "reweight":
        return AttentionBoost(batch, control, strength)
    raise GenerationError(
        f"attention method {control.method!r} is unknown; expected gradient, reweight or none"
    )


class AttentionGuide:
    """The gradient way; a :class:`~catalog_pipeline.diffusion.sampling.SamplingControl`.

    In ``guided_share`` of the steps, the first ones with slots, before each of them and
    at most ``1 + refinements`` times, with ``progress`` from 0 to 1 over these steps::

        L = w_u L_unmix + w_a L_attend + w_o L_orth + w_b L_bind
        z <- z - step_size * (1 - progress / 2) * g / rms(g),   g = dL/dz

    for the images whose loss is above ``threshold``; the others stay as they are, so
    that a picture does not depend on its neighbours in the batch. The step falls to
    half, as in Attend-and-Excite; it is normalised, so that it means the same on every
    base, precision and prediction type. The pass ends where the encoder of the UNet
    does, reads the conditional prompts only and differentiates no text.
    """

    def __init__(
        self, batch: GuidedBatch, control: AttentionControl, strength: float = 1.0
    ) -> None:
        self._batch = batch
        self._control = control
        self._step_size = control.step_size * strength
        self.losses: list[Tensor] = []

    def before_step(
        self,
        engine: DiffusionEngine,
        latents: Tensor,
        timestep: Tensor,
        index: int,
        conditioning: Conditioning,
    ) -> Tensor:
        """The latents, moved where a concept is weak or strays; same shape."""
        progress = self._batch.progress(index, self._control.guided_share)
        if progress is None:
            return latents
        size = self._step_size * (1 - progress / 2)
        for _ in range(1 + self._control.refinements):
            loss, gradient = self._loss_and_gradient(engine, latents, timestep, conditioning)
            self.losses.append(loss)
            moved = loss > self._control.threshold
            if not bool(moved.any()):
                break
            rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
            latents = latents - size * moved[:, None, None, None] * gradient / rms
        return latents

    def observer(self, index: int) -> AttentionObserver | None:
        """The predictions themselves are not watched."""
        del index
        return None

    def _loss_and_gradient(
        self, engine: DiffusionEngine, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """``(batch,)`` losses and their gradient, of the shape of ``latents``."""
        recorder = MapRecorder(self._batch.selection.to(latents.device), self._batch.max_pixels)
        with torch.enable_grad():
            latents = latents.detach().requires_grad_(True)
            engine.probe(latents, timestep, conditioning, recorder)
            maps = recorder.maps(self._batch.latent_height, self._batch.latent_width)
            loss = self._loss(maps, conditioning.masks)
            (gradient,) = torch.autograd.grad((loss * _LOSS_SCALE).sum(), latents)
        return loss.detach(), gradient

    def _loss(self, maps: Tensor, masks: Tensor | None) -> Tensor:
        """The weighed sum, ``(batch,)``; ``maps`` is ``(batch, concepts, groups, h, w)``."""
        control = self._control
        if masks is None:
            regions = found_regions(maps)
        else:
            own = masks[:, : maps.shape[1]]  # the background's region comes last
            regions = fit_masks(own, *maps.shape[-2:]).to(maps)
        concepts = maps.mean(2)
        terms: tuple[tuple[float, Callable[[], Tensor]], ...] = (
            (control.unmix_weight, lambda: unmix_loss(concepts, regions)),
            (
                control.attend_weight,
                lambda: dynamic_attend_loss(concepts, regions, control.attend_floor),
            ),
            (control.orthogonal_weight, lambda: orthogonal_loss(maps)),
            (control.binding_weight, lambda: binding_loss(maps)),
        )
        total = maps.new_zeros(len(maps))
        for weight, term in terms:
            if weight:
                total = total + weight * term()
        return total


class AttentionBoost:
    """The gradient-free way: attention to a concept's own words is raised in its region.

    In ``guided_share`` of the steps, as in :class:`AttentionGuide`, to the logits of prompt
    ``i`` at pixel ``p`` and token ``t`` of concept ``i``::

        l(p, t) <- l(p, t) + step_size * (1 - progress) * m_i(p)

    **Our reconstruction** after paint-with-words of eDiff-I (arXiv:2211.01324), with a
    linear fall in place of its function of sigma.
    """

    def __init__(
        self, batch: GuidedBatch, control: AttentionControl, strength: float = 1.0
    ) -> None:
        self._selection = (batch.selection > 0).any(2).float()  # (batch, concepts, tokens)
        self._masks: Tensor | None = None
        self._step_size = control.step_size * strength
        self._batch = batch
        self._guided_share = control.guided_share
        self._size = 0.0

    def before_step(
        self,
        engine: DiffusionEngine,
        latents: Tensor,
        timestep: Tensor,
        index: int,
        conditioning: Conditioning,
    ) -> Tensor:
        """The latents as they are."""
        del engine, timestep, index
        self._masks = conditioning.masks
        return latents

    def observer(self, index: int) -> AttentionObserver | None:
        """This object, in the guided steps."""
        progress = self._batch.progress(index, self._guided_share)
        if progress is None:
            return None
        self._size = self._step_size * (1 - progress)
        return self

    def wants(self, pixels: int) -> bool:
        """No map is recorded."""
        del pixels
        return False

    def observe(self, probs: Tensor) -> None:
        """Never called."""

    def bias(self, pixels: int) -> Tensor:
        """``(rows, regions, pixels, tokens)``: nothing for the negative prompts, first."""
        selection = self._selection[:, :, None]  # (batch, concepts, 1, tokens)
        if self._masks is None:  # one prompt names them all: they are raised everywhere
            raised = selection.expand(-1, -1, pixels, -1).amax(1, keepdim=True)
        else:
            masks = resize_masks(self._masks, pixels)  # (batch, regions, pixels)
            background = masks.shape[1] - selection.shape[1]
            selection = nn.functional.pad(selection, (0, 0, 0, 0, 0, background))
            raised = masks[..., None] * selection.to(masks)
        raised = raised * self._size
        if not self._batch.classifier_free_guidance:
            return raised
        return torch.cat([torch.zeros_like(raised), raised])
