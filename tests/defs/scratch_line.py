"""A product catalog in a scratch home, and what a photographer does to it."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import Home, open_home


@dataclass(frozen=True)
class Line:
    """One home with its watched folder; the settings lie in files, as in production."""

    settings: Settings
    make_photo: Callable[..., Path]

    @property
    def home(self) -> Home:
        return open_home(self.settings)

    def add_product(self, sku: str, *, photos: int = 4, seed: int = 0, **card: str) -> None:
        """Put ``photos`` different, hour-old photos of a product in the watched folder."""
        folder = self.settings.catalog_root / sku
        for number in range(photos):
            self.make_photo(
                folder / f"{number}.png", seed=1000 * seed + zlib.crc32(sku.encode()) % 997 + number
            )
        if card:
            (folder / "sku.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
        for path in (*folder.iterdir(), folder):
            self.age(path)

    def add_products(self, *skus: str) -> None:
        for sku in skus:
            self.add_product(sku)

    def age(self, path: Path, seconds: float = 3600.0) -> None:
        """Date a file back, as if its copying had ended long ago."""
        then = time.time() - seconds
        os.utime(path, (then, then))

    def remove_product(self, sku: str) -> None:
        shutil.rmtree(self.settings.catalog_root / sku)

    def write(self, name: str, text: str = "") -> None:
        (self.settings.home / name).write_text(text, encoding="utf-8")

    def statuses(self) -> dict[str, str]:
        return {row.sku: row.status.value for row in self.home.index.read()}
