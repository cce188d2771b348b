"""The one resource: where the settings and the state are."""

from pathlib import Path

import dagster as dg

from catalog_pipeline.settings import Settings, load_settings


class PipelineResource(dg.ConfigurableResource[None]):
    """Finds the settings folder and the home of all state.

    Both fields are read when a step or a tick runs, not when definitions load, so
    a code server outlives a change of the settings. An empty field means the
    environment (``CATALOG_PIPELINE_CONFIG``, ``CATALOG_PIPELINE_HOME``), then the
    defaults of :func:`catalog_pipeline.settings.load_settings`.
    """

    config_dir: str = ""
    home: str = ""

    def settings(self) -> Settings:
        """Read every settings file anew.

        Raises:
            ConfigurationError: no such folder, an unknown key, a value out of range.
        """
        return load_settings(
            Path(self.config_dir) if self.config_dir else None,
            Path(self.home) if self.home else None,
        )
