"""A command opens one home with one client a bucket, and a learning run reads each photo once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from catalog_pipeline.catalog import photo_set
from catalog_pipeline.catalog import s3 as photos_in_s3
from catalog_pipeline.cli import app
from catalog_pipeline.s3_client import open_s3_client
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores import s3 as objects_in_s3
from catalog_pipeline.workflows.home import Home
from tests.workflows.tiny_catalog import GENERATION, LEARNING

SKUS = ("mug", "cup")
PHOTOS = 3
NIGHT, NEXT_NIGHT = "2026-01-31", "2026-02-01"


class Bucket:
    """A catalog and an archive in one real bucket, and what is asked of it."""

    def __init__(self, s3: S3Settings, options: list[str]) -> None:
        self.s3 = s3
        self.options = options
        self.homes = 0
        self.clients: Counter[str] = Counter()
        self.downloads: Counter[str] = Counter()
        self.decoded = 0

    def run(self, *arguments: str) -> None:
        """A command that must succeed, counted from zero."""
        self.homes = self.decoded = 0
        self.clients.clear()
        self.downloads.clear()
        result = CliRunner().invoke(app, [*arguments, *self.options])
        assert result.exit_code == 0, result.output

    def reads(self) -> dict[str, int]:
        """Photo -> how often it was downloaded."""
        return {key: n for key, n in self.downloads.items() if key.endswith(".png")}

    def of(self, *skus: str) -> dict[str, int]:
        """Every photo of ``skus`` once."""
        return {f"{sku}/{n}.png": 1 for sku in skus for n in range(PHOTOS)}


@pytest.fixture
def bucket(
    tmp_path: Path,
    s3_settings: S3Settings,
    tiny_model_folder: Path,
    make_photo: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Bucket:
    def at(name: str) -> S3Settings:
        return s3_settings.model_copy(update={"prefix": f"{s3_settings.prefix}/{name}"})

    sections: dict[str, dict[str, Any]] = {
        "archive": {"s3": at("archive").model_dump()},
        "catalogs": {"settle_seconds": 0, "s3": at("products").model_dump()},
        "base_model": {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        "learning": LEARNING,
        "generation": GENERATION | {"policies": {"singles_per_sku": 1, "pairs": 0}},
    }
    config = tmp_path / "assets_config"
    config.mkdir()
    for name, content in sections.items():
        (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = Bucket(at("products"), ["--config", str(config), "--home", str(tmp_path / "home")])
    put_photos(found, tmp_path, make_photo)
    count(found, monkeypatch)
    return found


def put_photos(bucket: Bucket, folder: Path, make_photo: Callable[..., Path]) -> None:
    client = open_s3_client(bucket.s3, "the test", retries={"mode": "standard"})
    for sku in SKUS:
        for n in range(PHOTOS):
            data = make_photo(folder / f"{sku}-{n}.png", seed=n + len(sku)).read_bytes()
            key = f"{bucket.s3.prefix}/{sku}/{n}.png"
            client.put_object(Bucket=bucket.s3.bucket, Key=key, Body=data)
    client.close()


def count(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count homes, clients, downloads and decoded photos, and leave all of them real."""
    true_init, true_decode = Home.__init__, photo_set.decode_photo
    true_get = photos_in_s3.S3PhotoSource._open

    def init(home: Home, *arguments: Any) -> None:
        bucket.homes += 1
        true_init(home, *arguments)

    def download(source: photos_in_s3.S3PhotoSource, key: str, **conditions: str) -> Any:
        bucket.downloads[key] += 1
        return true_get(source, key, **conditions)

    def decode(*arguments: Any) -> Any:
        bucket.decoded += 1
        return true_decode(*arguments)

    monkeypatch.setattr(Home, "__init__", init)
    monkeypatch.setattr(photos_in_s3.S3PhotoSource, "_open", download)
    monkeypatch.setattr(photo_set, "decode_photo", decode)
    for name, module in (("photos", photos_in_s3), ("objects", objects_in_s3)):

        def open_client(*arguments: Any, name: str = name, **options: Any) -> Any:
            bucket.clients[name] += 1
            return open_s3_client(*arguments, **options)

        monkeypatch.setattr(module, "open_s3_client", open_client)


def test_a_command_opens_one_home_and_reads_each_photo_once(bucket: Bucket) -> None:
    bucket.run("index")
    assert (bucket.homes, bucket.clients) == (1, {"photos": 1, "objects": 1})
    assert bucket.reads() == bucket.of(*SKUS)
    assert bucket.decoded == 0
    bucket.run("index")
    assert bucket.reads() == {}
    bucket.run("learn", SKUS[0])
    assert (bucket.homes, bucket.clients) == (1, {"photos": 1, "objects": 1})
    assert bucket.reads() == bucket.of(SKUS[0])
    assert bucket.decoded == PHOTOS
    # The first night looks at the photos for its scenes, and keeps what it found out; its report
    # shows the first photo of what is new once more.
    bucket.run("generate", "--day", NIGHT)
    assert (bucket.homes, bucket.clients) == (1, {"photos": 1, "objects": 1})
    reads = bucket.reads()
    assert reads.pop(f"{SKUS[0]}/0.png") == 2
    assert reads == {key: 1 for key in bucket.of(SKUS[0]) if not key.endswith("/0.png")}
    bucket.run("generate", "--day", NEXT_NIGHT)
    assert bucket.homes == 1
    assert bucket.reads() == {}  # its report lists the folders, and has nothing new to show
