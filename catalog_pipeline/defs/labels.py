"""What every asset, check, job, schedule and sensor is labelled with, so that the UI can filter.

A new definition takes its labels from here; a test asks every one for owners, kinds, tags, a
code version and a description of its grain, its partitions and its readers.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypedDict

import dagster as dg

from catalog_pipeline import __version__
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import environment

OWNERS_ENV = "CATALOG_PIPELINE_OWNERS"
DEFAULT_OWNERS = ("team:catalog",)
STAGE_TAG = "stage"
COST_TAG = "cost"

_OWNER = re.compile(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+")


class AssetLabels(TypedDict):
    """Arguments of ``@dg.asset``."""

    group_name: str
    owners: list[str]
    kinds: set[str]
    tags: dict[str, str]
    code_version: str


class CheckLabels(TypedDict):
    """The argument of a check that may say anything."""

    metadata: dict[str, Any]


class JobLabels(TypedDict):
    """Arguments of a job."""

    owners: list[str]
    tags: dict[str, str]


class AutomationLabels(TypedDict):
    """Arguments of a schedule or a sensor."""

    owners: list[str]
    metadata: dict[str, Any]


def owners() -> list[str]:
    """Who answers for the line: ``$CATALOG_PIPELINE_OWNERS``, separated by commas.

    Raises:
        ConfigurationError: an entry is neither ``team:<name>`` nor an e-mail address.
    """
    text = environment(OWNERS_ENV)
    if text is None:
        return list(DEFAULT_OWNERS)
    named = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in named:
        if not _OWNER.fullmatch(entry):
            raise ConfigurationError(
                f"{OWNERS_ENV}: {entry!r} is no owner; expected team:<name> or an e-mail address, "
                "several separated by commas; correct it or unset it"
            )
    return named or list(DEFAULT_OWNERS)


def asset_labels(stage: str, *, kinds: Collection[str], cost: str) -> AssetLabels:
    """Arguments of ``@dg.asset``: group, owners, kinds, tags and the version of the code.

    Args:
        stage: the group: ``catalog``, ``learning``, ``generation`` or ``archive``.
        kinds: what it is made with, as the UI's icons name it.
        cost: ``seconds`` or ``minutes``: what one materialization takes.
    """
    return {
        "group_name": stage,
        "owners": owners(),
        "kinds": set(kinds),
        "tags": {STAGE_TAG: stage, COST_TAG: cost},
        "code_version": __version__,
    }


def check_labels(stage: str, *, kinds: Collection[str]) -> CheckLabels:
    """The argument ``metadata`` of a check, which has no fields of its own for these."""
    return {
        "metadata": {
            "owners": ", ".join(owners()),
            "kinds": ", ".join(sorted(kinds)),
            STAGE_TAG: stage,
            "code_version": __version__,
        }
    }


def job_labels(stage: str) -> JobLabels:
    """Arguments of a job: owners, and a tag that its runs carry, too."""
    return {"owners": owners(), "tags": {STAGE_TAG: stage}}


def automation_labels(stage: str) -> AutomationLabels:
    """Arguments of a schedule or a sensor: owners, and what it belongs to."""
    return {"owners": owners(), "metadata": {STAGE_TAG: stage}}


def column_schema(schema_name: str) -> Mapping[str, Any]:
    """``dagster/column_schema`` of a published table, with what each column holds.

    Args:
        schema_name: ``catalog_index``, ``image_manifest`` or ``learning_log``.
    """
    from catalog_pipeline.stores import columns

    schema = {
        "catalog_index": columns.INDEX_SCHEMA,
        "image_manifest": columns.MANIFEST_SCHEMA,
        "learning_log": columns.LEARNING_SCHEMA,
    }[schema_name]
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    field.name,
                    type=str(field.type),
                    description=(field.metadata or {}).get(b"description", b"").decode(),
                    constraints=dg.TableColumnConstraints(nullable=field.nullable),
                )
                for field in schema
            ]
        )
    }
