"""How like two pictures are: pixel by pixel, and to an encoder that no attack has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from catalog_pipeline.evaluation.features import FeatureEncoder, _square
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.records import Features, Photo, Pixels

SIDE_PX = 128


def squared(pixels: Pixels) -> Pixels:
    """As the memory's encoder sees it: whole, on a square of its border's colour."""
    return np.asarray(_square(pixels, SIDE_PX))


def ssim(one: Pixels, two: Pixels) -> float:
    """Structural similarity of the grey pictures, -1..1: Wang et al., IEEE TIP 13 (2004)."""
    grey = [squared(picture).astype(np.float64).mean(axis=2) for picture in (one, two)]
    return float(structural_similarity(*grey, data_range=255.0))


def psnr(one: Pixels, two: Pixels) -> float:
    """In decibels; 30 and more is hard to tell from the original."""
    return float(peak_signal_noise_ratio(squared(one), squared(two), data_range=255))


def crop_of_photo(photo: Photo) -> Pixels | None:
    """The product alone on white; ``None`` without a mask."""
    if photo.mask is None or not (photo.mask > 127).any():
        return None
    return alone_on_white(photo.pixels, photo.mask > 127)


def crop_of_picture(picture: Pixels, masker: ProductMasker) -> Pixels | None:
    """The same of a generated picture; ``None`` where no product is found."""
    found = masker.mask(picture)
    return alone_on_white(picture, found.mask > 127) if found.usable else None


def nearest(one: Features, others: Features) -> np.ndarray:
    """The greatest cosine of each row of ``one`` to any of ``others``."""
    return np.asarray((one @ others.T).max(axis=1))


def flat(pixels: Pixels) -> Pixels:
    """A picture of the mean colour alone: what knowing no more than that is worth."""
    small = squared(pixels)
    return np.full_like(small, np.rint(small.reshape(-1, 3).mean(axis=0)).astype(np.uint8))


def encode(encoder: FeatureEncoder, pictures: Sequence[Pixels]) -> Features:
    """Of squares, so that every picture has the same resolution."""
    return encoder.encode([squared(picture) for picture in pictures])
