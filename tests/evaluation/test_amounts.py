"""Amounts as a manager reads them."""

from __future__ import annotations

import pytest

from catalog_pipeline.evaluation.amounts import count, energy, money, price, size, took


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (money(None, "EUR"), "–"),
        (money(0.0, "EUR"), "0.00 EUR"),
        (money(0.000591, "EUR"), "0.000591 EUR"),
        (money(2e-5, "EUR"), "< 0.0001 EUR"),
        (money(-2e-5, "EUR"), "> -0.0001 EUR"),
        (money(-12.345, "CHF"), "-12.35 CHF"),
        (money(2481273.91, "EUR"), "2,481,273.91 EUR"),
        (price(0.1, "EUR"), "0.10 EUR"),
        (price(0.025, "EUR"), "0.025 EUR"),
        (energy(5.56e-5), "< 0.0001 kWh"),
        (energy(0.00417), "0.00417 kWh"),
        (energy(42345.6), "42,345.6 kWh"),
        (took(0.4), "0.4 s"),
        (took(90), "90 s"),
        (took(750), "12.5 min"),
        (took(12240), "3.4 h"),
        (size(None), "–"),
        (size(999.6), "1 kB"),
        (size(412_000), "412 kB"),
        (size(1.5e15), "1,500 TB"),
        (count(1234), "1,234"),
        (count(30.5), "30.5"),
    ],
)
def test_an_amount_has_its_unit_and_no_exponent(told: str, expected: str) -> None:
    assert told == expected
