"""How pages and commands tell an amount: with its unit, and never as ``5e-05``."""

from __future__ import annotations

NONE = "–"
_LEAST = 0.0001
"""Of money and energy: less is told as less."""


def money(value: float | None, currency: str) -> str:
    """``12.30 EUR``; of less than 1 three figures; ``< 0.0001 EUR``; a dash for none."""
    return NONE if value is None else f"{_small(value, 2)} {currency}"


def price(value: float, currency: str) -> str:
    """As it was set, never rounded: ``0.10 EUR``, ``0.025 EUR``."""
    amount = f"{value:.2f}" if round(value, 2) == value else f"{value:.10g}"
    return f"{amount} {currency}"


def energy(kwh: float) -> str:
    """``12.3 kWh``; of less than 1 three figures; ``< 0.0001 kWh``."""
    return f"{_small(kwh, 1)} kWh"


def took(seconds: float | None) -> str:
    """``0.4 s``, ``90 s``, ``12.5 min``, ``3.4 h``; a dash for none."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def size(stored_bytes: float | None) -> str:
    """``412 kB``; a dash for none."""
    if stored_bytes is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if stored_bytes < 999.5:
            return f"{stored_bytes:.3g} {unit}"
        stored_bytes /= 1000
    return f"{stored_bytes:,.4g} TB"


def count(value: float) -> str:
    """``1,234``; ``30.5`` for a mean."""
    return f"{value:,.1f}".removesuffix(".0")


def _small(value: float, decimals: int) -> str:
    if 0 < abs(value) < _LEAST:
        return f"< {_LEAST:g}" if value > 0 else f"> -{_LEAST:g}"
    if 0 < abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.{decimals}f}"
