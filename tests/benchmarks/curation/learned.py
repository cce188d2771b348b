"""What curation is worth: products learned from clean, polluted and curated photos.

Every one is measured against the same clean photos, whatever it was learned from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.records import PhotoSet, Pixels
from catalog_pipeline.settings import CatalogSettings, load_settings
from catalog_pipeline.workflows.home import Home, open_home
from tests.benchmarks.curation.pollution import KINDS, Lent, View
from tests.benchmarks.curation.trials import read_views
from tests.benchmarks.harness.cells import json_bytes, read_json
from tests.benchmarks.harness.home import write_settings

PRODUCTS = ("backpack_dog", "duck_toy", "monster_toy")
BAD = ("another product", "another product", "out of focus", "too dark", "too bright", "half out",
       "saved again")  # fmt: skip
WAYS = {"clean": False, "polluted": False, "curated": True}
"""How a product is learned -> whether curation is on."""
NOUNS = {"backpack_dog": "backpack", "duck_toy": "toy", "monster_toy": "toy"}
SEED = 2711
PICTURES = 12
NO_GATE = {"gate_min_fidelity_share": -1.0, "gate_max_color_shift": 999.0}

log = logging.getLogger("bench")


def learn_three_ways(data: Path, home: Path, products: Sequence[str] | None = None) -> None:
    """Learn whatever is not measured yet; ``learned.json`` holds a row a product and way."""
    chosen = products or PRODUCTS
    folders = {
        folder.name: sorted(folder.glob("*.jpg"))
        for folder in sorted((data / "photos").iterdir())
        if folder.is_dir()
    }
    views = read_views(folders, CatalogSettings())
    done: list[dict[str, Any]] = read_json(home / "learned.json") or []
    for product in chosen:
        for way, curated in WAYS.items():
            if any((row["product"], row["way"]) == (product, way) for row in done):
                continue
            photos = [view.pixels for view in views[product]]
            if way != "clean":
                photos += _bad_photos(product, views)
            root = home / f"{product}-{way}"
            _write_photos(root / "products" / product, photos, NOUNS[product])
            done.append({"product": product, "way": way, **_learn(root, curated, views[product])})
            (home / "learned.json").write_bytes(json_bytes(done))
            log.info("%s", done[-1])


def _bad_photos(product: str, views: dict[str, list[View]]) -> list[Pixels]:
    number = sorted(views).index(product)
    chance = np.random.default_rng([SEED, number])
    own = views[product]
    others = [view for name in views if name != product for view in views[name]]
    bad = []
    for kind in BAD:
        while True:
            lent = Lent(others[chance.integers(len(others))], own[0])
            made = KINDS[kind][1](own[chance.integers(len(own))], chance, lent)
            if made is not None:
                bad.append(made)
                break
    return bad


def _write_photos(folder: Path, photos: Sequence[Pixels], noun: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(photos):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (folder / "sku.yaml").write_text(f"class_noun: {noun}\n", "utf-8")


def _learn(root: Path, curated: bool, clean: Sequence[View]) -> dict[str, Any]:
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts

    changes = {
        "catalogs": {
            "root": "products", "settle_seconds": 0, "curation": {"enabled": curated}
        },
        "learning": NO_GATE,
    }  # fmt: skip
    write_settings(root / "config", changes)
    home = open_home(load_settings(root / "config", root))
    refresh_index(home)
    sets: list[PhotoSet] = []
    started = time.monotonic()
    (outcome,) = learn_concepts(home, on_photo_set=sets.append)
    seconds = time.monotonic() - started
    assert outcome.status == "learned", outcome.reason
    return {
        "photos": len(sets[0].photos),
        "left_out": {file.key.rpartition("/")[2]: file.reason for file in sets[0].refused},
        "seconds": round(seconds, 1),
        "own_crop_likeness": outcome.metrics.get("crop_likeness"),
        **_against_clean(home, root, clean),
    }


def _against_clean(home: Home, root: Path, clean: Sequence[View]) -> dict[str, float]:
    """Pictures of what was learned beside the clean photos, as the fidelity gate compares them."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
    from catalog_pipeline.evaluation.learned_looks import compare_looks
    from catalog_pipeline.records import Photo
    from catalog_pipeline.workflows.learn.fidelity_gate import render_samples
    from catalog_pipeline.workflows.learn.learning_inputs import (
        StoredCollection,
        open_method,
        open_tools,
        with_masks,
    )

    settings = home.settings
    tools = open_tools(settings)
    method = open_method(tools, settings.learning, home.objects)
    store = home.adapters("default")
    version = store.current()
    assert version is not None
    method.open(StoredCollection(store, version, learned=""))
    samples = render_samples(tools, method, version.concepts[0], PICTURES, SEED)
    photos = with_masks(
        [Photo(f"{index}", "", view.pixels) for index, view in enumerate(clean)], tools.masker
    )
    looks = compare_looks(samples, photos, tools.masker, tools.encoder)
    assert looks is not None
    sheet = contact_sheet([[view.pixels for view in clean][:6], samples[:6]], cell_px=128)
    (root / "pictures.png").write_bytes(encode_png(sheet, max_bytes=400_000))
    return {"likeness": looks.likeness, "ceiling": looks.ceiling, "share": looks.share}
