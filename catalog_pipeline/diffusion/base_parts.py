"""The parts of a base model's folder, and their bytes: each looked over once a process.

What was found holds as long as no file is another: by path, size, inode and the times of its
last change. A file that changed within seconds is looked at anew each time, because the clocks
of file systems tick in milliseconds, some in seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from catalog_pipeline.diffusion.base_weights import find_weights_fault, quiet_libraries

_SETTLED_SECONDS = 5.0
_COPY_AGAIN = "copy the base model again"

_State = tuple[tuple[str, int, int, int, int], ...]
_sound: set[tuple[str, type, int | None, _State]] = set()
_hashes: dict[_State, bytes] = {}


def find_part_fault(
    part: Path, kind: type, config: Mapping[str, Any], token_rows: int | None = None
) -> str | None:
    """Why the folder ``part`` does not open as a ``kind``, if so.

    Networks are judged by the headers of their weights; tokenizers and schedulers, which are
    small, are opened.

    Args:
        part: the folder.
        kind: a class of diffusers or transformers.
        config: its configuration.
        token_rows: of a tokenizer, the tokens that its text encoder has rows for, if known.
    """
    state = _settled_state(sorted(part.rglob("*")))
    key = None if state is None else (str(part.absolute()), kind, token_rows, state)
    if key in _sound:
        return None
    if issubclass(kind, nn.Module):
        fault = find_weights_fault(part, kind, config)
    else:
        fault = _find_opening_fault(part, kind, token_rows)
    if fault is None and key is not None:
        _sound.add(key)
    return fault


def _find_opening_fault(part: Path, kind: Any, token_rows: int | None) -> str | None:
    if issubclass(kind, PreTrainedTokenizerBase):
        # Without a vocabulary it opens all the same, and every word is unknown to it.
        files = dict(kind.vocab_files_names)
        in_one = files.pop("tokenizer_file", None)
        lost = [name for name in files.values() if not (part / name).is_file()]
        if lost and not (in_one and (part / in_one).is_file()):
            return (
                f"{part.name} lacks its vocabulary, {in_one or ''}{' or ' if in_one else ''}"
                f"{' and '.join(files.values())}; download or {_COPY_AGAIN}"
            )
    try:
        with quiet_libraries():
            opened = kind.from_pretrained(part, local_files_only=True)
            tokens = len(opened) if isinstance(opened, PreTrainedTokenizerBase) else 0
    # Tokenizers raise bare exceptions, and schedulers whatever a wrong value leads to.
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        return f"{part.name} does not open as a {kind.__name__}: {why}; {_COPY_AGAIN}"
    if token_rows is not None and tokens > token_rows:
        return (
            f"{part.name} has {tokens:,} tokens, its text encoder has rows for {token_rows:,}: "
            f"they are of two models; {_COPY_AGAIN}"
        )
    return None


def hash_file(path: Path) -> bytes:
    """SHA-256 of the bytes of a file; read once a process unless it changes."""
    before = _settled_state([path])
    if before is not None and before in _hashes:
        return _hashes[before]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    if before is not None and before == _settled_state([path]):
        _hashes[before] = digest
    return digest


def _settled_state(paths: Iterable[Path]) -> _State | None:
    """What tells files from changed ones; ``None`` if one changed within seconds or is gone."""
    state = []
    latest = time.time() - _SETTLED_SECONDS
    for path in paths:
        try:
            seen = path.stat()
        except OSError:
            return None
        if max(seen.st_mtime, seen.st_ctime) > latest:
            return None
        state.append(
            (str(path.absolute()), seen.st_size, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns)
        )
    return tuple(state)
