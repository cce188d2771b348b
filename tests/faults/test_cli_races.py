"""Two people type the same command at the same moment: real processes on a tiny real model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog_pipeline.settings import load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from tests.faults.dagster_stack import REPOSITORY, write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_two_learns_of_one_product_train_it_once(
    tmp_path: Path, tiny_model_folder: Path, make_photo: Callable[..., Path]
) -> None:
    config, home = tmp_path / "config", tmp_path / "home"
    write_config(config, tiny_model_folder)
    settings = load_settings(config, home)
    for number in range(3):
        make_photo(settings.catalog_root / "cup" / f"{number}.png", seed=number)
    refresh_index(open_home(settings))
    command = [sys.executable, "-m", "catalog_pipeline.cli", "learn", "cup"]
    command += ["--config", str(config), "--home", str(home)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    rivals = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        said = [rival.communicate(timeout=1200) for rival in rivals]
    finally:
        for rival in rivals:
            rival.kill()
    assert [rival.returncode for rival in rivals] == [0, 0], said
    outcomes = sorted(out.split()[0] for out, _ in said)
    assert outcomes == ["learned", "unchanged"], said
    store = open_home(settings).adapters("default")
    assert len(store.history()) == 1
    assert store.staging_names() == []
    assert [row.status.value for row in open_home(settings).index.read()] == ["learned"]
