"""A product catalog, settings in the environment, and a real Dagster instance."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from tests.defs import model_stand_ins
from tests.defs.scratch_line import Line

REPOSITORY = Path(__file__).resolve().parents[2]

NO_CAPTURE = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""

LAUNCHED_RUNS_WAIT = """
run_launcher:
  module: dagster._core.test_utils
  class: MockedRunLauncher
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""


@pytest.fixture
def make_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_photo: Callable[..., Path]
) -> Callable[..., Line]:
    """``make_line(catalog={...})``: settings files, the environment that points at them."""

    def make(**sections: Any) -> Line:
        config, home = tmp_path / "assets_config", tmp_path / "home"
        config.mkdir()
        files: dict[str, dict[str, Any]] = {
            "catalogs": {"settle_seconds": 60, **sections.get("catalog", {})},
            "generation": {
                "width": 32,
                "height": 32,
                "policies": {"singles_per_sku": 1, "pairs": 1},
                "mode": "learned",  # the stand-in for the model draws from nothing else
                "anchor_photos": False,
                **sections.get("generation", {}),
            },
        }
        for name, content in files.items():
            (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        monkeypatch.setenv(CONFIG_ENV, str(config))
        monkeypatch.setenv(HOME_ENV, str(home))
        settings = load_settings()
        settings.catalog_root.mkdir(parents=True)
        return Line(settings, make_photo)

    return make


@pytest.fixture
def line(make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line whose model is a stand-in."""
    model_stand_ins.install(monkeypatch)
    return make_line()


@pytest.fixture(scope="session")
def empty_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ``dagster.yaml`` and databases with their tables, made once.

    Steps write to no terminal here, so their output is not captured: that alone takes
    longer than a run.
    """
    folder = tmp_path_factory.mktemp("dagster_home")
    shipped = (REPOSITORY / "dagster_home" / "dagster.yaml").read_text("utf-8")
    (folder / "dagster.yaml").write_text(shipped + NO_CAPTURE, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        opened.get_runs(limit=1)
        opened.get_dynamic_partitions("sku")
        opened.all_instigator_state()
    return folder


@contextmanager
def open_instance(empty_dagster_home: Path, settings: str = "") -> Iterator[dg.DagsterInstance]:
    """A real instance on SQLite with the shipped ``dagster.yaml`` and ``settings`` added to it.

    In memory where that can be: Dagster commits every event on its own, and a disk needs
    longer for that than the tested code for its work.
    """
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dagster_home_", dir=where) as name:
        folder = Path(name) / "dagster_home"
        shutil.copytree(empty_dagster_home, folder)
        with (folder / "dagster.yaml").open("a", encoding="utf-8") as file:
            file.write(settings)
        with dg.DagsterInstance.from_config(str(folder)) as opened:
            yield opened


@pytest.fixture
def instance(empty_dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """A real instance with the shipped ``dagster.yaml``."""
    with open_instance(empty_dagster_home) as opened:
        yield opened


@pytest.fixture
def launching_instance(empty_dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on which launched runs wait for the test to execute them in its process."""
    with open_instance(empty_dagster_home, LAUNCHED_RUNS_WAIT) as opened:
        yield opened
