"""What must hold of products, memories and forgetting: asset checks and ``doctor`` ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catalog_pipeline.errors import StoreError
from catalog_pipeline.records import SkuStatus, concept_part
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.home import Home

RETENTION_CLAIMS = {
    "no_forgetting_regression": ("forgetting", "gate_max_forgetting"),
    "prior_intact": ("prior_drift", "gate_max_prior_drift"),
}
"""Claim -> the figure that the gate stores with every concept, and the setting that bounds it."""


@dataclass(frozen=True)
class RetentionClaim:
    """Whether a figure of every served concept that has it is within the tolerance set now."""

    figure: str
    tolerance: float
    measured: Mapping[str, float]
    not_measured: int

    @property
    def past_tolerance(self) -> dict[str, float]:
        """SKU -> figure of the concepts that break the claim, sorted."""
        return {sku: v for sku, v in sorted(self.measured.items()) if v > self.tolerance}

    @property
    def largest(self) -> float:
        """The largest figure; 0 where none was measured."""
        return max(self.measured.values(), default=0.0)

    def __str__(self) -> str:
        return (
            f"largest {self.figure} of {len(self.measured)} concepts: {self.largest:.3f}, expected "
            f"at most {self.tolerance:g}"
        )


def retention_claim(home: Home, name: str) -> RetentionClaim:
    """The claim ``name`` of :data:`RETENTION_CLAIMS`, over the heads of all collections.

    Raises:
        StoreError: a collection's head cannot be read.
    """
    figure, setting = RETENTION_CLAIMS[name]
    heads = [home.adapters(collection).current() for collection in home.collections()]
    concepts = [concept for head in heads if head is not None for concept in head.concepts]
    measured = {c.sku: c.metrics[figure] for c in concepts if figure in c.metrics}
    tolerance = float(getattr(home.settings.learning, setting))
    return RetentionClaim(figure, tolerance, measured, len(concepts) - len(measured))


def head_problems(adapters: AdapterStore) -> list[str]:
    """What is wrong with a collection's head, in words; ``[]`` when it can be served.

    Every part must be stored; those that the newest task wrote are read and hashed
    (older ones were, when they were the newest).
    """
    try:
        current = adapters.current()
        if current is None:
            return []
        known = adapters.read(current.parent).parts if current.parent is not None else {}
    except StoreError as error:
        return [str(error)]
    problems = [
        f"{concept.sku} has no part {concept_part(concept.sku)}"
        for concept in current.concepts
        if concept_part(concept.sku) not in current.parts
    ]
    named = [token for concept in current.concepts for token in concept.placeholder_tokens]
    tokens = [token for token in named if token.startswith("<")]  # others are plain words
    if len(tokens) != len(set(tokens)):
        problems.append("two concepts share a placeholder token")
    stored = set(adapters.part_names())
    for name, digest in sorted(current.parts.items()):
        if digest not in stored:
            problems.append(f"part {name} ({digest[:12]}) is not stored")
        elif known.get(name) != digest:
            try:
                adapters.read_part(digest)
            except StoreError as error:
                problems.append(f"part {name}: {error}")
    return problems


def unusable_products(home: Home) -> tuple[dict[str, str], int]:
    """SKU -> why it cannot be learned as it is, sorted; and how many products there are."""
    rows = [row for row in home.index.read() if row.status is not SkuStatus.RETIRED]
    few = home.settings.catalog.min_photos
    unusable = {
        row.sku: row.reason or f"{row.photo_count} photos, expected at least {few}"
        for row in sorted(rows, key=lambda row: row.sku)
        if row.status is SkuStatus.FAILED or row.photo_count < few
    }
    return unusable, len(rows)
