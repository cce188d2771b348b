"""The colours that products come in; a colour's name is the word that captions use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Color = tuple[int, int, int]
"""Red, green, blue, 0..255."""

PALETTE: Mapping[str, Color] = MappingProxyType(
    {
        "red": (205, 38, 40),
        "orange": (240, 130, 30),
        "yellow": (245, 205, 50),
        "green": (48, 150, 70),
        "teal": (30, 150, 150),
        "blue": (40, 90, 200),
        "navy": (25, 35, 95),
        "purple": (125, 60, 170),
        "pink": (240, 130, 170),
        "brown": (120, 75, 45),
        "black": (35, 35, 38),
        "gray": (130, 130, 135),
        "white": (238, 238, 235),
        "beige": (220, 195, 155),
    }
)
"""Its order is part of the recipe: random products pick colours by position."""
