"""What is measured: suites, as data. A suite is a question with its products and its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["photos", "household"]

EIGHT_PRODUCTS = (
    "backpack_dog",
    "bear_plushie",
    "duck_toy",
    "grocery_god_morgon_orange_red_grapefruit_juice",
    "colorful_sneaker",
    "grey_sloth_plushie",
    "robot_toy",
    "grocery_tropicana_mandarin_morning",
)
"""Two plush animals, two toys and two cartons among them: pairs that can be confused."""
FOUR_PRODUCTS = ("backpack_dog", "bear_plushie", "duck_toy", "grey_sloth_plushie")
FOUR_UNLIKE_PRODUCTS = ("backpack_dog", "bear_plushie", "colorful_sneaker", "duck_toy")
TWELVE_PRODUCTS = (
    *EIGHT_PRODUCTS,
    "monster_toy",
    "candle",
    "grocery_oatly_natural_oatghurt",
    "grocery_yoggi_strawberry_yoghurt",
)
EIGHT_PHOTO_PRODUCTS = (
    "grocery_god_morgon_orange_red_grapefruit_juice",
    "grocery_oatly_natural_oatghurt",
    "grocery_tropicana_mandarin_morning",
    "grocery_yoggi_strawberry_yoghurt",
)


@dataclass(frozen=True)
class Sizes:
    """How much is done in a cell; figures of different sizes are not comparable.

    ``images`` are of one concept in one measurement, ``dreambench`` so many prompts
    of other scenes a concept after the last task, ``scenes`` so many pictures of two
    products, of three, four and five; 0 is none. ``sampler_steps`` and ``guidance``
    serve measuring and the memories of the methods alike.
    """

    steps: int = 100
    images: int = 8
    dreambench: int = 0
    scenes: int = 3
    sampler_steps: int = 12
    guidance: float = 3.0
    prior_images: int = 16
    replay_candidates: int = 4
    replay_exemplars: int = 3


@dataclass(frozen=True)
class Variant:
    """A row of a table: a method, and what is changed in ``learning.yaml`` for it.

    ``photos`` bounds what a product is learned from, evenly spaced by name; what
    it is measured against are always all of its photos.
    """

    label: str
    method: str
    learning: Mapping[str, Any] = field(default_factory=dict)
    photos: int = 30


@dataclass(frozen=True)
class Repeat:
    """One more cell of a variant, with another order or seed."""

    label: str
    order: int
    seed: int


@dataclass(frozen=True)
class Suite:
    """A question, its products and its rows.

    ``full_matrix`` names the methods whose earlier concepts are measured after
    every task, for the pictures of the report; those of all methods are measured
    after the middle and the last task, and after the ``checkpoints`` between.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    products: tuple[str, ...] = ()
    household: int = 0
    sizes: Sizes = Sizes()
    repeats: tuple[Repeat, ...] = ()
    full_matrix: tuple[str, ...] = ()
    checkpoints: tuple[int, ...] = ()

    @property
    def source(self) -> Source:
        """Where the products come from."""
        return "household" if self.household else "photos"


def plain(*methods: str) -> tuple[Variant, ...]:
    """A row for each method, nothing changed."""
    return tuple(Variant(method, method) for method in methods)


def _adapter(label: str, **changes: Any) -> Variant:
    return Variant(label, "ours", {"adapter": changes})


def _losses(label: str, **changes: float) -> Variant:
    return Variant(label, "l2dm", {"losses": changes})


LONGER = Variant("consolidated, 100 steps", "consolidated", {"steps": 100})
"""The seconds of a method that replays or distils, at most twice fine-tuning's, as steps."""
METHODS_IN_ORDER = (
    "ours",
    "consolidated",
    "l2dm",
    "finetune",
    "ewc",
    "lwf",
    "c_lora",
    "cidm",
    "replay",
    "distillation",
    "joint",
)
TRAINED_ALIKE = {"cidm": "ours"}
"""Methods whose training is another's, bit for bit (a test of theirs says so): they take over
its finished cell and are measured anew."""
REPEATED = ("ours", "consolidated", "lwf", "l2dm", "cidm")
"""Methods of the main suite with every seed in both orders; the others have two seeds in one."""

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "main",
            "All methods, eight real products in sequence",
            plain(*METHODS_IN_ORDER),
            EIGHT_PRODUCTS,
            sizes=Sizes(steps=60, images=4, sampler_steps=10, dreambench=8),
            repeats=tuple(
                Repeat(label, order, seed)
                for order, seed in ((0, 1), (1, 0), (1, 1), (0, 2), (1, 2))
                for label in METHODS_IN_ORDER
                if label in REPEATED or (order, seed) == (0, 1)
            ),
            full_matrix=("ours", "finetune"),
        ),
        Suite(
            "twelve",
            "Twelve real products in sequence",
            (*plain("ours", "lwf", "consolidated"), LONGER),
            TWELVE_PRODUCTS,
            sizes=Sizes(steps=60, sampler_steps=10, dreambench=8),
            repeats=tuple(
                Repeat(label, order, seed)
                for order, seed in ((0, 1), (1, 2))
                for label in ("ours", "lwf", "consolidated")
            ),
        ),
        Suite(
            "parametrisation",
            "Which weights a concept moves (each product learned alone)",
            (
                _adapter("low_rank 16, attention + feed-forward, 2 tokens"),
                _adapter("low_rank 32", rank=32),
                _adapter("low_rank 4", rank=4),
                _adapter("low_rank 16, attention only", feed_forward=False),
                _adapter("low_rank 16, cross only", attentions=["cross"], feed_forward=False),
                _adapter(
                    "dense K/V, cross only (Custom Diffusion)",
                    parametrisation="dense",
                    targets=["to_k", "to_v"],
                    attentions=["cross"],
                    feed_forward=False,
                ),
                _adapter("spectral_shift (SVDiff)", parametrisation="spectral_shift"),
                _adapter("1 token", tokens_per_concept=1),
                _adapter("4 tokens", tokens_per_concept=4),
            ),
            FOUR_UNLIKE_PRODUCTS,
        ),
        Suite(
            "ablation",
            "What the parts of L2DM are worth (shared slot)",
            (
                _losses("l2dm"),
                _losses("no replay (TAME off)", replay_weight=0.0),
                _losses("no distillation (ECD off)", distillation_weight=0.0),
                Variant("random selection", "l2dm", {"replay_selection": "random"}),
                _losses("elasticity 0", elasticity=0.0),
                _losses("no prior", prior_weight=0.0),
                _losses("alpha 0.01", replay_weight=0.01),
                _losses("alpha 1", replay_weight=1.0),
                _losses("gamma 0.1", distillation_weight=0.1),
                _losses("gamma 10", distillation_weight=10.0),
            ),
            FOUR_PRODUCTS,
        ),
        Suite(
            "few",
            "Four photos instead of eight",
            (Variant("8 photos", "ours", photos=8), Variant("4 photos", "ours", photos=4)),
            EIGHT_PHOTO_PRODUCTS,
        ),
        Suite(
            "one_task",
            "Four products one by one, and as one task",
            plain("ours", "together"),
            FOUR_UNLIKE_PRODUCTS,
            sizes=Sizes(steps=60, sampler_steps=10),
        ),
        Suite(
            "budget",
            "What fewer steps cost (each product learned alone)",
            (
                Variant("120 steps", "ours", {"steps": 120}),
                Variant("100 steps", "ours", {"steps": 100}),
                Variant("120 steps of 3 views", "ours", {"steps": 120, "batch_size": 3}),
                Variant("100 steps, rank 32", "ours", {"steps": 100, "adapter": {"rank": 32}}),
            ),
            FOUR_UNLIKE_PRODUCTS,
            sizes=Sizes(sampler_steps=10),
        ),
        Suite(
            "stopping",
            "When is a product learned: ten times the steps, and the early stop",
            (
                Variant("120 steps", "ours", {"steps": 120}),
                Variant("1,200 steps", "ours", {"steps": 1200}),
                Variant(
                    "early stop, at most 1,200",
                    "ours",
                    {"steps": 1200, "early_stop": {"enabled": True}},
                ),
            ),
            FOUR_UNLIKE_PRODUCTS[:2],
            sizes=Sizes(sampler_steps=10),
        ),
        Suite(
            "scale",
            "Sixty household products in sequence",
            plain("ours", "lwf", "consolidated"),
            household=60,
            sizes=Sizes(steps=20, images=2),
            checkpoints=(10, 30),
        ),
        Suite(
            "quick",
            "Does it run: three products, ten steps",
            plain("ours", "finetune", "l2dm"),
            FOUR_PRODUCTS[:3],
            sizes=Sizes(steps=10, images=4, sampler_steps=6, dreambench=4, scenes=1),
            full_matrix=("ours", "finetune"),
        ),
    )
}
