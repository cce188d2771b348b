"""What the guides tell a person to type exists, parses, and runs on a real home."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV
from tests.test_cli_line import SKUS, TINY_LEARNING

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
GUIDE, GUIDE_JA = DOCS / "operator-guide.md", DOCS / "operator-guide.ja.md"
PAGES = (GUIDE, GUIDE_JA, DOCS / "quick-start.md", DOCS / "troubleshooting.md")
PROGRAMS = ("catalog-pipeline", "dagster", "make")
NIGHT = "2026-11-23"
MAX_WORDS = 1200
MAX_PICTURE_BYTES = 150_000

PLACEHOLDERS = {
    "SKU": SKUS[0],
    "SKU-1": SKUS[0],
    "SKU-2": SKUS[1],
    "VERSION": "{version}",  # the newest of the home
    "~/photos/blue-mug": "{photos}",  # a folder of photos beside the home
    "DIR": "{photos}",
}
"""What a reader puts in place of the words of the guides."""

MENTIONED_ALONE = {"catalog-pipeline import-feed"}
"""Commands that are named without what they need, with a link to where it is told."""

EXIT_STATUS: dict[str, int] = {}
"""Commands that end otherwise than with 0 on a healthy home."""

CODE = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")


def blocks(page: Path) -> list[str]:
    """The fenced blocks of a page, without their indentation."""
    found = CODE.findall(page.read_text("utf-8"))
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in found]


def typed_lines(page: Path) -> list[str]:
    """The commands of the fenced blocks, joined over continued lines, without their comments."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().split(" ")[0] in PROGRAMS]


def inline_commands(page: Path) -> list[str]:
    """The commands inside sentences and tables."""
    words = CODE.sub("", page.read_text("utf-8"))
    found = [code for code in INLINE.findall(words) if code.split(" ")[0] in PROGRAMS]
    return [code for code in found if " " in code]


def arguments(line: str) -> list[str]:
    """The words of a command, its placeholders replaced, without ``NAME=value`` in front."""
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)]


COMMANDS = sorted({line for page in PAGES for line in (*typed_lines(page), *inline_commands(page))})


def of(program: str) -> list[str]:
    return [line for line in COMMANDS if line.split(" ")[0] == program]


def parse(group: click.Command, words: list[str]) -> None:
    """Parse ``words`` as ``group`` would, to the end, and run nothing."""
    command, context = group, click.Context(group)
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{command.name} has no command {name!r}"
        command, context = found, click.Context(found, parent=context)
    command.make_context(command.name, words, parent=context.parent)


@pytest.fixture(scope="module", name="photos")
def _photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from catalog_pipeline.studio.sample_catalog import write_sample_catalog

    root = tmp_path_factory.mktemp("photos")
    write_sample_catalog(root, [SKUS[0]])
    (root / SKUS[0] / "sku.yaml").unlink()
    for photo in sorted((root / SKUS[0]).iterdir())[3:]:
        photo.unlink()
    return root / SKUS[0]


@pytest.mark.parametrize("line", of("catalog-pipeline"))
def test_every_command_exists_and_takes_what_it_is_given(line: str, photos: Path) -> None:
    words = [word.format(version="abc", photos=photos) for word in arguments(line)[1:]]
    if line in MENTIONED_ALONE:
        assert typer.main.get_command(app).get_command(click.Context(click.Group()), words[0])
        return
    parse(typer.main.get_command(app), words)


@pytest.mark.parametrize("line", of("make"))
def test_every_make_target_exists(line: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M)
    assert [word for word in line.split()[1:] if "=" not in word and word not in targets] == []


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
@pytest.mark.parametrize("line", of("dagster"))
def test_every_dagster_command_parses_and_names_what_exists(line: str) -> None:
    from dagster._cli import create_dagster_cli

    from catalog_pipeline.definitions import defs

    words = arguments(line)[1:]
    repository = defs.get_repository_def()
    for option, known in {
        "-j": {job.name for job in repository.get_all_jobs()},
        "--select": {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()},
    }.items():
        if option in words:
            assert words[words.index(option) + 1] in known
    parse(create_dagster_cli(), words)


class TestBothLanguages:
    def test_sections_commands_and_pictures_are_the_same(self) -> None:
        english, japanese = GUIDE.read_text("utf-8"), GUIDE_JA.read_text("utf-8")
        levels = [re.findall(r"^(#+) ", text, re.M) for text in (english, japanese)]
        assert levels[0] == levels[1]
        pictures = [re.findall(r"!\[.+\]\((.*?)\)", text) for text in (english, japanese)]
        assert pictures[0] == pictures[1] != []
        assert blocks(GUIDE) == blocks(GUIDE_JA)
        assert sorted(inline_commands(GUIDE)) == sorted(inline_commands(GUIDE_JA))
        links = [re.findall(r"[^!]\[[^]]+\]\(([^#)][^)]*)\)", t) for t in (english, japanese)]
        assert sorted(links[0]) == sorted(links[1])

    def test_every_picture_exists_and_is_small(self) -> None:
        for name in re.findall(r"!\[.+\]\((.*?)\)", GUIDE.read_text("utf-8")):
            assert (DOCS / name).stat().st_size < MAX_PICTURE_BYTES, name
            with Image.open(DOCS / name) as picture:
                assert picture.width <= 1280

    def test_no_picture_is_left_over(self) -> None:
        shown = set(re.findall(r"!\[.+\]\(images/operator/(.*?)\)", GUIDE.read_text("utf-8")))
        assert {path.name for path in (DOCS / "images/operator").iterdir()} == shown

    def test_the_guide_is_short(self) -> None:
        assert len(CODE.sub("", GUIDE.read_text("utf-8")).split()) <= MAX_WORDS

    def test_other_pages_find_their_section(self) -> None:
        assert "\n## A product does not look like itself\n" in GUIDE.read_text("utf-8")


@pytest.fixture(scope="module", name="environment")
def _environment(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, photos: Path
) -> dict[str, str]:
    """A line with two learned products, a failed one and a night; the variables that name it."""
    folder = tmp_path_factory.mktemp("guide")
    config, home = folder / "settings", folder / "home"
    shutil.copytree(REPOSITORY / "assets_config", config)
    home.mkdir()
    changes: dict[str, dict[str, Any]] = {
        "base_model": {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        "catalogs": {"root": "products", "settle_seconds": 0},
        "learning": yaml.safe_load(TINY_LEARNING),
        "generation": {
            "mode": "learned",  # no photo need be cut out
            "policies": {"singles_per_sku": 1, "pairs": 1},
            "steps": 1,
            "width": 32,
            "height": 32,
            "quality": {"gate": False},
        },
    }
    for room, content in changes.items():
        (config / f"{room}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for sku in SKUS:
        shutil.copytree(photos, home / "products" / sku)
    variables = {CONFIG_ENV: str(config), HOME_ENV: str(home)}
    run_all(variables, ["index", "learn", f"generate --day {NIGHT}"])
    return variables


def run_all(environment: dict[str, str], lines: list[str]) -> None:
    for line in lines:
        result = CliRunner(env=environment).invoke(app, shlex.split(line))
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", [GUIDE, DOCS / "quick-start.md"], ids=lambda page: page.stem)
def test_every_line_of_the_guides_runs(
    page: Path,
    environment: dict[str, str],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.home import open_home

    monkeypatch.chdir(tmp_path)  # `try` writes beside where it is typed
    settings = load_settings(Path(environment[CONFIG_ENV]), Path(environment[HOME_ENV]))
    head = open_home(settings).adapters("default").current()
    assert head is not None
    lines = typed_lines(page) + (inline_commands(page) if page == GUIDE else [])
    ran = [line for line in lines if line.startswith("catalog-pipeline ")]
    assert len(ran) >= 5
    for line in ran:
        words = [word.format(version=head.version, photos=photos) for word in arguments(line)]
        result = CliRunner(env=environment).invoke(app, words[1:])
        assert result.exit_code == EXIT_STATUS.get(line, 0), f"{line}\n{result.output}"
