"""Arrays that cross rooms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""An RGB picture, ``(height, width, 3)``, 0..255."""

Features = npt.NDArray[np.float32]
"""Image features, ``(images, features)``, L2-normalised."""

Palette = npt.NDArray[np.float32]
"""Shares of the colours of a product, ``(colours,)``, summing to 1."""
