"""The launchpad form of a learning run, and what it changes for that run alone."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home


class LearnConfig(dg.Config):
    """How the SKUs of a run are learned; empty means as learning.yaml says."""

    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Training steps of this run in place of `learning.yaml: steps` or "
        "`minutes_per_sku`. What is learned with it stays: the watcher and the nightly retry ask "
        "only for new, changed or failed products. Asking for the product by name without the same "
        "number learns it again, because its settings differ. The number is in the learning log.",
    )
    force: bool = Field(
        False,
        description="Train also what was learned from the same photos with the same settings, and "
        "what was imported.",
    )


def home_of_run(home: "Home", config: LearnConfig) -> "Home":
    """``home`` with the settings of this run."""
    from catalog_pipeline.workflows.home import Home

    if config.steps is None:
        return home
    steps = {"steps": config.steps, "minutes_per_sku": None}
    learning = home.settings.learning.model_copy(update=steps)
    return Home(home.settings.model_copy(update={"learning": learning}), run=home.run)
