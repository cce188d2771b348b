"""A night's manifest as it was at a version or at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from catalog_pipeline.dates import is_day, parse_day
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import ManifestState
from catalog_pipeline.workflows.home import Home

_VERSION = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True)
class ManifestView:
    """One state of a night: its rows, sorted by image id, and its Parquet file."""

    day: date
    state: ManifestState
    rows: tuple[ArchiveRow, ...]
    parquet: bytes


def read_manifest(home: Home, day: date, as_of: str | None = None) -> ManifestView:
    """The manifest of ``day`` as of a version or a time; default the present one.

    Args:
        home: whose archive.
        day: the night.
        as_of: the beginning of a version's hash, or a time such as ``2026-03-01T12:00``
            (UTC unless it has a zone); a date alone means the end of that day. Eight
            digits that are a date, such as ``20260301``, are one.

    Raises:
        ConfigurationError: ``as_of`` is neither a version nor a time.
        ObjectNotFoundError: the night was not published then, or has no such version.
        IntegrityError: the state does not hash to its name.
    """
    archive = home.archive
    state = archive.state_as_of(day, None if as_of is None else parse_as_of(as_of))
    rows = tuple(archive.read_version(day, state.version))
    return ManifestView(day, state, rows, archive.read_version_file(day, state.version))


def parse_as_of(text: str) -> str | datetime:
    """A version's beginning as it is, or an aware time; see :func:`read_manifest`."""
    if _VERSION.fullmatch(text) and not is_day(text):
        return text
    day, *clocks = re.split(r"[Tt ](?=\d)", text.strip(), maxsplit=1)
    try:
        at = time.fromisoformat(clocks[0]) if clocks else time.max
        moment = datetime.combine(parse_day(day), at)
    except (ValueError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{text[:80]!r} is neither a version nor a time ({error}); expected the first digits "
            "of a version that `catalog-pipeline manifest --versions` lists, or a time such as "
            "2026-03-01T12:00"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # A time is shown to the second: what was published within it counts.
    return moment if moment.microsecond else moment + timedelta(seconds=1, microseconds=-1)
