"""A home on which nights are planned, rendered and published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from tests.workflows.hard_night import published_night
from tests.workflows.painted_night import NIGHT, Studio
from tests.workflows.photographed import EXACT, PRODUCTS, TOO_SMALL, know, photograph
from tests.workflows.tiny_catalog import GENERATION, tiny_sections


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return Studio(make_settings(generation=NIGHT))


@pytest.fixture
def night(studio: Studio) -> Studio:
    return published_night(studio)


@pytest.fixture(scope="session")
def photographed_line(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path
) -> Settings:
    """Three products of judged photos, known to a tiny real model. Copy the home before use."""
    folder = tmp_path_factory.mktemp("line")
    sections = tiny_sections(tiny_model_folder)
    sections["catalogs"] = sections.pop("catalog") | {"min_photos": 1}
    sections["generation"] = {
        **GENERATION,
        **EXACT,
        "batch_size": 2,
        "anchoring": {"output_scale": 8, "backdrop_steps": 1},
        "quality": {"attempts": 1},
    }
    (folder / "config").mkdir()
    for name, content in sections.items():
        (folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content), "utf-8")
    settings = load_settings(folder / "config", folder / "home")
    for sku in PRODUCTS:
        photograph(settings, sku)
    photograph(settings, TOO_SMALL, side=96)
    know(settings, (*PRODUCTS, TOO_SMALL))
    home = open_home(settings)
    book = PhotoBook(home, {row.sku: row.content_hash for row in refresh_index(home).rows})
    assert [bool(book.find(sku).photos) for sku in (*PRODUCTS, TOO_SMALL)] == [True, True, False]
    return settings
