"""Writes docs/reference/: every command and every setting, from the code that defines them.

``make docs`` runs it; a test says when a page is not what the code says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from catalog_pipeline.cli import app
from catalog_pipeline.settings.load import FILES

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docs" / "reference"
_MADE = "<!-- made by docs/site/reference.py: change the code, not this page -->"


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    return {"commands.md": _commands(), "settings.md": _settings()}


def _commands() -> str:
    lines = [
        "# Commands",
        "",
        _MADE,
        "",
        "`catalog-pipeline` lies in `.venv/bin`. Progress goes to stderr, results to stdout. Exit",
        "status: 0 done, 1 something failed (one line says what), 2 wrong usage, 130 interrupted,",
        "141 the reader of its output has left. The same command again goes on where it stopped.",
        "",
        "| command | |",
        "|---|---|",
    ]
    commands = sorted(typer.main.get_command(app).commands.items())  # type: ignore[attr-defined]
    lines += [f"| [`{name}`](#{name}) | {_first_line(command)} |" for name, command in commands]
    for name, command in commands:
        lines += ["", f"## {name}", "", *_help(command), "", "| | |", "|---|---|"]
        lines += [f"| {_how(parameter)} | {_what(parameter)} |" for parameter in command.params]
    lines += ["", "## make", "", "Each target makes the virtual environment first.", ""]
    lines += ["| target | |", "|---|---|"]
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z0-9_-]+):.*?## (.*)$", makefile, flags=re.MULTILINE)
    lines += [f"| `make {name}` | {_escaped(words)} |" for name, words in targets]
    return "\n".join(lines) + "\n"


def _first_line(command: Any) -> str:
    return _escaped((command.help or "").strip().split("\n")[0])


def _help(command: Any) -> list[str]:
    return [line.strip() for line in (command.help or "").replace("\b", "").strip().split("\n")]


def _how(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_escaped(parameter.metavar or parameter.name.upper())}`"
    names = "/".join(parameter.opts)
    takes = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return f"`{_escaped(names + takes)}`"


def _what(parameter: Any) -> str:
    return _escaped(getattr(parameter, "help", None) or "")


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        _MADE,
        "",
        "`assets_config/` has one file for each part of the pipeline. Every key may be left",
        "out; an unknown key, or one twice, is an error that names the file. A key without a",
        "value counts as left out.",
    ]
    for name, model in FILES.items():
        comments = _comments((REPOSITORY / f"assets_config/{name}.yaml").read_text("utf-8"))
        lines += ["", f"## {name}.yaml", "", _sentence(model), ""]
        lines += ["| key | value | default | |", "|---|---|---|---|"]
        lines += _rows(model, "", comments)
    return "\n".join(lines) + "\n"


def _sentence(model: type[BaseModel] | None) -> str:
    """The first of the model's docstring, without the name of the file."""
    words = ((model and model.__doc__) or "").strip().split("\n")[0].rpartition("``: ")[2]
    return words[:1].upper() + words[1:]


def _rows(model: type[BaseModel], prefix: str, comments: dict[str, str]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = prefix + name
        inner = _inner(field.annotation)
        words = field.description or comments.get(key, "") or _sentence(inner)
        default = field.get_default(call_default_factory=True)
        shown = "" if inner or default is PydanticUndefined else _value(default)
        yield f"| `{key}` | {_kind(field)} | {shown} | {_escaped(words)} |"
        if inner is not None:
            each = "[]" if "tuple" in str(field.annotation) else ""
            yield from _rows(inner, f"{key}{each}.", comments)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The settings below a key, also where the key may be null."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _kind(field: Any) -> str:
    text = str(field.annotation).replace("typing.", "").replace("pathlib.", "")
    text = re.sub(r"<class '([\w.]+)'>", lambda found: found[1].rpartition(".")[2], text)
    text = re.sub(r"catalog_pipeline\.[\w.]*\.", "", text)
    text = re.sub(
        r"Literal\[(.*?)\]", lambda found: found[1].replace("'", "").replace(",", " |"), text
    )
    text = re.sub(r"Annotated\[([\w.]+).*?\]", r"\1", text)
    text = re.sub(r"Optional\[(.*)\]", r"\1 | None", text)
    signs = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
    bounds = [
        f"{sign} {getattr(each, name):,}"
        for each in field.metadata
        for name, sign in signs
        if getattr(each, name, None) is not None
    ]
    return _escaped(", ".join([_plain_kind(text), *bounds]))


def _plain_kind(text: str) -> str:
    """Short words for the kinds that have a long name."""
    if "Settings" in text or "BaseModel" in text:
        return "null, or keys below" if "None" in text else "keys below"
    text = re.sub(r"tuple\[.*|list\[.*", "list", text)
    text = re.sub(r"dict\[.*", "mapping", text)
    names = {"str": "text", "float": "number", "int": "whole number", "bool": "true or false"}
    names["Path"] = "path"
    parts = [names.get(part.strip(), part.strip()) for part in text.split("|")]
    return " or ".join(part.replace("None", "null") for part in parts)


def _value(default: Any) -> str:
    default = to_jsonable_python(default)
    if isinstance(default, list) and len(str(default)) > 60:
        return "as in the file"
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).strip()
    return f"`{_escaped(text.removesuffix('...').strip())}`"


def _comments(text: str) -> dict[str, str]:
    """Key path -> what the shipped file says of it: beside the key, else in the lines above."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    last = ""
    for line in text.split("\n"):
        comment = re.match(r"^(\s*)# ?(.*)$", line)
        key = re.match(r"^(\s*)([A-Za-z_]\w*):(?:\s|$)[^#]*(?:#\s?(.*))?$", line)
        if comment:
            beside = len(comment[1]) > 12 and last and last in found
            if beside:
                found[last] += f" {comment[2].strip()}"
            elif not comment[2].startswith("  "):  # deeper is an example
                above.append(comment[2].strip())
        elif key:
            indent = len(key[1])
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, key[2])]
            last = ".".join(name for _, name in path)
            words = key[3] or " ".join(above)
            if words:
                found[last] = words.strip()
            above = []
        else:
            above, last = [], ""
    return found


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for file, content in pages().items():
        (FOLDER / file).write_text(content, encoding="utf-8")
