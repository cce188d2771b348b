"""Sphere tracing: a product and a view to a picture on nothing, alpha included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from catalog_pipeline.studio.camera import View, camera_rays, light_direction
from catalog_pipeline.studio.patterns import pattern_marks
from catalog_pipeline.studio.product import Product
from catalog_pipeline.studio.shapes import Distances, Points, Shape, union

Rgba = npt.NDArray[np.uint8]
"""``(height, width, 4)``, straight alpha; alpha 0 where nothing is."""

_NEAR, _FAR = 2.0, 5.6  # every product lies between them, seen from the camera
_BLOCK_RAYS = 8192  # rays handled at once: their arrays stay in the cache
_TRACE_STEPS, _SHADOW_STEPS = 60, 14
_STEP_SHARE = 0.85  # some shapes only estimate their distance
_HIT, _NORMAL_OFFSET = 0.003, 0.004
_AXES = np.eye(3)[:, :, None]


def render_product(
    product: Product, view: View, side_px: int = 128, supersampling: int = 2
) -> Rgba:
    """The product alone, ``(side_px, side_px, 4)``.

    Each pixel averages ``supersampling ** 2`` rays; alpha is the share that hit.
    """
    shape = union(*(part.shape for part in product.parts))
    eye, directions = camera_rays(view, side_px * supersampling)
    light = light_direction(view)
    samples = np.zeros((directions.shape[1], 4), np.float32)
    for start in range(0, directions.shape[1], _BLOCK_RAYS):
        rays = directions[:, start : start + _BLOCK_RAYS]
        hits, distances = _trace(shape, eye, rays)
        if hits.size:
            rays = rays[:, hits]
            color = _shade(product, shape, eye + distances * rays, rays, light)
            samples[start + hits, :3] = (np.clip(color, 0, 1) ** (1 / 1.12)).T
            samples[start + hits, 3] = 1
    return _average(samples.reshape(side_px, supersampling, side_px, supersampling, 4))


def _trace(shape: Shape, eye: Points, directions: Points) -> tuple[npt.NDArray[np.intp], Distances]:
    """Indices of the rays that hit, and how far along each the surface is."""
    count = directions.shape[1]
    travelled = np.full(count, _NEAR)
    hit = np.zeros(count, bool)
    alive = np.arange(count)
    for _ in range(_TRACE_STEPS):
        if not alive.size:
            break
        gap = shape(eye + travelled[alive] * directions[:, alive])
        travelled[alive] += gap * _STEP_SHARE
        arrived = gap < _HIT
        hit[alive[arrived]] = True
        alive = alive[~arrived & (travelled[alive] < _FAR)]
    hits = np.flatnonzero(hit)
    return hits, travelled[hits]


def _shade(
    product: Product, shape: Shape, points: Points, rays: Points, light: Points
) -> npt.NDArray[np.float64]:
    """Linear colour ``(3, points)``: ambient, diffuse, highlight and a faint rim."""
    normals = _normals(shape, points)
    albedo, gloss = _surface(product, points)
    shadow = _soft_shadow(shape, points + normals * 0.02, light)
    occlusion = np.clip(0.5 + 0.5 * shape(points + normals * 0.18) / 0.18, 0.3, 1)
    diffuse = np.clip(_dot(normals, light), 0, 1) * (0.35 + 0.65 * shadow)
    halfway = light - rays
    halfway /= np.linalg.norm(halfway, axis=0)
    highlight = np.clip(_dot(normals, halfway), 0, 1) ** 40 * gloss * shadow
    rim = (1 - np.abs(_dot(normals, rays))) ** 3 * 0.12
    lit = albedo * (0.42 * occlusion + 0.72 * diffuse) + highlight * 0.8
    return np.asarray(lit + rim * (0.5 + 0.5 * normals[1]))


def _dot(a: Points, b: Points) -> Distances:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _normals(shape: Shape, points: Points) -> Points:
    """Unit gradient of the distance, by central differences."""
    steps = _AXES * _NORMAL_OFFSET  # (axis, 3, 1)
    gradient = np.stack([shape(points + step) - shape(points - step) for step in steps])
    return np.asarray(gradient / (np.linalg.norm(gradient, axis=0) + 1e-9))


def _surface(product: Product, points: Points) -> tuple[npt.NDArray[np.float64], Distances]:
    """Colour ``(3, points)`` 0..1 and gloss ``(points,)`` of the nearest part."""
    owner = np.argmin(np.stack([part.shape(points) for part in product.parts]), axis=0)
    albedo, gloss = np.zeros(points.shape), np.zeros(points.shape[1])
    secondary = _unit(product.secondary)
    for index, part in enumerate(product.parts):
        mine = np.flatnonzero(owner == index)
        albedo[:, mine] = _unit(part.color)
        gloss[mine] = product.gloss if part.gloss is None else part.gloss
        if part.painted and mine.size:
            marks = pattern_marks(
                product.pattern, points[:, mine], product.pattern_frequency, part.emblem
            )
            albedo[:, mine[marks]] = secondary
    return albedo, gloss


def _unit(color: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    return np.array(color)[:, None] / 255.0  # (3, 1)


def _soft_shadow(shape: Shape, origin: Points, light: Points) -> Distances:
    """1 in the light, 0 in full shadow, between where the ray to the lamp passes close by."""
    share = np.ones(origin.shape[1])
    travelled = np.full(origin.shape[1], 0.06)
    for _ in range(_SHADOW_STEPS):
        gap = shape(origin + travelled * light)
        share = np.minimum(share, np.clip(8 * gap / travelled, 0, 1))
        travelled += np.clip(gap, 0.03, 0.3)
    return share


def _average(samples: npt.NDArray[np.float32]) -> Rgba:
    """``(height, s, width, s, 4)`` samples to pixels; colour averages over hits only."""
    alpha = samples[..., 3].mean((1, 3))
    covered = np.maximum(samples[..., 3].sum((1, 3)), 1e-6)
    rgb = (samples[..., :3] * samples[..., 3:]).sum((1, 3)) / covered[..., None]
    return (np.concatenate([rgb, alpha[..., None]], -1) * 255 + 0.5).astype(np.uint8)
