"""Evaluation of what was really learned, on a tiny real diffusion model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.evaluate import evaluate
from catalog_pipeline.workflows.home import open_home
from tests.evaluation.test_gallery import Collector
from tests.workflows.test_learn_concepts import LEARNING, learn_all, write_photos


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return make_settings(
        catalog={"settle_seconds": 0},
        base_model={"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        learning=LEARNING,
        generation={"steps": 2, "width": 32, "height": 32},
    )


def without_photos_of(settings: Settings, sku: str) -> None:
    for path in (settings.catalog_root / sku).iterdir():
        path.unlink()


def test_every_learned_product_is_measured_and_forgetting_follows(tiny):
    write_photos(tiny, "A", 1)
    learn_all(tiny)
    first = evaluate(tiny, images_per_sku=2)
    assert first.html_path.is_file()
    assert list(first.per_sku) == ["A"]
    assert first.per_sku["A"].forgotten is None
    assert first.final_fidelity == first.per_sku["A"].fidelity
    write_photos(tiny, "00123", 2)
    learn_all(tiny)
    without_photos_of(tiny, "A")
    second = evaluate(tiny, "default", images_per_sku=2)
    scores = second.per_sku
    assert set(scores) == {"A", "00123"}
    # Its own slot: a concept learned later leaves the pictures of this one untouched.
    assert scores["A"].fidelity == pytest.approx(first.per_sku["A"].fidelity, abs=1e-5)
    assert scores["A"].forgotten == pytest.approx(0, abs=1e-5)
    assert (scores["A"].second_share, scores["00123"].second_share is None) == (None, False)
    assert scores["A"].rival == "00123"
    html = second.html_path.read_text(encoding="utf-8")
    assert Collector(html).open == []
    assert "Fidelity by version" in html
    record = json.loads(second.collections[0].json_path.read_text(encoding="utf-8"))
    head = open_home(tiny).adapters("default").head()
    assert head is not None
    assert record["version"] == head.version
    assert np.isfinite(record["mean"]["fidelity"])
    again = evaluate(tiny, images_per_sku=2)
    assert again.collections[0].score == second.collections[0].score


def test_another_protocol_is_not_compared(tiny):
    write_photos(tiny, "A", 1)
    learn_all(tiny)
    evaluate(tiny, images_per_sku=1)
    write_photos(tiny, "B", 2)
    learn_all(tiny)
    generation = tiny.generation.model_copy(update={"steps": 3})
    changed = tiny.model_copy(update={"generation": generation})
    assert evaluate(changed, images_per_sku=1).per_sku["A"].forgotten is None


def test_nothing_learned_is_said(tiny):
    with pytest.raises(GenerationError, match="no collection has learned anything"):
        evaluate(tiny)
    with pytest.raises(GenerationError, match="'mugs' has learned nothing"):
        evaluate(tiny, "mugs")
    with pytest.raises(GenerationError, match="images_per_sku is 0"):
        evaluate(tiny, images_per_sku=0)
