"""Make the constants that centre the packaged encoders' features.

The centre is the mean of two population means, so that neither real photos nor
rendered pictures stand for the average picture alone:

* the mean over products of the mean feature of each product's photos, and
* the mean feature of pictures that the embedded base model made from general
  prompts, before it learned any product.

Run ``python -m catalog_pipeline.evaluation.centring PHOTOS RENDERED`` with a
folder of one folder per product, and a folder of rendered pictures. Changing a
centre changes every fidelity ever reported, so it is done with a new encoder
name or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from catalog_pipeline.evaluation.features import PACKAGED_ENCODERS, pooled_features
from catalog_pipeline.evaluation.packaged_weights import packaged_file
from catalog_pipeline.records import Features, Pixels

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def centre_of(products: Sequence[Features], rendered: Features) -> Features:
    """``(mean over products of their mean + mean of rendered) / 2``, ``(width,)``.

    Args:
        products: uncentred features of each product's photos, ``(photos, width)`` each.
        rendered: uncentred features of rendered pictures, ``(pictures, width)``.
    """
    photos = np.mean([product.mean(axis=0) for product in products], axis=0)
    centre: Features = ((photos + rendered.mean(axis=0)) / 2.0).astype(np.float32)
    return centre


def _pictures(folder: Path) -> list[Pixels]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    return [np.asarray(ImageOps.exif_transpose(Image.open(p)).convert("RGB")) for p in paths]


def main() -> None:
    """Write ``centres/<encoder>.npy`` (float16) beside this module for each encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path, help="one folder per product")
    parser.add_argument("rendered", type=Path, help="pictures made by the base model")
    options = parser.parse_args()
    products = [_pictures(folder) for folder in sorted(options.photos.iterdir()) if folder.is_dir()]
    rendered = _pictures(options.rendered)
    target = Path(__file__).parent / "centres"
    target.mkdir(exist_ok=True)
    for name, source in PACKAGED_ENCODERS.items():
        network = source.build().eval()
        weights = packaged_file(source.module, source.distribution, source.weights)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        centre = centre_of(
            [pooled_features(network, product) for product in products],
            pooled_features(network, rendered),
        )
        np.save(target / f"{name}.npy", centre.astype(np.float16), allow_pickle=False)
        print(f"{name}: {len(products)} products, {len(rendered)} rendered, "
              f"length {np.linalg.norm(centre):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
