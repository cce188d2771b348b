"""A home in which every store speaks of its products, and a search for what is left of one."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.catalog.index import mark_learned
from catalog_pipeline.records import LearnOutcome, PhotoUse, SkuStatus, memory_part
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.keys import anchors_key, sha256_hex
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.stores.schemas import values_as_text
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.attempts import log_failed
from catalog_pipeline.workflows.night.gallery import write_gallery
from catalog_pipeline.workflows.night.night_report import write_night_report
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.report_pages import write_page
from catalog_pipeline.workflows.upkeep.cost_report import write_cost_report
from tests.workflows.painted_night import DAY, Studio
from tests.workflows.upkeep.data_home import learning_row

GONE = "gone-00123"
SKUS = ("blue-mug", GONE, "vase")
UNREPORTED = "collections/default/quarantine/vase-0011223344556677/pictures.png"
"""Of a learner that was killed before it could say whom the picture shows."""
POLICIES = {"singles_per_sku": 1, "pairs": 2, "triples": 0}


@dataclass(frozen=True)
class Filled:
    """A home that was used, and what is known of the product before it is removed."""

    studio: Studio
    secrets: Mapping[str, bytes]
    """What to look for: pixels, features, weights, digests."""

    @property
    def home(self) -> Home:
        return self.studio.home


def fill(settings: Settings) -> Filled:
    """Three products, one of them in the past only; a night published twice and one under way."""
    studio = Studio(settings).configured(policies=POLICIES, steps=2)
    home, root = studio.home, settings.catalog_root
    for number, sku in enumerate(SKUS):
        for photo in range(3):
            _photo(root / sku / f"{photo}.png", seed=10 * number + photo)
        (root / sku / "sku.yaml").write_text(f"class_noun: mug\nname: The {sku}\n")
    refresh_index(home)
    for number, sku in enumerate(SKUS):
        _learn(studio, sku, f"edition {number}")
    _quarantine(home)
    plan_night(home, DAY)
    studio.render(forgets={GONE: 99})
    publish_manifest(home, DAY)
    write_gallery(home, DAY)
    write_night_report(home, DAY)
    write_page(home, "preview.png", _png(5))
    write_cost_report(home)
    shutil.copytree(root / GONE, settings.home / "photos-tried" / GONE)
    shutil.copy(root / GONE / "0.png", settings.home / "contact-sheet.png")
    _learn(studio, "vase", "edition 9")
    plan_night(home, DAY)
    studio.render()
    publish_manifest(home, DAY)
    tomorrow = DAY.replace(day=DAY.day + 1)
    plan_night(home, tomorrow)
    studio.render(tomorrow)
    home.objects.put(anchors_key(GONE), b'{"sku": "%s"}' % GONE.encode())
    home.objects.put("catalog/digests.json", _digests(root))
    return Filled(studio, dict(_secrets(home, root)))


def _photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(path)


def copied(filled: Filled, home: Path) -> Filled:
    """The same in another folder."""
    settings = filled.studio.settings
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(settings.home, home)
    return Filled(Studio(settings.model_copy(update={"home": home})), filled.secrets)


def _learn(studio: Studio, sku: str, edition: str) -> None:
    """A version, its index row and its attempt, as a learning run leaves them."""
    home = studio.home
    version = studio.learn(sku, edition=edition)
    row = next(row for row in home.index.read() if row.sku == sku)
    photos = tuple(
        PhotoUse(f"{sku}/{p.name}", sha256_hex(p.read_bytes()))
        for p in sorted((studio.settings.catalog_root / sku).glob("*.png"))
    )
    others = PhotoUse("vase/9.png", "", f"it is the same file as {GONE}/0.png")
    home.learning_log.add(
        learning_row(
            sku,
            version.version,
            version.created_utc,
            concept_sha256=version.parts[f"concept/{sku}"],
            photos=(*photos, others) if sku == "vase" else photos,
            reason=f"beside {GONE}" if sku == "vase" else "",
        )
    )
    home.audit.append("learn", sku, version=version.version)
    home.index.update(
        lambda rows: mark_learned(
            rows,
            sku,
            row.content_hash,
            photos=(*photos, others) if sku == "vase" else photos,
            version=version.version,
            learned_utc=version.created_utc,
        )
    )


def _quarantine(home: Home) -> None:
    store, objects = home.adapters("default"), home.objects
    store.write_staging(f"{GONE}-0123456789abcdef.safetensors", b"half learned weights")
    store.write_staging("vase-0123456789abcdef.safetensors", b"half learned vase")
    store.write_staging(
        "vase-0123456789abcdef.refused.json", b'{"skus": {"%s": 1}}' % GONE.encode()
    )
    for sku in (GONE, "vase"):
        folder = f"collections/default/quarantine/{sku}-fedcba9876543210/"
        objects.put(folder + "pictures.png", _png(7))
        objects.put(folder + "report.json", b'{"sku": "%s"}' % sku.encode())
    objects.put(UNREPORTED, _png(8))
    row = next(row for row in home.index.read() if row.sku == GONE)
    log_failed(home, row, None, LearnOutcome(GONE, "failed", reason=f"{GONE} is dark"), 1.0)


def _digests(root: Path) -> bytes:
    listed = {
        path.relative_to(root).as_posix(): ["etag", sha256_hex(path.read_bytes())]
        for path in sorted(root.rglob("*.png"))
    }
    return json.dumps({"schema_version": 1, "digests": listed}).encode()


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _secrets(home: Home, root: Path) -> Iterator[tuple[str, bytes]]:
    """Bytes of the product that must be nowhere afterwards."""
    store = home.adapters("default")
    for version in store.history():
        for name, digest in version.parts.items():
            if name.endswith(f"/{GONE}"):
                data = store.read_part(digest)
                yield f"{name} in {version.version}", data
                yield f"digest of {name} in {version.version}", digest.encode()
                if name == memory_part(GONE):
                    yield f"features in {version.version}", decode_memory(data).features.tobytes()
    for path in sorted((root / GONE).glob("*.png")):
        yield f"photo {path.name}", path.read_bytes()
        yield f"digest of photo {path.name}", sha256_hex(path.read_bytes()).encode()
    archive = home.archive
    rows = [*archive.read_day(DAY), *archive.quarantine.read_day(DAY)]
    rows += archive.staged(DAY.replace(day=DAY.day + 1))
    rows += [row for version in archive.versions(DAY) for row in archive.read_version(DAY, version)]
    for row in rows:
        if GONE in row.skus:
            yield f"digest of {row.image_id}", row.sha256.encode()
            yield f"id of {row.image_id}", row.image_id.encode()


def take_folder_away(settings: Settings) -> None:
    shutil.rmtree(settings.catalog_root / GONE)


def leftovers(files: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> list[str]:
    """Which files still hold what of the product; the audit log may name its SKU."""
    naming, found = Naming(GONE), []
    for name, data in files.items():
        texts = [name.encode(), data]
        if name.endswith((".parquet", ".arrow")):
            texts.append(values_as_text(data).encode())
        if not name.startswith("audit/") and any(map(naming.stands_in, texts)):
            found.append(f"{name}: its name")
        found += [
            f"{name}: {what}"
            for what, secret in secrets.items()
            if any(secret in text for text in texts)
        ]
    return found


def neighbours(home: Home) -> dict[str, Any]:
    """What must be the same to the bit before and after."""
    head = home.adapters("default").current()
    assert head is not None
    parts = {n: sha for n, sha in head.parts.items() if not n.endswith(f"/{GONE}")}
    days = (DAY, DAY.replace(day=DAY.day + 1))
    rows = [*home.archive.read_day(DAY), *home.archive.staged(days[1])]
    return {
        "parts": {name: home.adapters("default").read_part(sha) for name, sha in parts.items()},
        "concepts": [c for c in head.concepts if c.sku != GONE],
        "pictures": {
            row.image_id: home.archive.read_image(row.path) for row in rows if GONE not in row.skus
        },
        "rows": [row for row in rows if GONE not in row.skus],
        "statuses": {r.sku: r.status for r in home.index.read() if r.sku != GONE},
    }


MUTATORS = ("put", "put_if_absent", "compare_and_swap", "delete", "delete_many")


def kill_at(write: int, act: Callable[[], object]) -> bool:
    """``act`` in a process that is killed at its ``write``-th write; whether it was.

    Before the odd ones and after the even ones: either may be the last thing that happened.
    """
    child = os.fork()
    if child == 0:
        _arm(write)
        try:
            act()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _arm(write: int) -> None:
    left, depth = write, 0

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: ObjectStore, *arguments: Any, **options: Any) -> Any:
            nonlocal left, depth
            left -= depth == 0
            mine = left == 0 and depth == 0
            if mine and write % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            depth += 1
            try:
                return original(self, *arguments, **options)
            finally:
                depth -= 1
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for store in (LocalObjectStore, S3ObjectStore):
        for name in MUTATORS:
            setattr(store, name, watched(getattr(store, name)))


def stored(home: Home) -> dict[str, bytes]:
    """Every object, without what differs between two runs of the same: times, locks, fences."""
    objects = home.objects
    found = {key: objects.read(key).data for key in objects.list("") if _counts(key)}
    head = home.adapters("default").head()
    assert head is not None
    found["the head"] = head.version.encode()
    return found


def _counts(key: str) -> bool:
    passing = ("audit/", "products/", "collections/default/HEAD", "collections/default/LEASE")
    return not key.startswith(passing)


def status_of(home: Home, sku: str) -> SkuStatus | None:
    return next((row.status for row in home.index.read() if row.sku == sku), None)
