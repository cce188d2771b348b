"""Scores against slow loops; the report as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.confusion import ConfusionMatrix
from catalog_pipeline.evaluation.html_pages import picture_uri
from catalog_pipeline.evaluation.prompts import (
    CLASS_NOUNS_AT_MOST,
    EVALUATION_SCENES,
    FITTED_NOUNS,
    HELD_OUT_NOUNS,
    class_prompts,
    evaluation_scenes,
    prior_prompts,
    scene_prompts,
)
from catalog_pipeline.evaluation.report import (
    SKUS_SHOWN,
    EvaluationPage,
    render_report,
    skus_to_show,
)
from catalog_pipeline.evaluation.retention import RetentionMatrix
from catalog_pipeline.evaluation.scoring import (
    CollectionScore,
    EncoderScore,
    ProductColors,
    SkuScore,
    in_own_colors,
    score_products,
)
from tests.builders import make_adapter_version
from tests.evaluation.drawn import photo_of
from tests.evaluation.test_gallery import Collector
from tests.evaluation.test_retention import features


def score_one(sku, generated, photos, earlier=None):
    names = {name: name.upper() for name in photos}
    past = {} if earlier is None else {sku: earlier}
    (score,) = score_products({sku: generated}, photos, names, past)
    return score


def test_scores_against_loops():
    photos = {"b": features(4, 1), "a": features(3, 0), "c": features(2, 2)}
    generated = features(5, 3)
    score = score_one("a", generated, photos, earlier=0.5)
    means = {
        sku: [sum(float(np.dot(g, p)) for p in rows) / len(rows) for g in generated]
        for sku, rows in photos.items()
    }
    assert score.name == "A"
    assert score.fidelity == pytest.approx(np.mean(means["a"]), abs=1e-6)
    assert score.spread == pytest.approx(np.std(means["a"]), abs=1e-6)
    likest = [max(means, key=lambda sku: means[sku][i]) for i in range(5)]
    assert list(score.looks_like) == likest
    assert score.recognised == pytest.approx(likest.count("a") / 5)
    assert score.taken_for == {o: likest.count(o) / 5 for o in "bc" if o in likest}
    rival = max("bc", key=lambda sku: np.mean(means[sku]))
    assert (score.rival, score.rival_fidelity) == (
        rival,
        pytest.approx(np.mean(means[rival]), abs=1e-6),
    )
    assert score.forgotten == pytest.approx(0.5 - score.fidelity)
    assert score.share == pytest.approx(score.fidelity / max(score.ceiling, 0.1))


def test_a_product_alone_has_no_rival():
    score = score_one("a", features(2, 0), {"a": features(3, 1)})
    assert (score.recognised, score.rival, score.rival_fidelity) == (1.0, "", None)


PHOTOS = {"ball": features(3, 0), "crate": features(4, 1)}
SCENES = ("on green grass", "in the snow")
ENCODER = EncoderScore(
    "mobilenet_v2", 2, 0.4, 0.6, 0.75, 0.25, 0.5, 0.8, 0.5, prior_drift=0.03, class_drift=None
)


def collection(version: str = "v2", earlier: float | None = 0.2) -> CollectionScore:
    pictures = {"ball": PHOTOS["ball"][1:], "crate": PHOTOS["ball"][:2]}  # All look like balls.
    past = {} if earlier is None else dict.fromkeys(PHOTOS, earlier)
    names = {sku: f"The <{sku}>" for sku in PHOTOS}
    scores = tuple(
        replace(score, shows_scene=(SCENES[0], SCENES[0]), scene_followed=0.5, class_noun="toy")
        for score in score_products(pictures, PHOTOS, names, past)
    )
    return CollectionScore("default", version, "protocol", 2, scores, (ENCODER,), ("gone",))


def in_green(score: CollectionScore) -> CollectionScore:
    """The ball's second picture lies outside its colours; the crate's memory knows none."""
    ball, crate = score.skus
    ball = in_own_colors(ball, ProductColors((3.0, 21.0), bound=14.0))
    return replace(score, skus=(ball, in_own_colors(crate, None)))


def test_a_picture_in_wrong_colours_is_not_recognised_and_taken_for_no_other():
    plain, score = collection(), in_green(collection())
    ball, crate = score.skus
    assert (ball.color_difference, ball.color_bound) == (12.0, 14.0)
    assert ball.off_color == (False, True)
    assert (plain.skus[0].recognised, ball.recognised) == (1.0, 0.5)
    assert ball.taken_for == {}
    assert ball.share == plain.skus[0].share
    assert crate == plain.skus[1]
    assert (crate.color_difference, crate.off_color) == (None, ())
    np.testing.assert_array_equal(score.confusion.values, plain.confusion.values)
    record = json.loads(json.dumps(score.to_record(), allow_nan=False))
    assert CollectionScore.from_record(record) == score


def test_the_page_frames_what_is_in_wrong_colours():
    html = render_report(page(in_green(collection())))
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    assert words.count("in the snow judged: on green grass wrong colours") == 1
    assert "colours off by 12.0" in words
    assert "wrong colours</em>" not in render_report(page(collection()))


def test_a_score_survives_json():
    score = collection()
    record = json.loads(json.dumps(score.to_record(), allow_nan=False))
    assert CollectionScore.from_record(record) == score
    assert record["mean"]["forgetting"] == pytest.approx(score.forgetting)
    assert record["most_confused"][0] == {"named": "crate", "recognised": "ball", "share": 1.0}
    assert collection(earlier=None).forgetting is None
    for wrong in ({"collection": "x"}, {**record, "skus": [{"sku": "a"}]}, {**record, "skus": 3}):
        with pytest.raises(IntegrityError, match="not an evaluation record"):
            CollectionScore.from_record(wrong)


def test_a_record_of_before_encoders_were_kept_is_read():
    sku = {
        **{"sku": "ball", "name": "Ball", "fidelity": 0.5, "spread": 0.1, "ceiling": 0.6},
        **{"share": 0.83, "recognised": 0.5, "rival": "", "rival_fidelity": None},
        **{"forgotten": None, "second_share": 0.7},
    }
    old = {
        **{"collection": "default", "version": "v1", "protocol": "p", "images_per_sku": 2},
        **{"skus": [sku], "mean": {"fidelity": 0.5}},
    }
    score = CollectionScore.from_record(old)
    assert (score.fidelity, score.first, score.skus[0].looks_like) == (0.5, None, ())


def test_the_confusion_of_a_collection_is_that_of_its_pictures():
    score = collection()
    pictures = {"ball": PHOTOS["ball"][1:], "crate": PHOTOS["ball"][:2]}
    np.testing.assert_array_equal(
        score.confusion.values, ConfusionMatrix.measure(pictures, PHOTOS).values
    )


def page(score: CollectionScore, **changes) -> EvaluationPage:
    version = replace(make_adapter_version(parent="v1"), version="v2")
    retention = RetentionMatrix(tuple(entry.sku for entry in score.skus))
    retention.record(score.skus[-1].sku, {entry.sku: entry.fidelity for entry in score.skus})
    shown = {
        "photos": {"ball": [picture_uri(photo_of("ball"))] * 3, "crate": []},
        "samples": {sku: [picture_uri(photo_of(sku))] * 2 for sku in ("ball", "crate")},
    }
    plain = EvaluationPage(
        score, version, {"encoder": "mobilenet_v2 <b>"}, SCENES, retention=retention, **shown
    )
    return replace(plain, **changes)


def test_the_report_shows_photos_pictures_figures_and_charts():
    html = render_report(
        page(
            collection(),
            history=[collection("v1", None)],
            loss_curves={"ball": [(1, 0.5), (2, 0.4)]},
        )
    )
    parsed = Collector(html)
    assert html.startswith("<!doctype html>")
    assert parsed.open == []
    images = parsed.of("img")
    # Photos, pictures, four charts; and of the confused pair a picture and the other's photo.
    assert len(images) == 3 + 4 + 4 + 2
    assert all(img["src"].startswith("data:image/") for img in images)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))
    for said in (
        "100 % of the pictures of The &lt;crate&gt; crate look more like The &lt;ball&gt; ball",
        "also a toy",
        "in the snow judged: on green grass",
        "like: The &lt;ball&gt;",
        "photos: none in the catalog any more",
        "mobilenet_v2 &lt;b&gt;",
        "any more: gone",
        "The bare base, by the same judge: 80 %; by chance: 50 %",
        "prior drift0.030",
        "Fidelity by version",
        "Retention",
        "Training loss",
    ):
        assert said in words, said


def test_a_first_report_of_one_product_has_nothing_to_compare():
    photos = {"ball": PHOTOS["ball"]}
    scores = score_products({"ball": features(1, 5)}, photos, {"ball": "Ball"}, {})
    alone = CollectionScore("default", "v2", "protocol", 1, scores)
    html = render_report(
        page(alone, scenes=SCENES[:1], samples={"ball": [picture_uri(photo_of("ball"))]})
    )
    assert "no earlier evaluation" in html
    assert "What to look at" not in html
    assert "Charts" not in html
    assert "By encoder" not in html


def test_of_many_products_the_least_alike_and_the_confused_are_shown():
    count = SKUS_SHOWN + 20
    scores = [
        SkuScore(f"sku-{i:03}", "x", i / count, 0, 1, i / count, 1.0, looks_like=(f"sku-{i:03}",))
        for i in range(count)
    ]
    scores[-1] = replace(scores[-1], recognised=0.0, looks_like=("sku-070",))
    shown = skus_to_show(CollectionScore("default", "v", "p", 1, tuple(scores)))
    assert len(shown) == SKUS_SHOWN
    assert shown[:3] == ["sku-000", "sku-001", "sku-002"]
    assert shown[-2:] == ["sku-070", f"sku-{count - 1:03}"]


def test_scenes_are_fixed_and_seeds_never_repeat():
    scenes = evaluation_scenes(45)
    assert scenes[:3] == evaluation_scenes(3)
    assert len({seed for _, seed in scenes}) == 45
    assert scenes[20][0] == EVALUATION_SCENES[0]
    assert len(set(EVALUATION_SCENES)) == 20


def test_base_prompts_name_no_seed_twice_and_no_scene_is_missing():
    scenes = list(EVALUATION_SCENES[:3])
    asked = scene_prompts([*scenes, scenes[0]])
    assert len(asked) == 3 * (len(FITTED_NOUNS) + len(HELD_OUT_NOUNS))
    assert {p.scene for p in asked if p.held_out} == {p.scene for p in asked if not p.held_out}
    every = [*prior_prompts(), *class_prompts(["mug"]), *scene_prompts(EVALUATION_SCENES)]
    assert len({prompt.seed for prompt in every}) == len(every)
    # A scene's pictures stay the same whatever other scenes are asked for.
    assert scene_prompts(scenes[1:2]) == asked[6:12]


def test_class_prompts_choose_evenly_among_many_nouns():
    assert [p.prompt for p in class_prompts(["mug", "alarm clock", "mug"])] == [
        "a photo of an alarm clock on a white background",
        "a photo of a mug on a sandy beach",
    ]
    many = class_prompts([f"thing {i:02}" for i in range(30)])
    assert len(many) == CLASS_NOUNS_AT_MOST
    assert "thing 00" in many[0].prompt
    assert "thing 27" in many[-1].prompt
    assert class_prompts([]) == []
