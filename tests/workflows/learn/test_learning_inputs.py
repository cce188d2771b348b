"""What a learned product is learned anew for."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.settings import AdapterSettings, LearningSettings, LossSettings, Settings
from catalog_pipeline.workflows.learn.commit import learning_config
from catalog_pipeline.workflows.learn.learning_inputs import (
    _LATER,
    _LATER_OF_ADAPTER,
    _LATER_OF_LOSSES,
    concept_config_hash,
)


def config_of(settings: Settings, **base: Any) -> str:
    changed = settings.model_copy(
        update={"base_model": settings.base_model.model_copy(update=base)}
    )
    return learning_config(changed)


@pytest.mark.parametrize(
    "change", [{"gradient_checkpointing": True}, {"offload": "groups"}, {"compile": True}]
)
def test_where_and_how_a_base_computes_changes_nothing(
    settings: Settings, change: dict[str, Any]
) -> None:
    assert config_of(settings, **change) == config_of(settings)


def test_a_quantised_base_is_another_one(settings: Settings) -> None:
    hashes = {config_of(settings, quantise=kind) for kind in ("none", "int8", "nf4")}
    assert len(hashes) == 3


LATER = {
    "timestep_density": "mode",
    "loss_weighting": "cosmap",
    "aspect_buckets": True,
    "optimizer": "adamw_8bit",
    "minutes_per_sku": 5.0,
}
LATER_OF_ADAPTER = {"stored_bits": 16, "stored_rank_tolerance": 0.3, "consolidated_rank": 8}
LATER_OF_LOSSES = {"drift_weight": 1.0}


def test_settings_that_came_later_count_where_they_are_not_the_default() -> None:
    """What a version without them has learned is not learned anew by one that has them."""
    assert set(LATER) == set(_LATER)
    assert set(LATER_OF_ADAPTER) == set(_LATER_OF_ADAPTER)
    assert set(LATER_OF_LOSSES) == set(_LATER_OF_LOSSES)
    before = LearningSettings().model_dump(mode="json")
    before = {k: v for k, v in before.items() if k not in LATER and not k.startswith("gate_")}
    kept = before["adapter"].items()
    before["adapter"] = {k: v for k, v in kept if k not in LATER_OF_ADAPTER}
    before["losses"] = {k: v for k, v in before["losses"].items() if k not in LATER_OF_LOSSES}
    known = canonical_sha256({"learning": before, "base": "base", "encoder": "encoder"})
    assert concept_config_hash(LearningSettings(), "base", "encoder") == known
    changed = [LearningSettings(**{name: value}) for name, value in LATER.items()]
    for name, value in LATER_OF_ADAPTER.items():
        changed.append(LearningSettings(adapter=AdapterSettings(**{name: value})))
    for name, value in LATER_OF_LOSSES.items():
        changed.append(LearningSettings(losses=LossSettings(**{name: value})))
    hashes = {concept_config_hash(settings, "base", "encoder") for settings in changed}
    assert len(hashes | {known}) == 1 + len(changed)


def test_with_minutes_the_steps_of_the_settings_do_not_count() -> None:
    def hashes(**minutes: float) -> set[str]:
        each = [LearningSettings(steps=steps, **minutes) for steps in (50, 120)]
        return {concept_config_hash(settings, "base", "encoder") for settings in each}

    assert len(hashes()) == 2
    assert len(hashes(minutes_per_sku=5.0)) == 1
    assert len(hashes(minutes_per_sku=5.0) | hashes(minutes_per_sku=6.0) | hashes()) == 4
