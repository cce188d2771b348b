"""Which real photos are taken for scenes, against what a person saw; a sheet of the cut-outs.

``labels.json`` says of each photo whether its cut-out is the product alone and whole, by eye.
Prints precision and recall, the doubtful ones by name, and the seconds a photo; writes a sheet
a product, cut-outs on magenta and on near black, a red bar over what was refused.

    python -m tests.benchmarks.anchor_photos --data DIR [--out build/anchor-photos]
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from catalog_pipeline.catalog.decoding import decode_photo
from catalog_pipeline.evaluation.anchor_photos import judge_photos
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.matting import cut_out_product
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import JudgedPhoto, Photo
from catalog_pipeline.settings import CatalogSettings
from tests.benchmarks.harness.home import BUILD, make_parser

LABELS = Path(__file__).with_name("labels.json")
SIDE = 320
GROUNDS = ((255, 0, 255), (20, 20, 24))


def main() -> None:
    parser = make_parser("anchor_photos", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=BUILD / "anchor-photos")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    masker, encoder = ProductMasker(), open_encoder()
    verdicts: list[tuple[bool, bool]] = []  # taken, good
    judging = cutting = 0.0
    for product, labels in json.loads(LABELS.read_text("utf-8")).items():
        photos = [read(options.data / "photos" / product / name) for name in labels]
        started = time.perf_counter()
        judged = judge_photos(photos, masker, encoder)
        judging += time.perf_counter() - started
        for one, good in zip(judged, (label == "good" for label in labels.values()), strict=True):
            verdicts.append((one.usable, good))
            if one.usable != good:
                print(f"{one.key}: {'bad' if one.usable else 'good'}, {one.reason or 'taken'}")
        started = time.perf_counter()
        sheet(photos, judged, masker).save(options.out / f"{product}.png")
        cutting += time.perf_counter() - started
    taken, good = (sum(pair[side] for pair in verdicts) for side in (0, 1))
    both = sum(all(pair) for pair in verdicts)
    count = len(verdicts)
    print(f"precision {both}/{taken} = {both / max(1, taken):.1%}, recall {both}/{good} = "
          f"{both / max(1, good):.1%} of {count} photos")  # fmt: skip
    print(f"{judging / count:.2f} s a photo to judge, {cutting / count:.2f} s to cut out")


def read(path: Path) -> Photo:
    """A photo as the catalog reads it, at its working size."""
    decoded = decode_photo(path.read_bytes(), CatalogSettings())
    return Photo(f"{path.parent.name}/{path.name}", "", decoded.pixels, decoded.mask)


def sheet(photos: list[Photo], judged: list[JudgedPhoto], masker: ProductMasker) -> Image.Image:
    """A column a photo, a row a ground; nothing where no product is seen."""
    page = Image.new("RGB", (SIDE * len(photos), SIDE * len(GROUNDS)), "white")
    for column, (photo, one) in enumerate(zip(photos, judged, strict=True)):
        if not one.height_px:
            continue
        cutout = Image.fromarray(cut_out_product(photo, masker).rgba)
        cutout.thumbnail((SIDE - 20, SIDE - 20))
        for row, ground in enumerate(GROUNDS):
            tile = np.full((SIDE, SIDE, 3), ground, np.uint8)
            tile[: 8 * (not one.usable)] = (220, 0, 0)
            page.paste(Image.fromarray(tile), (column * SIDE, row * SIDE))
            page.paste(cutout, (column * SIDE + 10, row * SIDE + 12), cutout)
    return page


if __name__ == "__main__":
    main()
