"""The camera: from where a product is seen, and the rays of one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalog_pipeline.studio.shapes import Points

_DISTANCE = 3.6
_HALF_FIELD = 0.36  # tangent of half the field of view at zoom 1


@dataclass(frozen=True)
class View:
    """A camera that looks at the origin, and the lamp it carries.

    Angles in radians: ``azimuth`` turns the camera to the product's left or right
    (0 sees its front), ``elevation`` lifts it, ``light_azimuth`` is relative to it.
    At ``zoom`` 1 every family fits into the frame, also from the side.
    """

    azimuth: float = 0.5
    elevation: float = 0.35
    light_azimuth: float = 0.8
    zoom: float = 1.0


def camera_rays(view: View, side_px: int) -> tuple[Points, Points]:
    """The eye ``(3, 1)`` and one unit direction per pixel, ``(3, side_px * side_px)``.

    Pixels run row by row from the top left.
    """
    across = (np.arange(side_px) + 0.5) / side_px * 2 - 1
    x, y = np.meshgrid(across, -across)
    sin_azimuth, cos_azimuth = np.sin(view.azimuth), np.cos(view.azimuth)
    sin_elevation, cos_elevation = np.sin(view.elevation), np.cos(view.elevation)
    forward = -np.array([sin_azimuth * cos_elevation, sin_elevation, cos_azimuth * cos_elevation])
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = _HALF_FIELD / view.zoom
    directions = forward[:, None] + half * (x.ravel() * right[:, None] + y.ravel() * up[:, None])
    directions /= np.linalg.norm(directions, axis=0)
    return -forward[:, None] * _DISTANCE, directions


def light_direction(view: View) -> Points:
    """Unit vector ``(3, 1)`` towards the lamp."""
    turn = view.light_azimuth + view.azimuth
    light = np.array([np.sin(turn) * 0.6, 0.75, np.cos(turn) * 0.6])
    return np.asarray(light / np.linalg.norm(light))[:, None]
