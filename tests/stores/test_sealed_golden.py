"""Encrypted files that an earlier release wrote still open, byte for byte.

``golden/sealed_1`` is never rewritten: a later format adds a folder beside it. Its master key
is the bytes 0 to 31; content keys and nonces count up from 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from catalog_pipeline.errors import KeyDestroyedError
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.keys import SEALED_SUFFIX, image_key, sha256_hex
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.master_key import FileMasterKey
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.stores.sealing import MAGIC, seal

GOLDEN = Path(__file__).parent / "golden" / "sealed_1"
MASTER = FileMasterKey(bytes(range(32)), "file:golden")
PICTURE = b"\x89PNG\r\n\x1a\n of a mug and a cup"
WEIGHTS = b"weights that two products share"
CONTENT: dict[str, tuple[bytes, list[list[str]]]] = {
    "catalog/anchors/MUG-01.json": (b"{}", [["MUG-01"]]),
    f"collections/mugs/parts/{sha256_hex(WEIGHTS)}.safetensors": (
        WEIGHTS,
        [["MUG-01"], ["カップ"]],
    ),
    "collections/mugs/staging/empty": (b"", [[]]),
    image_key(sha256_hex(PICTURE)): (PICTURE, [["MUG-01", "カップ"]]),
}
"""Key -> what it holds, and whose it is."""


def counted() -> Callable[[int], bytes]:
    """What stands for randomness."""
    numbers = count(1)
    return lambda length: bytes([next(numbers)]) * length


@pytest.fixture
def home(tmp_path: Path) -> SealedObjectStore:
    """A copy."""
    shutil.copytree(GOLDEN, tmp_path / "home")
    backend = LocalObjectStore(tmp_path / "home")
    return SealedObjectStore(backend, Keyring(backend, MASTER), pictures=True)


def test_every_object_opens(home: SealedObjectStore) -> None:
    assert home.list("") == sorted(CONTENT)
    for key, (data, _) in CONTENT.items():
        assert home.read(key).data == data
        assert home.backend.read(key + SEALED_SUFFIX).data.startswith(MAGIC + b"\x01")
    assert home.keyring.count() == 3
    assert home.keyring.masters() == {MASTER.name} == {"file:16c5ff76c86d64d4"}


def test_the_same_is_sealed_to_the_same_bytes(home: SealedObjectStore) -> None:
    random = counted()
    for key, (data, owners) in sorted(CONTENT.items()):
        recipients = [home.recipient(skus) for skus in owners]
        sealed = seal(data, recipients, key, random=random)
        assert sealed == home.backend.read(key + SEALED_SUFFIX).data, key


def test_its_keys_are_found_destroyed_and_rotated(home: SealedObjectStore) -> None:
    new = FileMasterKey(bytes(32), "file:new")
    assert Keyring(home.backend, MASTER).rewrap(new) == 3
    opened = SealedObjectStore(home.backend, Keyring(home.backend, new), pictures=True)
    assert opened.keyring.destroy("MUG-01")
    part, picture = sorted(CONTENT)[1], sorted(CONTENT)[3]
    assert opened.read(part).data == WEIGHTS
    with pytest.raises(KeyDestroyedError):
        opened.read(picture)
    assert opened.keyring.destroy("カップ")
    with pytest.raises(KeyDestroyedError):
        opened.read(part)
