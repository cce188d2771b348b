"""A home on which nights are planned, rendered and published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from catalog_pipeline.settings import Settings, load_settings
from tests.workflows.hard_night import published_night
from tests.workflows.painted_night import NIGHT, Studio
from tests.workflows.photographed import EXACT, PRODUCTS, photograph
from tests.workflows.tiny_catalog import GENERATION, learn_all, tiny_sections


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return Studio(make_settings(generation=NIGHT))


@pytest.fixture
def night(studio: Studio) -> Studio:
    return published_night(studio)


@pytest.fixture(scope="session")
def learned_line(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Settings:
    """Products of cut-out photos, learned by a tiny real model; those of ``tent`` are too small.

    Copy it before anything is written: :func:`copied`.
    """
    folder = tmp_path_factory.mktemp("line")
    generation = GENERATION | EXACT
    generation |= {"anchoring": {"output_scale": 8, "backdrop_steps": 1}}
    # Drawn outlines look like rims of an old room.
    generation |= {"quality": {"attempts": 1, "max_halo": 99.0}}
    sections = tiny_sections(tiny_model_folder, steps=1, gate_images=1, prior_images=1)
    sections["generation"] = generation
    sections["catalogs"] = sections.pop("catalog") | {"min_photos": 2}
    (folder / "config").mkdir()
    for name, content in sections.items():
        (folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content), "utf-8")
    settings = load_settings(folder / "config", folder / "home")
    for sku in PRODUCTS:
        photograph(settings, sku)
    photograph(settings, "tent", side=96)
    assert {outcome.status for outcome in learn_all(settings).values()} == {"learned"}
    return settings


def copied(settings: Settings, folder: Path) -> Settings:
    """The same settings over a copy of the home in ``folder``."""
    return settings.model_copy(update={"home": shutil.copytree(settings.home, folder / "home")})
