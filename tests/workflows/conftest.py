"""Fixtures of every journey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workflows.killed_learning import KilledLearning


@pytest.fixture(scope="session")
def killed_learning() -> Iterator[KilledLearning]:
    """Learns in a process of its own until a kill; one that is imported from a session."""
    with KilledLearning() as killed:
        yield killed
