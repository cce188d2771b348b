"""The demo's home: its settings, its Dagster home, and the environment that points at them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, check_dagster_home, load_settings
from catalog_pipeline.workflows.home import Home, open_home

OVERRIDES: dict[str, dict[str, Any]] = {
    # The photos are written by the demo itself: there is no upload to wait for.
    "catalogs": {"root": "products", "settle_seconds": 0},
    # A few fewer than shipped: the demo has ten minutes on two cores, set-up included.
    "learning": {"steps": 100},
    "generation": {"policies": {"singles_per_sku": 2, "pairs": 6, "triples": 0}},
}
"""What the demo changes in the shipped settings."""

_MARK = ".catalog-pipeline-demo"
_REPOSITORY = Path(__file__).resolve().parents[2]


def prepare_home(home: Path, *, keep: bool) -> Home:
    """Make ``home`` with its settings and its Dagster home, and point the environment at them.

    A home that an earlier demo left is removed first, unless ``keep``.

    Raises:
        ConfigurationError: the folder holds something that no demo has left there.
    """
    if home.exists() and not home.is_dir():
        raise ConfigurationError(
            f"{home} is a file; expected a folder; choose another with --home DIR"
        )
    if home.exists() and any(home.iterdir()):
        if not (home / _MARK).exists():
            raise ConfigurationError(
                f"{home} exists and was not made by the demo; expected a new or empty folder; "
                "choose another with --home DIR (make demo DEMO=DIR)"
            )
        if not keep:
            for entry in home.iterdir():  # the folder itself may be a mount point
                real = entry.is_dir() and not entry.is_symlink()
                shutil.rmtree(entry) if real else entry.unlink()
    config, dagster_home = home / "config", home / "dagster_home"
    for folder in (config, dagster_home):
        folder.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()
    for shipped in sorted((_REPOSITORY / "assets_config").glob("*.yaml")):
        _copy_settings(shipped, config / shipped.name)
    shutil.copy(_REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    os.environ.update(
        {
            CONFIG_ENV: str(config),
            HOME_ENV: str(home),
            "DAGSTER_HOME": str(dagster_home),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
    )
    check_dagster_home()
    return open_home(load_settings())


def _copy_settings(shipped: Path, target: Path) -> None:
    changes = OVERRIDES.get(shipped.stem)
    if changes is None:
        shutil.copy(shipped, target)
        return
    content = {**(yaml.safe_load(shipped.read_text("utf-8")) or {}), **changes}
    header = f"# assets_config/{shipped.name} with these keys changed: {', '.join(changes)}.\n"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    target.write_text(header + text, encoding="utf-8")
