"""Captions for composed scenes, in the many ways people word them."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from catalog_pipeline.studio.sprites import SpriteLabel

_OPENINGS = (
    "a photo of ",
    "a photo of ",
    "a picture of ",
    "an image of ",
    "a product shot of ",
    "a catalog image of ",
    "",
)
_BACKGROUND_SHARE = 0.75


def with_article(noun_phrase: str) -> str:
    """``a mug``, ``an orange mug``."""
    return ("an " if noun_phrase[0] in "aeiou" else "a ") + noun_phrase


def noun_phrase(label: SpriteLabel, rng: Generator) -> str:
    """The product with more or fewer of its attributes; without an article."""
    name, color, pattern = label.name, label.color, label.pattern
    if not color:
        return name
    u = rng.random()
    if pattern == "plain":
        if u < 0.15:
            return name
        return f"{color} {name}" if u < 0.85 else f"{label.finish} {color} {name}"
    if u < 0.1:
        return name
    if u < 0.22:
        return f"{pattern} {name}"
    if u < 0.4:
        return f"{color} {pattern} {name}"
    return f"{color} and {label.secondary_color} {pattern} {name}"


def caption(labels: Sequence[SpriteLabel], background: str, rng: Generator) -> str:
    """One sentence about zero to three products, given from left to right."""
    products = [with_article(noun_phrase(label, rng)) for label in labels]
    core = _arrangement(products, rng.random())
    sentence = _OPENINGS[rng.integers(len(_OPENINGS))] + core
    return f"{sentence} {background}" if rng.random() < _BACKGROUND_SHARE else sentence


def _arrangement(products: Sequence[str], u: float) -> str:
    """How the products stand; ``u`` 0..1 picks among the wordings."""
    if not products:
        return "an empty scene"
    if len(products) == 1:
        return products[0]
    if len(products) > 2:
        return ", ".join(products[:-1]) + " and " + products[-1]
    left, right = products
    wordings = (
        (0.3, f"{left} and {right}"),
        (0.4, f"{right} and {left}"),
        (0.55, f"{left} next to {right}"),
        (0.65, f"{right} next to {left}"),
        (0.85, f"{left} on the left and {right} on the right"),
        (1.0, f"{right} to the right of {left}"),
    )
    return next(wording for limit, wording in wordings if u < limit)
