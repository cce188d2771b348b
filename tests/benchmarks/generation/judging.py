"""Judges of a scene set: pictures and scenes in, verdicts out.

A verdict is a plain mapping: ``found`` (thing -> found, missing, swapped or duplicated),
``passed``, ``count_error`` and, of colours, ``order``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from catalog_pipeline.records import Pixels
from tests.benchmarks.generation.scenes import Scene

if TYPE_CHECKING:
    from tests.benchmarks.generation.methods import Workbench


class Judge(Protocol):
    """Says of each picture which of its scene's things it shows."""

    def judge(self, pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        """One verdict a picture."""


class ProductJudge:
    """The package's reflection score, over the memories of all learned products."""

    def __init__(self, bench: Workbench) -> None:
        from catalog_pipeline.evaluation.features import open_encoder
        from catalog_pipeline.evaluation.product_mask import ProductMasker
        from catalog_pipeline.evaluation.reflection.score import ReflectionJudge

        self._judge = ReflectionJudge(
            bench.banks(),
            bench.classes,
            open_encoder(),
            ProductMasker(),
            palettes=bench.palettes(),
        )

    def judge(self, pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        from catalog_pipeline.generation.layouts import split_layout

        named = [
            list(zip(scene.things, split_layout(len(scene.things)), strict=True))
            for scene in scenes
        ]
        return [
            {
                "found": {finding.sku: finding.verdict for finding in said.findings},
                "passed": said.passed,
                "count_error": said.count_error,
                "color_swap": said.color_swap,
            }
            for said in self._judge.judge(pictures, named)
        ]


def open_judge(suite: str, bench: Workbench) -> Judge:
    """The judge of ``suite``: colours of the base's things, or learned products."""
    if suite != "swaps":
        return ProductJudge(bench)
    from catalog_pipeline.evaluation.features import open_encoder
    from catalog_pipeline.evaluation.product_mask import ProductMasker
    from tests.benchmarks.generation.colours import ColourJudge

    return ColourJudge(open_encoder(), ProductMasker())
