"""What one photo shows, in figures: sharpness, light, what stands out in it, how it looks.

Measured once a photo; :mod:`catalog_pipeline.evaluation.photo_curation` compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import label
from skimage.measure import blur_effect

from catalog_pipeline.evaluation.features import FeatureEncoder
from catalog_pipeline.evaluation.matting import box_of
from catalog_pipeline.evaluation.palettes import OPAQUE
from catalog_pipeline.evaluation.product_mask import ProductMasker, arm_share, judged
from catalog_pipeline.records import Photo, Pixels

Hashes = npt.NDArray[np.bool_]
"""Perceptual hashes of a photo and of its frames a little smaller, ``(10, 256)``."""

Row = npt.NDArray[np.float32]
"""One feature, ``(width,)``, L2-normalised."""

HASH_SIDE = 16
_HASHED_PX = 128
_TRIM = 0.02
"""How much of a side an editor is thought to cut off when a picture is saved again."""
_COARSE_SIDE = 8
_FEWEST_PX = 24
"""Of a side, for the blur measure, which smooths over 11 pixels."""
_EDGE_PX = 3
_PIECES_PX = 96
_FULL = 254


@dataclass(frozen=True, eq=False)
class PhotoSigns:
    """Figures of one photo; shares are in [0, 1].

    Attributes:
        key: of the photo.
        pixels: how many it has at the catalog's working size.
        hashes: of the whole and of nine frames of 98 % of its sides.
        colours: ``(8, 8, 3)``, 0..255: what a hash, which sees light alone, leaves out.
        blur: 0 sharp to 1 blurred (Crété et al. 2007), of the picture or of the product in
            it, whichever is sharper: a blurred room behind a sharp product is no fault.
        brightest: luma of the brightest hundredth, of white.
        contrast: between the brightest and the darkest hundredth, of white to black.
        burnt_out: of the product's pixels, how many are at the upper end of a channel; a white
            ground does not count.
        seen: something stands out, and the network is sure what.
        cut: pixels of what stands out on the photo's edge, over the root of its area.
        arm: of what stands out, how much is skin that comes in over the edge.
        skin: of the whole photo, how much is skin that comes in over the edge, or looks like it.
        second: area of the second largest thing that stands out, over that of the largest.
        product: feature of what stands out, on grey; of the picture where nothing does.
        picture: feature of the whole picture.
    """

    key: str
    pixels: int
    hashes: Hashes
    colours: npt.NDArray[np.int16]
    blur: float
    brightest: float
    contrast: float
    burnt_out: float
    seen: bool
    cut: float
    arm: float
    skin: float
    second: float
    product: Row = field(repr=False)
    picture: Row = field(repr=False)


def read_signs(photo: Photo, masker: ProductMasker, encoder: FeatureEncoder) -> PhotoSigns:
    """Measure one photo; deterministic. A file's own mask is believed."""
    verdict = judged(photo.mask) if photo.mask is not None else masker.mask(photo.pixels)
    inside = verdict.mask >= OPAQUE
    image = Image.fromarray(photo.pixels)
    luma = np.asarray(image.convert("L"), np.float64)
    full = photo.pixels.max(axis=-1) >= _FULL
    darkest, brightest = (float(value) / 255 for value in np.percentile(luma, (1, 99)))
    box = box_of(inside, 0.05) if inside.any() else (slice(None), slice(None))
    crop = _on_grey(photo.pixels, verdict.mask, box) if inside.any() else photo.pixels
    product, picture = encoder.encode([crop, photo.pixels])
    cut_out = photo.mask is not None
    return PhotoSigns(
        key=photo.key,
        pixels=luma.size,
        hashes=np.array(list(_hashes(image))),
        colours=_colours(image),
        blur=min(_blur(luma), _blur(luma[box])),
        brightest=brightest,
        contrast=brightest - darkest,
        burnt_out=float(full[inside].mean()) if inside.any() else float(full.mean()),
        seen=bool(inside.any()) and (cut_out or verdict.usable),
        cut=0.0 if cut_out else _cut(inside),
        arm=0.0 if cut_out else arm_share(photo.pixels, verdict.mask),
        skin=0.0 if cut_out else arm_share(photo.pixels, np.full_like(verdict.mask, 255)),
        second=0.0 if cut_out else _second(verdict.mask),
        product=product,
        picture=picture,
    )


def _hashes(image: Image.Image) -> Iterator[Hashes]:
    """The whole picture, then frames in a 3 x 3 grid: one of them is what an editor left."""
    import imagehash

    small = image.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX)
    side = (1 - _TRIM) * _HASHED_PX
    starts = [step * _TRIM * _HASHED_PX for step in (0, 0.5, 1)]
    frames = [(left, top, left + side, top + side) for left in starts for top in starts]
    for box in ((0, 0, _HASHED_PX, _HASHED_PX), *frames):
        frame = small.resize(small.size, Image.Resampling.BICUBIC, box=box)
        found: Hashes = imagehash.phash(frame, hash_size=HASH_SIDE).hash.ravel()
        yield found


def _colours(image: Image.Image) -> npt.NDArray[np.int16]:
    side = (_COARSE_SIDE, _COARSE_SIDE)
    return np.asarray(image.resize(side, Image.Resampling.BOX), np.int16)


def _blur(luma: npt.NDArray[np.float64]) -> float:
    """1 where there is too little to tell, which leaves the verdict to the other measure."""
    if min(luma.shape) < _FEWEST_PX or np.ptp(luma) == 0:
        return 1.0
    return float(blur_effect(luma))


def _on_grey(pixels: Pixels, mask: npt.NDArray[np.uint8], box: tuple[slice, slice]) -> Pixels:
    opacity = mask[box][..., None] / 255.0
    return np.rint(pixels[box] * opacity + 128 * (1 - opacity)).astype(np.uint8)


def _cut(inside: npt.NDArray[np.bool_]) -> float:
    if not inside.any():
        return 0.0
    edge = inside.copy()
    edge[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = False
    return float(edge.sum() / _EDGE_PX / np.sqrt(inside.sum()))


def _second(mask: npt.NDArray[np.uint8]) -> float:
    small = Image.fromarray(mask)
    small.thumbnail((_PIECES_PX, _PIECES_PX), Image.Resampling.BOX)
    pieces, count = label(np.asarray(small) >= OPAQUE)
    areas = np.sort(np.bincount(pieces.ravel())[1:])
    return float(areas[-2] / areas[-1]) if count > 1 else 0.0
