"""Measured points: the product line itself, at several steps, sizes and modes.

    python -m tests.benchmarks.capacity.measure --home build/capacity

Each setting has a home and a process of its own, as a night has. What they log is what any
home logs, and is read from them as `plan-capacity` reads it. The line's clock is that of the
processor here, one thread, so that other work on the machine is not counted as seconds of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any, cast

from catalog_pipeline.records import AdapterVersion
from catalog_pipeline.settings import Settings, load_settings
from catalog_pipeline.stores.adapters import version_hash
from catalog_pipeline.stores.pages import CONCEPTS_PER_PAGE
from catalog_pipeline.stores.versions import encode_version
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.learn import learn_concepts as learning
from catalog_pipeline.workflows.learn.commit import publish_concept
from catalog_pipeline.workflows.learn.learning_inputs import open_tools
from catalog_pipeline.workflows.night import render_batches as rendering
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.night.render_night import render_night
from tests.benchmarks.harness.home import BUILD, REPOSITORY, make_parser, write_settings
from tests.benchmarks.stores.made_up import (
    COLLECTION,
    PART_KINDS,
    learned_concept,
    make_versions,
    sku_name,
)

LEARNING_STEPS = {120: 2, 20: 2, 60: 2}
"""Steps -> how many products are learned with them; the first one's home has the nights."""
NIGHTS = [
    ("exact", 7, "singles"),  # the first night of a home also paints what its judge compares with
    *((mode, 14, "singles") for mode in ("exact", "learned")),
    *((mode, 28, "singles") for mode in ("exact", "learned")),
    *((mode, 14, "pairs") for mode in ("exact", "learned")),
    *((mode, 7, "singles") for mode in ("exact", "learned")),
    *(("anchored", steps, "singles") for steps in (7, 14, 28)),
    ("anchored", 14, "pairs"),
]
"""Mode, denoising steps and kind of the pictures, a night each: one full batch of them."""

PUBLISHED = (10, 100, 1000, 5000, 15000)
"""SKUs that a collection knows when one more is published."""

PUBLICATIONS = 20
"""So many one after the other are timed."""

WEIGHED_SKUS, WEIGHED_EVERY = 8 * CONCEPTS_PER_PAGE, 16
"""Over so many more SKUs the bytes of a publication are averaged: each writes the last page anew,
which holds one SKU or hundreds."""

FIRST_NIGHT = date(2026, 3, 1)


def main() -> None:
    """Measure what is missing, a process each."""
    parser = make_parser("capacity.measure", __doc__)
    parser.add_argument("--home", type=Path, default=BUILD / "capacity")
    parser.add_argument("--only", help="learn-STEPS or night-NUMBER: in this process")
    options = parser.parse_args()
    root: Path = options.home.resolve()
    if options.only:
        what, _, number = options.only.partition("-")
        {"learn": learn, "night": night, "restart": restart, "publish": publish}[what](
            root, int(number)
        )
        return
    jobs = [f"learn-{next(iter(LEARNING_STEPS))}"]
    jobs += [f"night-{number}" for number in range(len(NIGHTS))]
    jobs += [f"learn-{steps}" for steps in LEARNING_STEPS]
    jobs += ["restart-0", *(f"publish-{known}" for known in PUBLISHED)]
    for job in jobs:
        done = root / f"{job}.json"
        if done.exists():
            continue
        module = [sys.executable, "-m", "tests.benchmarks.capacity.measure"]
        started = time.monotonic()
        subprocess.run(
            [*module, "--home", str(root), "--only", job],
            cwd=REPOSITORY,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        facts = {"wall_seconds": time.monotonic() - started, "load": os.getloadavg()[1]}
        done.write_text(json.dumps(facts), "utf-8")
        print(job, facts, flush=True)


def learn(root: Path, steps: int) -> None:
    """Learn some sample products with ``steps`` steps in a home of its own."""
    # Few steps learn too little for the gate; what it costs is the same.
    gate = {"gate_min_fidelity_share": -1.0, "gate_max_color_shift": 999.0}
    home = open_home(opened(root / f"learn-{steps}", {"learning": {"steps": steps, **gate}}))
    products = home.settings.catalog_root
    write_sample_catalog(products)
    refresh_index(home)
    skus = [row.sku for row in home.index.read()]
    # Neighbouring settings share products, so that what a product costs shows apart from steps.
    first = list(LEARNING_STEPS).index(steps)
    chosen = [skus[(first + number) % len(skus)] for number in range(LEARNING_STEPS[steps])]
    cast(Any, learning).time = SimpleNamespace(monotonic=time.process_time)
    for outcome in learning.learn_concepts(home, chosen):
        print(outcome.sku, outcome.status, round(outcome.seconds, 1), outcome.reason, flush=True)


def night(root: Path, number: int) -> None:
    """One night of the home of the shipped steps, at one setting."""
    mode, steps, kind = NIGHTS[number]
    singles, pairs = (4, 0) if kind == "singles" else (0, 8)
    policies = {"singles_per_sku": singles, "pairs": pairs, "triples": 0}
    policies |= {"coverage": {"images": 0}, "cross_sell": {"pictures": 0}}
    generation = {"mode": mode, "steps": steps, "policies": policies}
    folder = root / f"learn-{next(iter(LEARNING_STEPS))}"
    home = open_home(opened(folder, {"generation": generation}, config=f"config-{number}"))
    day = FIRST_NIGHT + timedelta(days=number)
    plan_night(home, day)
    cast(Any, rendering).time = SimpleNamespace(monotonic=time.process_time)
    render_night(home, day)
    publish_manifest(home, day)


def restart(root: Path, number: int) -> None:
    """Everything that a new process does before it trains."""
    open_tools(opened(root / "restart", {}))
    (root / "restart" / f"{number}.json").write_text(json.dumps(time.process_time()), "utf-8")


def publish(root: Path, known: int) -> None:
    """Publish more SKUs of a collection that knows ``known``: what is done under its lease."""
    home = open_home(opened(root / f"publish-{known}", {}))
    store = home.adapters(COLLECTION)
    head = make_versions_stored(home, known)
    with store.lease(timeout_seconds=60) as lease:
        store.promote(head.version, expected=None, fence=lease.fence)
        rows = []
        for number in range(known, known + 1 + PUBLICATIONS):
            started = time.process_time()
            parent = store.current()
            assert parent is not None
            sku = sku_name(number)
            names = [f"{kind}/{sku}" for kind in PART_KINDS]
            parts = {name: store.write_part(name.encode()) for name in names}
            merged = dict(parent.parts) | parts
            publish_concept(home, store, parent, learned_concept(sku), merged, lease.fence)
            rows.append([number, time.process_time() - started])
    weighed = [weigh_publication(known + more) for more in range(0, WEIGHED_SKUS, WEIGHED_EVERY)]
    points = {"seconds": rows[1:], "bytes": mean(weighed)}
    (root / f"publish-{known}" / "points.json").write_text(json.dumps(points), "utf-8")


def make_versions_stored(home: Home, known: int) -> AdapterVersion:
    """A version of ``known`` SKUs, published with parts of a few bytes."""
    store = home.adapters(COLLECTION)
    (made,) = make_versions(1, known)
    parts = {name: store.write_part(name.encode()) for name in made.parts}
    draft = replace(made, version="", parts=parts)
    version = replace(draft, version=version_hash(draft))
    store.publish(version)
    return version


def weigh_publication(known: int) -> int:
    """Bytes that are written for the record of the SKU number ``known``: the last page, and it."""
    (made,) = make_versions(1, known + 1)
    encoded = encode_version(made)
    return len(encoded.record) + len(list(encoded.pages.values())[-1])


def opened(home: Path, changes: dict[str, dict[str, Any]], config: str = "config") -> Settings:
    """Shipped settings with ``changes``, in ``home``."""
    still = {"catalogs": {"root": "products", "settle_seconds": 0}}
    write_settings(home / config, still | changes)
    return load_settings(home / config, home)


if __name__ == "__main__":
    main()
