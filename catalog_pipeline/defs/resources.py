"""The one resource: the home of a step or a tick."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from catalog_pipeline.settings import load_settings

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home


class PipelineResource(dg.ConfigurableResource[None]):
    """Finds the settings folder and the home of all state.

    Both fields are read when a step or a tick runs, not when definitions load, so
    a code server outlives a change of the settings. An empty field means the
    environment (``CATALOG_PIPELINE_CONFIG``, ``CATALOG_PIPELINE_HOME``), then the
    defaults of :func:`catalog_pipeline.settings.load_settings`.
    """

    config_dir: str = ""
    home: str = ""

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
            )
        )
