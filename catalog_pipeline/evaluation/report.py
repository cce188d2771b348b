"""The HTML page of an evaluation: figures, and photos beside what was learned of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog_pipeline.evaluation.charts import (
    confusion_heat_map,
    fidelity_chart,
    loss_chart,
    retention_heat_map,
)
from catalog_pipeline.evaluation.confusion import ConfusedPair
from catalog_pipeline.evaluation.html_pages import data_uri, page_templates, share_grade
from catalog_pipeline.evaluation.retention import RetentionMatrix
from catalog_pipeline.evaluation.scoring import CollectionScore, SkuScore
from catalog_pipeline.records import AdapterVersion

SKUS_SHOWN = 60
"""Products shown with pictures, the least alike first; a page of more would not open."""

_PAIRS_SHOWN = 6
_LINES_SHOWN = 10
_CONFUSION_AT_MOST = 60
_NOTABLE_FALL = 0.02  # Twice what another seed changes.


@dataclass(frozen=True)
class EvaluationPage:
    """Everything the page shows.

    ``photos`` and ``samples`` map each of :func:`skus_to_show` to its pictures as data
    URIs, ``samples`` in the order of ``scenes``; a SKU may have no photos any more.
    ``history`` lists comparable scores of earlier versions, oldest first;
    ``loss_curves`` maps a SKU to ``(step, loss)`` where they are at hand.
    """

    score: CollectionScore
    version: AdapterVersion
    settings: Mapping[str, str]
    scenes: Sequence[str]
    photos: Mapping[str, Sequence[str]]
    samples: Mapping[str, Sequence[str]]
    retention: RetentionMatrix
    history: Sequence[CollectionScore] = ()
    loss_curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def skus_to_show(score: CollectionScore) -> list[str]:
    """The least alike products, and whatever is confused most, at most :data:`SKUS_SHOWN`."""
    pairs = score.confusion.most_confused(_PAIRS_SHOWN)
    confused = [sku for pair in pairs for sku in (pair.named, pair.recognised)]
    least = [entry.sku for entry in _least_alike_first(score)]
    chosen = set([*dict.fromkeys(confused), *least][:SKUS_SHOWN])
    return [sku for sku in least if sku in chosen]


def render_report(page: EvaluationPage) -> str:
    """One self-contained HTML file: no link, no script and no picture from elsewhere."""
    score = page.score
    by_sku = {entry.sku: entry for entry in score.skus}
    shown = skus_to_show(score)
    template = page_templates().get_template("evaluation.html.j2")
    return template.render(
        score=score,
        first=score.first,
        version=page.version,
        settings=page.settings,
        scenes=page.scenes,
        grades=Counter(share_grade(entry.share) for entry in score.skus),
        names={sku: entry.name for sku, entry in by_sku.items()},
        skus=_least_alike_first(score),
        shown=[_shown(page, by_sku[sku]) for sku in shown],
        pairs=[_pair(page, pair) for pair in score.confusion.most_confused(_PAIRS_SHOWN)],
        fallen=_fallen(score),
        charts=[(title, note, data_uri(png, "image/png")) for title, note, png in _charts(page)],
    )


def _least_alike_first(score: CollectionScore) -> list[SkuScore]:
    return sorted(score.skus, key=lambda entry: (entry.share, entry.sku))


def _fallen(score: CollectionScore) -> list[SkuScore]:
    """Products that lost more than noise, the worst first."""
    fallen = [entry for entry in score.skus if (entry.forgotten or 0.0) > _NOTABLE_FALL]
    return sorted(fallen, key=lambda entry: -(entry.forgotten or 0.0))[:_PAIRS_SHOWN]


def _charts(page: EvaluationPage) -> list[tuple[str, str, bytes]]:
    """Title, what one sees in it, and the picture."""
    charts = []
    score = page.score
    if page.history:
        charts.append(
            (
                "Retention",
                "Each row is the collection after one more product. A column that grows paler "
                "downwards is a product that is being forgotten.",
                retention_heat_map(page.retention, ""),
            )
        )
    if 1 < len(score.skus) <= _CONFUSION_AT_MOST:
        charts.append(
            (
                "What the pictures look like",
                "Each row is the product that was asked for; dark off the diagonal is a mix-up.",
                confusion_heat_map(score.confusion, ""),
            )
        )
    if page.history:
        charts.append(
            (
                "Fidelity by version",
                f"The {_LINES_SHOWN} products that changed most, and the mean of all."
                if len(score.skus) > _LINES_SHOWN
                else "Every product and their mean.",
                _history_chart([*page.history, score]),
            )
        )
    if page.loss_curves:
        order = [entry.sku for entry in _least_alike_first(score) if entry.sku in page.loss_curves]
        charts.append(
            (
                "Training loss",
                "Of the products that are least alike."
                if len(order) > _LINES_SHOWN
                else "Of every product.",
                loss_chart({sku: page.loss_curves[sku] for sku in order[:_LINES_SHOWN]}),
            )
        )
    return charts


def _history_chart(scores: Sequence[CollectionScore]) -> bytes:
    measured = [{entry.sku: entry.fidelity for entry in score.skus} for score in scores]
    lines = {
        entry.sku: [figures.get(entry.sku) for figures in measured] for entry in scores[-1].skus
    }
    order = sorted(lines, key=lambda sku: -_span(lines[sku]))
    drawn = {sku: lines[sku] for sku in order[:_LINES_SHOWN]}
    mean: list[float | None] = [score.fidelity for score in scores]
    return fidelity_chart(drawn, [score.version for score in scores], mean=mean)


def _span(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known)


def _shown(page: EvaluationPage, score: SkuScore) -> dict[str, Any]:
    names = {entry.sku: entry.name for entry in page.score.skus}
    samples = []
    for index, (uri, scene) in enumerate(zip(page.samples[score.sku], page.scenes, strict=True)):
        like = score.looks_like[index]
        shows = score.shows_scene[index] if score.shows_scene else scene
        off_color = bool(score.off_color) and score.off_color[index]
        samples.append(
            {
                "uri": uri,
                "scene": scene,
                "like": "" if like == score.sku else f"{names[like]} {like}",
                "shows": "" if shows == scene else shows,
                "off_color": off_color,
            }
        )
    return {"score": score, "photos": page.photos.get(score.sku, ()), "samples": samples}


def _pair(page: EvaluationPage, pair: ConfusedPair) -> dict[str, Any]:
    by_sku = {entry.sku: entry for entry in page.score.skus}
    named, other = by_sku[pair.named], by_sku[pair.recognised]
    return {
        "share": pair.share,
        "named": named,
        "other": other,
        "same_class": bool(named.class_noun) and named.class_noun == other.class_noun,
        "photo": next(iter(page.photos.get(pair.named, ())), None),
        "sample": page.samples[pair.named][named.looks_like.index(pair.recognised)],
        "other_photo": next(iter(page.photos.get(pair.recognised, ())), None),
    }
