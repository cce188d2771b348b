"""What is left of a removed product: likeness before and after, neighbours, every byte of the home.

Learns real products with slots of their own, renders a night, removes some of them, and
measures. Writes ``docs/benchmarks/removal.{md,json}`` and a contact sheet. Run it again after a
stop: what is learned stays learned; the removal itself is measured in one go.

    python -m tests.benchmarks.removal --data DIR [--home build/removal] [--products 12]
        [--removed 3] [--steps N]
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from catalog_pipeline.records import Concept, Photo, Pixels, concept_part, memory_part
from catalog_pipeline.settings import load_settings
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.memory import decode_memory
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.schemas import values_as_text
from catalog_pipeline.workflows.home import Home, open_home
from tests.benchmarks.harness.home import (
    BUILD,
    add_report_options,
    log_to_stdout,
    make_parser,
    write_real_products,
    write_settings,
)
from tests.benchmarks.harness.report import machine, today, write_json, write_page
from tests.benchmarks.slot_bytes import looks

TEMPLATE = Path(__file__).with_name("removal.md.j2")
NIGHT = date(2026, 11, 23)
PICTURES, SEED = 8, 0
NEVER = 3
"""Products that are left out of the catalog, to compare with."""
SHORTEST_TENSOR = 64
"""Bytes of a stored tensor that are long enough to be found by chance nowhere."""

log = logging.getLogger("bench")


def main() -> None:
    parser = make_parser("removal", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=BUILD / "removal")
    parser.add_argument("--products", type=int, default=9, help="that are learned")
    parser.add_argument("--removed", type=int, default=3, help="of them")
    parser.add_argument("--steps", type=int, help="of learning; default as shipped")
    add_report_options(parser)
    options = parser.parse_args()
    log_to_stdout()
    root: Path = options.home.resolve()
    home = learned(options.data, root, options.products, options.steps)
    skus = [row.sku for row in home.index.read()]
    removed = skus[:: max(1, len(skus) // options.removed)][: options.removed]
    facts, sheet = measure(home, removed, strangers(options.data, root, skus))
    facts |= {"note": options.note, "steps": home.settings.learning.steps}
    options.out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(options.out / "removal.jpg", quality=88)
    write_json(options.out / "removal.json", facts, digits=4)
    write_page(options.out, TEMPLATE, **facts)


def learned(data: Path, root: Path, products: int, steps: int | None) -> Home:
    """Real products, learned, and a night of them."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
    from catalog_pipeline.workflows.night.gallery import write_gallery
    from catalog_pipeline.workflows.night.plan_night import plan_night
    from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
    from catalog_pipeline.workflows.night.render_night import render_night

    changes: dict[str, dict[str, Any]] = {
        "catalogs": {"root": "products", "settle_seconds": 0, "retire_fraction_limit": 1.0},
        "generation": {
            "policies": {"singles_per_sku": 1, "pairs": products // 2, "triples": 0},
            "mode": "learned",
            "quality": {"gate": False},
        },
        "learning": {"gate_min_fidelity_share": 0.0, "gate_max_color_shift": 999.0},
    }
    if steps is not None:
        changes["learning"]["steps"] = steps
    write_settings(root / "config", changes)
    if not (root / "products").is_dir():
        write_real_products(data, root / "products", products)
    home = open_home(load_settings(root / "config", root))
    refresh_index(home)
    for outcome in learn_concepts(home):
        log.info(
            "%s: %s in %.0f s %s", outcome.sku, outcome.status, outcome.seconds, outcome.reason
        )
    plan_night(home, NIGHT)
    render_night(home, NIGHT)
    publish_manifest(home, NIGHT)
    write_gallery(home, NIGHT)
    return home


def strangers(data: Path, root: Path, known: Sequence[str]) -> Home:
    """A home of products that nobody has learned."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index

    folder = root.with_name(f"{root.name}-never")
    if not (folder / "products").is_dir():
        names = write_real_products(data, folder / "products", len(known) + NEVER)
        for name in names:
            if name in known:
                shutil.rmtree(folder / "products" / name)
    write_settings(folder / "config", {"catalogs": {"root": "products", "settle_seconds": 0}})
    home = open_home(load_settings(folder / "config", folder))
    refresh_index(home)
    return home


# --- what is measured ----------------------------------------------------------


def measure(home: Home, removed: Sequence[str], never: Home) -> tuple[dict[str, Any], Pixels]:
    """Every figure of the page, and the contact sheet."""
    from catalog_pipeline.workflows.upkeep.remove_concept import remove_concepts

    bench = _Bench(home)
    head = bench.head()
    photos = {sku: bench.photos(home, sku) for sku in removed}
    bare = {sku: bench.base(concept_of(head, sku).class_noun) for sku in removed}
    bench.open()
    before = {c.sku: bench.drawn(c) for c in head.concepts}
    secrets = {sku: dict(secrets_of(home, sku)) for sku in removed}
    found_before = found_in(home, secrets)
    pictures = {row.image_id: row.sha256 for row in home.archive.read_day(NIGHT)}
    for sku in removed:
        folder = home.settings.catalog_root / sku
        shutil.move(folder, home.settings.home.with_name(f"{home.settings.home.name}-{sku}"))
    started = time.monotonic()
    outcomes = list(remove_concepts(home, removed, search_pictures=True))
    seconds = time.monotonic() - started
    assert [outcome.reason for outcome in outcomes] == [""] * len(removed), outcomes
    bench = _Bench(home)
    after_head = bench.head()
    bench.open()
    after = {concept.sku: bench.drawn(concept) for concept in after_head.concepts}
    gone = {sku: bench.base(concept_of(head, sku).class_noun) for sku in removed}
    rows = []
    for sku in removed:
        alike = [looks(bench.tools, drawn, photos[sku]) for drawn in (before[sku], gone[sku])]
        rows.append(
            {
                "sku": sku,
                "class_noun": concept_of(head, sku).class_noun,
                "before": alike[0]["likeness"],
                "after": alike[1]["likeness"],
                "whole_before": alike[0]["whole_likeness"],
                "whole_after": alike[1]["whole_likeness"],
                "as_the_bare_base": all(map(np.array_equal, gone[sku], bare[sku])),
            }
        )
    others = never_learned(bench, never)
    kept = {row.image_id: row.sha256 for row in home.archive.read_day(NIGHT)}
    searched = outcomes[-1].searched
    assert searched is not None
    facts = {
        "date": today(),
        "machine": machine(),
        "products": [concept.sku for concept in head.concepts],
        "removed": rows,
        "pictures": PICTURES,
        "seed": SEED,
        "before": fmean(row["before"] for row in rows),
        "after": fmean(row["after"] for row in rows),
        "never": others,
        "never_mean": fmean(row["likeness"] for row in others),
        "neighbours": [
            {"sku": sku, "equal": all(map(np.array_equal, before[sku], after[sku]))}
            for sku in after
        ],
        "night": {
            "pictures": len(pictures),
            "removed": len(pictures) - len(kept),
            "kept_equal": all(pictures[image] == sha for image, sha in kept.items()),
        },
        "seconds": seconds,
        "searched": {"objects": searched.objects, "bytes": searched.bytes},
        "secrets": {sku: len(found) for sku, found in secrets.items()},
        "found_before": found_before,
        "found_after": found_in(home, secrets),
        "gone": [dict(outcome.counts) for outcome in outcomes],
    }
    return facts, contact(removed, photos, before, gone, after)


def concept_of(version: Any, sku: str) -> Concept:
    """The concept that must be there."""
    found = version.concept(sku)
    assert found is not None, f"{sku} was not learned"
    return found


class _Bench:
    """Loaded models over a home."""

    def __init__(self, home: Home) -> None:
        from catalog_pipeline.workflows.learn.learning_inputs import open_method, open_tools

        self.home = home
        self.tools = open_tools(home.settings)
        self.method = open_method(self.tools, home.settings.learning, home.objects)

    def head(self) -> Any:
        """The version that is served."""
        version = self.home.adapters("default").current()
        assert version is not None, "nothing was learned"
        return version

    def open(self) -> None:
        """Install the head."""
        from catalog_pipeline.workflows.learn.learning_inputs import StoredCollection

        store = self.home.adapters("default")
        self.method.open(StoredCollection(store, self.head(), learned=""))

    def drawn(self, concept: Concept) -> list[Pixels]:
        """Pictures of a learned product."""
        from catalog_pipeline.workflows.learn.fidelity_gate import render_samples

        return render_samples(self.tools, self.method, concept, PICTURES, SEED)

    def base(self, noun: str) -> list[Pixels]:
        """Pictures by the same prompts and seeds that name the class noun alone."""
        from catalog_pipeline.diffusion.sampling import RegionalPrompt
        from catalog_pipeline.workflows.learn.fidelity_gate import GATE_PROMPTS, _render, _seeds

        texts = [GATE_PROMPTS[i % len(GATE_PROMPTS)] for i in range(PICTURES)]
        prompts = [RegionalPrompt((text.format(concept=noun),), (None,)) for text in texts]
        return _render(self.tools, prompts, _seeds(SEED, "gate", PICTURES), self.tools.plan)

    def photos(self, home: Home, sku: str) -> tuple[Photo, ...]:
        """A product's photos, with masks."""
        from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
        from catalog_pipeline.workflows.learn.learning_inputs import with_masks

        return with_masks(validate_photo_set(home, sku).photos, self.tools.masker)


def never_learned(bench: _Bench, never: Home) -> list[dict[str, Any]]:
    """What the base draws for the nouns of products that nobody learned, beside their photos."""
    rows = []
    for row in never.index.read():
        drawn = bench.base(row.class_noun)
        alike = looks(bench.tools, drawn, bench.photos(never, row.sku))
        rows.append({"sku": row.sku, "class_noun": row.class_noun, "likeness": alike["likeness"]})
    return rows


def secrets_of(home: Home, sku: str) -> list[tuple[str, bytes]]:
    """What must be nowhere afterwards: tensors as stored, features, photos, pictures, digests."""
    from safetensors.numpy import load

    store = home.adapters("default")
    found: list[tuple[str, bytes]] = []
    for version in store.history():
        for part in (concept_part(sku), memory_part(sku)):
            if part in version.parts:
                data = store.read_part(version.parts[part])
                found.append((f"digest of {part}", version.parts[part].encode()))
                tensors = {name: value.tobytes() for name, value in load(data).items()}
                found += [(n, raw) for n, raw in tensors.items() if len(raw) >= SHORTEST_TENSOR]
                if part == memory_part(sku):
                    features = decode_memory(data).features
                    found += [(f"features {i}", row.tobytes()) for i, row in enumerate(features)]
    for photo in sorted((home.settings.catalog_root / sku).glob("*.jpg")):
        found.append((f"photo {photo.name}", photo.read_bytes()))
        found.append((f"digest of photo {photo.name}", sha256_hex(photo.read_bytes()).encode()))
    for row in home.archive.read_day(NIGHT):
        if sku in row.skus:
            found.append((f"picture {row.image_id}", home.archive.read_image(row.path)))
            found.append((f"digest of {row.image_id}", row.sha256.encode()))
            found.append((f"id of {row.image_id}", row.image_id.encode()))
    return list(dict(found).items())


def found_in(home: Home, secrets: Mapping[str, Mapping[str, bytes]]) -> dict[str, int]:
    """SKU -> files of the home, photos and audit log apart, that hold one of its secrets or it."""
    root = home.settings.home
    skipped = [root / "products", root / "audit", root / "config"]
    counts = dict.fromkeys(secrets, 0)
    for path in sorted(root.rglob("*")):
        if not path.is_file() or any(path.is_relative_to(folder) for folder in skipped):
            continue
        texts = [path.relative_to(root).as_posix().encode(), path.read_bytes()]
        if path.suffix in (".parquet", ".arrow"):
            texts.append(values_as_text(texts[1]).encode())
        for sku, own in secrets.items():
            naming = Naming(sku)
            if any(naming.stands_in(t) or any(s in t for s in own.values()) for t in texts):
                counts[sku] += 1
    return counts


def contact(
    removed: Sequence[str],
    photos: Mapping[str, Sequence[Photo]],
    before: Mapping[str, Sequence[Pixels]],
    gone: Mapping[str, Sequence[Pixels]],
    after: Mapping[str, Sequence[Pixels]],
) -> Pixels:
    """Three rows a removed product, two for a neighbour."""
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet

    rows: list[Sequence[Pixels]] = []
    captions = []
    for sku in removed:
        rows += [[photo.pixels for photo in photos[sku]][:PICTURES], before[sku], gone[sku]]
        captions += [f"{sku}: photos", "drawn before", "after: what its class noun gives"]
    for sku in list(after)[:2]:
        rows += [before[sku], after[sku]]
        captions += [f"{sku}, a neighbour: before", "after"]
    return contact_sheet(rows, captions=captions, cell_px=96)


if __name__ == "__main__":
    main()
