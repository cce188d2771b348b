"""First light: real photos and catalog renders through Dagster runs, with figures and pictures.

Writes the products of a test-data folder into a scratch home, lets the sensor find them,
learns them one after the other in Dagster runs, renders a night, and writes
``docs/benchmarks/first-light.{md,json}`` and its pictures. Run it again after a stop: what is
learned stays learned.

    python -m tests.benchmarks.first_light --data DIR [--home build/first-light]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
HOUSEHOLD = 20
NIGHT = date(2026, 11, 23)
OVERRIDES: dict[str, dict[str, Any]] = {
    "catalogs": {"root": "products", "settle_seconds": 0},
    "generation": {"policies": {"singles_per_sku": 1, "pairs": 24, "triples": 0}},
}


def main() -> None:
    """Run every stage and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=REPOSITORY / "build" / "first-light")
    parser.add_argument("--note", default="", help="what a reader of the table must know")
    parser.add_argument("--real", type=int, default=8, help="real photo folders, by name")
    options = parser.parse_args()
    home: Path = options.home.resolve()
    prepare(home)
    names = write_products(options.data, home / "products", options.real)
    seconds = learn(home)
    report(home, names, seconds, options.note)


def prepare(home: Path) -> None:
    """Settings, Dagster home and environment under ``home``."""
    config, dagster_home = home / "config", home / "dagster_home"
    for folder in (config, dagster_home, home / "products"):
        folder.mkdir(parents=True, exist_ok=True)
    for shipped in sorted((REPOSITORY / "assets_config").glob("*.yaml")):
        content = yaml.safe_load(shipped.read_text("utf-8")) or {}
        merged = {**content, **OVERRIDES.get(shipped.stem, {})}
        (config / shipped.name).write_text(yaml.safe_dump(merged, sort_keys=False), "utf-8")
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    os.environ["CATALOG_PIPELINE_CONFIG"] = str(config)
    os.environ["CATALOG_PIPELINE_HOME"] = str(home)
    os.environ["DAGSTER_HOME"] = str(dagster_home)


def write_products(data: Path, root: Path, real: int, household: int = HOUSEHOLD) -> dict[str, str]:
    """Copy the real photo folders and every n-th household product; returns SKU -> kind."""
    kinds: dict[str, str] = {}
    meta = json.loads((data / "photos" / "meta.json").read_text("utf-8"))
    for name, entry in sorted(meta.items())[:real]:
        sku = name.replace("_", "-")
        write_product(
            root / sku, sorted((data / "photos" / name).glob("*.jpg")), entry["class_noun"]
        )
        kinds[sku] = "photo"
    renders = data / "household_catalog"
    catalog = json.loads((renders / "catalog.json").read_text("utf-8")) if household else []
    catalog.sort(key=lambda product: int(product["id"]))
    stride = max(1, len(catalog) // max(1, household))
    for product in catalog[::stride][:household]:
        sku = f"household-{int(product['id']):04d}"
        views = [renders / "views" / view for view in product["views"]]
        write_product(root / sku, views, product["name"].lower(), {"ja": product["name_ja"]})
        kinds[sku] = "household"
    return kinds


def write_product(
    folder: Path, photos: list[Path], noun: str, names: dict[str, str] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        if not (folder / photo.name).exists():
            shutil.copyfile(photo, folder / photo.name)
    words = " ".join("".join(c if c.isalpha() else " " for c in noun).split())
    card = {"name": noun, "names": names or {}, "class_noun": words}
    text = yaml.safe_dump(card, allow_unicode=True)
    if not (folder / "sku.yaml").exists():
        (folder / "sku.yaml").write_text(text, "utf-8")


def learn(home: Path) -> float:
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


def report(home: Path, kinds: dict[str, str], seconds: float, note: str) -> None:
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
    from catalog_pipeline.stores.memory import decode_memory

    results: list[dict[str, Any]] = []
    sheet: list[list[np.ndarray]] = []
    for concept in sorted(version.concepts, key=lambda c: c.task):
        count, seed = settings.learning.gate_images, settings.learning.seed
        samples = render_samples(tools, method, concept, count, seed)
        memory = decode_memory(store.read_part(version.parts[f"memory/{concept.sku}"]))
        final = float(cosine_to_photos(tools.encoder.encode(samples), memory.features))
        photos = validate_photo_set(settings, concept.sku).photos
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
    images = DOCS / "images"
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
    target = DOCS / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
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
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no accelerator",
        "learning_seconds": round(seconds),
        "images": images,
        "note": note,
        "mean": mean,
        "forgetting": forgetting,
        "products": results,
        "failed": failed,
    }
    (target / "first-light.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    template = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True
    ).get_template("first_light.md.j2")
    text = template.render(**facts, captions=captions)
    (target / "first-light.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
