"""Scenes that start from real photos: an empty scene, the products placed in it, redrawn.

The base renders the scene without products; the cut-outs of ``RenderJob.anchors`` are placed
in it; the result is noised to ``strength`` and denoised with the products' slots and regions
as always (SDEdit, arXiv:2108.01073, with a route a region). The redraw spills beyond the
products and blurs what passes through the autoencoder. So of it the final picture takes,
outside the products, the shade alone; and inside them, in an ``exact`` scene, the light alone,
with the photos' own pixels at the size of the photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.compositing import (
    Floats,
    Layer,
    box_px,
    compose,
    enlarge,
    ground_shadow,
    light_on,
    place,
    shade_on,
    to_floats,
    to_pixels,
    visible,
)
from catalog_pipeline.records import Cutout, Pixels, Region, RenderJob

Cutouts = Mapping[str, Cutout]
"""SHA-256 of a photo -> the product of it."""

_SEEN, _WHOLE = 0.5, 0.98
"""Opacity from which a pixel belongs to a product, and from which it is the product's alone."""

_EDGE_PX = 0.6
"""Softness of the border between redraw and empty scene, at the size of the base."""


def output_size(job: RenderJob) -> tuple[int, int]:
    """Width and height of the picture of ``job``: an exact one has ``output_scale`` of them."""
    scale = job.output_scale if job.mode == "exact" else 1
    return job.width * scale, job.height * scale


def place_anchors(job: RenderJob, cutouts: Cutouts, width: int, height: int) -> list[Layer]:
    """The products of ``job`` in a picture of ``width`` by ``height`` pixels.

    Raises:
        GenerationError: the cut-out of a photo is missing.
    """
    missing = [anchor.key for anchor in job.anchors if anchor.sha256 not in cutouts]
    if missing or len(job.anchors) != len(job.skus):
        raise GenerationError(
            f"an {job.mode} scene of {', '.join(job.skus)} has {len(job.anchors)} photos, no "
            f"cut-out of {', '.join(missing) or 'the others'}; plan the night again"
        )
    return [place(cutouts[anchor.sha256], anchor.box, width, height) for anchor in job.anchors]


def pixel_box(box: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of ``box`` in a picture, inside it; the latter two exclusive."""
    left, top, right, bottom = box_px(box, width, height)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def real_pixels(job: RenderJob, cutouts: Cutouts) -> float:
    """Share of the products' visible pixels that are the photos' own: all but the soft edge.

    0 for pictures that are not exact: there every pixel is redrawn.
    """
    if job.mode != "exact":
        return 0.0
    shown = visible(place_anchors(job, cutouts, *output_size(job)))
    seen = sum(int((opacity >= _SEEN).sum()) for opacity in shown)
    return sum(int((opacity >= _WHOLE).sum()) for opacity in shown) / max(1, seen)


@dataclass(frozen=True, eq=False)
class PlacedScene:
    """An empty scene, the products in it at the size of the base, and what denoising starts from.

    ``scene`` and ``start`` are ``(height, width, 3)``.
    """

    job: RenderJob
    cutouts: Cutouts
    scene: Floats
    layers: Sequence[Layer]
    shadow: Floats

    @property
    def start(self) -> Pixels:
        """The products on the ground of the empty scene."""
        return to_pixels(compose(self.scene, self.layers, self.shadow))

    def finish(self, drawn: Pixels, given: Pixels) -> Pixels:
        """The picture, from the redraw of :attr:`start`.

        Args:
            drawn: :attr:`start`, noised and denoised.
            given: :attr:`start` through the autoencoder alone.
        """
        redraw = to_floats(drawn)
        shade = shade_on(redraw, self.scene * self.shadow[..., None], self.layers)
        if self.job.mode != "exact":
            return self._redrawn(redraw, shade)
        width, height = output_size(self.job)
        layers = []
        own = place_anchors(self.job, self.cutouts, width, height)
        for small, large in zip(self.layers, own, strict=True):
            light = enlarge(light_on(redraw, to_floats(given), small), width, height)
            layers.append(Layer(large.color * light, large.opacity, large.box))
        scene = enlarge(self.scene, width, height)
        shadow = ground_shadow(layers) * enlarge(shade, width, height)
        return to_pixels(compose(scene, layers, shadow))

    def _redrawn(self, redraw: Floats, shade: Floats) -> Pixels:
        """The redraw where products stand, a pixel beyond them too, else the empty scene."""
        product = np.max([layer.opacity for layer in self.layers], axis=0)
        inside = np.clip(2 * gaussian_filter(product, _EDGE_PX), 0, 1)[..., None]
        ground = self.scene * (self.shadow * shade)[..., None]
        return to_pixels(redraw * inside + ground * (1 - inside))


def place_in(scene: Pixels, job: RenderJob, cutouts: Cutouts) -> PlacedScene:
    """The products of ``job`` in the empty ``scene``."""
    layers = place_anchors(job, cutouts, job.width, job.height)
    return PlacedScene(job, cutouts, to_floats(scene), layers, ground_shadow(layers))
