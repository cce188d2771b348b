"""Typed settings over ``assets_config/*.yaml``: a mistyped key is an error.

One file a room; every file may be absent (defaults apply) and none may hold a
key that is not declared here, or one twice. A key without a value (``null``) counts as
absent. ``load_settings`` is the only reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import read_yaml, without_absent

CONFIG_ENV = "CATALOG_PIPELINE_CONFIG"
HOME_ENV = "CATALOG_PIPELINE_HOME"

CATEGORY = "category:"
"""What an item of a list begins with when it means every product of a category."""

LAYOUT_COUNTS: Mapping[str, int] = {
    "single": 1,
    **{"left_right": 2, "wide_left": 2, "wide_right": 2},
    **{"three_columns": 3, "wide_centre": 3},
}
"""The layouts that come with the program, and for how many products each is."""

LARGEST = 1_000_000
"""What a number may be, either side of zero, where its field sets no upper bound of its own."""

YEAR_SECONDS = 366 * 24 * 3600
LARGEST_SEED = 2**63 - 1


def _not_blank(value: Any) -> Any:
    if not str(value).strip():
        raise ValueError("is blank; write a value, or leave the key out for its default")
    try:
        Path(str(value)).expanduser()
    except RuntimeError as error:
        raise ValueError("begins with ~, but there is no such user; write the path out") from error
    return value


Weight = Annotated[float, Field(ge=0, le=LARGEST)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)]
NotBlank = Annotated[str, AfterValidator(_not_blank)]


def _plain_prompt(text: str) -> str:
    if found := re.search(r"<[^<>\s]*:\d+>", text):
        raise ValueError(f"holds {found[0]!r}, which is how prompts name a product; write words")
    return text


def _without_braces(text: str) -> str:
    if set(text) & set("{}"):
        raise ValueError("holds { or }, which stand for the product in training prompts; use words")
    return text


def _picture_side(side: int) -> int:
    if side % 8 or 0 < side < 16:
        raise ValueError("expected 0, or a multiple of 8 from 16 on")
    return side


PictureSide = Annotated[int, Field(ge=0, le=16384), AfterValidator(_picture_side)]
"""Pixels; 0 = the side that the base was trained at."""
PromptText = Annotated[str, AfterValidator(_plain_prompt)]
"""A piece of a prompt; how long it may be depends on the base, and is asked when it is used."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        own = any(getattr(bound, "le", getattr(bound, "lt", None)) for bound in field.metadata)
        if isinstance(value, int | float) and not own and abs(value) > LARGEST:
            raise ValueError(f"expected a number of at most {LARGEST:,}")
        return value


class S3Settings(_Strict):
    """Where an S3 bucket is; credentials come from the usual boto3 chain."""

    bucket: NotBlank
    prefix: str = ""
    endpoint_url: NotBlank | None = None
    region: NotBlank | None = None


TimestepDensity = Literal["uniform", "logit_normal", "mode"]
"""How often a step of training draws each part of the noise schedule."""
LossWeighting = Literal["none", "sigma_sqrt", "cosmap"]
"""How much the loss counts at each noise level of flow matching."""


class BaseModelSettings(_Strict):
    """``base_model.yaml``: which diffusion model is the frozen base."""

    base_model: NotBlank = Field(
        "embedded", description="'embedded', a diffusers folder, or a hub id (offline: false)"
    )
    offline: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of UNet and VAE; auto = bfloat16 where the processor multiplies in it"
    )
    device: NotBlank = "auto"
    threads: int = Field(0, ge=0, le=4096, description="CPU threads of torch; 0 = every core")
    side_px: int | None = Field(
        None, ge=16, le=4096, description="side of training views; null = the base's own"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice instead of keeping them for the gradient"
    )
    quantise: Literal["none", "int8", "nf4"] = Field(
        "none", description="the frozen linear layers of the denoiser's blocks; nf4 = 4 bits"
    )
    offload: Literal["none", "text_encoder", "groups"] = Field(
        "none", description="what waits in CPU memory while it is not used"
    )
    compile: bool = Field(False, description="torch.compile of the denoiser's repeated blocks")

    @model_validator(mode="after")
    def _layers_that_move_are_not_compiled(self) -> BaseModelSettings:
        if self.compile and self.offload == "groups":
            raise ValueError(
                "compile and offload: groups do not go together, since a layer that is fetched "
                "cannot be compiled into its neighbours; set compile: false or offload: "
                "text_encoder"
            )
        return self


class CatalogSettings(_Strict):
    """``catalogs.yaml``: the watched product folders and what counts as usable."""

    root: Annotated[Path, BeforeValidator(_not_blank)] = Path("products")
    s3: S3Settings | None = None
    settle_seconds: float = Field(120.0, ge=0, le=YEAR_SECONDS)
    min_photos: int = Field(3, ge=1)
    max_photos: int = Field(30, ge=1)
    min_side_px: int = Field(64, ge=8)
    max_pixels: int = Field(60_000_000, ge=1, le=10**10)
    max_bytes: int = Field(50_000_000, ge=1, le=10**12)
    working_side_px: int = Field(
        512, ge=64, le=16384, description="photos are reduced to this longer side"
    )
    max_requests_per_tick: int = Field(25, ge=1)
    sensor_lists_up_to_skus: int = Field(
        2000, ge=0, description="a larger catalog is listed by catalog/index, not by the sensor"
    )
    retire_fraction_limit: float = Field(
        0.5, gt=0, le=1, description="refuse a listing that would retire more than this share"
    )


class AdapterSettings(_Strict):
    """Which weights a concept may move; docs/learning.md says what the choices mean."""

    slots: Literal["per_concept", "shared"] = "per_concept"
    parametrisation: Literal["low_rank", "spectral_shift", "dense"] = "low_rank"
    rank: int = Field(16, ge=1, description="of low_rank")
    initial_scale: float = Field(4.0, gt=0, description="of low_rank: how fast it starts to move")
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    attentions: tuple[Literal["self", "cross"], ...] = ("self", "cross")
    feed_forward: bool = Field(True, description="also the two linear layers behind attention")
    blocks: tuple[Literal["down", "mid", "up"], ...] = Field(
        ("mid", "up"), min_length=1, description="of a UNet; without down a step is shorter"
    )
    tokens_per_concept: int = Field(2, ge=1, le=8)


class LossSettings(_Strict):
    """Weights of Eq. 7, arXiv:2309.04430 (``lambda``, ``alpha``, ``beta``, ``gamma``)."""

    prior_weight: float = Field(1.0, ge=0, description="lambda of Eq. 3 and beta of Eq. 4")
    replay_weight: float = Field(0.1, ge=0, description="alpha of Eq. 4 (TAME)")
    distillation_weight: float = Field(1.0, ge=0, description="gamma of Eq. 6 (ECD)")
    elasticity: float = Field(
        1.0, ge=0, description="how much harder drifting concepts are held in Eq. 6; 0 = all alike"
    )


class EarlyStopSettings(_Strict):
    """When a task has learned enough: the loss on held-out views no longer falls."""

    enabled: bool = False
    check_every: int = Field(25, ge=1, description="steps between two looks at the held-out loss")
    heldout_views: int = Field(12, ge=1)
    patience: int = Field(3, ge=1, description="looks without a gain before the descent starts")
    min_gain: float = Field(0.01, ge=0, lt=1, description="share of the best loss that counts")
    min_steps: int = Field(75, ge=1)


class LearningSettings(_Strict):
    """``learning.yaml``: one task of lifelong learning."""

    steps: int = Field(120, ge=1)
    batch_size: int = Field(4, ge=1)
    replay_batch_size: int = Field(2, ge=0)
    prior_batch_size: int = Field(2, ge=0)
    adapter_lr: float = Field(1e-3, gt=0)
    token_lr: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
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
    scenes: tuple[Annotated[PromptText, AfterValidator(_without_braces)], ...] = Field(
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
    seed: Seed = 0

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


class AttentionSettings(_Strict):
    """How scenes of several products are kept whole; shares are of the denoising steps."""

    silent_share: float = Field(0.05, ge=0, le=1, description="the base alone composes")
    apart_share: float = Field(1.0, ge=0, le=1, description="a strip of background between regions")
    gap: float = Field(0.08, ge=0, lt=0.5, description="its width, a share of the picture")
    method: Literal["gradient", "reweight", "none"] = "none"
    guided_share: float = Field(0.25, ge=0, le=1, description="the method acts")
    step_size: float = Field(0.02, ge=0)
    refinements: int = Field(0, ge=0, description="most extra gradient steps a denoising step")
    threshold: float = Field(0.2, ge=0, description="pictures of a smaller loss are left alone")
    attend_floor: float = Field(0.1, gt=0, le=1)
    unmix_weight: float = Field(1.0, ge=0)
    attend_weight: float = Field(1.0, ge=0)
    orthogonal_weight: float = Field(1.0, ge=0)
    binding_weight: float = Field(1.0, ge=0)


class QualitySettings(_Strict):
    """When a picture is good enough, and what is tried while it is not."""

    gate: bool = Field(True, description="false: nothing is judged, tried again or held back")
    attempts: int = Field(3, ge=1, description="pictures made for one job at most")
    strength_factor: float = Field(
        1.5, ge=1, description="attention guidance of each further attempt, times this"
    )
    min_visible: float = Field(
        0.6, ge=0, le=1, description="share of a placed product that no other one hides"
    )
    min_crop_likeness: float = Field(
        0.55, ge=-1, le=1, description="cosine of a placed product to its photo, both on white"
    )
    max_delta_e: float = Field(
        10.0, ge=0, description="CIEDE2000 of a placed product, median pixel, to its photo"
    )
    max_halo: float = Field(3.0, ge=0, description="colour of the old room at a product's edge")
    max_text_error: float = Field(
        0.5, ge=0, le=1, description="share of a photo's readable characters that may be lost"
    )
    min_pass_rate: float = Field(
        0.5, ge=0, le=1, description="share of its pictures below which a SKU needs other photos"
    )
    min_pass_rate_pictures: int = Field(
        3, ge=1, description="judged pictures of a SKU before that is said"
    )


def _check_items(items: tuple[str, ...]) -> tuple[str, ...]:
    checked = []
    for item in map(str.strip, items):
        name = item.removeprefix(CATEGORY).strip()
        if not name or ":" in name:
            raise ValueError(f"{item!r} is neither a SKU nor '{CATEGORY}<name>'")
        checked.append(item if name == item else CATEGORY + name.casefold())
    twice = sorted({item for item in checked if checked.count(item) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is listed more than once")
    return tuple(checked)


SceneMode = Literal["learned", "anchored", "exact"]
"""How a scene is made: from noise, from photos placed in it, or with their own pixels back."""


class SceneTemplate(_Strict):
    """A scene: ``text`` is everything after the products (``"on a sandy beach"``)."""

    name: Name
    text: PromptText
    weight: float = Field(1.0, gt=0)
    negative_prompt: PromptText | None = Field(
        None, description="instead of the night's negative_prompt; null = the night's"
    )
    mode: SceneMode | None = Field(None, description="instead of the policy's, or the night's")


Items = Annotated[tuple[str, ...], AfterValidator(_check_items)]
"""SKUs, and ``category:<name>`` (lower case) for every product of a category."""


class CrossSellList(_Strict):
    """What goes together: a pair takes two of ``items``, one product of each."""

    name: Name
    items: Items
    weight: float = Field(1.0, gt=0)

    @field_validator("items")
    @classmethod
    def _make_pairs(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        if len(items) < 2:
            raise ValueError(
                "a cross-sell list needs at least two items to make a pair of; for pairs inside "
                "one category use pair_rule: same_category"
            )
        return items


class CrossSellSettings(_Strict):
    """``generation.yaml: policies.cross_sell``: pairs out of the operator's lists."""

    pictures: int = Field(6, ge=0, description="pairs a night, shared out by the lists' weights")
    lists: tuple[CrossSellList, ...] = ()

    @field_validator("lists")
    @classmethod
    def _name_once(cls, lists: tuple[CrossSellList, ...]) -> tuple[CrossSellList, ...]:
        names = [entry.name for entry in lists]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"the list {twice[0]!r} is given {names.count(twice[0])} times; give every "
                "cross-sell list its own name"
            )
        return lists


class BestSellerSettings(_Strict):
    """``generation.yaml: policies.best_sellers``: what each new product is shown beside."""

    items: Items = ()
    per_new_sku: int = Field(2, ge=1, description="pairs of each new product with best-sellers")
    max_pictures: int = Field(24, ge=1, description="a night; the products learned last first")


class CoverageSettings(_Strict):
    """``generation.yaml: policies.coverage``: the least that every product is shown."""

    images: int = Field(0, ge=0, description="pictures of every SKU in `nights` nights; 0 = off")
    nights: int = Field(7, ge=1, le=60, description="counted back from the night, itself included")
    top_up: Literal["singles", "pairs"] = "singles"


class PolicySettings(_Strict):
    """How many scenes of each product count a night plans."""

    singles_per_sku: int = Field(2, ge=0)
    pairs: int = Field(12, ge=0)
    triples: int = Field(0, ge=0)
    pair_rule: Literal["any", "same_category", "cross_category"] = "any"
    cross_sell: CrossSellSettings = CrossSellSettings()
    best_sellers: BestSellerSettings = BestSellerSettings()
    coverage: CoverageSettings = CoverageSettings()
    modes: dict[
        Literal["singles", "pairs", "triples", "cross_sell", "best_sellers", "coverage"], SceneMode
    ] = Field(default_factory=dict, description="of a policy's pictures, instead of `mode`")

    @model_validator(mode="after")
    def _best_sellers_need_earlier_nights(self) -> PolicySettings:
        if self.best_sellers.items and self.coverage.nights < 2:
            raise ValueError(
                "best_sellers needs coverage.nights of at least 2: a product is new while no "
                "picture of it was published in the nights before"
            )
        return self


class LayoutSettings(_Strict):
    """``generation.yaml: layouts``: how often each arrangement is drawn, by weight.

    ``boxes`` adds arrangements: for each product ``[left, top, right, bottom]`` in
    fractions of the picture, 0..1 from its upper left corner.
    """

    pairs: dict[str, Weight] = Field(default_factory=lambda: {"left_right": 1.0})
    triples: dict[str, Weight] = Field(default_factory=lambda: {"three_columns": 1.0})
    boxes: dict[Name, tuple[tuple[float, float, float, float], ...]] = Field(default_factory=dict)

    @field_validator("pairs", "triples")
    @classmethod
    def _one_is_drawn(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("every layout has weight 0; give at least one a positive weight")
        return weights

    @field_validator("boxes")
    @classmethod
    def _boxes_are_inside(
        cls, boxes: dict[str, tuple[tuple[float, float, float, float], ...]]
    ) -> dict[str, tuple[tuple[float, float, float, float], ...]]:
        for name, places in boxes.items():
            if name in LAYOUT_COUNTS:
                raise ValueError(f"{name!r} comes with the program; give yours another name")
            if len(places) not in (2, 3):
                raise ValueError(
                    f"{name!r} has {len(places)} boxes; expected one for each of 2 or 3"
                )
            for left, top, right, bottom in places:
                if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                    raise ValueError(
                        f"{name!r} has the box {[left, top, right, bottom]}; expected 0 <= left < "
                        "right <= 1 and 0 <= top < bottom <= 1"
                    )
        return boxes

    @model_validator(mode="after")
    def _names_are_known(self) -> LayoutSettings:
        counts = {**LAYOUT_COUNTS, **{name: len(places) for name, places in self.boxes.items()}}
        for key, size, weights in (("pairs", 2, self.pairs), ("triples", 3, self.triples)):
            fitting = [name for name, count in counts.items() if count == size]
            unknown = sorted(set(weights) - set(fitting))
            if unknown:
                raise ValueError(
                    f"{key} names {unknown[0]!r}, which is no layout of {size} products; expected "
                    f"one of {', '.join(fitting)}, or a new one under boxes"
                )
        return self

    def weights(self, count: int) -> dict[str, float]:
        """The weights of the layouts for ``count`` products, 1, 2 or 3."""
        return {1: {"single": 1.0}, 2: dict(self.pairs), 3: dict(self.triples)}[count]


class BudgetSettings(_Strict):
    """What a night may cost; the smaller of the two bounds wins."""

    max_images: int | None = Field(None, ge=1)
    max_minutes: float | None = Field(None, gt=0)


class AnchoringSettings(_Strict):
    """How products come from their own photos into scenes."""

    strength: float = Field(
        0.6, gt=0, le=1, description="share of the denoising that redraws the placed photos"
    )
    backdrop_steps: int = Field(6, ge=1, le=1000, description="of the empty scene")
    output_scale: int = Field(
        4, ge=1, le=16, description="the picture's size over width and height, products sharp"
    )


class GenerationSettings(_Strict):
    """``generation.yaml``: the nightly plan."""

    mode: SceneMode = Field(
        "exact", description="of every scene, unless a policy, a scene or a product's card says"
    )
    anchor_photos: bool | dict[str, bool] = Field(
        True, description="false: photos never stand in scenes; or so by collection"
    )
    anchoring: AnchoringSettings = AnchoringSettings()

    scenes: tuple[SceneTemplate, ...] = (
        SceneTemplate(name="white", text="on a white background"),
        SceneTemplate(name="beach", text="on a sandy beach"),
        SceneTemplate(name="wood", text="on a wooden table"),
        SceneTemplate(name="grass", text="on green grass"),
    )
    policies: PolicySettings = PolicySettings()
    layouts: LayoutSettings = LayoutSettings()
    budget: BudgetSettings = BudgetSettings(max_images=500, max_minutes=None)
    seed: Seed = 0
    steps: int = Field(14, ge=1, le=1000)
    guidance: float = Field(3.0, ge=1.0, le=1000)
    sampler: Literal["dpmsolver++", "ddim", "euler"] = "dpmsolver++"
    width: PictureSide = 0
    height: PictureSide = 0
    widening: float = Field(
        0.5, ge=0, le=1, description="width that each further product adds, a share of `width`"
    )
    batch_size: int = Field(8, ge=1)
    negative_prompt: PromptText = ""
    attention: AttentionSettings = AttentionSettings()
    quality: QualitySettings = QualitySettings()

    @property
    def asks_for_photos(self) -> bool:
        """Whether any scene is to be made from photos, unless a card says so."""
        modes = (self.mode, *self.policies.modes.values(), *(s.mode for s in self.scenes if s.mode))
        return any(mode != "learned" for mode in modes)

    def allows_photos(self, collection: str) -> bool:
        """Whether photos of the products of ``collection`` may stand in scenes."""
        if isinstance(self.anchor_photos, bool):
            return self.anchor_photos
        return self.anchor_photos.get(collection, True)


class EvaluationSettings(_Strict):
    """``evaluation.yaml``: how ``catalog-pipeline evaluate`` measures."""

    encoder: NotBlank = Field(
        "mobilenet_v2",
        description="of the headline figures: mobilenet_v2, efficientnet_lite0, or the folder of "
        "a CLIP or DINO model",
    )
    images_per_sku: int = Field(8, ge=1)


class ArchiveSettings(_Strict):
    """``archive.yaml``: where stores live, and what a clean-up keeps.

    ``s3`` moves every store to a bucket.
    """

    s3: S3Settings | None = None
    keep_versions: int | None = Field(
        None, ge=1, description="adapter versions that `gc` keeps a collection; null = all"
    )


class Settings(_Strict):
    """Everything one run needs. ``home`` holds all state; ``config_dir`` is where it was read."""

    home: Path
    config_dir: Path
    base_model: BaseModelSettings = BaseModelSettings()
    catalog: CatalogSettings = CatalogSettings()
    learning: LearningSettings = LearningSettings()
    generation: GenerationSettings = GenerationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    archive: ArchiveSettings = ArchiveSettings()

    @property
    def catalog_root(self) -> Path:
        """The watched folder; a relative ``catalogs.yaml: root`` is beside the home."""
        root = self.catalog.root.expanduser()
        return root if root.is_absolute() else self.home / root


_FILES: dict[str, type[_Strict]] = {
    "base_model": BaseModelSettings,
    "catalogs": CatalogSettings,
    "learning": LearningSettings,
    "generation": GenerationSettings,
    "evaluation": EvaluationSettings,
    "archive": ArchiveSettings,
}


_KNOWN = {f"{name}.yaml" for name in _FILES}
_LOOK_ALIKE = re.compile(rf"\W*(?:{'|'.join(_FILES)})(?:\.ya?ml\W.*|\.json|\.toml)", re.IGNORECASE)
"""An editor's copy of a settings file, or a file misnamed: what a visible ending makes of it."""


def environment(name: str) -> str | None:
    """The environment variable ``name``; ``None`` where it is unset, empty or blank."""
    value = os.environ.get(name, "")
    return value if value.strip() else None


def default_config_dir() -> Path:
    """``$CATALOG_PIPELINE_CONFIG``, else ``./assets_config``."""
    return _absolute(Path(environment(CONFIG_ENV) or "assets_config"))


def check_dagster_home() -> None:
    """Refuse a ``DAGSTER_HOME`` that Dagster cannot put into the URL of its SQLite files.

    Raises:
        ConfigurationError: it holds ``?`` or ``%`` and two hex digits; what Dagster wrote
            would land in another folder.
    """
    folder = environment("DAGSTER_HOME") or ""
    found = re.search(r"\?|%[0-9A-Fa-f]{2}", folder)
    if found:
        raise ConfigurationError(
            f"DAGSTER_HOME={folder!r} holds {found[0]!r}, which Dagster reads as a part of a URL, "
            "so that its databases land elsewhere; rename the folder or choose another"
        )


def passed_over(folder: Path) -> list[str]:
    """Visible files of a settings folder that look like settings and are not read, sorted."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in _KNOWN
        and not path.name.startswith(".")
        and _LOOK_ALIKE.fullmatch(path.name)
    )


def load_settings(config_dir: Path | None = None, home: Path | None = None) -> Settings:
    """Read every file of ``config_dir``.

    Hidden files are passed over, and so are copies such as ``learning.yaml~``
    (:func:`passed_over`). A file that is evidently misnamed is an error: another YAML file,
    or ``learning.yaml.txt`` where there is no ``learning.yaml``.

    Args:
        config_dir: folder of YAML files; default :func:`default_config_dir`.
        home: folder of all state; default ``$CATALOG_PIPELINE_HOME``, else
            ``dagster_home/storage`` beside ``config_dir``.

    Raises:
        ConfigurationError: no such folder, a file that is not YAML, an unknown
            file or key, or a value out of range; names the file and the key.
    """
    folder = _absolute(config_dir) if config_dir else default_config_dir()
    if not folder.is_dir():
        raise ConfigurationError(
            f"no settings folder at {folder}; expected a folder of YAML files such as "
            "assets_config/; pass --config DIR or set " + CONFIG_ENV
        )
    _check_names(folder)
    parts = {name: _read(folder / f"{name}.yaml", model) for name, model in _FILES.items()}
    state = home or Path(environment(HOME_ENV) or folder.parent / "dagster_home" / "storage")
    return Settings(
        home=_absolute(state),
        config_dir=folder,
        base_model=parts["base_model"],
        catalog=parts["catalogs"],
        learning=parts["learning"],
        generation=parts["generation"],
        evaluation=parts["evaluation"],
        archive=parts["archive"],
    )


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:  # no such user, a circle, a NUL
        raise ConfigurationError(
            f"{str(path)!r} cannot be a folder: {error}; expected a path"
        ) from error


def _check_names(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    unknown = {
        name
        for name in names - _KNOWN
        if name.lower().endswith((".yaml", ".yml")) and not name.startswith(".")
    }
    misnamed = {
        name
        for name in passed_over(folder)
        if name.lower().endswith((".txt", ".json", ".toml"))
        and not any(known in names for known in _KNOWN if Path(known).stem in name.lower())
    }
    if unknown or misnamed:
        raise ConfigurationError(
            f"unknown settings file(s) {', '.join(map(repr, sorted(unknown | misnamed)))} in "
            f"{folder}; expected only {', '.join(f'{name}.yaml' for name in _FILES)}; rename or "
            "remove what is not one of these"
        )


def _read(path: Path, model: type[_Strict]) -> Any:
    try:
        content = without_absent(read_yaml(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ConfigurationError(
                f"{path} is a link to nothing; correct it, or remove it for the defaults"
            ) from error
        return model()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}; expected a YAML file"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not readable YAML: {error}") from error
    if content is None:
        return model()
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} holds a {type(content).__name__}; expected a mapping of keys to values"
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem, model) for problem in error.errors()]
        raise ConfigurationError(f"{path}: " + "; ".join(lines)) from error


def _explain(problem: Any, model: type[_Strict]) -> str:
    where = _shown(".".join(str(part) for part in problem["loc"]) or "(file)")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return f"unknown key {where}; top-level keys are: {known}"
    if problem["input"] is None and problem["type"] != "invalid_key":
        return f"{where} has no value; write one, or leave it out"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where} = {_shown(str(problem['input']))}: {reason}"


def _shown(text: str) -> str:
    """``text`` quoted, on one line and short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
