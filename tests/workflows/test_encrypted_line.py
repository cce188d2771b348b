"""The whole line over an encrypted home: it works as without, and no byte on the disk shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import KeyDestroyedError
from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.stores.sealing import MAGIC
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from tests.stores.sealed_location import new_master_key
from tests.workflows.killed_learning import KilledLearning
from tests.workflows.tiny_catalog import (
    GENERATION,
    LEARNING,
    elsewhere,
    learn_all,
    with_learning,
    write_photos,
)

NIGHT = "2026-01-31"
PNG = re.compile(rb"\x89PNG\r\n")
SAFETENSORS = re.compile(rb'\{"(?:__metadata__":\{|[^"]{1,200}":\{"dtype")')
OPEN_FOLDERS = ("products", "base", "reports")
"""People's own photos, caches that hold no product, and pages that a browser opens."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> list[str]:
    """``--config`` and ``--home`` of an encrypted line with two products."""
    folder = tmp_path_factory.mktemp("encrypted")
    master = new_master_key(folder)
    rooms = {
        "base_model": {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        "catalogs": {"root": "products", "settle_seconds": 0},
        "learning": LEARNING,
        "generation": {**GENERATION, "policies": {"singles_per_sku": 1, "pairs": 1}},
        "governance": {"encryption": {"master_key": master, "pictures": True}},
    }
    config = folder / "settings"
    config.mkdir()
    for room, content in rooms.items():
        (config / f"{room}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    options = ["--config", str(config), "--home", str(folder / "home")]
    for seed, sku in enumerate(("mug", "pot")):
        write_photos(settings_of(options), sku, seed)
    return options


def settings_of(options: Sequence[str]) -> Settings:
    return load_settings(Path(options[1]), home=Path(options[3]))


def unencrypted(settings: Settings, home: Path) -> Settings:
    """The same products and settings over another home, which is not encrypted."""
    encryption = settings.governance.encryption.model_copy(update={"master_key": None})
    governance = settings.governance.model_copy(update={"encryption": encryption})
    return elsewhere(settings, home).model_copy(update={"governance": governance})


def succeed(options: list[str], *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_command_works_as_without(options: list[str], tmp_path: Path) -> None:
    succeed(options, "index")
    assert "2 learned, 0 unchanged, 0 failed" in succeed(options, "learn")
    assert "rendered 3, already there 0, failed 0" in succeed(options, "generate", "--day", NIGHT)
    assert "rendered 0, already there 3" in succeed(options, "generate", "--day", NIGHT)
    assert "all hashes are right" in succeed(options, "verify")
    assert "encryption: on, pictures too, master key file:" in succeed(options, "doctor")
    assert "0 objects" in succeed(options, "gc")
    succeed(options, "gallery", "--day", NIGHT)
    succeed(options, "query", "FROM images")
    succeed(options, "export", "mug", "--out", str(tmp_path / "lora"))
    succeed(options, "export-images", "--out", str(tmp_path / "set"), "--format", "imagefolder")
    exported = list((tmp_path / "set").rglob("*.png"))
    assert len(exported) == 3
    assert all(PNG.match(path.read_bytes()) for path in exported)
    succeed(options, "export-objects", "images/", "--out", str(tmp_path / "copies"))
    assert {path.read_bytes() for path in exported} == {
        path.read_bytes() for path in (tmp_path / "copies/images").iterdir()
    }


def test_the_cost_report_counts_every_byte_that_the_line_has_written(options: list[str]) -> None:
    """In every folder there is, keys among them; products lie in this home, too."""
    home = settings_of(options).home
    told = json.loads(succeed(options, "cost-report", "--json"))
    files = [path for path in home.rglob("*") if path.is_file()]
    parts = {path: path.relative_to(home).parts for path in files}
    written = [
        path
        for path in files
        if parts[path][0] != "products"
        and parts[path][:2] != ("reports", "cost")
        and not any(part.startswith(".") for part in parts[path])
    ]
    assert {"audit", "keys"} <= {parts[path][0] for path in written}
    assert told["stored_bytes"] == sum(path.stat().st_size for path in written)
    assert told["published"] == 3


def test_no_byte_of_the_home_shows_a_product(options: list[str]) -> None:
    home = settings_of(options).home
    found = [path for path in home.rglob("*") if path.is_file()]
    closed = [p for p in found if p.relative_to(home).parts[0] not in OPEN_FOLDERS]
    sealed = [path for path in closed if path.suffix == ".sealed"]
    kinds = {path.relative_to(home).parts[0] for path in sealed}
    assert {"collections", "images", "catalog"} <= kinds
    assert {path.name.rpartition(".")[0].rpartition(".")[2] for path in sealed} >= {
        "safetensors",
        "png",
        "json",
    }
    assert all(path.read_bytes().startswith(MAGIC) for path in sealed)
    for path in closed:
        data = path.read_bytes()
        assert not PNG.search(data), path
        assert not SAFETENSORS.search(data), path
    # The search finds what is there: photos and caches are as open as before.
    assert any(PNG.search(path.read_bytes()) for path in (home / "products").rglob("*.png"))
    assert any(SAFETENSORS.search(path.read_bytes()) for path in (home / "base").rglob("*.safe*"))


@pytest.mark.slow
def test_what_is_learned_is_the_same_as_without(
    options: list[str], tmp_path: Path, killed_learning: KilledLearning
) -> None:
    settings = settings_of(options)
    plain = unencrypted(settings, tmp_path / "plain")
    learn_all(plain)
    killed = elsewhere(settings, tmp_path / "killed")
    killed.home.mkdir()
    refresh_index(open_home(killed))
    killed_learning(killed, 3, "learn mug")
    (checkpoint,) = (killed.home / "collections/default/staging").iterdir()
    assert checkpoint.read_bytes().startswith(MAGIC)
    assert not SAFETENSORS.search(checkpoint.read_bytes())
    learn_all(killed)
    heads = [open_home(s).adapters("default").current() for s in (settings, plain, killed)]
    assert len({head.version for head in heads if head is not None}) == 1
    assert not list(plain.home.rglob("*.sealed"))
    assert not (plain.home / "keys").exists()


def test_a_refused_candidate_can_be_looked_at(options: list[str], tmp_path: Path) -> None:
    settings = elsewhere(settings_of(options), tmp_path / "strict")
    strict = with_learning(settings, gate_min_fidelity_share=9.0)
    outcome = learn_all(strict, ["mug"])["mug"]
    assert outcome.status == "failed"
    told = re.search(
        r"encrypted: `catalog-pipeline export-objects (\S+) --out DIR`", outcome.reason
    )
    assert told is not None, outcome.reason
    config = options[:2]
    succeed(
        [*config, "--home", str(strict.home)],
        *("export-objects", told[1], "--out", str(tmp_path / "look")),
    )
    assert PNG.match((tmp_path / "look" / told[1]).read_bytes())


def test_a_destroyed_key_takes_one_product_and_it_can_be_learned_again(
    options: list[str],
) -> None:
    home = open_home(settings_of(options))
    assert isinstance(home.objects, SealedObjectStore)
    assert home.keyring is not None
    store = home.adapters("default")
    version = store.current()
    assert version is not None
    rows = home.archive.read_day(home.archive.days()[0])
    assert home.keyring.destroy("mug")
    lost = [name for name in version.parts if name.endswith("/mug")]
    assert len(lost) >= 2
    for name, digest in version.parts.items():
        if name in lost:
            with pytest.raises(KeyDestroyedError):
                store.read_part(digest)
        else:
            assert store.read_part(digest)
    for row in rows:
        if "mug" in row.skus:
            with pytest.raises(KeyDestroyedError):
                home.archive.read_image(row.path)
        else:
            assert PNG.match(home.archive.read_image(row.path))
    broken = CliRunner().invoke(app, ["verify", *options])
    assert broken.exit_code == 1
    assert "was destroyed" in broken.output
    (outcome,) = learn_concepts(open_home(settings_of(options)), ["mug"], force=True)
    assert outcome.status == "learned"
    again = open_home(settings_of(options)).adapters("default").current()
    assert again is not None
    assert all(store.read_part(digest) for digest in again.parts.values())
