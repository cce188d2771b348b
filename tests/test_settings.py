"""The settings folder: what is accepted, and what a wrong file is told."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import (
    CONFIG_ENV,
    HOME_ENV,
    Settings,
    check_dagster_home,
    default_config_dir,
    load_settings,
    passed_over,
)

REPOSITORY = Path(__file__).resolve().parents[1]
ROOM_FILES = (
    "base_model",
    "catalogs",
    "learning",
    "generation",
    "evaluation",
    "execution",
    "governance",
    "archive",
    "languages",
    "alerts",
)


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
        ("Learning.yaml", "steps: 3", ("expected only base_model.yaml",)),
        ("learning.YML", "steps: 3", ()),
        ("learning.yaml.txt", "steps: 3", ()),
        ("learning.json", "{}", ()),
        ("learning.yaml", "steps: 3\n\nsteps: 4", ("'steps' is given twice (on lines 1 and 3)",)),
        ("learning.yaml", "losses: {elasticity: 1, elasticity: 2}", ("'elasticity' is given",)),
        ("learning.yaml", "scenes: [a, ~]", ("'scenes.1' has no value",)),
        ("learning.yaml", "steps: 2027-13-45", ("'steps'",)),
        ("learning.yaml", "steps: !!timestamp x", ("YAML",)),
        ("learning.yaml", "steps: true", ("'steps'",)),
        ("learning.yaml", "[" * 3000, ("YAML",)),
        ("learning.yaml", "x: &x [*x]", ("YAML",)),
        *(
            ("catalogs.yaml", f"settle_seconds: {value}", ("'settle_seconds'",))
            for value in (".inf", "inf", ".nan", "nan", "1e300", "31622401", "-1")
        ),
        ("catalogs.yaml", "max_bytes: 1" + "0" * 5000, ("'max_bytes'",)),
        ("learning.yaml", "prior_images: 1000001", ("'prior_images'", "at most 1,000,000")),
        ("learning.yaml", "gate_max_forgetting: 1e99", ("'gate_max_forgetting'",)),
        ("learning.yaml", "seed: 9223372036854775808", ("'seed'",)),
        ("generation.yaml", "steps: 1001", ("'steps'",)),
        ("generation.yaml", "layouts: {pairs: {left_right: inf}}", ("'layouts.pairs.left_right'",)),
        ("generation.yaml", "budget: {max_minutes: inf}", ("'budget.max_minutes'",)),
        ("catalogs.yaml", 'root: ""', ("'root'", "is blank")),
        ("catalogs.yaml", "root: ~no-such-user/x", ("'root'", "no such user")),
        ("catalogs.yaml", 's3: {bucket: " "}', ("'s3.bucket'", "is blank")),
        ("archive.yaml", 's3: {bucket: b, endpoint_url: ""}', ("'s3.endpoint_url'", "is blank")),
        ("base_model.yaml", 'base_model: ""', ("'base_model'", "is blank")),
        ("evaluation.yaml", 'encoder: ""', ("'encoder'", "is blank")),
        ("learning.yaml", "steps: [1, 2\n", ("YAML",)),
        ("learning.yaml", b"\xff\xfe\x00steps", ("YAML",)),
        ("archive.yaml", "- s3", ("holds a list; expected a mapping",)),
        ("learning.yaml", "steps: 0", ("'steps'",)),
        ("learning.yaml", "steps: many", ("'steps'",)),
        ("learning.yaml", "steps: 0\nbatch_size: 0", ("'steps'", "'batch_size'")),
        ("catalogs.yaml", "retire_fraction_limit: 1.5", ("'retire_fraction_limit'",)),
        ("generation.yaml", "width: 130", ("'width'",)),
        ("generation.yaml", "sampler: heun", ("'sampler'",)),
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


@pytest.mark.parametrize("name", ROOM_FILES)
@pytest.mark.parametrize("absent", ["", "~", "null"])
def test_a_key_without_a_value_takes_its_default(config: Path, name: str, absent: str) -> None:
    defaults = load_settings(config)
    shipped = yaml.safe_load((REPOSITORY / "assets_config" / f"{name}.yaml").read_text("utf-8"))
    lines = [f"{key}: {absent}" for key in shipped]
    (config / f"{name}.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert load_settings(config) == defaults


def test_a_sku_that_looks_like_a_number_keeps_its_zeros(config: Path) -> None:
    lists = "{lists: [{name: t, items: [00123, 1e3]}]}"
    (config / "generation.yaml").write_text(f"policies: {{cross_sell: {lists}}}", encoding="utf-8")
    (chosen,) = load_settings(config).generation.policies.cross_sell.lists
    assert chosen.items == ("00123", "1e3")


@pytest.mark.parametrize("name", ["._learning.yaml", ".learning.yaml.swp", "..data", ".#x.yaml"])
def test_hidden_files_are_passed_over(config: Path, name: str) -> None:
    (config / name).write_bytes(b"\x00\x05\x16\x07")
    assert load_settings(config).learning.steps == 120
    assert passed_over(config) == []


def test_copies_beside_the_settings_are_passed_over_by_name(config: Path) -> None:
    copies = ["#learning.yaml#", "learning.json", "learning.yaml.bak", "learning.yaml~"]
    for name in ("learning.yaml", "README.md", "learning-notes.md", *copies):
        (config / name).write_text("steps: 7", encoding="utf-8")
    assert load_settings(config).learning.steps == 7
    assert passed_over(config) == copies


def test_a_file_that_cannot_be_opened_is_one_line(config: Path) -> None:
    (config / "learning.yaml").symlink_to(config / "gone")
    with pytest.raises(ConfigurationError, match=r"learning\.yaml is a link to nothing"):
        load_settings(config)
    (config / "learning.yaml").unlink()
    (config / "learning.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"learning\.yaml cannot be read: Is a directory"):
        load_settings(config)


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_variable_is_unset(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blank: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_ENV, blank)
    monkeypatch.setenv(CONFIG_ENV, blank)
    assert load_settings(config).home == tmp_path / "dagster_home" / "storage"
    assert default_config_dir() == tmp_path / "assets_config"


def test_a_folder_of_nobody_is_one_line(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_ENV, "~no-such-user/home")
    with pytest.raises(ConfigurationError, match="cannot be a folder"):
        load_settings(config)
    with pytest.raises(ConfigurationError, match="cannot be a folder"):
        load_settings(config, Path("a\0b"))


@pytest.mark.parametrize("folder", ["/a/who?/b", "/a/50%20/b", "/a?b=c"])
def test_a_dagster_home_that_is_read_as_a_url_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", folder)
    with pytest.raises(ConfigurationError, match="its databases land elsewhere"):
        check_dagster_home()
    monkeypatch.setenv("DAGSTER_HOME", "/a/50%/env=prod/[draft]/a#b")
    check_dagster_home()


_MODELS = {
    name: type(getattr(Settings(home=Path("h"), config_dir=Path("c")), attribute))
    for name, attribute in ((n, {"catalogs": "catalog"}.get(n, n)) for n in ROOM_FILES)
}
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.sampled_from(["", " ", "~", "inf", "1e300", "9" * 50, "-1", "null", "00123", "a"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("name", ROOM_FILES)
def test_any_value_of_any_key_is_taken_or_one_line(config: Path, name: str) -> None:
    @given(st.dictionaries(st.sampled_from(sorted(_MODELS[name].model_fields)), _VALUES))
    @hypothesis_settings(max_examples=40, derandomize=True)
    def check(content: dict[str, object]) -> None:
        (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        problem = f"{name}.yaml"
        try:
            timedelta(seconds=load_settings(config).catalog.settle_seconds)
        except ConfigurationError as error:
            problem = str(error)
        assert f"{name}.yaml" in problem
        assert "\n" not in problem

    check()
