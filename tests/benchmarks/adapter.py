"""Which weights should a concept move? Slots per concept against one shared slot, same everything.

Learns a few products in sequence with each variant in a home of its own and measures every
product again after the last task. Writes ``docs/benchmarks/adapter.{md,json}``. A variant that
is finished is not run again.

    python -m tests.benchmarks.adapter --data DIR [--home build/adapter] [--steps 120]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from catalog_pipeline.settings import CatalogSettings, LearningSettings, Settings
from tests.benchmarks.first_light import DOCS, REPOSITORY, write_products

VARIANTS: dict[str, dict[str, Any]] = {
    "slots per concept (default)": {"adapter": {"slots": "per_concept"}},
    "shared slot, replay 0.1 + distillation 1 + prior 1": {"adapter": {"slots": "shared"}},
    "shared slot, no memory": {
        "adapter": {"slots": "shared"},
        "losses": {"prior_weight": 0, "replay_weight": 0, "distillation_weight": 0},
    },
}


def main() -> None:
    """Run every unfinished variant, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=REPOSITORY / "build" / "adapter")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--products", type=int, default=4, help="real photo folders, by name")
    options = parser.parse_args()
    results = {}
    for index, (name, changes) in enumerate(VARIANTS.items()):
        done = options.home / f"variant-{index}.json"
        if not done.exists():
            settings = make_settings(options, options.home / f"variant-{index}", changes)
            facts = run_variant(settings)
            done.write_text(json.dumps(facts), "utf-8")
        results[name] = json.loads(done.read_text("utf-8"))
        print(name, {k: v for k, v in results[name].items() if k != "products"}, flush=True)
    write_table(options, results)


def make_settings(options: argparse.Namespace, home: Path, changes: dict[str, Any]) -> Settings:
    """Settings of one variant over products written to its own home."""
    write_products(options.data, home / "products", options.products, household=0)
    # The gates stay open: a benchmark wants to see the fall, not to be stopped by it.
    gates = {
        "gate_min_fidelity_share": 0.0,
        "gate_max_forgetting": 9.0,
        "gate_max_prior_drift": 9.0,
    }
    learning = {"steps": options.steps, **gates, **changes}
    return Settings(
        home=home,
        config_dir=home,
        catalog=CatalogSettings(settle_seconds=0),
        learning=LearningSettings.model_validate(learning),
    )


def run_variant(settings: Settings) -> dict[str, Any]:
    """Learn every product in turn, then render and score each under the last version."""
    from catalog_pipeline.diffusion.parts import install_part
    from catalog_pipeline.evaluation.retention import cosine_to_photos
    from catalog_pipeline.stores.memory import decode_memory
    from catalog_pipeline.workflows.gate import render_samples
    from catalog_pipeline.workflows.home import open_home
    from catalog_pipeline.workflows.learn_concepts import learn_concepts
    from catalog_pipeline.workflows.learning_inputs import open_tools
    from catalog_pipeline.workflows.refresh_index import refresh_index

    refresh_index(settings)
    started = time.process_time()
    outcomes = list(learn_concepts(settings))
    cpu_seconds = time.process_time() - started
    assert all(o.status != "failed" for o in outcomes), [o.reason for o in outcomes]
    store = open_home(settings).adapters("default")
    version = store.current()
    assert version is not None
    tools = open_tools(settings)
    shared = "shared" in version.parts
    if shared:
        install_part(tools.engine, store.read_part(version.parts["shared"]), slot="shared")
    products = []
    for concept in sorted(version.concepts, key=lambda c: c.task):
        data = store.read_part(version.parts[f"concept/{concept.sku}"])
        slot = "shared" if shared else concept.sku
        install_part(
            tools.engine, data, slot=None if shared else slot, tokens=concept.placeholder_tokens
        )
        count, seed = settings.learning.gate_images, settings.learning.seed
        samples = render_samples(tools, concept, slot, count, seed)
        memory = decode_memory(store.read_part(version.parts[f"memory/{concept.sku}"]))
        final = float(cosine_to_photos(tools.encoder.encode(samples), memory.features))
        own = concept.metrics["fidelity"]
        products.append({"sku": concept.sku, "own": own, "final": round(final, 4)})
    own, final = (float(np.mean([p[key] for p in products])) for key in ("own", "final"))
    return {
        "own": round(own, 3),
        "final": round(final, 3),
        "forgetting": round(own - final, 4),
        "cpu_seconds_a_product": round(cpu_seconds / len(products), 1),
        "products": products,
    }


def write_table(options: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    """``docs/benchmarks/adapter.md`` and ``.json``."""
    target = DOCS / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    (target / "adapter.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    first = next(iter(results.values()))
    lines = [
        "# Which weights a concept moves",
        "",
        f"Command: `make bench-adapter` · {datetime.now(UTC).date()} · {os.cpu_count()} cores, "
        f"{platform.machine()}, no accelerator · seed 0 · one run · {options.steps} steps · "
        f"{len(first['products'])} real products in sequence.",
        "",
        "Fidelity: mean-centred MobileNetV2 cosine of 8 pictures (4 prompts) to the product's own "
        "photos, right after its task and after the last task. CPU seconds are of the process "
        "over all cores, learning, memory and gate together.",
        "",
        "| variant | after own task | final | forgetting | CPU s a product |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = (row["own"], row["final"], row["forgetting"], row["cpu_seconds_a_product"])
        lines.append(f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", "| product | " + " | ".join(f"{name}: own → final" for name in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    for index, product in enumerate(first["products"]):
        cells = [r["products"][index] for r in results.values()]
        shown = " | ".join(f"{c['own']:.3f} → {c['final']:.3f}" for c in cells)
        lines.append(f"| {product['sku']} | {shown} |")
    (target / "adapter.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
