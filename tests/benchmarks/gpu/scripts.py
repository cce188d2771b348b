"""The loops of three scripts of diffusers, and the pipelines of the same bases.

Written anew after ``examples/dreambooth/`` of the repository ``huggingface/diffusers``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.family import BaseModel
from tests.benchmarks.gpu.ours import Draw
from tests.benchmarks.gpu.sizes import Size
from tests.benchmarks.gpu.theirs import TheirSide


class _Sd(TheirSide):
    script = "train_dreambooth_lora.py"

    def __init__(self, base: BaseModel, size: Size) -> None:
        super().__init__(base, size)
        self._noise_scheduler = DDPMScheduler.from_config(base.scheduler_config)

    def _make_pipeline(self, *, reads: bool) -> Any:
        parts = self._base.parts
        return StableDiffusionPipeline(
            self._vae,
            parts["text_encoder"] if reads else None,
            parts["tokenizer"],
            self.denoiser,
            DPMSolverMultistepScheduler.from_config(self._base.scheduler_config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def _encode(self, prompt: str) -> Any:
        texts = self._reader.encode_prompt(prompt, self._base.device, 1, False)
        return texts[0].to(self._base.dtype)

    def loss(self, draw: Draw) -> Tensor:
        latents, batch = draw.latents.to(self._base.dtype), len(draw.latents)
        noise = draw.noise.to(latents.dtype)
        noisy = self._noise_scheduler.add_noise(latents, noise, draw.timesteps)
        with self.autocast():
            model_pred = self._predict(noisy, draw.timesteps, batch)
        return nn.functional.mse_loss(model_pred.float(), noise.float(), reduction="mean")

    def _predict(self, noisy: Tensor, timesteps: Tensor, batch: int) -> Tensor:
        texts = self._text.repeat(batch, 1, 1)
        return self.denoiser(noisy, timesteps, texts, class_labels=None).sample

    def _call(self, texts: Any, negative: Any, latents: Tensor, steps: int) -> Any:
        options = self._options(latents, steps)
        return self._painter(prompt_embeds=texts, negative_prompt_embeds=negative, **options)


class _Sdxl(_Sd):
    script = "train_dreambooth_lora_sdxl.py"

    def _make_pipeline(self, *, reads: bool) -> Any:
        parts = self._base.parts
        return StableDiffusionXLPipeline(
            self._vae,
            parts["text_encoder"] if reads else None,
            parts["text_encoder_2"] if reads else None,
            parts["tokenizer"],
            parts["tokenizer_2"],
            self.denoiser,
            DPMSolverMultistepScheduler.from_config(self._base.scheduler_config),
            add_watermarker=False,
        )

    def _encode(self, prompt: str) -> Any:
        texts, _, pooled, _ = self._reader.encode_prompt(
            prompt, device=self._base.device, do_classifier_free_guidance=False
        )
        return texts.to(self._base.dtype), pooled.to(self._base.dtype)

    def _predict(self, noisy: Tensor, timesteps: Tensor, batch: int) -> Tensor:
        texts, pooled = self._text
        side = self._size.side_px
        time_ids = torch.tensor([[side, side, 0, 0, side, side]]).to(noisy.device, noisy.dtype)
        conditions = {
            "time_ids": time_ids.repeat(batch, 1),
            "text_embeds": pooled.repeat(batch, 1),
        }
        return self.denoiser(
            noisy,
            timesteps,
            texts.repeat(batch, 1, 1),
            added_cond_kwargs=conditions,
            return_dict=False,
        )[0]

    def _call(self, texts: Any, negative: Any, latents: Tensor, steps: int) -> Any:
        return self._painter(
            prompt_embeds=texts[0],
            pooled_prompt_embeds=texts[1],
            negative_prompt_embeds=negative[0],
            negative_pooled_prompt_embeds=negative[1],
            **self._options(latents, steps),
        )


class _Klein(TheirSide):
    script = "train_dreambooth_lora_flux2_klein.py"

    def __init__(self, base: BaseModel, size: Size) -> None:
        super().__init__(base, size)
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config)
        self._noise_scheduler = copy.deepcopy(scheduler)
        side = size.side_px // base.vae_scale_factor
        latents = torch.empty(1, base.latent_channels, side, side, device=base.device)
        self._latent_ids = Flux2KleinPipeline._prepare_latent_ids(latents).to(base.device)

    def _make_pipeline(self, *, reads: bool) -> Any:
        parts = self._base.parts
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self._base.scheduler_config)
        return Flux2KleinPipeline(
            scheduler,
            self._vae,
            parts["text_encoder"] if reads else None,
            parts["tokenizer"],
            self.denoiser,
        )

    @property
    def clipped(self) -> list[nn.Parameter]:
        return list(self.denoiser.parameters())

    def _encode(self, prompt: str) -> Any:
        layers = self._base.parts["text_encoder"].config.num_hidden_layers
        return self._reader.encode_prompt(
            prompt,
            self._base.device,
            text_encoder_out_layers=tuple(layers * part // 4 for part in (1, 2, 3)),
        )

    def _draw_timesteps(self, batch: int) -> Tensor:
        shares = compute_density_for_timestep_sampling(
            weighting_scheme="none",
            batch_size=batch,
            logit_mean=0.0,
            logit_std=1.0,
            mode_scale=1.29,
        )
        indices = (shares * self._noise_scheduler.config.num_train_timesteps).long()
        return self._noise_scheduler.timesteps[indices].to(self._base.device)

    def _sigmas(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """The noise level of each timestep, looked up on the scheduler's grid."""
        device = timesteps.device
        sigmas = self._noise_scheduler.sigmas.to(device=device, dtype=dtype)
        grid = self._noise_scheduler.timesteps.to(device)
        places = [(grid == timestep).nonzero().item() for timestep in timesteps]
        return sigmas[places].flatten()[:, None, None, None]

    def loss(self, draw: Draw) -> Tensor:
        latents, batch = draw.latents.to(self._base.dtype), len(draw.latents)
        noise = draw.noise.to(latents.dtype)
        sigmas = self._sigmas(draw.timesteps, latents.dtype)
        noisy = (1.0 - sigmas) * latents + sigmas * noise
        packed = Flux2KleinPipeline._pack_latents(noisy)
        texts, text_ids = self._text
        ids = self._latent_ids.repeat(batch, 1, 1)
        with self.autocast():
            model_pred = self.denoiser(
                hidden_states=packed,
                timestep=draw.timesteps / 1000,
                guidance=None,
                encoder_hidden_states=texts.repeat(batch, 1, 1),
                txt_ids=text_ids.repeat(batch, 1, 1),
                img_ids=ids,
                return_dict=False,
            )[0]
        model_pred = Flux2KleinPipeline._unpack_latents_with_ids(model_pred, ids)
        weighting = torch.ones_like(sigmas)
        error = weighting.float() * (model_pred.float() - (noise - latents).float()) ** 2
        return error.reshape(batch, -1).mean(1).mean()

    def _call(self, texts: Any, negative: Any, latents: Tensor, steps: int) -> Any:
        return self._painter(
            prompt_embeds=texts[0],
            negative_prompt_embeds=negative[0],
            text_encoder_out_layers=(),
            **self._options(latents, steps),
        )


SIDES: dict[str, type[TheirSide]] = {
    "StableDiffusion": _Sd,
    "StableDiffusionXL": _Sdxl,
    "Flux2Klein": _Klein,
}
"""By the class of our family."""
