"""``fidelity.md``, ``fidelity.json`` and the contact sheet, from what a home holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_jpeg
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.studio.sample_products import SAMPLE_PRODUCTS
from catalog_pipeline.workflows.night.crop_scores import crop_faults
from tests.benchmarks.fidelity.blind import read_judgement
from tests.benchmarks.fidelity.cells import read_scenes
from tests.benchmarks.fidelity.paint import VARIANTS
from tests.benchmarks.fidelity.scenes import SUITES
from tests.benchmarks.harness.cells import read_json
from tests.benchmarks.harness.report import first_photo, machine, today, write_json, write_page

TEMPLATE = Path(__file__).with_name("fidelity.md.j2")
KINDS = ("real", "studio", "household")
MEANING = {
    "plain": "plain cut-out",
    "bare": "anchored, bare base",
}
SHOWN = ("plain", "learned", "anchored 0.6", "exact")
SHEET_BYTES = 900_000
SHOWN_SCENES = {"singles": 12, "pairs": 5, "triples": 3, "five": 2}
_CELL_PX = 224
MAX_TEXT_ERROR = 0.05
_STUDIO = {product.sku for product in SAMPLE_PRODUCTS}


def kind_of(sku: str) -> str:
    """``real``, ``studio`` or ``household``."""
    if sku.startswith("household-"):
        return "household"
    return "studio" if sku in _STUDIO else "real"


def write_report(home: Path, out: Path, products: Path, note: str = "") -> None:
    """Write all files of the report.

    Args:
        home: the bench's home.
        out: where the files go.
        products: the folder of the learned products' photos.
        note: what a reader of the tables must know.
    """
    scenes = read_scenes(home)
    facts: dict[str, Any] = {
        "date": today(),
        "machine": machine(),
        "note": note,
        "products": {kind: _figures(_of_kind(scenes, kind)) for kind in (*KINDS, "all")},
        "found": _found(scenes),
        "scenes": {suite: sum(s["suite"] == suite for s in scenes) for suite in SUITES},
        "one_scene": _one_scene(scenes),
        "speed": _speed(read_json(home / "speed.json")),
        "labels": _labels(read_json(home / "labels.json")),
        "without": read_json(home / "without.json"),
        "by_product": _by_product(scenes),
        "blind": read_judgement(),
    }
    facts["targets"] = _targets(facts)
    write_json(out / "fidelity.json", facts, digits=4)
    write_page(out, TEMPLATE, **facts, variants=VARIANTS, meaning=MEANING)
    (out / "fidelity.jpg").write_bytes(_sheet(home, scenes, products))


def _targets(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What was asked for, and what was measured: name, target, figure."""
    real, every = facts["products"]["real"], facts["products"]["all"]
    found, speed = facts["found"], facts["speed"]
    rows: list[tuple[str, str, str]] = []
    if real:
        least = real["learned"]["share"] + 0.15
        name = "crop likeness / ceiling, real products"
        for variant, bound in (("anchored 0.6", f"{least:.2f} (learned + .15)"), ("exact", ".95")):
            placed, found_share = real[variant]["placed_share"], real[variant]["share"]
            figure = f"{placed or 0:.2f} where placed, {found_share:.2f} as found by the mask"
            rows.append((f"{name}, {variant}", f">= {bound}", figure))
    for variant, most in (("anchored 0.6", 8), ("exact", 3)) if every else ():
        name = f"CIEDE2000 of the product, median, {variant}"
        rows.append((name, f"<= {most}", f"{every[variant]['delta_e']:.1f}"))
    if facts["labels"]:
        name = "character error above the photo's own reading, exact"
        rows.append((name, "<= 5 %", f"{facts['labels']['mean']:.1%}"))
    for suite, bound in (("pairs", ".98"), ("triples", ".95"), ("five", ".90")):
        if suite in found:
            share = found[suite]["exact"]
            figure = f"{share['crops_pass']:.2f} by crops, {share['every']:.2f} by the judge"
            rows.append(
                (f"every product found, one attempt, exact, {suite}", f">= {bound}", figure)
            )
    for mode, limit in (("anchored", "1.0"), ("exact", "1.2")):
        for suite in ("singles", "pairs"):
            if suite in speed:
                name = f"seconds a picture against learned, {mode}, {suite}"
                rows.append((name, f"<= {limit}", f"{speed[suite][mode]:.2f}"))
    return rows


def _of_kind(scenes: Iterable[Mapping[str, Any]], kind: str) -> list[tuple[str, Any, str]]:
    """``(variant, scene, sku)`` of every painted product of a kind."""
    return [
        (variant, scene, sku)
        for scene in scenes
        for variant in scene["variants"]
        for sku in scene["skus"]
        if kind in (kind_of(sku), "all")
    ]


def _figures(rows: Iterable[tuple[str, Any, str]]) -> dict[str, dict[str, float | int | None]]:
    """Of each variant: likeness, its share of the ceiling, colour and text."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for variant, scene, sku in rows:
        of = values[variant]
        figures, ceiling = scene["variants"][variant], scene["ceilings"][sku]
        if ceiling is not None:
            of["likeness"].append(figures["likeness"][sku])
            of["ceiling"].append(ceiling)
            if sku in figures.get("placed_likeness", {}):
                of["placed"].append(figures["placed_likeness"][sku])
        for name in ("delta_e", "text_error", "halo"):
            if figures.get(name, {}).get(sku) is not None:
                of[name].append(figures[name][sku])
    return {
        variant: {
            "products": len(of["likeness"]),
            "likeness": _mean(of["likeness"]),
            "share": sum(of["likeness"]) / sum(of["ceiling"]) if of["ceiling"] else None,
            "placed_share": sum(of["placed"]) / sum(of["ceiling"]) if of["placed"] else None,
            "delta_e": _median(of["delta_e"]),
            "labels": len(of["text_error"]),
            "text_error": _mean(of["text_error"]),
            "halo": _median(of["halo"]),
        }
        for variant, of in values.items()
    }


def _found(scenes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each suite and variant: pictures with every product found, and products found."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for suite in SUITES:
        rows = [scene for scene in scenes if scene["suite"] == suite]
        for variant in VARIANTS if rows else ():
            verdicts = [scene["variants"][variant]["found"] for scene in rows]
            each = [found == "found" for one in verdicts for found in one.values()]
            every = [all(found == "found" for found in one.values()) for one in verdicts]
            crops = [_crops_pass(scene["skus"], scene["variants"][variant]) for scene in rows]
            table.setdefault(suite, {})[variant] = {
                "each": float(np.mean(each)),
                "every": float(np.mean(every)),
                "crops_pass": None if variant == "learned" else float(np.mean(crops)),
            }
    return table


def _crops_pass(skus: Sequence[str], figures: Mapping[str, Any]) -> bool:
    """Whether the shipped bounds leave every product of a picture."""
    scores = {
        f"{kind}/{sku}": value
        for kind in ("visible", "delta_e", "text_error", "halo", "crop_likeness")
        for sku, value in figures.get(kind, {}).items()
    }
    return not crop_faults(skus, scores, QualitySettings())


def _one_scene(scenes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each variant the means of the measures that tell a scene from a collage."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scene in scenes:
        for variant, figures in scene["variants"].items():
            for name, value in figures.get("one_scene", {}).items():
                values[variant][name].append(value)
    return {v: {name: float(np.mean(row)) for name, row in of.items()} for v, of in values.items()}


def _speed(seconds: Mapping[str, Sequence[float]] | None) -> dict[str, dict[str, float]]:
    """``{suite: {mode: ratio to learned}}``, medians; ``cut``: seconds a photo."""
    table: dict[str, dict[str, float]] = {}
    for name, row in (seconds or {}).items():
        suite, _, mode = name.partition(" ")
        if not mode:
            table["cut"] = {"seconds": _median(row) or 0.0}
            continue
        pairs = zip(row, (seconds or {})[f"{suite} learned"], strict=True)
        table.setdefault(suite, {})[mode] = float(np.median([a / b for a, b in pairs]))
        if mode == "learned":
            table[suite]["seconds"] = float(np.median(row))
    return table


def _labels(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, float | int] | None:
    """Character errors of labels in exact pictures, above their photos' own readings."""
    if not rows:
        return None
    errors = [row["error"] for row in rows]
    return {
        "products": len(errors),
        "mean": float(np.mean(errors)),
        "median": float(np.median(errors)),
        "right": float(np.mean([error <= MAX_TEXT_ERROR for error in errors])),
    }


def _by_product(scenes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Of each product: the share of its ceiling, learned and exact, over every scene."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scene in scenes:
        for sku in scene["skus"]:
            if not scene["ceilings"][sku]:
                continue
            for variant in ("learned", "anchored 0.6", "exact"):
                likeness = scene["variants"][variant]["likeness"][sku]
                rows[sku][variant].append(likeness / scene["ceilings"][sku])
    return {sku: {v: _mean(row) for v, row in of.items()} for sku, of in sorted(rows.items())}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _sheet(home: Path, scenes: Sequence[Mapping[str, Any]], products: Path) -> bytes:
    """A line a scene: photos of its products, then the ways of making it."""
    lines: list[list[Pixels]] = []
    for suite, count in SHOWN_SCENES.items():
        rows = [s for s in scenes if s["suite"] == suite and s["seed"] == 0]
        # Evenly over the set, and so over the kinds of products.
        for scene in rows[:: max(1, len(rows) // count)][:count]:
            folder = home / "pictures" / f"{suite}-0-{'+'.join(scene['skus'])}"
            photos = [first_photo(products / sku) for sku in scene["skus"]]
            pictures = [np.asarray(Image.open(folder / f"{name}.png")) for name in SHOWN]
            lines.append([_beside(photos), *map(_fit, pictures)])
    titles = [_written(name) for name in ("photos", *SHOWN)]
    sheet = contact_sheet([titles, *lines], cell_px=_CELL_PX, square=True)
    return encode_jpeg(sheet[_CELL_PX - 26 :], SHEET_BYTES, quality=85)


def _beside(photos: Sequence[Pixels]) -> Pixels:
    columns = 1 if len(photos) == 1 else 2 if len(photos) < 5 else 3
    lines = [photos[i : i + columns] for i in range(0, len(photos), columns)]
    return _fit(contact_sheet(lines, cell_px=_CELL_PX // columns - 2, square=True))


def _fit(picture: Pixels) -> Pixels:
    """A picture in the middle of a white cell."""
    image = Image.fromarray(picture)
    scale = _CELL_PX / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), 1)
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), "white")
    cell.paste(image, ((_CELL_PX - image.width) // 2, (_CELL_PX - image.height) // 2))
    return np.asarray(cell)


def _written(text: str) -> Pixels:
    image = Image.new("RGB", (_CELL_PX, _CELL_PX), "white")
    font = ImageFont.load_default(size=15)
    words = re.sub(r"^plain$", "cut-out alone", text)
    ImageDraw.Draw(image).text((6, _CELL_PX - 22), words, font=font, fill=(30, 34, 42))
    return np.asarray(image)
