"""The part ``curve/<sku>``: the training loss over steps, kept with the version.

Safetensors with ``steps`` (points,) int64 and ``losses`` (points,) float64, each loss the
mean over the steps since the point before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.records import AdapterVersion, curve_part
from catalog_pipeline.stores.adapters import AdapterStore

LossCurve = list[tuple[int, float]]


def encode_curve(curve: Sequence[tuple[int, float]]) -> bytes:
    """Bytes of ``(step, loss)`` points; the same points give the same bytes."""
    steps = np.array([step for step, _ in curve], np.int64)
    losses = np.array([loss for _, loss in curve], np.float64)
    return save({"losses": losses, "steps": steps})


def decode_curve(data: bytes) -> LossCurve:
    """The points of :func:`encode_curve`.

    Raises:
        IntegrityError: not a loss curve.
    """
    try:
        tensors = load(data)
        points = zip(tensors["steps"].tolist(), tensors["losses"].tolist(), strict=True)
        return [(int(step), float(loss)) for step, loss in points]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"{len(data)} bytes are not a loss curve ({error}); expected the tensors 'steps' and "
            "'losses'; learn the SKU again or roll back"
        ) from error


def read_curve(store: AdapterStore, version: AdapterVersion, sku: str) -> LossCurve:
    """How the loss of ``sku`` fell in ``version``; ``[]`` where it was not kept."""
    name = curve_part(sku)
    return decode_curve(store.read_part(version.parts[name])) if name in version.parts else []
