"""A training that is killed, and a checkpoint that outlives it."""

from __future__ import annotations


class Killed(BaseException):
    """The end of a process."""


class MemoryCheckpoint:
    """The last state that a task wrote."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data
