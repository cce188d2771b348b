"""By when an asset of the nightly line must have been made, else the UI calls it overdue."""

from datetime import timedelta

import dagster as dg

from catalog_pipeline.defs.partitions import schedule_timezone


def every_night(*, from_hour: int, until_hour: int) -> dg.FreshnessPolicy:
    """Made since ``from_hour`` by ``until_hour``, every day, in the time zone of the schedules."""
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"0 {until_hour} * * *",
        lower_bound_delta=timedelta(hours=until_hour - from_hour),
        timezone=schedule_timezone(),
    )
