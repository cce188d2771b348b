"""The settings folder: what is accepted, and what a wrong file is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import (
    CONFIG_ENV,
    HOME_ENV,
    Settings,
    default_config_dir,
    load_settings,
)

REPOSITORY = Path(__file__).resolve().parents[1]
ROOM_FILES = ("base_model", "catalogs", "learning", "generation", "evaluation", "archive")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    return folder


def test_an_empty_folder_gives_the_defaults(config: Path) -> None:
    settings = load_settings(config)
    assert settings == Settings(home=settings.home, config_dir=config.resolve())


def test_an_empty_file_gives_the_defaults(config: Path) -> None:
    (config / "learning.yaml").write_text("# nothing but a comment\n", encoding="utf-8")
    assert load_settings(config).learning == Settings(home=config, config_dir=config).learning


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        *(
            (f"{name}.yaml", "stpes: 3", ("unknown key 'stpes'", "top-level keys are:"))
            for name in ROOM_FILES
        ),
        ("generation.yaml", "policies: {pears: 3}", ("unknown key 'policies.pears'",)),
        ("lerning.yaml", "steps: 3", ("learning.yaml",)),
        ("learning.yml", "steps: 3", ()),
        ("learning.yaml", "steps: [1, 2\n", ("YAML",)),
        ("learning.yaml", b"\xff\xfe\x00steps", ("YAML",)),
        ("archive.yaml", "- s3", ("holds a list; expected a mapping",)),
        ("learning.yaml", "steps: 0", ("'steps'",)),
        ("learning.yaml", "steps: many", ("'steps'",)),
        ("learning.yaml", "steps: 0\nbatch_size: 0", ("'steps'", "'batch_size'")),
        ("catalogs.yaml", "retire_fraction_limit: 1.5", ("'retire_fraction_limit'",)),
        ("generation.yaml", "width: 130", ("'width'",)),
        ("generation.yaml", "sampler: euler", ("'sampler'",)),
        ("archive.yaml", "s3: {prefix: x}", ("'s3.bucket'",)),
        ("base_model.yaml", "threads: -1", ("'threads'",)),
        (
            "learning.yaml",
            "replay_candidates: 2\nreplay_exemplars: 4",
            ("must not exceed replay_candidates",),
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_file_and_key(
    config: Path, file: str, content: str | bytes, words: tuple[str, ...]
) -> None:
    (config / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    assert [word for word in (file, *words) if word not in str(caught.value)] == []


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config DIR") as caught:
        load_settings(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_the_home_is_the_argument_then_the_environment_then_beside_the_settings(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(config).home == tmp_path.resolve() / "dagster_home" / "storage"
    monkeypatch.setenv(HOME_ENV, str(tmp_path / "from-environment"))
    assert load_settings(config).home == tmp_path.resolve() / "from-environment"
    chosen = load_settings(config, tmp_path / "from-argument")
    assert chosen.home == tmp_path.resolve() / "from-argument"


def test_the_settings_folder_is_found_by_environment_then_working_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_config_dir() == tmp_path.resolve() / "assets_config"
    monkeypatch.setenv(CONFIG_ENV, str(config))
    assert load_settings().config_dir == config.resolve()


def test_a_relative_home_becomes_absolute(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(config, Path("state")).home == tmp_path.resolve() / "state"


def test_a_relative_catalog_root_is_inside_the_home_and_an_absolute_one_is_kept(
    config: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (config / "catalogs.yaml").write_text("root: shop/products\n", encoding="utf-8")
    assert load_settings(config, home).catalog_root == home.resolve() / "shop" / "products"
    elsewhere = tmp_path / "share"
    (config / "catalogs.yaml").write_text(f"root: {elsewhere}\n", encoding="utf-8")
    assert load_settings(config, home).catalog_root == elsewhere


def test_settings_cannot_be_changed_after_they_were_read(config: Path) -> None:
    settings = load_settings(config)
    with pytest.raises(ValueError, match="frozen"):
        settings.learning.steps = 1


def test_the_shipped_folder_loads_and_holds_every_file() -> None:
    shipped = REPOSITORY / "assets_config"
    assert load_settings(shipped).config_dir == shipped
    assert sorted(p.stem for p in shipped.glob("*.yaml")) == sorted(ROOM_FILES)


def test_the_watched_folder_of_the_shipped_settings_holds_no_stored_object() -> None:
    settings = load_settings(REPOSITORY / "assets_config")
    stored = {"catalog", "collections", "plans", "images", "manifest", "reports"}
    assert settings.catalog_root.relative_to(settings.home).parts[0] not in stored


@pytest.mark.parametrize("name", ROOM_FILES)
def test_every_key_of_the_shipped_files_is_told_in_them(name: str) -> None:
    """Each top-level key stands in the file (so that it can be changed) below a comment."""
    lines = (REPOSITORY / "assets_config" / f"{name}.yaml").read_text("utf-8").splitlines()
    attribute = {"catalogs": "catalog"}.get(name, name)
    model = getattr(Settings(home=Path("h"), config_dir=Path("c")), attribute)
    for key in type(model).model_fields:
        places = [n for n, line in enumerate(lines) if line.startswith(f"{key}:")]
        assert places, f"{name}.yaml does not mention {key}"
        above = lines[max(0, places[0] - 3) : places[0] + 1]
        assert any("#" in line for line in above), f"{name}.yaml: {key} has no comment"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("learning", {"scenes": ["in a {concept} shop"]}, "holds { or }"),
        ("learning", {"scenes": ["beside <mug:0>"]}, "holds '<mug:0>'"),
        ("generation", {"scenes": [{"name": "x", "text": "with <mug:1>"}]}, "holds '<mug:1>'"),
        ("generation", {"negative_prompt": "<a.b:12> "}, "holds '<a.b:12>'"),
    ],
)
def test_a_scene_cannot_say_what_only_a_product_says(
    config: Path, name: str, content: dict[str, object], reason: str
) -> None:
    (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        load_settings(config)
