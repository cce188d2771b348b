"""Concepts, policies and plans for the planner's tests."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

from catalog_pipeline.generation.planner import DrawnPlan, draw_plan, join_plans
from catalog_pipeline.records import Concept, NightPlan
from catalog_pipeline.settings import BudgetSettings, GenerationSettings, SceneTemplate
from tests.builders import make_concept

DAY = date(2025, 3, 14)
SCENES = tuple(
    SceneTemplate(name=name, text=f"on {name}", weight=weight)
    for name, weight in (("wood", 1.0), ("grass", 1.0), ("sand", 2.0), ("snow", 0.5))
)


def concept(sku: str, task: int = 0, category: str = "", noun: str = "mug") -> Concept:
    return make_concept(sku, task, name=f"product {sku}", class_noun=noun, category=category)


def concepts(count: int, categories: int = 1) -> list[Concept]:
    return [concept(f"{i:05d}", i, f"category-{i % categories}") for i in range(count)]


def policy(**changes: Any) -> GenerationSettings:
    """Four scenes, no budget, the given policies; nothing left to a default."""
    policies = {"singles_per_sku": 0, "pairs": 0, "triples": 0, "pair_rule": "any"} | changes
    return GenerationSettings.model_validate(
        {
            "scenes": SCENES,
            "policies": policies,
            "budget": {"max_images": None},
            "steps": 20,
            "guidance": 4.0,
            "sampler": "dpmsolver++",
            "width": 128,
            "height": 128,
        }
    )


def plan(
    skus: list[Concept], generation: GenerationSettings, day: date = DAY, **options: Any
) -> NightPlan:
    """The night of one collection."""
    seconds, shown = options.pop("seconds_per_image", None), options.get("shown")
    return join_plans(
        day,
        [draw(skus, generation, day, **options)],
        generation.budget,
        seconds_per_image=seconds,
        coverage=generation.policies.coverage,
        shown=shown,
    )


def draw(
    skus: list[Concept], generation: GenerationSettings, day: date = DAY, **options: Any
) -> DrawnPlan:
    defaults: dict[str, Any] = {"collection": "kitchen", "adapter_version": "v1"}
    return draw_plan(day, skus, generation, **(defaults | options))


def ids(night: NightPlan, sku: str | None = None) -> set[str]:
    return {job.job_id for job in night.jobs if sku is None or sku in job.skus}


def pair_counts(night: NightPlan, skus: list[Concept], size: int = 2) -> Counter[str]:
    counts = Counter({c.sku: 0 for c in skus})
    counts.update(sku for job in night.jobs if len(job.skus) == size for sku in job.skus)
    return counts


def images(count: int) -> BudgetSettings:
    return BudgetSettings(max_images=count, max_minutes=None)
