"""What ``doctor`` returns, and how a check that breaks becomes one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from catalog_pipeline.errors import CatalogPipelineError

_Subject = TypeVar("_Subject")

Level = Literal["ok", "warning", "error", "repaired", "kept"]
"""``repaired`` and ``kept`` come from a repair: what it did, and what it left to a person."""


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at; ``hint`` says what to do, or what it means."""

    level: Level
    what: str
    hint: str


def guarded(
    title: str, check: Callable[[_Subject], Iterator[CheckResult]], subject: _Subject
) -> list[CheckResult]:
    """The results of ``check``, up to the failure that ends it, which becomes one too."""
    results: list[CheckResult] = []
    try:
        for result in check(subject):
            results.append(result)
    except (CatalogPipelineError, OSError) as error:
        hint = "the message says what is wrong; correct it and run `doctor` again"
        results.append(CheckResult("error", f"{title}: {error}", hint))
    return results
