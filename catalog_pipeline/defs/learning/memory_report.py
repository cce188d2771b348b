"""What the UI shows of the memory: what is served, and how it came about, version by version."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from catalog_pipeline.defs.metadata import line_chart, location, table
from catalog_pipeline.defs.pictures import InARun, picture
from catalog_pipeline.records import AdapterVersion, Concept

if TYPE_CHECKING:
    from catalog_pipeline.workflows.home import Home

CONCEPTS_SHOWN = 1000
VERSIONS_SHOWN = 60
FIGURES = {
    "likeness": "fidelity",
    "likeness share": "fidelity_share",
    "forgetting": "forgetting",
    "prior drift": "prior_drift",
    "colour difference": "color_difference",
}
"""What the figures that the gates store with a concept are called in the UI."""


def memory_metadata(home: "Home", heads: Sequence[AdapterVersion], run: InARun) -> dict[str, Any]:
    """Numbers that plot, the collections, every concept with its figures, and the versions."""
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(len(head.concepts) for head in heads),
        "collections": table(
            [
                {
                    "collection": head.collection,
                    "version": head.version,
                    "memory_version": head.memory_version,
                    "concepts": len(head.concepts),
                    "created_utc": head.created_utc.isoformat(timespec="seconds"),
                }
                for head in heads
            ],
            {
                "collection": "string",
                "version": "string",
                "memory_version": "string",
                "concepts": "int",
                "created_utc": "string",
            },
        ),
        "concepts": _concept_table(heads),
        "learning_log": location(home.objects.uri("learning")),
    }
    for head in heads:
        metadata[f"{head.collection}/concepts"] = len(head.concepts)
        for name, value in _summary(head).items():
            if value is not None:
                metadata[f"{head.collection}/{name}"] = value
        versions, _ = home.adapters(head.collection).readable_history()
        metadata |= _history(head.collection, versions[-VERSIONS_SHOWN:], run)
    return metadata


def _concept_table(heads: Sequence[AdapterVersion]) -> dg.TableMetadataValue:
    rows = [
        {
            "sku": concept.sku,
            **{name: _rounded(concept, figure) for name, figure in FIGURES.items()},
            "task": concept.task,
            "collection": head.collection,
            "name": concept.name,
        }
        for head in heads
        for concept in head.concepts
    ]
    # The figures come first: the UI cuts a wide table at the right, where it scrolls.
    columns = {"sku": "string", **dict.fromkeys(FIGURES, "float")}
    columns |= {"task": "int", "collection": "string", "name": "string"}
    return table(rows, columns, at_most=CONCEPTS_SHOWN)


def _rounded(concept: Concept, figure: str) -> float | None:
    value = concept.metrics.get(figure)
    return None if value is None else round(value, 4)


def _summary(version: AdapterVersion) -> dict[str, float | None]:
    """Mean likeness, worst forgetting and drift over the concepts that have the figure."""
    found = {
        name: [c.metrics[figure] for c in version.concepts if figure in c.metrics]
        for name, figure in FIGURES.items()
    }
    worst = ("forgetting", "prior drift")
    return {
        f"{'worst' if name in worst else 'mean'} {name}": (
            round(max(values) if name in worst else sum(values) / len(values), 4)
            if values
            else None
        )
        for name, values in found.items()
    }


def _history(collection: str, versions: Sequence[AdapterVersion], run: InARun) -> dict[str, Any]:
    """The versions as a table and as a chart: likeness and forgetting over versions."""
    rows: list[dict[str, Any]] = []
    before: dict[str, Concept] = {}
    for version in versions:
        newest = [c.sku for c in version.concepts if before.get(c.sku) != c]
        before = {concept.sku: concept for concept in version.concepts}
        rows.append(
            {
                "version": version.version,
                "brought": ", ".join(newest[:5]) or "nothing new",
                "created_utc": version.created_utc.isoformat(timespec="seconds"),
                "concepts": len(version.concepts),
                **_summary(version),
            }
        )
    figures = list(_summary(versions[-1])) if versions else []
    columns = {"version": "string", "brought": "string", "concepts": "int"}
    shown: dict[str, list[Any]] = {
        name: [row[name] for row in rows] for name in figures if "colour" not in name
    }
    chart = line_chart([str(row["version"])[:8] for row in rows], shown, "version", "")
    return {
        f"{collection}/versions": table(
            rows[::-1], {**columns, **dict.fromkeys(figures, "float"), "created_utc": "string"}
        ),
        f"{collection}/over versions": picture(chart, alt="figures over versions", run=run),
    }
