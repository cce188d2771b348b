"""The states of one night's manifest over time, and which of them was in force when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from catalog_pipeline.errors import ObjectNotFoundError, StoreError


@dataclass(frozen=True)
class ManifestState:
    """One state of a night; ``version`` and ``previous`` are the SHA-256 of Parquet files.

    ``published_utc`` is when the store took the immutable copy; a home that was copied
    without its times (``cp`` without ``-p``, a sync between buckets) has those of the copy.
    """

    version: str
    previous: str
    published_utc: datetime
    rows: int
    superseded: int


def state_as_of(
    states: Sequence[ManifestState], day: date, as_of: str | datetime | None
) -> ManifestState:
    """Of ``states``, oldest first, the one that ``as_of`` means; see the archive."""
    if not states:
        raise ObjectNotFoundError(f"{day} has no manifest; publish the night first")
    if as_of is None:
        return states[-1]
    if isinstance(as_of, str):
        return _by_version(states, day, as_of)
    if as_of.tzinfo is None:
        raise StoreError(f"the time {as_of.isoformat()} has no zone; expected an aware time")
    in_force = [state for state in states if state.published_utc <= as_of]
    if not in_force:
        raise ObjectNotFoundError(
            f"{day} had no manifest at {as_of.isoformat()}; its first state is of "
            f"{states[0].published_utc:%Y-%m-%dT%H:%M:%S}Z"
        )
    return in_force[-1]


def _by_version(states: Sequence[ManifestState], day: date, version: str) -> ManifestState:
    found = [state for state in states if version and state.version.startswith(version)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(state.version[:12] for state in (found or states))
    if found:
        raise StoreError(f"{version!r} is not one version of {day}: {known}; give more of it")
    raise ObjectNotFoundError(f"{day} has no version {version!r}; expected one of {known}")
