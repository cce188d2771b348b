"""Cells: one method learning one sequence of products with one seed.

Cells of one suite that share a :attr:`Cell.protocol` are comparable and stand in one table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tests.benchmarks.harness.cells import cell_folder
from tests.benchmarks.learning.suites import Sizes, Source, Suite, Variant, plain


@dataclass(frozen=True)
class Cell:
    """One method, one sequence, one seed. ``products`` is in the order of learning."""

    suite: str
    variant: Variant
    order: int
    seed: int
    source: Source
    products: tuple[str, ...]
    sizes: Sizes
    base_hash: str
    full_matrix: bool = False
    asked_checkpoints: tuple[int, ...] = ()

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The tasks after which everything so far is measured."""
        return checkpoints_of(len(self.products), self.asked_checkpoints)

    @property
    def learning(self) -> dict[str, Any]:
        """What ``learning.yaml`` would say."""
        sizes = asdict(self.sizes)
        named = ("steps", "prior_images", "replay_candidates", "replay_exemplars")
        chosen = {name: sizes[name] for name in named}
        return {**chosen, "seed": self.seed, **self.variant.learning}

    @property
    def protocol(self) -> dict[str, Any]:
        """What cells must share to be compared."""
        return {
            "source": self.source,
            "products": sorted(self.products),
            "sizes": asdict(self.sizes),
            "checkpoints": list(self.checkpoints),
            "base_hash": self.base_hash,
        }

    def to_record(self) -> dict[str, Any]:
        """Everything that the figures depend on, the code apart."""
        return {
            "suite": self.suite,
            "variant": asdict(self.variant),
            "order": self.order,
            "seed": self.seed,
            "products": list(self.products),
            "protocol": self.protocol,
        }

    @property
    def folder(self) -> str:
        """Where its results are, under the home: another input, another folder."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.variant.label.lower()).strip("-")
        return cell_folder(self.suite, f"{slug}-o{self.order}-s{self.seed}", self.to_record(), 8)


def middle_task(tasks: int) -> int:
    """The task in the middle, counted from 1."""
    return max(1, tasks // 2)


def checkpoints_of(tasks: int, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """The middle task, the last one, and those of ``asked`` that come before it."""
    return tuple(sorted({middle_task(tasks), tasks, *(task for task in asked if task < tasks)}))


def measured_concepts(task: int, checkpoints: Sequence[int], *, full_matrix: bool) -> range:
    """Indices (from 0) of the concepts measured after ``task``: its own, or all so far."""
    everything = full_matrix or task in checkpoints
    return range(0 if everything else task - 1, task)


@dataclass(frozen=True)
class Choice:
    """What the command line changes; ``None`` or empty leaves the suite's own."""

    only: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    orders: tuple[int, ...] = ()
    steps: int | None = None
    images: int | None = None
    sampler_steps: int | None = None
    products: int | None = None
    full_matrix: bool = False


def choose_cells(
    suite: Suite, names: Sequence[str], base_hash: str, choice: Choice | None = None
) -> list[Cell]:
    """The cells of ``suite`` in their fixed order: every variant once, then the repeats.

    Args:
        suite: what to run.
        names: the suite's products, in order 0.
        base_hash: of the base model.
        choice: changes from the command line. With ``seeds`` or ``orders`` each
            variant runs with each of them, and the suite's own repeats do not run.
    """
    choice = choice or Choice()
    names = names[: choice.products]
    sizes = _changed(suite.sizes, choice)
    variants = plain(*choice.methods) if choice.methods else suite.variants
    runs = [
        (variant, order, seed)
        for order in choice.orders or (0,)
        for seed in choice.seeds or (0,)
        for variant in variants
    ]
    if not (choice.seeds or choice.orders):
        by_label = {variant.label: variant for variant in variants}
        runs += [(by_label[r.label], r.order, r.seed) for r in suite.repeats if r.label in by_label]
    return [
        Cell(
            suite=suite.name,
            variant=variant,
            order=order,
            seed=seed,
            source=suite.source,
            products=in_order(names, order),
            sizes=sizes,
            base_hash=base_hash,
            full_matrix=choice.full_matrix or variant.method in suite.full_matrix,
            asked_checkpoints=suite.checkpoints,
        )
        for variant, order, seed in runs
        if not choice.only or {variant.label, variant.method} & set(choice.only)
    ]


def in_order(names: Sequence[str], order: int) -> tuple[str, ...]:
    """Order 0 is the suite's own; every other number is a shuffle of its own, always the same.

    Raises:
        ValueError: so few names do not have so many orders.
    """
    if not 0 <= order < math.factorial(len(names)):
        raise ValueError(f"order {order} of {len(names)} products; expected 0 up to their number")
    rng, seen = np.random.default_rng(0), [tuple(names)]
    while len(seen) <= order:
        shuffled = tuple(names[int(index)] for index in rng.permutation(len(names)))
        if shuffled not in seen:
            seen.append(shuffled)
    return seen[order]


def _changed(sizes: Sizes, choice: Choice) -> Sizes:
    named = {"steps": choice.steps, "images": choice.images, "sampler_steps": choice.sampler_steps}
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return replace(sizes, **changes)
