"""``learning.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from catalog_pipeline.settings.values import PromptText, Seed, Strict, without_braces

TimestepDensity = Literal["uniform", "logit_normal", "mode"]
"""How often a step of training draws each part of the noise schedule."""
LossWeighting = Literal["none", "sigma_sqrt", "cosmap"]
"""How much the loss counts at each noise level of flow matching."""


def _stored_bits(bits: int) -> int:
    if bits not in (4, 8, 16):
        raise ValueError(f"must be 4, 8 or 16, got {bits}")
    return bits


class AdapterSettings(Strict):
    """Which weights a concept may move; docs/learning.md says what the choices mean."""

    slots: Literal["per_concept", "shared", "consolidated"] = "per_concept"
    parametrisation: Literal["low_rank", "spectral_shift", "dense"] = "low_rank"
    rank: int = Field(16, ge=1, description="of low_rank")
    initial_scale: float = Field(4.0, gt=0, description="of low_rank: how fast it starts to move")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), description="linear layers of each attention"
    )
    attentions: tuple[Literal["self", "cross"], ...] = Field(
        ("self", "cross"), description="which attentions, of the picture and of the text"
    )
    feed_forward: bool = Field(True, description="also the two linear layers behind attention")
    blocks: tuple[Literal["down", "mid", "up"], ...] = Field(
        ("mid", "up"), min_length=1, description="of a UNet; without down a step is shorter"
    )
    tokens_per_concept: int = Field(2, ge=1, le=8)
    consolidated_rank: int = Field(
        64, ge=1, description="most of the slot of a collection, with slots: consolidated"
    )
    stored_bits: Annotated[int, AfterValidator(_stored_bits)] = Field(
        8, description="4, 8 or 16, of a number of a slot of its own; a shared one keeps 32"
    )
    stored_rank_tolerance: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="of low_rank: size of what may be left out of a slot, as a share of all of it "
        "(root of the sum of squares)",
    )

    @property
    def one_for_all(self) -> bool:
        """Whether all concepts pass through the collection's one slot."""
        return self.slots != "per_concept"

    @model_validator(mode="after")
    def _consolidated_is_low_rank(self) -> AdapterSettings:
        if self.slots == "consolidated" and self.parametrisation != "low_rank":
            raise ValueError(
                f"slots: consolidated needs parametrisation: low_rank, got {self.parametrisation}"
            )
        return self


class LossSettings(Strict):
    """Weights of Eq. 7, arXiv:2309.04430 (``lambda``, ``alpha``, ``beta``, ``gamma``)."""

    prior_weight: float = Field(1.0, ge=0, description="lambda of Eq. 3 and beta of Eq. 4")
    replay_weight: float = Field(0.1, ge=0, description="alpha of Eq. 4 (TAME)")
    distillation_weight: float = Field(1.0, ge=0, description="gamma of Eq. 6 (ECD)")
    elasticity: float = Field(
        1.0, ge=0, description="how much harder drifting concepts are held in Eq. 6; 0 = all alike"
    )
    drift_weight: float = Field(
        3.5,
        ge=0,
        description="with slots: consolidated, how hard a task is kept from moving what earlier "
        "concepts make of their inputs",
    )


class EarlyStopSettings(Strict):
    """When a task has learned enough: the loss on held-out views no longer falls."""

    enabled: bool = Field(False, description="false: a task takes all its steps")
    check_every: int = Field(25, ge=1, description="steps between two looks at the held-out loss")
    heldout_views: int = Field(12, ge=1)
    patience: int = Field(3, ge=1, description="looks without a gain before the descent starts")
    min_gain: float = Field(0.01, ge=0, lt=1, description="share of the best loss that counts")
    min_steps: int = Field(75, ge=1)


class LearningSettings(Strict):
    """``learning.yaml``: one task of lifelong learning."""

    steps: int = Field(120, ge=1)
    minutes_per_sku: float | None = Field(
        None,
        gt=0,
        description="train a SKU for about so many minutes of this machine, whatever `steps` says; "
        "encoding its views and the gate come on top; null = `steps` decides",
    )
    batch_size: int = Field(4, ge=1)
    replay_batch_size: int = Field(2, ge=0)
    prior_batch_size: int = Field(2, ge=0)
    adapter_lr: float = Field(1e-3, gt=0)
    token_lr: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="a longer gradient is cut to it")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit keeps its moments in 8 bits: the extra `quantise`"
    )
    latent_views: int = Field(24, ge=1, description="cached augmented latents a photo")
    timestep_density: TimestepDensity = "uniform"
    loss_weighting: LossWeighting = "none"
    aspect_buckets: bool = Field(False, description="framed views as oblong as their photos")
    checkpoint_every: int = Field(50, ge=1)
    adapter: AdapterSettings = AdapterSettings()
    losses: LossSettings = LossSettings()
    early_stop: EarlyStopSettings = EarlyStopSettings()
    scenes: tuple[Annotated[PromptText, AfterValidator(without_braces)], ...] = Field(
        (
            "on a white background",
            "on a gray background",
            "on a wooden table",
            "on a marble counter",
            "on a sandy beach",
            "on green grass",
            "in the snow",
            "on pink fabric",
            "in a living room",
            "on a stone floor",
            "on a cobblestone street",
            "under a blue sky",
        ),
        min_length=1,
        description="empty scenes of the base, on which cut-out products are placed",
    )
    backdrops_per_scene: int = Field(2, ge=0, description="0 = learn from framed photos only")
    prior_images: int = Field(32, ge=0)
    replay_candidates: int = Field(6, ge=1, description="eta: images a concept rendered for memory")
    replay_exemplars: int = Field(4, ge=1, description="kept of them for the short-term bank")
    replay_concepts: int = Field(16, ge=1, description="concepts refreshed a task, round-robin")
    replay_selection: Literal["rainbow", "random"] = "rainbow"
    gate_images: int = Field(4, ge=1)
    gate_min_fidelity_share: float = Field(
        0.2,
        ge=-1,
        le=1,
        description="likeness of its crops / the photos' own, below which a candidate is "
        "refused; -1 = no bound",
    )
    gate_max_color_shift: float = Field(
        11.0,
        ge=0,
        description="CIELAB units that its colours may be further from the photos' than these "
        "are from each other",
    )
    gate_max_forgetting: float = Field(
        0.05, ge=-1, description="most that an earlier SKU may lose; -1 refuses every candidate"
    )
    gate_retention_concepts: int = Field(
        4, ge=0, description="earlier SKUs measured before and after a task, in turn"
    )
    gate_max_prior_drift: float = Field(
        0.5, ge=0, description="1 - mean cosine of base-only pictures, bare base to candidate"
    )
    gate_prior_images: int = Field(8, ge=0, description="base-only pictures measured; 0 = none")
    gate_second_try_factor: float = Field(
        3.0, ge=0, description="alpha and gamma of a second try, times this; 0 or 1 = no second try"
    )
    seed: Seed = Field(0, description="of initial weights, views and noise")

    @property
    def length(self) -> str:
        """How long a SKU is trained, in words."""
        if self.minutes_per_sku is None:
            return f"{self.steps} steps"
        return f"about {self.minutes_per_sku:g} minutes"

    @model_validator(mode="after")
    def _exemplars_fit(self) -> LearningSettings:
        if self.replay_exemplars > self.replay_candidates:
            raise ValueError("replay_exemplars must not exceed replay_candidates")
        return self

    @model_validator(mode="after")
    def _second_try_is_stronger(self) -> LearningSettings:
        if 0 < self.gate_second_try_factor < 1:
            raise ValueError("gate_second_try_factor must be 0 (no second try) or at least 1")
        return self
