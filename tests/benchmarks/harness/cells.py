"""A cell's files on disk: named by everything they depend on, each replaced whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog_pipeline.stores.local import LocalObjectStore


def digest(content: Any, chars: int) -> str:
    """The first ``chars`` hex digits of a hash over ``content`` as JSON."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:chars]


def cell_folder(suite: str, row: str, record: Mapping[str, Any], chars: int) -> str:
    """Where results are, under the bench's home: another ``record``, another folder."""
    return f"cells/{suite}/{row}-{digest(record, chars)}"


def json_bytes(content: Any) -> bytes:
    """As every file of a benchmark is written; NaN has no place in it."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """What is written; ``None`` for no file."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


class CellFolder:
    """The files under one folder of a home."""

    def __init__(self, objects: LocalObjectStore, folder: str) -> None:
        self._objects = objects
        self._folder = folder

    def key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def has(self, name: str) -> bool:
        return self._objects.exists(self.key(name))

    def read(self, name: str) -> bytes:
        return self._objects.read(self.key(name)).data

    def read_json(self, name: str) -> Any:
        """The content of a file; ``None`` for no file."""
        return json.loads(self.read(name)) if self.has(name) else None

    def put(self, name: str, data: bytes) -> None:
        self._objects.put(self.key(name), data)

    def put_json(self, name: str, content: Any) -> None:
        self.put(name, json_bytes(content))
