"""What encryption at rest costs: bytes a second, and milliseconds an object in a folder.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.sealing [--rounds 5]

Prints the tables of ``docs/governance/encryption.md``. Plain and encrypted take turns; each figure
is the median of the rounds.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.master_key import FileMasterKey
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.stores.sealing import seal, unseal

PART_BYTES, PICTURE_BYTES, CHECKPOINT_BYTES = 412_000, 1_500_000, 50_000_000
OBJECTS = 40
SKUS = tuple(f"SKU-{number}" for number in range(20))


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def rates(keyring: Keyring, rounds: int) -> None:
    print("| object | encrypt, MB/s | decrypt, MB/s | bytes more |\n|---|---|---|---|")
    recipient = (keyring.data_key("SKU-0"), keyring.data_key("SKU-1"))
    for name, size in (
        ("a part, 0.4 MB", PART_BYTES),
        ("a picture, 1.5 MB", PICTURE_BYTES),
        ("a checkpoint, 50 MB", CHECKPOINT_BYTES),
    ):
        data = secrets.token_bytes(size)
        sealed = seal(data, [recipient], "k")
        runs = range(rounds * max(1, 20_000_000 // size))
        taken = median(seconds(seal, data, [recipient], "k") for _ in runs)
        back = median(seconds(unseal, sealed, keyring.find, "k", "") for _ in runs)
        speeds = f"{size / taken / 1e6:.0f} | {size / back / 1e6:.0f}"
        print(f"| {name} | {speeds} | {len(sealed) - size} |")


def objects(plain: ObjectStore, sealed: ObjectStore, rounds: int) -> None:
    print("\n| in a folder, ms an object | plain | encrypted |\n|---|---|---|")
    for name, size, write in (
        ("a part of one product", PART_BYTES, write_parts),
        ("a picture of two", PICTURE_BYTES, write_pictures),
    ):
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            for form, store in (("plain", plain), ("sealed", sealed)):
                blobs = [secrets.token_bytes(size) for _ in range(OBJECTS)]
                keys: list[str] = []
                found.setdefault(f"{form} written", []).append(seconds(write, store, blobs, keys))
                found.setdefault(f"{form} read", []).append(seconds(read, store, keys))
        ms = {name: 1000 * median(times) / OBJECTS for name, times in found.items()}
        for what in ("written", "read"):
            print(f"| {name} {what} | {ms[f'plain {what}']:.2f} | {ms[f'sealed {what}']:.2f} |")


def write_parts(store: ObjectStore, blobs: Sequence[bytes], keys: list[str]) -> None:
    adapters = AdapterStore(store, "default")
    for number, blob in enumerate(blobs):
        digest = adapters.write_part(blob, SKUS[number % len(SKUS)])
        keys.append(f"{adapters.folder}parts/{digest}.safetensors")


def write_pictures(store: ObjectStore, blobs: Sequence[bytes], keys: list[str]) -> None:
    archive = ImageArchive(store)
    for number, blob in enumerate(blobs):
        pair = (SKUS[number % len(SKUS)], SKUS[(number + 1) % len(SKUS)])
        keys.append(archive.put_image(blob, pair)[0])


def read(store: ObjectStore, keys: Sequence[str]) -> None:
    for key in keys:
        store.read(key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        backend = LocalObjectStore(Path(folder) / "sealed")
        keyring = Keyring(backend, FileMasterKey(secrets.token_bytes(32), "file:a-benchmark"))
        rates(keyring, arguments.rounds)
        plain = LocalObjectStore(Path(folder) / "plain")
        objects(plain, SealedObjectStore(backend, keyring, pictures=True), arguments.rounds)


if __name__ == "__main__":
    main()
