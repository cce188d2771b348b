"""First light: real photos and catalog renders through Dagster runs, with figures and pictures.

Writes the products of a test-data folder into a scratch home, lets the sensor find them,
learns them one after the other in Dagster runs, renders a night, and writes
``docs/benchmarks/first-light.{md,json}`` and its pictures. Run it again after a stop: what is
learned stays learned.

    python -m tests.benchmarks.first_light --data DIR [--home build/first-light]
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.harness.home import (
    BUILD,
    DOCS,
    REPOSITORY,
    write_household,
    write_real_products,
    write_settings,
)
from tests.benchmarks.harness.report import machine, today, write_json, write_page

HOUSEHOLD = 20
NIGHT = date(2026, 11, 23)
OVERRIDES: dict[str, dict[str, Any]] = {
    "catalogs": {"root": "products", "settle_seconds": 0},
    "generation": {"policies": {"singles_per_sku": 1, "pairs": 24, "triples": 0}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=BUILD / "first-light")
    parser.add_argument("--note", default="", help="what a reader of the table must know")
    parser.add_argument("--real", type=int, default=8, help="real photo folders, by name")
    options = parser.parse_args()
    home: Path = options.home.resolve()
    prepare(home)
    products = home / "products"
    kinds = dict.fromkeys(write_real_products(options.data, products, options.real), "photo")
    household = write_household(options.data, products, HOUSEHOLD)
    kinds |= dict.fromkeys(household, "household")
    report(kinds, learn(), options.note)


def prepare(home: Path) -> None:
    """Settings, Dagster home and environment under ``home``."""
    config, dagster_home = home / "config", home / "dagster_home"
    write_settings(config, OVERRIDES)
    for folder in (dagster_home, home / "products"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    os.environ["CATALOG_PIPELINE_CONFIG"] = str(config)
    os.environ["CATALOG_PIPELINE_HOME"] = str(home)
    os.environ["DAGSTER_HOME"] = str(dagster_home)


def learn() -> float:
    """Index, sensor ticks until nothing is asked for, and one night; returns learning seconds."""
    import dagster as dg

    from catalog_pipeline.definitions import defs
    from catalog_pipeline.defs.ops.tick import tick_sensor_and_run

    with dg.DagsterInstance.get() as instance:
        # What run monitoring does for a served instance: runs of a killed attempt have ended.
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            instance.report_run_failed(run)
        defs.resolve_job_def("refresh_catalog").execute_in_process(instance=instance)
        started = time.monotonic()
        while runs := tick_sensor_and_run(instance, defs):
            for run in runs:
                print(f"run {run.run_id}: {run.status.value}", flush=True)
        seconds = time.monotonic() - started
        defs.resolve_job_def("nightly_generation").execute_in_process(
            instance=instance, partition_key=NIGHT.isoformat()
        )
    return seconds


def report(kinds: dict[str, str], seconds: float, note: str) -> None:
    """Figures as a table, pictures as two contact sheets."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, decode_png
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
    from catalog_pipeline.workflows.home import open_home
    from catalog_pipeline.workflows.learn.fidelity_gate import render_samples
    from catalog_pipeline.workflows.learn.learning_inputs import (
        StoredCollection,
        open_method,
        open_tools,
    )

    settings = load_settings()
    opened = open_home(settings)
    rows = opened.index.read()
    store = opened.adapters("default")
    version = store.current()
    assert version is not None
    tools = open_tools(settings)
    method = open_method(tools, settings.learning, opened.objects)
    method.open(StoredCollection(store, version, learned=""))
    from catalog_pipeline.evaluation.retention import cosine_to_photos
    from catalog_pipeline.records import memory_part
    from catalog_pipeline.stores.memory import decode_memory

    results: list[dict[str, Any]] = []
    sheet: list[list[np.ndarray]] = []
    for concept in sorted(version.concepts, key=lambda c: c.task):
        count, seed = settings.learning.gate_images, settings.learning.seed
        samples = render_samples(tools, method, concept, count, seed)
        memory = decode_memory(store.read_part(version.parts[memory_part(concept.sku)]))
        final = float(cosine_to_photos(tools.encoder.encode(samples), memory.features))
        photos = validate_photo_set(open_home(settings), concept.sku).photos
        sheet.append([*(p.pixels for p in photos[:3]), *samples[:4]])
        own = concept.metrics
        results.append(
            {
                "sku": concept.sku,
                "kind": kinds[concept.sku],
                "task": concept.task,
                "fidelity_after_task": own["fidelity"],
                "fidelity_final": round(final, 4),
                "ceiling": own["ceiling"],
                "share": round(final / own["ceiling"], 3),
            }
        )
    failed = [{"sku": r.sku, "reason": r.reason} for r in rows if r.status.value == "failed"]
    images = DOCS.parent / "images"
    half = (len(sheet) + 1) // 2
    wide = [
        a + b
        for a, b in zip(sheet[:half], sheet[half:] + [[]] * (half - len(sheet[half:])), strict=True)
    ]
    _save(contact_sheet(wide, cell_px=72), images / "first-light-singles.jpg")
    night = [r for r in opened.archive.read_day(NIGHT) if not r.superseded]
    pairs = [decode_png(opened.archive.read_image(r.path)) for r in night if len(r.skus) == 2]
    _save(
        contact_sheet([pairs[i : i + 8] for i in range(0, len(pairs), 8)], cell_px=128),
        images / "first-light-pairs.jpg",
    )
    captions = [f"{' + '.join(r.skus)}" for r in night if len(r.skus) == 2]
    write_report(results, failed, captions, seconds, len(night), note)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=88)


def write_report(
    results: list[dict[str, Any]],
    failed: list[dict[str, str]],
    captions: list[str],
    seconds: float,
    images: int,
    note: str,
) -> None:
    """``docs/benchmarks/first-light.md`` and ``.json``."""
    mean = {
        kind: {
            key: round(float(np.mean([r[key] for r in results if r["kind"] == kind])), 3)
            for key in ("fidelity_after_task", "fidelity_final", "ceiling", "share")
        }
        for kind in sorted({r["kind"] for r in results})
    }
    drops = [r["fidelity_after_task"] - r["fidelity_final"] for r in results]
    forgetting = round(float(np.mean(drops)), 4) + 0.0  # no minus zero in the table
    facts = {
        "date": today(),
        "machine": f"{machine()}, no accelerator",
        "learning_seconds": round(seconds),
        "images": images,
        "note": note,
        "mean": mean,
        "forgetting": forgetting,
        "products": results,
        "failed": failed,
    }
    write_json(DOCS / "first-light.json", facts)
    template = Path(__file__).with_name("first-light.md.j2")
    write_page(DOCS, template, **facts, captions=captions)


if __name__ == "__main__":
    main()
