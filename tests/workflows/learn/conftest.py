"""Homes in which the product A is learned already: most tests are about what comes after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.settings import Settings
from tests.workflows.tiny_catalog import learn_all, tiny_sections, tiny_settings, write_photos


@pytest.fixture(scope="session")
def learned_home(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path
) -> Callable[[str], Path]:
    """``learned_home("shared")``: where A is learned into such slots, once a session."""

    @cache
    def learn(slots: str) -> Path:
        folder = tmp_path_factory.mktemp("learned")
        sections: dict[str, Any] = tiny_sections(
            tiny_model_folder, adapter={"rank": 2, "slots": slots}
        )
        home = {"home": folder / "home", "config_dir": folder / "assets_config"}
        settings = Settings.model_validate({**home, **sections})
        write_photos(settings, "A", 1)
        assert learn_all(settings)["A"].status == "learned"
        return settings.home

    return learn


@pytest.fixture
def knows_a(
    make_settings: Callable[..., Settings],
    tiny_model_folder: Path,
    learned_home: Callable[[str], Path],
) -> Callable[[str], Settings]:
    """``knows_a("per_concept")``: settings over a home of the test's own, in which A is learned."""

    def settings_over_a_copy(slots: str) -> Settings:
        adapter = {"rank": 2, "slots": slots}
        settings = tiny_settings(make_settings, tiny_model_folder, adapter=adapter)
        shutil.copytree(learned_home(slots), settings.home, dirs_exist_ok=True)
        return settings

    return settings_over_a_copy
