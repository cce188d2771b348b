"""The line in one process: ``FOLDER MODEL [ui]``; with ``ui`` two products, and the ops UI beside.

What it prints last is JSON: the exit status of each command, and with ``ui`` what that answered and
the addresses that anything listened at meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from tests.benchmarks.partitions.web import running_web_server
from tests.governance.without_network import listening
from tests.workflows.tiny_catalog import tiny_sections, write_photos

REPOSITORY = Path(__file__).resolve().parents[2]
NIGHT = "2026-03-01"
SKUS = ("MUG-01", "VASE-07")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("index",),
    ("learn",),
    ("generate", "--day", NIGHT),
    ("verify",),
    ("query", "SELECT day, images FROM nights"),
    ("manifest", "--day", NIGHT),
    ("products",),
    ("doctor",),
)
"""`generate` plans, renders and publishes the night."""


def main(folder: Path, model: Path, *, ui: bool) -> dict[str, Any]:
    """See the module."""
    _write_settings(folder, model)
    settings = load_settings()
    for seed, sku in enumerate(SKUS if ui else SKUS[:1], start=1):
        write_photos(settings, sku, seed)
    exits = {}
    for command in COMMANDS:
        done = CliRunner().invoke(app, list(command))
        print(f"$ catalog-pipeline {' '.join(command)}\n{done.output}")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        exits[command[0]] = done.exit_code
    return {"exits": exits, **(_ask_ui(folder) if ui else {})}


def _ask_ui(folder: Path) -> dict[str, Any]:
    dagster_home = folder / "dagster_home"
    dagster_home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    with running_web_server(folder, dagster_home) as server:
        page = urllib.request.urlopen(f"{server.url}/", timeout=60).read().decode()
        assets = server.data("{ assetNodes { assetKey { path } } }")["assetNodes"]
        listeners = listening()
    return {
        "page": page[:200],
        "assets": ["/".join(asset["assetKey"]["path"]) for asset in assets],
        "listeners": sorted(set(listeners)),
    }


def _write_settings(folder: Path, model: Path) -> None:
    config = folder / "assets_config"
    config.mkdir(parents=True)
    (folder / "home").mkdir()
    sections = tiny_sections(model, steps=2, scenes=["in the snow"])
    sections["catalogs"] = sections.pop("catalog")
    policies = {"singles_per_sku": 1, "pairs": 1, "triples": 0}
    sections["generation"] = {**sections["generation"], "policies": policies}
    for name, content in sections.items():
        (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    os.environ[CONFIG_ENV], os.environ[HOME_ENV] = str(config), str(folder / "home")


if __name__ == "__main__":
    folder, model, *rest = sys.argv[1:]
    print(json.dumps(main(Path(folder), Path(model), ui=rest == ["ui"])))
