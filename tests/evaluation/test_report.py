"""Scores against slow loops; the report as text."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.charts import fidelity_chart, loss_chart
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.evaluation.prompts import EVALUATION_SCENES, evaluation_scenes
from catalog_pipeline.evaluation.report import EvaluationPage, render_report
from catalog_pipeline.evaluation.scoring import CollectionScore, score_product
from catalog_pipeline.records import AdapterVersion
from tests.evaluation.drawn import photo_of, photos_of
from tests.evaluation.test_gallery import Collector
from tests.evaluation.test_retention import features


def test_scores_against_loops():
    photos = {"a": features(3, 0), "b": features(4, 1), "c": features(2, 2)}
    generated = features(5, 3)
    score = score_product("a", "A", generated, photos, earlier=0.5)
    means = {
        sku: [sum(float(np.dot(g, p)) for p in rows) / len(rows) for g in generated]
        for sku, rows in photos.items()
    }
    assert score.fidelity == pytest.approx(np.mean(means["a"]), abs=1e-6)
    assert score.spread == pytest.approx(np.std(means["a"]), abs=1e-6)
    wins = [a > b and a > c for a, b, c in zip(*means.values(), strict=True)]
    assert score.recognised == pytest.approx(sum(wins) / 5)
    rival = max("bc", key=lambda sku: np.mean(means[sku]))
    assert (score.rival, score.rival_fidelity) == (rival, pytest.approx(np.mean(means[rival])))
    assert score.forgotten == pytest.approx(0.5 - score.fidelity)
    assert score.share == pytest.approx(score.fidelity / max(score.ceiling, 0.1))


def test_a_product_alone_has_no_rival():
    score = score_product("a", "A", features(2, 0), {"a": features(3, 1)})
    assert (score.recognised, score.rival, score.rival_fidelity) == (1.0, "", None)


def collection(version: str = "v2", earlier: float | None = 0.2) -> CollectionScore:
    photos = {"ball": features(3, 0), "crate": features(4, 1)}
    scores = [
        score_product(sku, f"The {sku}", features(2, 5 + i), photos, earlier)
        for i, sku in enumerate(photos)
    ]
    return CollectionScore("default", version, "protocol", 2, tuple(scores))


def test_a_score_survives_json():
    score = collection()
    record = json.loads(json.dumps(score.to_record()))
    assert CollectionScore.from_record(record) == score
    assert record["mean"]["forgetting"] == pytest.approx(score.forgetting)
    assert collection(earlier=None).forgetting is None
    with pytest.raises(IntegrityError, match="not an evaluation record"):
        CollectionScore.from_record({"collection": "x"})


def test_the_report_shows_photos_pictures_figures_and_charts():
    version = AdapterVersion(
        "v2", "default", "v1", (), "b" * 64, "c", {}, "m", "0", 0, datetime(2025, 1, 1, tzinfo=UTC)
    )
    page = EvaluationPage(
        score=collection(),
        version=version,
        settings={"encoder": "mobilenet_v2 <b>"},
        prompts=["on green grass", "in the snow"],
        photos={"ball": photos_of("ball"), "crate": []},
        samples={"ball": photos_of("ball", 2), "crate": [photo_of("crate")] * 2},
        history=[collection("v1", None)],
        loss_curves={"ball": [(1, 0.5), (2, 0.4)]},
    )
    html = render_report(page)
    parsed = Collector(html)
    assert parsed.open == []
    images = parsed.of("img")
    assert len(images) == 3 + 2 + 2 + 2
    assert all(img["src"].startswith("data:image/") for img in images)
    for word in (
        "The ball",
        "in the snow",
        "none in the catalog any more",
        "mobilenet_v2 &lt;b&gt;",
    ):
        assert word in html
    assert "Fidelity by version" in html
    assert "Training loss" in html


def test_charts_are_pictures():
    for png in (
        loss_chart({"a": [(1, 0.5), (2, 0.4)]}),
        fidelity_chart({"a": [None, 0.3]}, ["x", "y"]),
    ):
        assert decode_png(png).shape[2] == 3


def test_scenes_are_fixed_and_seeds_never_repeat():
    scenes = evaluation_scenes(45)
    assert scenes[:3] == evaluation_scenes(3)
    assert len({seed for _, seed in scenes}) == 45
    assert scenes[20][0] == EVALUATION_SCENES[0]
    assert len(set(EVALUATION_SCENES)) == 20
