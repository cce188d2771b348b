"""What people write: YAML and JSON, and names as they may stand in a message.

Every value of a file is the text that was typed, every key stands once. ``00123`` keeps its
zeros, ``no`` is no boolean, and ``1e3`` is what a reader takes it for: pydantic turns text into
the numbers and switches that a key asks for. An absent value (``null``, ``~``, nothing) is
``None`` in both formats; :func:`without_absent` drops its key.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

MAX_NODES = 200_000
"""Values in one file, each use of an alias counted: a few nested aliases stand for billions."""

_SHOWN_CHARS = 80

_TAG = "tag:yaml.org,2002:"
_KEPT = {*(_TAG + kind for kind in ("null", "str", "seq", "map")), None}


class _TextLoader(yaml.SafeLoader):
    """Scalars stay text but for the absent one; merge keys (``<<``) work as in YAML 1.1."""


_TextLoader.yaml_implicit_resolvers = {}
_TextLoader.yaml_constructors = {
    tag: build for tag, build in yaml.SafeLoader.yaml_constructors.items() if tag in _KEPT
}
_TextLoader.add_implicit_resolver(
    _TAG + "null", re.compile(r"(?:~|null|Null|NULL)?$"), ["~", "n", "N", ""]
)
_TextLoader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<$"), ["<"])


def read_yaml(text: str) -> Any:
    """The one document in ``text``; ``None`` when it holds nothing.

    Raises:
        ValueError: no YAML, a key given twice, or nested without end; one line that says where.
    """
    try:
        loader = _TextLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_keys(root)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(text: str) -> Any:
    """The value in ``text``, its numbers and booleans as the text that stands there.

    Raises:
        ValueError: as :func:`read_yaml`.
    """

    def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(_twice(twice, *_json_lines(text, twice)))
        return content

    try:
        content = json.loads(
            text, object_pairs_hook=keys_once, parse_int=str, parse_float=str, parse_constant=str
        )
        return _booleans_as_text(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def without_absent(content: Any) -> Any:
    """``content`` without the keys whose value is ``None``, at every depth."""
    if isinstance(content, dict):
        return {key: without_absent(value) for key, value in content.items() if value is not None}
    if isinstance(content, list):
        return [without_absent(item) for item in content]
    return content


def shown(text: str) -> str:
    """``text`` as it may stand in a message: quoted, escaped where unprintable, and short.

    Letters of any script stay as they are; control characters and undecodable bytes do not.
    """
    cut = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
    return repr(cut)


def _check_keys(root: yaml.Node) -> None:
    waiting, met = [root], 0
    while waiting:
        node = waiting.pop()
        met += 1
        if met > MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES:,} values, each alias counted")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                waiting += (key, value)
                if isinstance(key, yaml.ScalarNode):
                    line = key.start_mark.line + 1
                    if key.value in lines:
                        raise ValueError(_twice(key.value, lines[key.value], line))
                    lines[key.value] = line


def _json_lines(text: str, key: str) -> list[int]:
    """Where ``key`` stands as it is usually written; an object further in may hold it as well."""
    written = re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:"
    return [text.count("\n", 0, place.start()) + 1 for place in re.finditer(written, text)]


def _twice(key: str, *lines: int) -> str:
    places = sorted(set(lines))
    word = "line" if len(places) == 1 else "lines"
    where = f" (on {word} {' and '.join(map(str, places))})" if places else ""
    return f"the key {key[:80]!r} is given twice{where}; expected it once: keep one of them"


def _booleans_as_text(content: Any) -> Any:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, dict):
        return {key: _booleans_as_text(value) for key, value in content.items()}
    return [_booleans_as_text(item) for item in content] if isinstance(content, list) else content
