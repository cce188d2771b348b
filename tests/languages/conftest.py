"""A home of the embedded base, and one without an encoder."""

from __future__ import annotations

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows import words as words_module
from catalog_pipeline.workflows.home import Home


@pytest.fixture
def no_encoder(monkeypatch):
    def missing():
        raise ConfigurationError("the extra 'languages' is not installed")

    monkeypatch.setattr(words_module, "open_encoder", missing)


@pytest.fixture
def shop(make_settings, make_photo):
    """``shop(sku, card)``: three photos and a card, in a home of the embedded base."""

    class Shop:
        settings = make_settings(catalog={"settle_seconds": 0})

        def put(self, sku: str, card: str) -> None:
            folder = self.settings.catalog_root / sku
            for number in range(3):
                make_photo(folder / f"{number}.png", seed=hash(sku) % 999 + number)
            (folder / "sku.yaml").write_text(card, "utf-8")

        def configured(self, **sections) -> Settings:
            return make_settings(catalog={"settle_seconds": 0}, **sections)

        @property
        def home(self) -> Home:
            return Home(self.settings)

    return Shop()
