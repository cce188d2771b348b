"""Products, rows, plans and versions that never were, with the sizes of real ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from catalog_pipeline.records import (
    AdapterVersion,
    ArchiveRow,
    Concept,
    NightPlan,
    RenderJob,
)
from catalog_pipeline.stores.archive import image_key
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from tests.builders import make_adapter_version, make_archive_row, make_concept, make_render_job

FIRST_NIGHT = date(2026, 3, 1)
MOMENT = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
COLLECTION = "default"
PART_KINDS = ("concept", "curve", "memory")
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + bytes(1000)
_SCENES = ("on a sandy beach", "on a wooden table", "on green grass", "in the snow")


@dataclass(frozen=True)
class Sizes:
    """``nights * rows`` rows are in the manifest; a night that is published has ``rows``.

    ``concepts`` are in the head of the collection, which ``versions`` versions lead to;
    ``pictures`` are in the night that is verified. ``growth`` are catalogs from small to large.
    """

    skus: int
    photos: int
    nights: int
    rows: int
    concepts: int
    versions: int
    pictures: int
    growth: tuple[int, ...]


FULL = Sizes(
    skus=10_000,
    photos=4,
    nights=100,
    rows=10_000,
    concepts=1_000,
    versions=1_000,
    pictures=1_000,
    growth=(1_000, 10_000, 100_000),
)
QUICK = Sizes(
    skus=40,
    photos=3,
    nights=3,
    rows=40,
    concepts=30,
    versions=12,
    pictures=10,
    growth=(10, 30),
)


def digest(*words: object) -> str:
    """A SHA-256 that stands for the content that ``words`` describe."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()


def sku_name(number: int) -> str:
    """``00017``: digits only, which careless readers would turn into a number."""
    return f"{number:05d}"


def night(number: int) -> date:
    return FIRST_NIGHT + timedelta(days=number)


def write_products(root: Path, skus: int, photos: int) -> None:
    """A folder a SKU with ``photos`` files of 1 kB and a card, last touched an hour ago."""
    for number in range(skus):
        folder = root / sku_name(number)
        folder.mkdir(parents=True)
        for photo in range(photos):
            (folder / f"{photo}.jpg").write_bytes(_JPEG + f"{number} {photo}".encode())
        card = f"name: Product {number}\nclass_noun: mug\ncategory: kitchen\n"
        (folder / "sku.yaml").write_text(card, "utf-8")
        then = datetime.now().timestamp() - 3600
        for path in (*folder.iterdir(), folder):
            os.utime(path, (then, then))


def make_rows(day: date, count: int, skus: int, version: str = "0" * 16) -> Iterator[ArchiveRow]:
    """``count`` pictures of ``day``, each of two of ``skus`` products."""
    for number in range(count):
        job = make_job(day, number, skus, version)
        sha256 = picture_digest(number)
        yield make_archive_row(
            job.job_id,
            *job.skus,
            path=image_key(sha256),
            sha256=sha256,
            day=day,
            prompt=job.prompt,
            seed=job.seed,
            guidance=job.guidance,
            base_model_hash=digest("base"),
            adapter_version=version,
            memory_version="1" * 16,
            scores={f"fidelity/{sku}": (number % 997) / 997 for sku in job.skus},
            created_utc=MOMENT + timedelta(seconds=number),
        )


def picture(number: int) -> bytes:
    """What is stored as the ``number``-th picture of a night to be published."""
    return b"\x89PNG\r\n\x1a\n" + f"picture {number}".encode()


def picture_digest(number: int) -> str:
    return hashlib.sha256(picture(number)).hexdigest()


def make_job(day: date, number: int, skus: int, version: str) -> RenderJob:
    """One job of a plan: two products side by side."""
    pair = (sku_name(number % skus), sku_name((number * 7 + 1) % skus))
    scene = _SCENES[number % len(_SCENES)]
    return make_render_job(
        *pair,
        job_id=digest("job", day, number),
        day=day,
        prompt=f"Product {pair[0]} mug and Product {pair[1]} backpack {scene}",
        scene=scene,
        seed=number,
        steps=20,
        guidance=3.0,
        width=128,
        height=128,
        adapter_version=version,
    )


def make_plan(day: date, count: int, skus: int) -> NightPlan:
    """The plan that asks for exactly the rows of :func:`make_rows`."""
    jobs = tuple(make_job(day, number, skus, "0" * 16) for number in range(count))
    return NightPlan(day=day, plan_hash=digest("plan", day), jobs=jobs)


def part_content(kind: str, sku: str) -> bytes:
    """What is stored as a part: a memory of eight photos, or a few bytes of its own."""
    if kind != "memory":
        return f"{kind} of {sku}".encode()
    rows = np.random.default_rng(int(sku)).standard_normal((8, 1280), dtype=np.float32)
    features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return encode_memory(MemoryEntry(sku, (f"a photo of a {sku} mug",), features))


def make_versions(
    count: int,
    concepts: int,
    *,
    first: int = 0,
    collection: str = COLLECTION,
    part: Callable[[str, str], bytes] = part_content,
) -> Iterator[AdapterVersion]:
    """``count`` versions, each the child of the one before; the last knows ``concepts`` SKUs.

    The first one knows what is left, from the number ``first`` on; every other learned one SKU
    more. ``part`` gives the content of a kind of part of a SKU.
    """
    known: list[Concept] = []
    parts: dict[str, str] = {}
    parent: str | None = None
    for number in range(count):
        fresh = concepts - count + 1 if number == 0 else 1
        begin = first + len(known)
        for sku in map(sku_name, range(begin, begin + fresh)):
            known.append(learned_concept(sku))
            parts |= {
                f"{kind}/{sku}": hashlib.sha256(part(kind, sku)).hexdigest() for kind in PART_KINDS
            }
        version = make_adapter_version(
            *known,
            collection=collection,
            parent=parent,
            base_model_hash=digest("base"),
            config_hash=digest("config"),
            parts=dict(parts),
            memory_version="1" * 16,
            created_utc=MOMENT + timedelta(minutes=number),
            metrics=known[-1].metrics,
        )
        parent = version.version
        yield version


def learned_concept(sku: str) -> Concept:
    """A learned product with the metrics that the gate writes."""
    return make_concept(
        sku,
        int(sku),
        photos_hash=digest("photos", sku),
        config_hash=digest("config"),
        metrics={"fidelity": 0.5, "ceiling": 0.75, "forgetting": 0.0, "prior_drift": 0.01},
    )
