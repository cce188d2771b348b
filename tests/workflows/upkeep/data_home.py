"""A small home as a month of use leaves it: three nights, a log, an index; no model is needed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.records import (
    ArchiveRow,
    LearningRow,
    NightPlan,
    PhotoUse,
    Region,
    SkuStatus,
)
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA_VERSION
from catalog_pipeline.stores.index import IndexStore
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.night.plan_night import encode_plan, plan_key
from tests.builders import make_archive_row, make_index_row, make_render_job

FIRST, SECOND, THIRD = (date(2026, 3, day) for day in (1, 2, 3))
LEARNED = datetime(2026, 2, 28, 12, tzinfo=UTC)
LEARNED_AGAIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
VERSIONS = {"MUG": "aaaa000000000001", "00123": "aaaa000000000002", "again": "aaaa000000000003"}
WIDTH, HEIGHT = 32, 16


def small_png(seed: int) -> bytes:
    """A real PNG, whose pixels follow ``seed``."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def learning_row(sku: str, version: str, ended: datetime, **changes: Any) -> LearningRow:
    """An attempt that learned ``sku`` from two photos, a third left out."""
    fields: dict[str, Any] = {
        "attempt_id": f"{sku}@{version}",
        "sku": sku,
        "collection": "default",
        "status": "learned",
        "reason": "",
        "version": version,
        "concept_sha256": f"concept of {sku} in {version}",
        "ended_utc": ended,
        "seconds": 60.0,
        "name": f"Product {sku}",
        "class_noun": "mug",
        "content_hash": f"photos of {sku}",
        "photos_hash": f"photos of {sku}",
        "config_hash": "config",
        "base_model_hash": "base",
        "code_version": "0.9.0",
        "settings": '{"steps":400,"adapter":{"rank":4}}',
        "photos": (
            PhotoUse(f"{sku}/a.jpg", f"sha of {sku}/a"),
            PhotoUse(f"{sku}/b.jpg", f"sha of {sku}/b"),
            PhotoUse(f"{sku}/dark.jpg", f"sha of {sku}/dark", "too dark"),
        ),
        "metrics": {"fidelity": 0.8},
    }
    return LearningRow(**(fields | changes))


def picture(archive: ImageArchive, image_id: str, *skus: str, **changes: Any) -> ArchiveRow:
    """A stored picture of ``skus``, whose row names plan, concepts and scores."""
    seed = int.from_bytes(image_id.encode(), "big") % 2**32
    key, digest = archive.put_image(small_png(seed))
    again = changes.get("day", FIRST) > SECOND
    fields: dict[str, Any] = {
        "path": key,
        "sha256": digest,
        "width": WIDTH,
        "height": HEIGHT,
        "verdict": "passed",
        "schema_version": MANIFEST_SCHEMA_VERSION,
        "plan_hash": "plan",
        "policy": "pairs" if len(skus) > 1 else "singles",
        "render_seconds": 2.0,
        "scores": {
            **{f"fidelity/{sku}": 0.7 for sku in skus},
            **{f"found/{sku}": 1.0 for sku in skus},
            "min_fidelity": 0.7,
        },
        "concepts": {
            sku: f"concept of {sku} in " + VERSIONS["again" if again and sku == "MUG" else sku]
            for sku in skus
            if sku in VERSIONS
        },
        "created_utc": datetime.combine(changes.get("day", FIRST), datetime.min.time(), UTC)
        + timedelta(hours=2),
    }
    return make_archive_row(image_id, *skus, **(fields | changes))


def fill_home(objects: ObjectStore) -> None:
    """Publish three nights; the second one twice, with a picture held back."""
    archive = ImageArchive(objects)
    box = (2, 3, 12, 13)
    first = [
        picture(archive, "mug-alone", "MUG"),
        picture(archive, "mug-and-zeros", "MUG", "00123", render_seconds=4.0),
        picture(
            archive,
            "zeros-placed",
            "00123",
            mode="exact",
            photos={"00123": "sha of 00123/a"},
            boxes={"00123": box},
            real_pixels=0.9,
        ),
    ]
    archive.publish_day(FIRST, first, [row.image_id for row in first])
    second = [
        picture(archive, "mug-second", "MUG", day=SECOND, attempts=3),
        picture(archive, "dropped", "MUG", "GONE", day=SECOND, verdict="unscored", scores={}),
    ]
    archive.publish_day(SECOND, second, ["mug-second", "dropped"])
    reason = "00123 is not in it"
    held = picture(
        archive,
        "held",
        "00123",
        day=SECOND,
        verdict="failed",
        reason=reason,
        scores={"found/00123": 0.0},
    )
    archive.quarantine.settle_day(SECOND, [held], ["held", "mug-second"])
    archive.publish_day(SECOND, second, ["held", "mug-second"])
    third = [picture(archive, "mug-third", "MUG", day=THIRD)]
    archive.publish_day(THIRD, third, ["mug-third"])
    _plan(objects)
    _learn(objects)


def _plan(objects: ObjectStore) -> None:
    job = make_render_job(
        "MUG",
        "00123",
        job_id="mug-and-zeros",
        day=FIRST,
        regions=(Region(0.0, 0.25, 0.5, 1.0), Region(0.5, 0.25, 1.0, 1.0)),
    )
    objects.put(plan_key(FIRST), encode_plan(NightPlan(FIRST, "plan", (job,)), "inputs"))


def _learn(objects: ObjectStore) -> None:
    log = LearningLog(objects)
    log.add(learning_row("MUG", VERSIONS["MUG"], LEARNED))
    log.add(learning_row("00123", VERSIONS["00123"], LEARNED, seconds=90.0))
    log.add(learning_row("MUG", VERSIONS["again"], LEARNED_AGAIN, name="Blue mug"))
    failed = replace(
        learning_row("NEW", "", LEARNED_AGAIN),
        attempt_id=f"NEW@{LEARNED_AGAIN.isoformat()}",
        status="failed",
        reason="1 usable photo; expected 3; take more",
        concept_sha256="",
    )
    log.add(failed)
    learned = {"status": SkuStatus.LEARNED, "photos_used": 2, "learned_utc": LEARNED}
    rows = [
        make_index_row("MUG", name="Blue mug", learned_version=VERSIONS["again"], **learned),
        make_index_row(
            "00123",
            learned_version=VERSIONS["00123"],
            left_out={"00123/dark.jpg": "too dark"},
            **learned,
        ),
        make_index_row("NEW", status=SkuStatus.FAILED, reason=failed.reason),
    ]
    IndexStore(objects).update(lambda _: rows)


def filled(settings: Settings) -> Path:
    """The folder of the home of ``settings``, filled."""
    from catalog_pipeline.workflows.home import open_home

    fill_home(open_home(settings).objects)
    return settings.home


MakeSettings = Callable[..., Settings]
