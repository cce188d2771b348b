"""The two partition axes, ``sku`` and ``day``; nothing is ever partitioned by both.

``sku`` grows as products appear: the index and the watcher add keys, and a key
keeps its place, so that neighbours learn in one range run; :mod:`.sku_shards` divides
them into sets. ``day`` is the night a manifest belongs to, named after the calendar day on
which the night ends.
"""

import logging
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from catalog_pipeline.dates import parse_day
from catalog_pipeline.errors import CatalogPipelineError, ConfigurationError
from catalog_pipeline.settings import environment, load_settings
from catalog_pipeline.workflows.first_night import first_night

TIMEZONE_ENV = "CATALOG_PIPELINE_TIMEZONE"
FIRST_DAY_ENV = "CATALOG_PIPELINE_FIRST_DAY"


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
    """The first night that the UI lists: ``$CATALOG_PIPELINE_FIRST_DAY``, else the home's first.

    That is the oldest night of the home, before it the day of the first learning, before that
    today: no night is listed as missing that nobody could have rendered. A home that cannot be
    read now (a bucket that is away, settings with an error) gives today, and a warning: the
    definitions must load all the same, and every run says what is wrong.

    Raises:
        ConfigurationError: the variable holds no date, or one that is yet to come.
    """
    zone = ZoneInfo(schedule_timezone())
    today = datetime.now(zone).date()
    text = environment(FIRST_DAY_ENV)
    if text is None:
        try:
            return min(first_night(load_settings(), zone) or today, today)
        except CatalogPipelineError as error:
            logging.getLogger(__name__).warning(
                "the first night of the home is not known, so today is taken (reload later, or set "
                "%s): %s",
                FIRST_DAY_ENV,
                error,
            )
            return today
    try:
        day = parse_day(text.strip())
    except ConfigurationError as error:
        raise ConfigurationError(f"{FIRST_DAY_ENV}: {error}; correct it or unset it") from error
    if day > today:
        raise ConfigurationError(
            f"{FIRST_DAY_ENV}={text!r} is yet to come, so no night could be rendered; expected a "
            "day that has begun; correct it or unset it"
        )
    return day


day_partitions = dg.DailyPartitionsDefinition(
    start_date=first_day().isoformat(),
    timezone=schedule_timezone(),
    # The night that starts at 02:30 belongs to today, so today must be a partition.
    end_offset=1,
)
