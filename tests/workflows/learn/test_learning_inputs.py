"""What a learned product is learned anew for."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_pipeline.settings import LearningSettings, Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import _LearningRun
from catalog_pipeline.workflows.learn.learning_inputs import concept_config_hash
from catalog_pipeline.workflows.progress import SilentProgress


def config_of(settings: Settings, **base: Any) -> str:
    changed = settings.model_copy(
        update={"base_model": settings.base_model.model_copy(update=base)}
    )
    return _LearningRun(open_home(changed), SilentProgress(), None)._config()


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


def test_another_optimizer_counts_and_the_first_one_does_not() -> None:
    def hashed(**changes: Any) -> str:
        return concept_config_hash(LearningSettings(**changes), "base", "encoder")

    assert hashed(optimizer="adamw") == hashed()
    assert hashed(optimizer="adamw_8bit") != hashed()
