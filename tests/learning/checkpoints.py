"""A checkpoint that outlives the training it is of, as a process would leave it."""

from __future__ import annotations


class MemoryCheckpoint:
    """The last state that a task wrote."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data
