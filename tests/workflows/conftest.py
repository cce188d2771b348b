"""Fixtures of every journey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from catalog_pipeline.records import Pixels
from tests.workflows.killed_learning import KilledLearning

_OPENED: dict[str, dict[str, Any]] = {}
_ENCODED: dict[tuple[Any, ...], Any] = {}


@pytest.fixture(autouse=True, scope="module")
def _features_are_computed_once() -> Iterator[None]:
    """As masks are: the packaged networks do not change, and the same photos return."""
    from catalog_pipeline.evaluation.features import PooledEncoder

    open_network, encode = PooledEncoder.__init__, PooledEncoder.encode

    def opened_once(self: PooledEncoder, name: str) -> None:
        if name not in _OPENED:
            open_network(self, name)
            _OPENED[name] = dict(vars(self))
        vars(self).update(_OPENED[name])

    def encoded_once(self: PooledEncoder, images: Sequence[Pixels]) -> Any:
        # By whole batches: a picture's features may differ by rounding beside others.
        key = (self.name, *((image.shape, image.tobytes()) for image in images))
        if key not in _ENCODED:
            _ENCODED[key] = encode(self, images)
        return _ENCODED[key].copy()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PooledEncoder, "__init__", opened_once)
        patched.setattr(PooledEncoder, "encode", encoded_once)
        yield


@pytest.fixture(scope="session")
def killed_learning() -> Iterator[KilledLearning]:
    """Learns in a process of its own until a kill; one that is imported from a session."""
    with KilledLearning() as killed:
        yield killed
