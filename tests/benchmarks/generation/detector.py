"""How far the reflection score can be trusted: judged on pictures whose truth is known.

``python -m tests.benchmarks.generation.detector --data DIR --home DIR`` draws known scenes,
judges them, and writes ``detector.json`` and ``detector.png`` (what was judged wrongly) to
``--out``. Thresholds were chosen on the ``calibration`` half of the products; ``held_out``
is the half to report. Same data, same seed: same figures.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png
from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.evaluation.palettes import mean_palette, palette_of
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.reflection.score import Reflection, ReflectionJudge
from catalog_pipeline.records import Palette, Pixels
from tests.benchmarks.generation.known_products import known_products
from tests.benchmarks.generation.known_scenes import (
    KnownProduct,
    KnownScene,
    draw_known_scenes,
    split_products,
)

PER_KIND = 8
SHOWN = 48
Grain = Callable[[Sequence[Pixels]], list[Pixels]]


def measure_detector(
    data: Path, home: Path, out: Path, *, per_kind: int = PER_KIND, seed: int = 0
) -> dict[str, Any]:
    """Judge ``per_kind`` scenes of every kind and half; write JSON and contact sheet, return it.

    Args:
        data: the benchmarks' data folder.
        home: where cut-outs and features are kept.
        out: where ``detector.json`` and ``detector.png`` go.
    """
    encoder, masker = open_encoder(), ProductMasker()
    products = known_products(data, home, encoder, lambda: masker)
    judge = open_known_judge(products, encoder, masker)
    grain = autoencoder_grain()
    result: dict[str, Any] = {"per_kind": per_kind, "seed": seed, "products": len(products)}
    wrong: list[tuple[str, Pixels]] = []
    for name, half in zip(("calibration", "held_out"), split_products(products), strict=True):
        scenes = with_grain(draw_known_scenes(half, per_kind, seed), grain)
        judged = [judge.judge([scene.pixels], [scene.named])[0] for scene in scenes]
        result[name] = tabulate(scenes, judged)
        wrong += [
            (f"{name}: {scene.kind}: {mistake}", scene.pixels)
            for scene, said in zip(scenes, judged, strict=True)
            for mistake in mistakes(scene, said)
        ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "detector.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    sheet = contact_sheet(
        [[pixels] for _, pixels in wrong[:SHOWN]], captions=[text for text, _ in wrong[:SHOWN]]
    )
    (out / "detector.png").write_bytes(encode_png(sheet))
    return result


def open_known_judge(
    products: Mapping[str, KnownProduct], encoder: FeatureEncoder, masker: ProductMasker
) -> ReflectionJudge:
    """A judge who knows all ``products``, those of the other half included."""
    return ReflectionJudge(
        {sku: product.memory for sku, product in products.items()},
        {sku: product.class_noun for sku, product in products.items()},
        encoder,
        masker,
        palettes={sku: _palette(product) for sku, product in products.items() if product.sprites},
    )


def _palette(product: KnownProduct) -> Palette:
    return mean_palette(
        [palette_of(s.rgba[..., :3], s.rgba[..., 3] >= 128) for s in product.sprites]
    )


def with_grain(scenes: Sequence[KnownScene], grain: Grain) -> list[KnownScene]:
    """Every second scene through ``grain``; what is blank stays blank."""
    chosen = [i for i, scene in enumerate(scenes) if i % 2 and not scene.blank]
    grained = grain([scenes[index].pixels for index in chosen])
    changed = list(scenes)
    for index, pixels in zip(chosen, grained, strict=True):
        changed[index] = replace(scenes[index], pixels=pixels)
    return changed


def autoencoder_grain() -> Grain:
    """The embedded base's autoencoder there and back: the grain of generated pictures."""
    from catalog_pipeline.diffusion.base import load_base_model
    from catalog_pipeline.diffusion.sampling import DiffusionEngine
    from catalog_pipeline.settings import AdapterSettings, BaseModelSettings

    engine = DiffusionEngine(load_base_model(BaseModelSettings()), AdapterSettings())

    def grained(pictures: Sequence[Pixels]) -> list[Pixels]:
        return [engine.decode(engine.encode_images([picture]))[0] for picture in pictures]

    return grained


def mistakes(scene: KnownScene, said: Reflection) -> list[str]:
    """In words, what was judged wrongly of one scene: found or not, blank, colours."""
    wrong = [
        f"{finding.sku} is {truth}, judged {finding.verdict} "
        f"(likeness lead {finding.margin:.2f}, looks like {finding.looks_like or 'nothing'})"
        for finding, truth in zip(said.findings, scene.truth, strict=True)
        if (finding.verdict == "found") != (truth == "found")
    ]
    if said.blank != scene.blank:
        wrong.append(f"judged {'blank' if said.blank else 'not blank'}")
    if said.color_swap and not scene.color_swap and set(scene.truth) == {"found"}:
        wrong.append("colours judged exchanged")
    return wrong


def tabulate(scenes: Sequence[KnownScene], judged: Sequence[Reflection]) -> dict[str, Any]:
    """Accuracy, precision and recall of *found*, by kind, with the verdicts' confusion.

    Colours are judged on pictures where they are exchanged and on those where all is well.
    """
    pairs = [
        (scene, truth, finding.verdict)
        for scene, said in zip(scenes, judged, strict=True)
        for truth, finding in zip(scene.truth, said.findings, strict=True)
    ]
    # With its neighbour's colours a product may be called found or not: the flag says it.
    counted = [pair for pair in pairs if not pair[0].color_swap]
    both = [(truth == "found", verdict == "found") for _, truth, verdict in counted]
    kinds: dict[str, list[bool]] = {}
    for scene, truth, verdict in counted:
        kinds.setdefault(scene.kind, []).append((truth == "found") == (verdict == "found"))
    confusion = Counter(f"{truth} -> {verdict}" for _, truth, verdict in counted)
    swaps = [
        (scene.color_swap, said.color_swap)
        for scene, said in zip(scenes, judged, strict=True)
        if scene.color_swap or set(scene.truth) == {"found"}
    ]
    blanks = [s.blank == said.blank for s, said in zip(scenes, judged, strict=True)]
    counts = [
        said.count_error == 0
        for scene, said in zip(scenes, judged, strict=True)
        if set(scene.truth) == {"found"}
    ]
    return {
        "scenes": len(scenes),
        "verdicts": len(counted),
        "found_accuracy": _share([truth == said for truth, said in both]),
        "found_precision": _share([truth for truth, said in both if said]),
        "found_recall": _share([said for truth, said in both if truth]),
        "verdict_accuracy": _share([truth == verdict for _, truth, verdict in counted]),
        "color_swap_precision": _share([truth for truth, said in swaps if said]),
        "color_swap_recall": _share([said for truth, said in swaps if truth]),
        "blank_accuracy": _share(blanks),
        "count_accuracy": _share(counts),
        "by_kind": {kind: {"verdicts": len(r), "accuracy": _share(r)} for kind, r in kinds.items()},
        "confusion": dict(sorted(confusion.items())),
    }


def _share(right: Sequence[bool]) -> float | None:
    return round(sum(right) / len(right), 4) if right else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="default: <home>/detector")
    parser.add_argument("--per-kind", type=int, default=PER_KIND)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = measure_detector(
        options.data,
        options.home,
        options.out or options.home / "detector",
        per_kind=options.per_kind,
        seed=options.seed,
    )
    print(json.dumps(result, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
