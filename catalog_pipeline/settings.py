"""Typed settings over ``assets_config/*.yaml``: a mistyped key is an error.

One file a room; every file may be absent (defaults apply) and none may hold a
key that is not declared here. ``load_settings`` is the only reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from catalog_pipeline.errors import ConfigurationError

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

Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


def _plain_prompt(text: str) -> str:
    if found := re.search(r"<[^<>\s]*:\d+>", text):
        raise ValueError(f"holds {found[0]!r}, which is how prompts name a product; write words")
    return text


def _without_braces(text: str) -> str:
    if set(text) & set("{}"):
        raise ValueError("holds { or }, which stand for the product in training prompts; use words")
    return text


PromptText = Annotated[str, AfterValidator(_plain_prompt)]
"""A piece of a prompt; how long it may be depends on the base, and is asked when it is used."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(_Strict):
    """Where an S3 bucket is; credentials come from the usual boto3 chain."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None


class BaseModelSettings(_Strict):
    """``base_model.yaml``: which diffusion model is the frozen base."""

    base_model: str = Field(
        "embedded", description="'embedded', a diffusers folder, or a hub id (offline: false)"
    )
    offline: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of UNet and VAE; auto = bfloat16 where the processor multiplies in it"
    )
    device: str = "auto"
    threads: int = Field(0, ge=0, description="CPU threads of torch; 0 = every core")


class CatalogSettings(_Strict):
    """``catalogs.yaml``: the watched product folders and what counts as usable."""

    root: Path = Path("products")
    s3: S3Settings | None = None
    settle_seconds: float = Field(120.0, ge=0)
    min_photos: int = Field(3, ge=1)
    max_photos: int = Field(30, ge=1)
    min_side_px: int = Field(64, ge=8)
    max_pixels: int = Field(60_000_000, ge=1)
    max_bytes: int = Field(50_000_000, ge=1)
    working_side_px: int = Field(512, ge=64, description="photos are reduced to this longer side")
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
    latent_views: int = Field(24, ge=1, description="cached augmented latents a photo")
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
        description="own fidelity / ceiling below which a candidate is refused; -1 = no bound",
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
    seed: int = 0

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
    min_pass_rate: float = Field(
        0.5, ge=0, le=1, description="share of its pictures below which a SKU needs other photos"
    )
    min_pass_rate_pictures: int = Field(
        3, ge=1, description="judged pictures of a SKU before that is said"
    )


def _as_text(items: Any) -> Any:
    """YAML reads the SKU ``1234`` as a number, and ``00123`` as another one."""
    if isinstance(items, list | tuple):
        numbers = [item for item in items if not isinstance(item, str)]
        if numbers:
            raise ValueError(
                f"{numbers[0]!r} is not text; put SKUs that look like numbers in quotes"
            )
    return items


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


class SceneTemplate(_Strict):
    """A scene: ``text`` is everything after the products (``"on a sandy beach"``)."""

    name: Name
    text: PromptText
    weight: float = Field(1.0, gt=0)
    negative_prompt: PromptText | None = Field(
        None, description="instead of the night's negative_prompt; null = the night's"
    )


Items = Annotated[tuple[str, ...], BeforeValidator(_as_text), AfterValidator(_check_items)]
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


class GenerationSettings(_Strict):
    """``generation.yaml``: the nightly plan."""

    scenes: tuple[SceneTemplate, ...] = (
        SceneTemplate(name="white", text="on a white background"),
        SceneTemplate(name="beach", text="on a sandy beach"),
        SceneTemplate(name="wood", text="on a wooden table"),
        SceneTemplate(name="grass", text="on green grass"),
    )
    policies: PolicySettings = PolicySettings()
    layouts: LayoutSettings = LayoutSettings()
    budget: BudgetSettings = BudgetSettings(max_images=500, max_minutes=None)
    seed: int = 0
    steps: int = Field(14, ge=1)
    guidance: float = Field(3.0, ge=1.0)
    sampler: Literal["dpmsolver++", "ddim"] = "dpmsolver++"
    width: int = Field(128, ge=16, multiple_of=8)
    height: int = Field(128, ge=16, multiple_of=8)
    widening: float = Field(
        0.5, ge=0, le=1, description="width that each further product adds, a share of `width`"
    )
    batch_size: int = Field(8, ge=1)
    negative_prompt: PromptText = ""
    attention: AttentionSettings = AttentionSettings()
    quality: QualitySettings = QualitySettings()


class EvaluationSettings(_Strict):
    """``evaluation.yaml``: how ``catalog-pipeline evaluate`` measures."""

    encoder: str = Field(
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


def default_config_dir() -> Path:
    """``$CATALOG_PIPELINE_CONFIG``, else ``./assets_config``."""
    return Path(os.environ.get(CONFIG_ENV, "assets_config")).expanduser().resolve()


def load_settings(config_dir: Path | None = None, home: Path | None = None) -> Settings:
    """Read every file of ``config_dir``.

    Args:
        config_dir: folder of YAML files; default :func:`default_config_dir`.
        home: folder of all state; default ``$CATALOG_PIPELINE_HOME``, else
            ``dagster_home/storage`` beside ``config_dir``.

    Raises:
        ConfigurationError: no such folder, a file that is not YAML, an unknown
            file or key, or a value out of range; names the file and the key.
    """
    folder = (config_dir or default_config_dir()).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigurationError(
            f"no settings folder at {folder}; expected a folder of YAML files such as "
            "assets_config/; pass --config DIR or set " + CONFIG_ENV
        )
    known = {f"{name}.yaml" for name in _FILES}
    unknown = sorted(p.name for p in folder.glob("*.y*ml") if p.name not in known)
    if unknown:
        raise ConfigurationError(
            f"unknown settings file(s) {', '.join(unknown)} in {folder}; expected only "
            + ", ".join(f"{name}.yaml" for name in _FILES)
        )
    parts = {name: _read(folder / f"{name}.yaml", model) for name, model in _FILES.items()}
    default_home = folder.parent / "dagster_home" / "storage"
    state = home or Path(os.environ.get(HOME_ENV, default_home))
    return Settings(
        home=state.expanduser().resolve(),
        config_dir=folder,
        base_model=parts["base_model"],
        catalog=parts["catalogs"],
        learning=parts["learning"],
        generation=parts["generation"],
        evaluation=parts["evaluation"],
        archive=parts["archive"],
    )


def _read(path: Path, model: type[_Strict]) -> Any:
    if not path.exists():
        return model()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    where = ".".join(str(part) for part in problem["loc"]) or "(file)"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return f"unknown key '{where}'; top-level keys are: {known}"
    return f"'{where}' = {problem['input']!r}: {problem['msg']}"
