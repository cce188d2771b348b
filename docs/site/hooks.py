"""What the site adds to the pages of docs/: files of the repository's top, and formulas as MathML.

Browsers draw MathML themselves, so that no script is loaded from anywhere.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "DECISIONS.md": "decisions.md",
    "README.md": "index.md",
    "catalog_pipeline/base_model/MODEL_CARD.md": "model-card.md",
}
"""A file of the repository -> the page that it is on the site."""

_SETTINGS = re.compile(r"assets_config/(\w+)\.yaml")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        text = (REPOSITORY / source).read_text("utf-8")
        files.append(File.generated(config, page, content=_inside(text, source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/ into links to the site's own pages."""
    if page.file.src_uri in PAGES.values():
        return markdown
    return _inside(markdown, f"docs/{page.file.src_uri}")


def on_page_content(content: str, **_: Any) -> str:
    """Formulas, which arithmatex has marked, as MathML."""

    def formula(found: re.Match[str]) -> str:
        display = "block" if found[2] == "[" else "inline"
        return convert(html.unescape(found[3]).strip(), display=display)

    return _FORMULA.sub(formula, content)


def _inside(markdown: str, source: str) -> str:
    """``markdown`` of the repository's file ``source``, its links as the site has them."""
    page = PAGES.get(source, source.removeprefix("docs/"))

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        settings = _SETTINGS.fullmatch(path)
        if settings:
            target, anchor = "reference/settings.md", f"#{settings[1]}yaml"
        elif path in PAGES:
            target = PAGES[path]
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            return words  # a source file: the site does not have it
        return f"[{words}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
