"""``generation.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from catalog_pipeline.settings.values import Name, PictureSide, PromptText, Seed, Strict, Weight

CATEGORY = "category:"
"""What an item of a list begins with when it means every product of a category."""

LAYOUT_COUNTS: Mapping[str, int] = {
    "single": 1,
    **{"left_right": 2, "wide_left": 2, "wide_right": 2},
    **{"three_columns": 3, "wide_centre": 3},
}
"""The layouts that come with the program, and for how many products each is."""


class AttentionSettings(Strict):
    """How scenes of several products are kept whole; shares are of the denoising steps."""

    silent_share: float = Field(0.05, ge=0, le=1, description="the base alone composes")
    apart_share: float = Field(1.0, ge=0, le=1, description="a strip of background between regions")
    gap: float = Field(0.08, ge=0, lt=0.5, description="its width, a share of the picture")
    method: Literal["auto", "gradient", "reweight", "none"] = Field(
        "none",
        description="gradient: latents follow the losses below; reweight: attention is raised "
        "without a gradient; none: regions and composition only; auto, as shipped: gradient for "
        "two products that the embedded base draws as learned, else none",
    )
    guided_share: float = Field(0.25, ge=0, le=1, description="the method acts")
    step_size: float = Field(0.02, ge=0)
    refinements: int = Field(0, ge=0, description="most extra gradient steps a denoising step")
    threshold: float = Field(0.2, ge=0, description="pictures of a smaller loss are left alone")
    attend_floor: float = Field(0.1, gt=0, le=1)
    unmix_weight: float = Field(1.0, ge=0)
    attend_weight: float = Field(1.0, ge=0)
    orthogonal_weight: float = Field(1.0, ge=0)
    binding_weight: float = Field(1.0, ge=0)


class QualitySettings(Strict):
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


class SceneTemplate(Strict):
    """A scene: ``text`` is everything after the products (``"on a sandy beach"``)."""

    name: Name = Field(description="in plans and counts: lower case, digits, _")
    text: PromptText = Field(description="everything in the sentence after the products")
    weight: float = Field(1.0, gt=0, description="one of weight 2 is drawn about twice as often")
    negative_prompt: PromptText | None = Field(
        None, description="instead of the night's negative_prompt; null = the night's"
    )
    mode: SceneMode | None = Field(None, description="instead of the policy's, or the night's")


Items = Annotated[tuple[str, ...], AfterValidator(_check_items)]
"""SKUs, and ``category:<name>`` (lower case) for every product of a category."""


class CrossSellList(Strict):
    """What goes together: a pair takes two of ``items``, one product of each."""

    name: Name = Field(description="of the list, in plans and counts")
    items: Items = Field(description="at least two: SKUs, or category:<name>")
    weight: float = Field(1.0, gt=0, description="share of `pictures`, beside the other lists")

    @field_validator("items")
    @classmethod
    def _make_pairs(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        if len(items) < 2:
            raise ValueError(
                "a cross-sell list needs at least two items to make a pair of; for pairs inside "
                "one category use pair_rule: same_category"
            )
        return items


class CrossSellSettings(Strict):
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


class BestSellerSettings(Strict):
    """``generation.yaml: policies.best_sellers``: what each new product is shown beside."""

    items: Items = Field((), description="SKUs, or category:<name>")
    per_new_sku: int = Field(2, ge=1, description="pairs of each new product with best-sellers")
    max_pictures: int = Field(24, ge=1, description="a night; the products learned last first")


class CoverageSettings(Strict):
    """``generation.yaml: policies.coverage``: the least that every product is shown."""

    images: int = Field(0, ge=0, description="pictures of every SKU in `nights` nights; 0 = off")
    nights: int = Field(7, ge=1, le=60, description="counted back from the night, itself included")
    top_up: Literal["singles", "pairs"] = Field(
        "singles", description="what a product lacks is added as these"
    )


class PolicySettings(Strict):
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


class LayoutSettings(Strict):
    """``generation.yaml: layouts``: how often each arrangement is drawn, by weight.

    ``boxes`` adds arrangements: for each product ``[left, top, right, bottom]`` in
    fractions of the picture, 0..1 from its upper left corner.
    """

    pairs: dict[str, Weight] = Field(
        default_factory=lambda: {"left_right": 1.0}, description="weight by layout of two products"
    )
    triples: dict[str, Weight] = Field(
        default_factory=lambda: {"three_columns": 1.0}, description="likewise of three"
    )
    boxes: dict[Name, tuple[tuple[float, float, float, float], ...]] = Field(
        default_factory=dict, description="layouts of your own: a box a product"
    )

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


class BudgetSettings(Strict):
    """What a night may cost; the smaller of the two bounds wins."""

    max_images: int | None = Field(None, ge=1, description="pictures a night; null = no bound")
    max_minutes: float | None = Field(None, gt=0, description="of rendering; null = no bound")


class AnchoringSettings(Strict):
    """How products come from their own photos into scenes."""

    strength: float = Field(
        0.6, gt=0, le=1, description="share of the denoising that redraws the placed photos"
    )
    backdrop_steps: int = Field(6, ge=1, le=1000, description="of the empty scene")
    output_scale: int = Field(
        4, ge=1, le=16, description="the picture's size over width and height, products sharp"
    )


class GenerationSettings(Strict):
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
    across_collections: bool = Field(
        False, description="true: products of different collections stand in one picture"
    )
    layouts: LayoutSettings = LayoutSettings()
    budget: BudgetSettings = BudgetSettings(max_images=500, max_minutes=None)
    seed: Seed = 0
    steps: int = Field(14, ge=1, le=1000)
    guidance: float = Field(3.0, ge=1.0, le=1000, description="classifier-free guidance")
    sampler: Literal["dpmsolver++", "ddim", "euler"] = Field(
        "dpmsolver++", description="the solver; ddim not with bases of flow matching"
    )
    width: PictureSide = 0
    height: PictureSide = Field(0, description="as width")
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
