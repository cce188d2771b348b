"""Attend-and-Excite (arXiv:2301.13826) as diffusers ships it, over a base with our adapter.

The pipeline puts its own processors into the UNet, so it has a base of its own, in fp32 (its
losses are). They call the same linear layers, so the routed low-rank deltas keep working. Its
defaults are for 50 steps; here they keep their place in the schedule: the latents are altered
in the first half, thresholds are asked for at the start, after a fifth and after two fifths.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionAttendAndExcitePipeline
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.records import Pixels

THRESHOLDS = {0.0: 0.05, 0.2: 0.5, 0.4: 0.8}
"""Share of the steps -> attention that the weakest token must have reached there."""
ALTERED_SHARE = 0.5
FINEST_SIDE = 16
"""Attention maps of at most this height, half the latents', are what it looks at."""


class AttendAndExcite:
    """Renders one prompt at a time, with the slot that the prompt names."""

    def __init__(self, engine: DiffusionEngine, plan: SamplingPlan) -> None:
        """``engine`` is used by nobody else; its base must be fp32."""
        base = engine.base
        assert isinstance(base, StableDiffusion)
        if base.dtype != torch.float32:
            raise ValueError(f"the base is {base.dtype}; expected float32: the losses are")
        self._engine, self._plan = engine, plan
        # Each part is the pipeline's own class, so its deprecation notice is all that it says.
        self._pipeline = StableDiffusionAttendAndExcitePipeline(
            vae=base.vae,
            text_encoder=base.text_encoder,
            tokenizer=base.tokenizer,
            unet=base.unet,
            scheduler=base.make_scheduler(plan.sampler, plan.steps, plan.height, plan.width),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def render(
        self,
        item: RegionalPrompt,
        nouns: Sequence[str],
        seed: int,
        plan: SamplingPlan | None = None,
    ) -> Pixels:
        """One picture ``(height, width, 3)``.

        Args:
            item: one prompt and its slot.
            nouns: the phrases whose last token must not be neglected, as in the prompt.
            seed: of the same noise as every other method's.
            plan: of this picture, where it has another size.
        """
        plan, engine = plan or self._plan, self._engine
        tokens = [engine.text.positions(item.prompts[0], noun)[-1] for noun in nouns]
        with torch.no_grad():
            hidden = engine.text.encode([item.prompts[0], item.negative_prompt])
        latents = engine.initial_noise([seed], plan)
        rows = min(FINEST_SIDE, latents.shape[-2] // 2)
        columns = rows * latents.shape[-1] // latents.shape[-2]
        marks = {round(share * plan.steps): value for share, value in THRESHOLDS.items()}
        with self._routed(item.slots), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")
            result: Any = self._pipeline(
                prompt=None,
                prompt_embeds=hidden[:1],
                negative_prompt_embeds=hidden[1:],
                token_indices=tokens,
                height=plan.height,
                width=plan.width,
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance,
                latents=latents,
                output_type="latent",
                thresholds=marks,
                max_iter_to_alter=round(ALTERED_SHARE * plan.steps),
                attn_res=(rows, columns),
            )
        return engine.decode(result.images)[0]

    @contextmanager
    def _routed(self, slots: Sequence[str | None]) -> Iterator[None]:
        """Route every pass of the UNet: the prompt's row to its slot, the negative one to none."""
        unet, adapter = self._engine.base.unet, self._engine.adapter
        routes = {1: Route((tuple(slots),)), 2: Route(((None,) * len(slots), tuple(slots)))}
        forward = unet.forward

        def routed_forward(sample: Tensor, *args: Any, **named: Any) -> Any:
            with adapter.routed(routes[len(sample)]):
                return forward(sample, *args, **named)

        unet.forward = routed_forward
        try:
            yield
        finally:
            del unet.forward  # the class's own shows again
