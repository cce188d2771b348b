"""The noise of DP-SGD, against known accountants and by its own shape."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.learning.privacy import epsilon_of, noise_multiplier_for
from catalog_pipeline.settings import LearningSettings, PrivacySettings


def test_the_plain_gaussian_is_the_closed_form() -> None:
    """Every record in every step: R(a) = a / (2 sigma^2) a step."""
    sigma, steps, delta = 4.0, 10, 1e-5
    best = min(
        steps * a / (2 * sigma**2) + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1)
        for a in range(2, 64)
    )
    assert epsilon_of(sigma, 1.0, steps, delta) == pytest.approx(best)


def test_a_slow_sum_gives_the_same_divergence() -> None:
    sigma, rate, steps, delta = 1.3, 0.1, 50, 1e-5

    def divergence(a: int) -> float:
        total = sum(
            math.comb(a, k) * (1 - rate) ** (a - k) * rate**k * math.exp((k * k - k) / 2 / sigma**2)
            for k in range(a + 1)
        )
        return math.log(total) / (a - 1)

    best = min(
        steps * divergence(a) + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1)
        for a in range(2, 30)
    )
    assert epsilon_of(sigma, rate, steps, delta) == pytest.approx(best, rel=1e-6)


def test_without_noise_nothing_is_kept_and_with_endless_noise_all() -> None:
    assert epsilon_of(0.0, 0.1, 10, 1e-5) == math.inf
    assert epsilon_of(1e5, 0.1, 10, 1e-5) < 0.02
    assert noise_multiplier_for(1e-4, 1.0, 10**6, 1e-9) == math.inf


@settings(max_examples=20)
@given(
    epsilon=st.floats(0.2, 20),
    rate=st.sampled_from([0.001, 0.02, 0.5, 1.0]),
    steps=st.integers(1, 2000),
)
def test_the_multiplier_is_the_least_that_is_enough(epsilon: float, rate: float, steps: int):
    sigma = noise_multiplier_for(epsilon, rate, steps, 1e-5)
    assert epsilon_of(sigma, rate, steps, 1e-5) <= epsilon
    assert epsilon_of(sigma * 0.998, rate, steps, 1e-5) > epsilon or sigma < 1e-2


def test_the_noise_that_the_page_names_is_what_the_shipped_settings_need() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/governance/privacy.md").read_text("utf-8")
    learning, privacy = LearningSettings(), PrivacySettings()
    assert f"{learning.steps} steps\nof {learning.batch_size} photos, delta 1e-5" in page
    rows = re.findall(r"^\| ([\d,]+).*?\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for photos, *told in rows:
        rate = learning.batch_size / int(photos.replace(",", ""))
        for epsilon, noise in zip((1.0, 3.0, 8.0), told, strict=True):
            found = noise_multiplier_for(epsilon, rate, learning.steps, privacy.delta)
            assert f"{found:.{len(noise.partition('.')[2])}f}" == noise, (photos, epsilon)
