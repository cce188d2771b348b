"""The HTML page of an evaluation: figures, and photos beside what was learned of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog_pipeline.evaluation.charts import fidelity_chart, loss_chart
from catalog_pipeline.evaluation.embedding import data_uri, page_templates, picture_uri
from catalog_pipeline.evaluation.scoring import CollectionScore
from catalog_pipeline.records import AdapterVersion, Pixels

_PICTURE_PX = 256
_PHOTOS_SHOWN = 6


@dataclass(frozen=True)
class EvaluationPage:
    """Everything the page shows.

    ``photos`` and ``samples`` map a SKU to its pictures; a SKU may have no photos
    any more. ``history`` lists comparable scores of earlier versions, oldest
    first; ``loss_curves`` maps a SKU to ``(step, loss)`` where they are at hand.
    """

    score: CollectionScore
    version: AdapterVersion
    settings: Mapping[str, str]
    prompts: Sequence[str]
    photos: Mapping[str, Sequence[Pixels]]
    samples: Mapping[str, Sequence[Pixels]]
    history: Sequence[CollectionScore] = ()
    loss_curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def render_report(page: EvaluationPage) -> str:
    """One self-contained HTML file: no link, no script and no picture from elsewhere."""
    score = page.score
    charts = []
    if page.history:
        charts.append(("Fidelity by version", _history_chart([*page.history, score])))
    if page.loss_curves:
        charts.append(("Training loss", loss_chart(page.loss_curves)))
    template = page_templates().get_template("evaluation.html.j2")
    return template.render(
        score=score,
        version=page.version,
        settings=page.settings,
        prompts=page.prompts,
        skus=[_sku(page, number) for number in range(len(score.skus))],
        charts=[(title, data_uri(png, "image/png")) for title, png in charts],
    )


def _history_chart(scores: Sequence[CollectionScore]) -> bytes:
    skus = [score.sku for score in scores[-1].skus]
    measured = [{score.sku: score.fidelity for score in entry.skus} for entry in scores]
    lines = {sku: [entry.get(sku) for entry in measured] for sku in skus}
    return fidelity_chart(lines, [score.version for score in scores])


def _sku(page: EvaluationPage, number: int) -> dict[str, Any]:
    score = page.score.skus[number]
    names = {other.sku: other.name for other in page.score.skus}
    return {
        "score": score,
        "rival_name": names.get(score.rival, score.rival),
        "photos": [
            picture_uri(p, _PICTURE_PX) for p in page.photos.get(score.sku, ())[:_PHOTOS_SHOWN]
        ],
        "samples": [
            (picture_uri(pixels, _PICTURE_PX), prompt)
            for pixels, prompt in zip(page.samples[score.sku], page.prompts, strict=True)
        ],
    }
