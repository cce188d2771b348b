from __future__ import annotations

import itertools

import numpy as np
import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.studio.patterns import BASE_PATTERNS, UNSEEN_PATTERNS, pattern_marks
from catalog_pipeline.studio.product import Emblem
from catalog_pipeline.studio.shapes import Points

_ALL = BASE_PATTERNS + UNSEEN_PATTERNS


def _cylinder_surface(radius: float = 0.5, half_height: float = 0.5) -> Points:
    angle, y = np.meshgrid(np.linspace(-np.pi, np.pi, 240), np.linspace(-1, 1, 80) * half_height)
    return np.stack([radius * np.sin(angle), y, radius * np.cos(angle)]).reshape(3, -1)


def test_the_base_model_never_sees_the_unseen_patterns() -> None:
    assert not set(BASE_PATTERNS) & set(UNSEEN_PATTERNS)
    assert set(UNSEEN_PATTERNS) == {"zigzag", "star", "hearts", "diagonal"}


def test_plain_marks_nothing_and_every_other_pattern_shows_both_colours() -> None:
    surface = _cylinder_surface()
    assert not pattern_marks("plain", surface).any()
    for pattern in set(_ALL) - {"plain"}:
        assert 0.05 < pattern_marks(pattern, surface).mean() < 0.95, pattern


def test_every_two_patterns_differ_clearly() -> None:
    surface = _cylinder_surface()
    marks = {pattern: pattern_marks(pattern, surface) for pattern in _ALL}
    for first, second in itertools.combinations(_ALL, 2):
        assert (marks[first] != marks[second]).mean() > 0.05, (first, second)


@pytest.mark.parametrize("pattern", ["zigzag", "diagonal", "hearts", "star"])
def test_unseen_patterns_have_no_seam_at_the_back(pattern: str) -> None:
    angle, y = np.full(400, np.pi - 1e-6), np.linspace(-0.5, 0.5, 400)
    left = np.stack([0.5 * np.sin(angle), y, 0.5 * np.cos(angle)])
    right = left * np.array([[-1.0], [1.0], [1.0]])
    emblem = Emblem(around=4)
    differing = pattern_marks(pattern, left, emblem=emblem) != pattern_marks(
        pattern, right, emblem=emblem
    )
    assert differing.mean() < 0.02


@pytest.mark.parametrize("face", ["front", "top", "side"])
def test_a_star_stays_within_its_emblem(face: str) -> None:
    surface = np.random.default_rng(0).uniform(-1, 1, (3, 5000))
    emblem = Emblem(center_x=0.1, center_y=0.2, radius=0.3, face=face)  # type: ignore[arg-type]
    marked = surface[:, pattern_marks("star", surface, emblem=emblem)]
    right, up = {"front": (0, 1), "top": (0, 2), "side": (2, 1)}[face]
    rise = -marked[up] if face == "top" else marked[up]
    assert marked.shape[1] > 50
    assert (np.hypot(marked[right] - 0.1, rise - 0.2) <= 0.3 + 1e-9).all()


def test_an_unknown_pattern_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'tartan'.*plain, striped.*diagonal"):
        pattern_marks("tartan", _cylinder_surface())
