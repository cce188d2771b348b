"""The two partition axes, ``sku`` and ``day``; nothing is ever partitioned by both.

``sku`` grows as products appear: the index and the watcher add keys, and a key
keeps its place, so that neighbours learn in one range run. ``day`` is the night
a manifest belongs to, named after the calendar day on which the night ends.
"""

import os
from datetime import date
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from catalog_pipeline.errors import ConfigurationError

TIMEZONE_ENV = "CATALOG_PIPELINE_TIMEZONE"
FIRST_DAY_ENV = "CATALOG_PIPELINE_FIRST_DAY"
DEFAULT_FIRST_DAY = date(2026, 1, 1)


def schedule_timezone() -> str:
    """The time zone of schedules and nights: ``$CATALOG_PIPELINE_TIMEZONE``, else UTC.

    Raises:
        ConfigurationError: the variable holds no IANA name.
    """
    name = os.environ.get(TIMEZONE_ENV) or "UTC"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(
            f"{TIMEZONE_ENV}={name!r} is not a time zone; expected an IANA name such as "
            "'Asia/Tokyo'; correct it or unset it for UTC"
        ) from error
    return name


def first_day() -> date:
    """The first night that the UI lists: ``$CATALOG_PIPELINE_FIRST_DAY``, else a fixed day.

    Raises:
        ConfigurationError: the variable holds no date.
    """
    text = os.environ.get(FIRST_DAY_ENV)
    if not text:
        return DEFAULT_FIRST_DAY
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{FIRST_DAY_ENV}={text!r} is not a date; expected YYYY-MM-DD; correct it or unset it"
        ) from error


sku_partitions = dg.DynamicPartitionsDefinition(name="sku")

day_partitions = dg.DailyPartitionsDefinition(
    start_date=first_day().isoformat(),
    timezone=schedule_timezone(),
    # The night that starts at 02:30 belongs to today, so today must be a partition.
    end_offset=1,
)
