"""Which slot a method sends a prompt through, and whether it is one for that prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from catalog_pipeline.learning.methods.method import LifelongMethod
from catalog_pipeline.records import Concept
from tests.benchmarks.learning.references import BASE_ONLY_PROMPTS


def routing_errors(
    method: LifelongMethod, concepts: Sequence[Concept], templates: Sequence[str]
) -> dict[str, float]:
    """Shares of prompts that pass through the wrong slot.

    ``wrong_slot``: of prompts that name a concept, those whose slot has no deltas of it, or
    among whose weighed deltas those of others weigh most. ``base_routed``: of base-only
    prompts, those that pass through any slot.
    """
    skus = {concept.sku for concept in concepts}
    wrong = []
    for concept in concepts:
        for template in dict.fromkeys(templates):
            (slot,) = method.regional_prompt(template, concept).slots
            members = {} if slot is None else method.engine.adapter.members(slot)
            wrong.append(not _serves(members, concept.sku, skus))
    based = [method.regional_prompt(p, None).slots != (None,) for p in BASE_ONLY_PROMPTS]
    return {"wrong_slot": float(np.mean(wrong)), "base_routed": float(np.mean(based))}


def _serves(members: Mapping[str, float], sku: str, skus: Collection[str]) -> bool:
    """Whether the deltas that weigh most are those of ``sku``, its own or shared by all.

    A slot that has the name of no concept holds what all were trained into.
    """
    most = max(members.values(), default=0.0)
    strongest = {slot for slot, weight in members.items() if weight == most}
    return sku in strongest or bool(strongest - set(skus))
