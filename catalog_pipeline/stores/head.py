"""The head of a collection: which version is served, and who may move it.

``HEAD.json`` holds what changes together by compare-and-swap::

    version        the promoted AdapterVersion, null before the first
    fence          the fencing token that promoted it
    issued_fence   the newest token handed out
    rollbacks      how often a person moved it; absent before the first time

Every lease and every rollback draws ``issued_fence + 1`` in the same object that a
promotion replaces. A holder that was overtaken therefore loses its compare-and-swap,
even when it slept through the expiry of its lease.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from catalog_pipeline.errors import ConflictError, IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.objects import ObjectStore, until_won


@dataclass(frozen=True)
class Head:
    """The promoted version of a collection, and the fencing token that promoted it.

    ``rollbacks`` tells whoever trained beside others that what they started from was left.
    """

    version: str
    fence: int
    rollbacks: int = 0


@dataclass(frozen=True)
class _State:
    version: str | None
    fence: int
    issued_fence: int
    rollbacks: int = 0

    @property
    def head(self) -> Head | None:
        return None if self.version is None else Head(self.version, self.fence, self.rollbacks)


class HeadObject:
    """``HEAD.json`` of one collection; compare-and-swap only."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._objects = objects
        self._key = key

    def read(self) -> Head | None:
        """The promoted head, ``None`` before the first promotion."""
        state, _ = self._read()
        return state.head

    def issue_fence(self) -> int:
        """A token larger than every one before; earlier holders can no longer promote."""

        def attempt() -> int:
            state, token = self._read()
            fence = state.issued_fence + 1
            self._write(replace(state, issued_fence=fence), token)
            return fence

        return until_won(attempt, self._key)

    def promote(self, version: str, expected: str | None, fence: int) -> Head:
        """Move the head from ``expected`` to ``version``; see ``AdapterStore.promote``."""
        state, token = self._read()
        if fence != state.issued_fence:
            raise ConflictError(
                f"cannot promote {version} with fence {fence}: the newest fence of {self._key} is "
                f"{state.issued_fence}, so another run or a rollback took over; learn again"
            )
        if state.version == version and state.fence == fence:
            return Head(version, fence, state.rollbacks)
        if state.version != expected:
            raise ConflictError(
                f"cannot promote {version}: {self._key} is at {state.version}, expected "
                f"{expected}; learn again from the present head"
            )
        self._write(replace(state, version=version, fence=fence), token)
        return Head(version, fence, state.rollbacks)

    def move(self, version: str) -> Head:
        """Put the head on ``version`` whatever it was, with a new fence; no-op when there."""

        def attempt() -> Head:
            state, token = self._read()
            if state.version == version:
                return Head(version, state.fence, state.rollbacks)
            fence = state.issued_fence + 1
            self._write(_State(version, fence, fence, state.rollbacks + 1), token)
            return Head(version, fence, state.rollbacks + 1)

        return until_won(attempt, self._key)

    def _read(self) -> tuple[_State, str | None]:
        try:
            stored = self._objects.read(self._key)
        except ObjectNotFoundError:
            return _State(None, 0, 0), None
        try:
            content = json.loads(stored.data)
            version = content["version"]
            state = _State(
                None if version is None else str(version),
                int(content["fence"]),
                int(content["issued_fence"]),
                int(content.get("rollbacks", 0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{self._objects.uri(self._key)} is not a head ({error}); expected JSON with "
                "version, fence and issued_fence; restore it, or delete it and roll back to a "
                "known version"
            ) from error
        return state, stored.version

    def _write(self, state: _State, token: str | None) -> None:
        content = {
            "fence": state.fence,
            "issued_fence": state.issued_fence,
            "version": state.version,
        }
        if state.rollbacks:
            content["rollbacks"] = state.rollbacks
        data = json.dumps(content, sort_keys=True).encode() + b"\n"
        self._objects.compare_and_swap(self._key, data, token)
