"""Days as people write them: one reader for the command line and the environment."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from catalog_pipeline.errors import ConfigurationError

FIRST_YEAR, LAST_YEAR = 1970, 2999
"""Far from both ends of the calendar: weeks can be counted back and forth from any night."""

_ISO = re.compile(r"(\d{4})(-?)(\d\d)\2(\d\d)", re.ASCII)
_GAP = r"[^0-9A-Za-z]{1,2}"
_REST = r"(?:\D.*)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}}){_GAP}(\d\d?){_GAP}(\d\d?){_REST}", re.ASCII | re.DOTALL)
_YEAR_LAST = re.compile(rf"(\d\d?){_GAP}(\d\d?){_GAP}(\d{{4}}){_REST}", re.ASCII | re.DOTALL)
_WORDS = {"yesterday": -1, "today": 0, "tonight": 0, "now": 0, "tomorrow": 1}


def parse_day(text: str) -> date:
    """The day that ``text`` names: ``2026-01-31`` or ``20260131``.

    Raises:
        ConfigurationError: anything else, with the day that was probably meant, or a year
            outside 1970 to 2999.
    """
    found = _ISO.fullmatch(text)
    day = _day(found[1], found[3], found[4]) if found else None
    if day is None:
        meant = _probable_day(text)
        hint = f"; did you mean {meant}?" if meant else ""
        raise ConfigurationError(
            f"{text[:80]!r} is not a date; expected YYYY-MM-DD such as 2026-01-31{hint}"
        )
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ConfigurationError(
            f"{text!r} is out of range; expected a day of the years {FIRST_YEAR} to {LAST_YEAR}"
        )
    return day


def is_day(text: str) -> bool:
    """Whether :func:`parse_day` takes ``text``."""
    try:
        parse_day(text)
    except ConfigurationError:
        return False
    return True


def _probable_day(text: str) -> date | None:
    """The one reading of another spelling; ``None`` where there is none, or more than one."""
    text = text.strip()
    if text.lower() in _WORDS:
        return (datetime.now(UTC) + timedelta(days=_WORDS[text.lower()])).date()
    if found := _YEAR_FIRST.fullmatch(text):
        return _day(*found.groups())
    if found := _YEAR_LAST.fullmatch(text):
        first, second, year = found.groups()
        day_first, month_first = _day(year, second, first), _day(year, first, second)
        if "." in text or month_first in (None, day_first):  # nobody writes 6.30.2026
            return day_first
        return month_first if day_first is None else None
    return None


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
