"""The one resource: the home of a step or a tick."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field, PrivateAttr

from catalog_pipeline.settings import load_settings

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home


class PipelineResource(dg.ConfigurableResource[None]):
    """Finds the settings folder and the home of all state.

    Both are read when a step or a tick runs, not when definitions load, so a code server
    outlives a change of the settings.
    """

    config_dir: str = Field(
        default="",
        description="Folder of settings; empty means CATALOG_PIPELINE_CONFIG, else assets_config.",
    )
    home: str = Field(
        default="",
        description="Where all state is kept; empty means CATALOG_PIPELINE_HOME, else "
        "dagster_home/storage beside the folder of settings.",
    )

    _run: str = PrivateAttr(default="")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Remember the run, which the audit log names; a tick has none."""
        self._run = context.run.run_id if context.run else ""

    @cached_property
    def opened(self) -> "Home":
        """Settings, stores and photos, opened once: Dagster makes this object anew for each run.

        Raises:
            ConfigurationError: no such folder, an unknown key, a value out of range.
        """
        from catalog_pipeline.workflows.home import open_home

        return open_home(
            load_settings(
                Path(self.config_dir) if self.config_dir.strip() else None,
                Path(self.home) if self.home.strip() else None,
            ),
            run=self._run,
        )
