"""The command line: the same workflows as the Dagster jobs, without Dagster.

``commands`` declares the commands of every day and the other modules the rest, ``report`` turns
what workflows return into lines of text, ``progress`` shows how far a workflow is, ``failures``
decides exit codes. Nothing heavy (torch, pandas, pyarrow) is imported before a command runs.
"""

from catalog_pipeline.cli import (
    audit,
    capacity,
    data,
    encryption,
    feeds,
    first_try,
    provenance,
    reports,
    studies,
    upkeep,
)  # they register commands
from catalog_pipeline.cli.commands import app

__all__ = [
    "app",
    "audit",
    "capacity",
    "data",
    "encryption",
    "feeds",
    "first_try",
    "provenance",
    "reports",
    "studies",
    "upkeep",
]
