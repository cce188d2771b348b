"""The two partition axes, ``sku`` and ``day``; nothing is ever partitioned by both.

``sku`` grows as products appear: the index and the watcher add keys, and a key
keeps its place, so that neighbours learn in one range run. ``day`` is the night
a manifest belongs to, named after the calendar day on which the night ends.
"""

from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from catalog_pipeline.dates import parse_day
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import environment

TIMEZONE_ENV = "CATALOG_PIPELINE_TIMEZONE"
FIRST_DAY_ENV = "CATALOG_PIPELINE_FIRST_DAY"
DEFAULT_FIRST_DAY = date(2026, 1, 1)


def schedule_timezone() -> str:
    """The time zone of schedules and nights: ``$CATALOG_PIPELINE_TIMEZONE``, else UTC.

    Raises:
        ConfigurationError: the variable holds no IANA name.
    """
    name = environment(TIMEZONE_ENV) or "UTC"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{TIMEZONE_ENV}={name!r} is not a time zone; expected an IANA name such as "
            "'Asia/Tokyo'; correct it or unset it for UTC"
        ) from error
    return name


def first_day() -> date:
    """The first night that the UI lists: ``$CATALOG_PIPELINE_FIRST_DAY``, else a fixed day.

    Raises:
        ConfigurationError: the variable holds no date, or one that is yet to come.
    """
    text = environment(FIRST_DAY_ENV)
    if text is None:
        return DEFAULT_FIRST_DAY
    try:
        day = parse_day(text.strip())
    except ConfigurationError as error:
        raise ConfigurationError(f"{FIRST_DAY_ENV}: {error}; correct it or unset it") from error
    if day > datetime.now(ZoneInfo(schedule_timezone())).date():
        raise ConfigurationError(
            f"{FIRST_DAY_ENV}={text!r} is yet to come, so no night could be rendered; expected a "
            "day that has begun; correct it or unset it"
        )
    return day


sku_partitions = dg.DynamicPartitionsDefinition(name="sku")

day_partitions = dg.DailyPartitionsDefinition(
    start_date=first_day().isoformat(),
    timezone=schedule_timezone(),
    # The night that starts at 02:30 belongs to today, so today must be a partition.
    end_offset=1,
)
