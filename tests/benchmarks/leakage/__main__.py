"""How well a photo can be recovered from what is stored of it.

From a memory's features, from latents, from a slot, from a palette. Sample products of the studio,
and the real ones of --data where it is given. Writes ``leakage.{md,json}`` and ``leakage.jpg``.

    python -m tests.benchmarks.leakage [--data DIR] [--quick] [--home build/leakage]
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_jpeg
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Pixels
from catalog_pipeline.stores.local import LocalObjectStore
from tests.benchmarks.harness.attacks import auc, auc_interval
from tests.benchmarks.harness.home import BUILD, add_report_options, log_to_stdout, make_parser
from tests.benchmarks.harness.report import machine, today, write_json, write_page
from tests.benchmarks.leakage.bench import Bench, Reconstruction, Sizes, spread
from tests.benchmarks.leakage.likeness import squared
from tests.benchmarks.leakage.slots import LearnedSlot, SlotMaker, by_chance, memorised
from tests.benchmarks.leakage.subjects import Subject, load_subjects

TEMPLATE = Path(__file__).with_name("leakage.md.j2")
SHEET_BYTES = 280_000
QUICK = Sizes(2, 1, 5, 3, 1, 2, 4, 2)

log = logging.getLogger("bench")


def slot_figures(
    subjects: Sequence[Subject], slots: dict[str, LearnedSlot], bench: Bench
) -> dict[str, Any]:
    """Nearest photos and membership, over all slots; a row a product."""
    masker, rows = ProductMasker(), []
    for subject in subjects:
        found = memorised(slots[subject.sku], subject, bench.judge, masker)
        if found:
            means = {name: fmean(values) for name, values in found.items()}
            nearer = [a > b for a, b in zip(found["learned"], found["held_out"], strict=True)]
            pixels = zip(found["ssim_learned"], found["ssim_held_out"], strict=True)
            rows.append(
                {
                    **{"sku": subject.sku, "source": subject.source},
                    **{"photos": len(subject.learned), "pictures": len(nearer)},
                    **{"nearer": sum(nearer), "nearer_ssim": sum(a > b for a, b in pixels)},
                    **{"most_like": max(found["learned"]), "most_ssim": max(found["ssim_learned"])},
                    **means,
                }
            )
    tries = sum(row["pictures"] for row in rows)
    members = [f for s in subjects for f in slots[s.sku].fall_of_learned]
    others = [f for s in subjects for f in slots[s.sku].fall_of_held_out]
    return {
        "products": rows,
        "pictures": tries,
        "chance": by_chance(sum(row["nearer"] for row in rows), tries),
        "chance_ssim": by_chance(sum(row["nearer_ssim"] for row in rows), tries),
        "membership": {
            **{"photos": len(members), "auc": auc(members, others)},
            **{"interval": auc_interval(members, others)},
            **{"fall_of_learned": fmean(members), "fall_of_held_out": fmean(others)},
        },
    }


def make_sheet(bench: Bench, made: dict[str, Any], back: dict[str, Pixels], slots: Any) -> bytes:
    """A column a product: its photo, and what comes back of it from each place."""
    skus = sorted(made, key=lambda sku: (-len(made[sku]), sku))[:8]
    by_sku = {s.sku: s for s in bench.subjects}
    white = np.full((128, 128, 3), 255, np.uint8)
    rows = {
        "photos": [squared(by_sku[sku].photos[0].pixels) for sku in skus],
        "from their latents (autoencoder)": [back[sku] for sku in skus],
        "from the memory's features, by pixels": [made[sku]["pixels"] for sku in skus],
        "by latents": [made[sku].get("latents", white) for sku in skus],
        "by latents, from what the slot draws": [
            made[sku].get("slot and latents", white) for sku in skus
        ],
        "drawn by the slot": [slots[s].pictures[0] if s in slots else white for s in skus],
    }
    sheet = contact_sheet(list(rows.values()), captions=list(rows), cell_px=128)
    return encode_jpeg(sheet, max_bytes=SHEET_BYTES, quality=85)


def summed(found: Sequence[Reconstruction]) -> list[dict[str, Any]]:
    """A row a way."""
    rows = []
    for how in dict.fromkeys(item.how for item in found):
        own = [item for item in found if item.how == how]
        rows.append(
            {
                **{"how": how, "photos": len(own)},
                **{
                    k: fmean(getattr(item, k) for item in own)
                    for k in ("cosine", "likeness", "ssim")
                },
                "first": sum(item.rank == 1 for item in own),
                "median_rank": float(np.median([item.rank for item in own])),
            }
        )
    return rows


def main() -> None:
    parser = make_parser("leakage", __doc__)
    parser.add_argument("--data", type=Path, help="real products; without it the studio's alone")
    parser.add_argument("--home", type=Path, default=BUILD / "leakage")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    for name in ("inverted", "from_latents", "pixel_steps", "latent_steps", "slots", "pictures"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    add_report_options(parser)
    options = parser.parse_args()
    log_to_stdout()
    torch.set_num_threads(1)
    asked = {k: getattr(options, k, None) for k in asdict(Sizes())}
    default = QUICK if options.quick else Sizes()
    sizes = Sizes(**{k: asked[k] or v for k, v in asdict(default).items()})
    started = time.monotonic()
    subjects = load_subjects(options.data, options.home / "products")
    bench = Bench(subjects, LocalObjectStore(options.home), sizes)
    maker = SlotMaker(bench.engine, bench.settings, bench.memory, bench.backdrops, bench.plan)
    learned = spread(subjects, sizes.slots)
    slots: dict[str, LearnedSlot] = {}
    for subject in learned:
        log.info("learning %s from %d photos", subject.sku, len(subject.learned))
        slots[subject.sku] = maker.make(subject, sizes.pictures)
    found, made = bench.invert(slots)
    latents, back = bench.through_latents()
    facts = {
        **{"date": today(), "machine": machine(), "note": options.note},
        **{"sizes": asdict(sizes), "real": options.data is not None},
        "references": bench.references(),
        "ways": summed(found),
        "reconstructions": [asdict(item) for item in found],
        "latents": latents,
        "slots": slot_figures(learned, slots, bench),
        "small_things": bench.small_things(),
        "minutes": (time.monotonic() - started) / 60,
    }
    write_json(options.out / "leakage.json", facts, digits=4)
    (options.out / "leakage.jpg").write_bytes(make_sheet(bench, made, back, slots))
    write_page(options.out, TEMPLATE, **facts)


if __name__ == "__main__":
    main()
