"""What falls when a night is too short, and what is made first because it lacks pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.draws import KINDS, shorten
from catalog_pipeline.settings import BudgetSettings, CoverageSettings


class _Picture(Protocol):
    """A job, or one to come."""

    @property
    def skus(self) -> tuple[str, ...]: ...


_Wanted = TypeVar("_Wanted", bound=_Picture)


def put_lacking_first(
    jobs: Sequence[_Wanted], coverage: CoverageSettings, shown: Mapping[str, int]
) -> list[_Wanted]:
    """The jobs that coverage needs, then the others, each in the order given.

    A job is needed when one of its products has had fewer than ``coverage.images``
    pictures, the published ones and the jobs before it counted.
    """
    had = Counter(shown)
    needed: list[_Wanted] = []
    others: list[_Wanted] = []
    for job in jobs:
        lacking = any(had[sku] < coverage.images for sku in job.skus)
        (needed if lacking else others).append(job)
        had.update(job.skus)
    return needed + others


def find_deficits(
    jobs: Sequence[_Picture],
    skus: Sequence[str],
    coverage: CoverageSettings,
    shown: Mapping[str, int],
) -> dict[str, int]:
    """SKU -> how many pictures it stays short of ``coverage.images`` after these jobs."""
    had = Counter(shown)
    for job in jobs:
        had.update(job.skus)
    return {sku: coverage.images - had[sku] for sku in skus if had[sku] < coverage.images}


def explain_deficits(deficits: Mapping[str, int], coverage: CoverageSettings) -> str:
    """A note that names the products below the coverage asked for."""
    return (
        f"coverage: {len(deficits)} product(s) stay below {coverage.images} pictures in "
        f"{coverage.nights} nights: {shorten(sorted(deficits))}; they come first next time"
    )


def image_limit(budget: BudgetSettings, seconds_per_image: float | None) -> tuple[int | None, str]:
    """The most pictures that ``budget`` allows, and which bound that is.

    Raises:
        GenerationError: ``max_minutes`` without a positive ``seconds_per_image``.
    """
    bounds: list[tuple[int, str]] = []
    if budget.max_images is not None:
        bounds.append((budget.max_images, f"max_images {budget.max_images}"))
    if budget.max_minutes is not None:
        if seconds_per_image is None or seconds_per_image <= 0:
            raise GenerationError(
                f"budget max_minutes {budget.max_minutes:g} needs a positive estimate of the "
                f"seconds an image takes, got {seconds_per_image}; pass seconds_per_image or "
                "use max_images"
            )
        images = int(budget.max_minutes * 60.0 / seconds_per_image)
        bounds.append(
            (images, f"max_minutes {budget.max_minutes:g} at {seconds_per_image:.2f} s an image")
        )
    return min(bounds) if bounds else (None, "")


def explain_cut(jobs: Sequence[_Picture], limit: int, reason: str) -> str:
    """A note that counts the pictures after the first ``limit`` and names who has none."""
    kept, dropped = jobs[:limit], jobs[limit:]
    by_kind = Counter(KINDS[len(job.skus)] for job in dropped)
    listed = ", ".join(f"{by_kind[kind]} {kind}" for kind in KINDS.values() if by_kind[kind])
    unseen = sorted(
        {sku for job in dropped for sku in job.skus} - {sku for job in kept for sku in job.skus}
    )
    note = (
        f"budget ({reason}): {len(kept)} of {len(jobs)} pictures planned, dropped {listed}; "
        "the products learned last came first"
    )
    return f"{note}; no picture of {shorten(unseen)}" if unseen else note
