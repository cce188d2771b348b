"""What docs/ say is so: the reference is what the code defines, and every error has its place."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from catalog_pipeline import errors

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"


def site_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def messages() -> str:
    """All the code, its adjacent string literals joined as Python joins them."""
    code = "\n".join(p.read_text("utf-8") for p in (REPOSITORY / "catalog_pipeline").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", code)


@pytest.mark.parametrize("page", ["commands.md", "settings.md"])
def test_the_reference_is_what_the_code_defines(page: str) -> None:
    made = site_module("reference").pages()[page]
    assert (DOCS / "reference" / page).read_text("utf-8") == made, "run `make docs`"


def test_every_setting_is_told_in_words() -> None:
    rows = re.findall(r"^\| `.*$", (DOCS / "reference/settings.md").read_text("utf-8"), re.M)
    assert len(rows) > 100
    assert [row for row in rows if not row.split("|")[-2].strip()] == []


def test_every_kind_of_error_has_its_place() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    headings = set(re.findall(r"^##+ (\w+Error)$", page, re.M))
    kinds = {name for name in vars(errors) if name.endswith("Error")} - {"CatalogPipelineError"}
    assert headings == kinds


def test_every_message_that_is_explained_is_one_of_the_program(messages: str) -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^\| `(.*?)` \|", page, re.M)
    assert len(quoted) > 40
    assert [words for words in quoted if words not in messages] == []


def test_the_site_is_built_without_a_warning_and_asks_no_network_for_anything(
    tmp_path: Path,
) -> None:
    command = ["mkdocs", "build", "--strict", "--quiet", "-f", "docs/site/mkdocs.yml", "-d"]
    built = subprocess.run(
        [sys.executable, "-m", *command, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "method.html").read_text("utf-8")
    assert "<math" in page
    assert "arithmatex" not in page
    for html in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', html.read_text("utf-8")
        )
        assert [url for url in loaded if "canonical" not in url] == [], html
