"""Secrets that say when they have been written: random, and looked for however they are spelt."""

from __future__ import annotations

import base64
import io
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq

PATH_OF_WEBHOOK = "CATALOG_PIPELINE_ALERT_WEBHOOK_URL"


@dataclass(frozen=True)
class Canaries:
    """One of every secret that the documentation names, by how it is given."""

    environment: Mapping[str, str]
    """Variable -> the secret in it."""
    files: Mapping[str, str]
    """Name of a file -> the secret in it."""

    @property
    def all(self) -> dict[str, str]:
        return {**self.environment, **self.files}


def plant() -> Canaries:
    """New ones; ``/``, ``+`` and ``=``, as keys have them, are spelt otherwise in an address."""

    def word(name: str) -> str:
        return f"{name}/{secrets.token_hex(9)}+{secrets.token_hex(9)}="

    return Canaries(
        {
            "AWS_SECRET_ACCESS_KEY": word("aws"),
            "AWS_SESSION_TOKEN": word("session"),
            "CATALOG_PIPELINE_SMTP_PASSWORD": word("smtp"),
            "CATALOG_PIPELINE_ALERT_WEBHOOK_TOKEN": word("token"),
            PATH_OF_WEBHOOK: f"hook{secrets.token_hex(16)}",
            "DAGSTER_POSTGRES_URL": word("postgres"),
            "RAY_AUTH_TOKEN": word("ray"),
        },
        {"master.key": secrets.token_hex(32)},
    )


def spellings(secret: str) -> set[bytes]:
    """The bytes that give ``secret`` away, whatever stands before and after them."""
    data = secret.encode()
    found = {data, quote(secret).encode(), quote_plus(secret).encode()}
    found.add(quote(secret, safe="").encode())
    found.add(json.dumps(secret)[1:-1].encode())
    found.add(data.hex().encode())
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Without the digits at either end, which depend on the neighbours.
            coded = encode(bytes(before) + data + b"\0\0")
            found.add(coded[4 if before else 0 : 4 * ((before + len(data)) // 3)])
    if all(letter in "0123456789abcdef" for letter in secret):
        found |= spellings_of_bytes(bytes.fromhex(secret))
    return {spelling for spelling in found if len(spelling) >= 8}


def spellings_of_bytes(key: bytes) -> set[bytes]:
    """A key that is written in hex may be spelt by its bytes."""
    return {key, base64.b64encode(key).rstrip(b"=")}


def leaks(canaries: Canaries, texts: Mapping[str, bytes]) -> list[str]:
    """``place: name`` of every secret in ``texts``, by place; empty where there is none."""
    return [
        f"{place}: {name}"
        for name, secret in canaries.all.items()
        for spelling in spellings(secret)
        for place, text in texts.items()
        if spelling in text
    ]


def written(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below ``folder``; of Parquet and SQLite also what they hold."""
    texts: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        texts[str(path.relative_to(folder))] = b"\n".join([data, *_decoded(path, data)])
    return texts


def _decoded(path: Path, data: bytes) -> Iterator[bytes]:
    if data[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        yield str(table.schema).encode()
        yield json.dumps(table.to_pylist(), default=str).encode()
    elif data[:15] == b"SQLite format 3":
        # Long values are broken over pages, between which other bytes lie.
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            yield "\n".join(connection.iterdump()).encode("utf-8", "surrogateescape")
        connection.close()
