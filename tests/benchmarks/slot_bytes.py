"""What a learned product weighs, and what fewer bytes cost in looks.

The slots of a home in half precision are cut and rounded in several ways, as
``learning.yaml: adapter.stored_bits`` and ``stored_rank_tolerance`` do it, and pictures are
drawn with each: same prompts, same seeds. Writes ``docs/benchmarks/slot-bytes.{md,json}``. Run
it again after a stop: what is measured stays measured.

    python -m tests.benchmarks.slot_bytes --data DIR [--home build/slot-bytes] [--config DIR]
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from catalog_pipeline.diffusion.compression import by_layer, compress_slot
from catalog_pipeline.settings import AdapterSettings, load_settings
from catalog_pipeline.workflows.home import Home, open_home
from tests.benchmarks.gpu.sizes import SDXL_UNET
from tests.benchmarks.harness.cells import digest, json_bytes, read_json
from tests.benchmarks.harness.home import (
    BUILD,
    add_report_options,
    log_to_stdout,
    make_parser,
    write_real_products,
    write_settings,
)
from tests.benchmarks.harness.report import machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("slot-bytes.md.j2")
PRODUCTS, PICTURES, SEED = 12, 12, 0
LOADS = 15
RANKS = ((0, 0), (1, 2), (3, 4), (5, 8), (9, 12), (13, 16))
"""Of the histogram, first and last."""
CATALOG = 100_000
HALF = {"stored_bits": 16, "stored_rank_tolerance": 0.0}

log = logging.getLogger("bench")


@dataclass(frozen=True)
class Form:
    """A way to store a slot; ``rule`` is what the tolerance is a share of."""

    bits: int
    tolerance: float
    rule: str = "slot"

    @property
    def name(self) -> str:
        return f"{self.bits}-{self.tolerance}-{self.rule}"


FORMS = (
    Form(16, 0.0),
    Form(8, 0.0),
    Form(8, 0.15),
    Form(8, 0.3),
    Form(8, 0.3, "layer"),
    Form(4, 0.0),
    Form(4, 0.25),
    Form(4, 0.35),
)
LARGER = {
    "SD-1.5": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
    "SDXL": SDXL_UNET,
}
"""The published configurations, as far as a slot depends on them."""


def main() -> None:
    parser = make_parser("slot_bytes", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=BUILD / "slot-bytes")
    parser.add_argument(
        "--config", type=Path, help="settings of a home that is learned; nothing is learned then"
    )
    add_report_options(parser)
    options = parser.parse_args()
    log_to_stdout()
    root: Path = options.home.resolve()
    home = (
        open_home(load_settings(options.config or root / "config", root))
        if options.config
        else learned(options.data, root)
    )
    rows = measure(home, BUILD / "slot-bytes" / "cells")
    facts = summary(rows) | {"note": options.note}
    write_json(options.out / "slot-bytes.json", facts, digits=4)
    write_page(options.out, TEMPLATE, **read_json(options.out / "slot-bytes.json"))


def learned(data: Path, root: Path) -> Home:
    """A home of real products at the shipped settings, slots in half precision."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts

    catalogs = {"root": "products", "settle_seconds": 0}
    write_settings(root / "config", {"catalogs": catalogs, "learning": {"adapter": HALF}})
    write_real_products(data, root / "products", PRODUCTS)
    home = open_home(load_settings(root / "config", root))
    refresh_index(home)
    for outcome in learn_concepts(home):
        log.info("%s: %s %s", outcome.sku, outcome.status, outcome.reason)
    return home


# --- what is measured ----------------------------------------------------------


def measure(home: Home, folder: Path) -> list[dict[str, Any]]:
    """A row for each product and form, each in a file of its own in ``folder``."""
    from catalog_pipeline.diffusion.parts import encode_part, install_part, stored_slot
    from catalog_pipeline.records import concept_part, memory_part
    from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
    from catalog_pipeline.workflows.learn.fidelity_gate import render_samples
    from catalog_pipeline.workflows.learn.learning_inputs import (
        StoredCollection,
        open_method,
        open_tools,
        with_masks,
    )

    store = home.adapters("default")
    version = store.current()
    assert version is not None, "nothing was learned; run it without --config"
    tools = open_tools(home.settings)
    method = open_method(tools, home.settings.learning, home.objects)
    method.open(StoredCollection(store, version, learned=""))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for concept in version.concepts:
        part = store.read_part(version.parts[concept_part(concept.sku)])
        memory = store.read_part(version.parts[memory_part(concept.sku)])
        slot, tokens = stored_slot(part), token_tensors(part)
        photos, exact = None, None
        for form in FORMS:
            drawn_as = {"form": asdict(form), "pictures": PICTURES, "seed": SEED}
            key = {"part": version.parts[concept_part(concept.sku)], **drawn_as}
            file = folder / f"{concept.sku}-{form.name}-{digest(key, 8)}.json"
            sheet = file.with_suffix(".png")
            row = read_json(file)
            if row is None:
                data = encode_part(stored_tensors(slot, form) | tokens)
                install_part(
                    tools.engine, data, slot=concept.sku, tokens=concept.placeholder_tokens
                )
                pictures = render_samples(tools, method, concept, PICTURES, SEED)
                if photos is None:
                    validated = validate_photo_set(home, concept.sku).photos
                    photos = with_masks(validated, tools.masker)
                Image.fromarray(np.concatenate(pictures, 1)).save(sheet)
                row = {
                    "sku": concept.sku,
                    "form": form.name,
                    "memory_bytes": len(memory),
                    "token_bytes": sum(v.numel() * v.element_size() for v in tokens.values()),
                    **weight(data, slot),
                    **looks(tools, pictures, photos),
                }
                file.write_bytes(json_bytes(row))
                log.info("%s", {k: v for k, v in row.items() if k != "ranks"})
            drawn = np.asarray(Image.open(sheet), np.float32)
            exact = drawn if exact is None else exact
            rows.append(row | {"pixels": float(np.abs(drawn - exact).mean())})
    return rows


def token_tensors(part: bytes) -> dict[str, Tensor]:
    """The token rows of a part, as they are stored."""
    from safetensors.torch import load

    return {name: value for name, value in load(part).items() if name.startswith("token/")}


def stored_tensors(slot: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """The ``slot/...`` tensors of ``form``."""
    if form.rule == "layer":
        slot = cut_each_layer(slot, form.tolerance)
    tolerance = 0.0 if form.rule == "layer" else form.tolerance
    stored = compress_slot(slot, form.bits, tolerance)
    return {f"slot/{name}": value for name, value in stored.items()}


def cut_each_layer(slot: Mapping[str, Tensor], tolerance: float) -> dict[str, Tensor]:
    """The rule that did not ship: the same share of the energy of every layer is left out."""
    from catalog_pipeline.diffusion.compression import restore_slot

    cut: dict[str, Tensor] = {}
    for name, own in by_layer(slot).items():
        alone = {f"{name}.{key}": value for key, value in own.items()}
        cut |= restore_slot(compress_slot(alone, 16, tolerance))
    return cut


def weight(data: bytes, slot: Mapping[str, Tensor]) -> dict[str, Any]:
    """Bytes, ranks, what of the slot is lost, and how long it takes to read."""
    from catalog_pipeline.diffusion.parts import stored_slot

    seconds = median([_seconds(lambda: stored_slot(data)) for _ in range(LOADS)])
    layers, kept = by_layer(slot), by_layer(stored_slot(data))
    lost = energy = 0.0
    for name, own in layers.items():
        change = own["up"] @ own["down"]
        energy += float(change.square().sum())
        if name in kept:
            change = change - kept[name]["up"] @ kept[name]["down"]
        lost += float(change.square().sum())
    ranks = [len(kept[name]["down"]) if name in kept else 0 for name in layers]
    return {
        "bytes": len(data),
        "ranks": ranks,
        "error": (lost / energy) ** 0.5,
        "load_seconds": seconds,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def looks(tools: Any, pictures: Sequence[Any], photos: Sequence[Any]) -> dict[str, float]:
    """As the fidelity gate measures: crops where the photos have masks, else whole pictures."""
    from catalog_pipeline.evaluation.learned_looks import compare_looks
    from catalog_pipeline.evaluation.retention import cosine_to_photos

    features = tools.encoder.encode([photo.pixels for photo in photos])
    whole = cosine_to_photos(tools.encoder.encode(pictures), features)
    found = compare_looks(pictures, photos, tools.masker, tools.encoder)
    if found is None:
        return {"likeness": whole, "whole_likeness": whole}
    return {
        "likeness": found.likeness,
        "whole_likeness": whole,
        "color_difference": found.color_difference,
    }


# --- the report ------------------------------------------------------------------


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every figure of the page."""
    exact = {row["sku"]: row for row in rows if row["form"] == FORMS[0].name}
    table = [_form(form, rows, exact) for form in FORMS]
    adapter = AdapterSettings()
    shipped = Form(adapter.stored_bits, adapter.stored_rank_tolerance).name
    chosen = next(row for row in table if row["name"] == shipped)
    fixed = fmean(row["token_bytes"] + row["memory_bytes"] for row in exact.values())
    slots = {name: slot_numbers(config) for name, config in LARGER.items()}
    embedded = fmean(row["bytes"] - row["token_bytes"] for row in exact.values())
    share = (chosen["bytes"] - table[0]["token_bytes"]) / embedded
    bases: list[dict[str, Any]] = [{"base": "embedded", "slot": embedded, "estimated": False}]
    bases += [{"base": n, "slot": 2.0 * count, "estimated": True} for n, count in slots.items()]
    return {
        "date": today(),
        "machine": machine(),
        "products": sorted(exact),
        "pictures": PICTURES,
        "seed": SEED,
        "shipped_bits": adapter.stored_bits,
        "shipped_tolerance": adapter.stored_rank_tolerance,
        "layers": len(next(iter(exact.values()))["ranks"]),
        "forms": table,
        "ranks": [f"{a}" if a == b else f"{a}-{b}" for a, b in RANKS],
        "histogram": [
            {"tolerance": form.tolerance, "rule": form.rule, "layers": _layers(form, rows)}
            for form in FORMS
            if form.tolerance
        ],
        "token_bytes": table[0]["token_bytes"],
        "memory_bytes": fmean(row["memory_bytes"] for row in exact.values()),
        "by_product": [
            {
                "sku": sku,
                "exact": row["likeness"],
                "chosen": _find(rows, sku, shipped)["likeness"],
                "bytes": _find(rows, sku, shipped)["bytes"],
            }
            for sku, row in sorted(exact.items())
        ],
        "catalog": CATALOG,
        "catalogs": [
            base
            | {
                "small": base["slot"] * share,
                "before_gb": CATALOG * (base["slot"] + fixed) / 1e9,
                "after_gb": CATALOG * (base["slot"] * share + fixed) / 1e9,
            }
            for base in bases
        ],
    }


def _find(rows: Sequence[Mapping[str, Any]], sku: str, form: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["sku"], row["form"]) == (sku, form))


def _layers(form: Form, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """How many layers of a product have a rank of each of :data:`RANKS`."""
    own = [row["ranks"] for row in rows if row["form"] == form.name]
    return [fmean(sum(a <= r <= b for r in ranks) for ranks in own) for a, b in RANKS]


def _form(
    form: Form, rows: Sequence[Mapping[str, Any]], exact: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    own = [_find(rows, sku, form.name) for sku in exact]
    falls = [exact[row["sku"]]["likeness"] - row["likeness"] for row in own]
    mean = fmean(row["likeness"] for row in exact.values())
    colors = [
        r["color_difference"] - exact[r["sku"]]["color_difference"]
        for r in own
        if "color_difference" in r
    ]
    return {
        **asdict(form),
        "name": form.name,
        "bytes": fmean(row["bytes"] for row in own),
        "token_bytes": fmean(row["token_bytes"] for row in own),
        "rank": fmean(rank for row in own for rank in row["ranks"]),
        "error": fmean(row["error"] for row in own),
        "pixels": fmean(row["pixels"] for row in own),
        "likeness": fmean(row["likeness"] for row in own),
        "loss": fmean(falls) / mean,
        "loss_error": stdev(falls) / len(falls) ** 0.5 / mean if len(falls) > 1 else None,
        "worst": max(falls) / mean,
        "color": fmean(colors) if colors else None,
        "load_seconds": median(row["load_seconds"] for row in own),
        "load": median(r["load_seconds"] / exact[r["sku"]]["load_seconds"] for r in own),
    }


def slot_numbers(config: Mapping[str, Any]) -> int:
    """How many numbers a slot of the shipped settings has on a UNet of ``config``."""
    import torch
    from diffusers import UNet2DConditionModel

    from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion

    adapter = AdapterSettings()
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**config)
    family: Any = object.__new__(StableDiffusion)
    object.__setattr__(family, "parts", {"unet": unet})  # frozen; its other parts are not asked for
    shapes = [unet.get_submodule(name).weight.shape for name in family.trained_layers(adapter)]
    return adapter.rank * sum(map(sum, shapes))


if __name__ == "__main__":
    main()
