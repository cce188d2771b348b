"""What the learning benchmark measures: drawn products, of which every figure is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from catalog_pipeline.evaluation.product_mask import ProductMask
from catalog_pipeline.records import Pixels
from tests.benchmarks.drawn_products import (
    BLUE,
    GREEN,
    RED,
    SAND,
    BorderMasker,
    Colour,
    ColourEncoder,
    picture,
    seen_product,
)
from tests.benchmarks.learning.cells import checkpoints_of, measured_concepts
from tests.benchmarks.learning.looks import RememberingMasker, look_at
from tests.benchmarks.learning.measure import (
    base_text_following,
    confusion,
    likeness_figures,
    measured_templates,
    scene_of,
    text_following,
)
from tests.benchmarks.learning.products import ceilings
from tests.benchmarks.learning.results import Result
from tests.benchmarks.learning.scenes import Scene, draw_scenes, open_reflection, scene_figures


def test_crops_see_the_product_whatever_it_stands_on():
    encoders = {"coarse": ColourEncoder("coarse", 3), "fine": ColourEncoder("fine", 5)}
    red = seen_product(encoders, SAND, RED, "red", "mug")

    def likeness(floor: Colour, product: Colour | None) -> tuple[float, float]:
        """Of the whole picture, and of the product in it."""
        looks = {"red": look_at([picture(floor, product)] * 2, encoders, BorderMasker())}
        figures = likeness_figures(looks, [red])
        return tuple(figures[kind]["red"]["fine"] for kind in ("fidelity", "crops"))

    own, elsewhere, other = likeness(SAND, RED), likeness(GREEN, RED), likeness(SAND, BLUE)
    assert own[1] == pytest.approx(elsewhere[1], abs=1e-6)
    assert other[1] < own[1] - 0.3
    assert elsewhere[0] < other[0]  # the photos' floor is worth more than the product
    assert ceilings([red], encoders)["crop_ceilings"]["fine"]["red"] == pytest.approx(own[1])
    assert likeness(SAND, None)[1] < own[1] - 0.3  # nothing stands out: it is judged whole


def test_a_product_without_cut_outs_has_no_likeness_of_crops():
    encoders = {"fine": ColourEncoder("fine", 5)}
    products = [
        seen_product(encoders, SAND, RED, "red", "mug"),
        seen_product(encoders, SAND, BLUE, "blue", "mug", masks=1),
    ]
    looks = {p.sku: look_at([picture(SAND, RED)], encoders, BorderMasker()) for p in products}
    figures = likeness_figures(looks, products)
    assert (set(figures["fidelity"]), set(figures["crops"])) == ({"red", "blue"}, {"red"})
    assert set(ceilings(products, encoders)["crop_ceilings"]["fine"]) == {"red"}


def test_a_picture_that_comes_again_is_masked_once():
    class Counting(BorderMasker):
        count = 0

        def mask(self, pixels: Pixels) -> ProductMask:
            self.count += 1
            return super().mask(pixels)

    counting = Counting()
    masker = RememberingMasker(counting)
    one, two = picture(SAND, RED), picture(GREEN, RED)
    found = [masker.mask(pixels).mask for pixels in (one, two, one.copy(), two)]
    assert counting.count == 2
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], BorderMasker().mask(two).mask)


def test_scenes_are_told_apart_by_what_is_left_without_the_product():
    """Whatever the product adds to every picture changes nothing; swapped scenes are seen."""
    rng = np.random.default_rng(0)
    scenes = ("on a white background", "on a wooden table", "on a sandy beach", "in the snow")
    directions = {scene: rng.normal(size=20).astype(np.float32) for scene in scenes}
    things = rng.normal(size=(4, 20)).astype(np.float32) * 3
    known = {scene: things + direction for scene, direction in directions.items()}
    templates = measured_templates(8)
    product = 5 * rng.normal(size=20).astype(np.float32)
    told = [scene_of(template) for template in templates]
    right = np.stack([product + directions.get(scene, 0) for scene in told])
    assert text_following({"a": {"e": right}}, "e", known, templates) == 1.0
    assert base_text_following(known, templates) == 1.0
    wrong = right[[0, 2, 3, 1, 4, 6, 7, 5]]
    assert text_following({"a": {"e": wrong}}, "e", known, templates) == 0.0
    assert text_following({"a": {"e": right[:2]}}, "e", known, templates[:2]) is None


def test_late_tasks_are_compared_with_early_ones():
    skus = [f"p{index}" for index in range(12)]
    tasks = {
        task: {"cost": {"cpu_seconds": 2.0 * task, "peak_rss_bytes": 100}, "state_bytes": 10 * task}
        for task in range(1, 13)
    }
    facts = {"skus": skus, "protocol": {}}
    costs = Result(Path(), facts, tasks).costs()
    assert costs["cpu_seconds"] == pytest.approx(13.0)
    assert (costs["cpu_ratio"], costs["rss_ratio"]) == (pytest.approx(11 / 5), 1.0)
    assert costs["state_ratio"] == pytest.approx(11 / 5)
    few = Result(Path(), {**facts, "skus": skus[:3]}, {task: tasks[task] for task in (1, 2, 3)})
    assert few.costs()["cpu_ratio"] is None


def test_one_more_product_weighs_what_the_state_grew_by_since_the_middle():
    skus = [f"p{index}" for index in range(4)]
    cost = {"cpu_seconds": 1.0, "peak_rss_bytes": 100}
    states = (1000, 1500, 1600, 1700)
    tasks = {k: {"cost": cost, "state_bytes": size} for k, size in enumerate(states, 1)}
    facts = {"skus": skus, "protocol": {}}
    costs = Result(Path(), facts, tasks).costs()
    assert (costs["state_bytes_a_concept"], costs["marginal_bytes"]) == (425.0, 100.0)
    at_once = Result(Path(), facts, {4: tasks[4]}).costs()
    assert (at_once["state_bytes_a_concept"], at_once["marginal_bytes"]) == (425.0, None)


def result_of(skus: Sequence[str], gains: Mapping[str, float], seconds: Sequence[float]) -> Result:
    """A cell of products that are ``gains`` like their photos, if these can be cut out."""
    tasks = {
        k: {
            "crops": {sku: {"fine": gains[sku]}} if sku in gains else {},
            "fidelity": {sku: {"fine": 0.5}},
            "cost": {"cpu_seconds": s, "peak_rss_bytes": 1},
            **{key: {"fine": 0.0} for key in ("drift", "text_following")},
        }
        for k, (sku, s) in enumerate(zip(skus, seconds, strict=True), 1)
    }
    ceilings = {
        "ceilings": {"fine": dict.fromkeys(skus, 1.0)},
        "crop_ceilings": {"fine": dict.fromkeys(gains, 1.0)},
    }
    return Result(Path(), {"skus": skus, "protocol": {}, **ceilings}, tasks)


def test_a_cell_of_which_nothing_can_be_cut_out_is_judged_by_whole_pictures():
    result = result_of(("a", "b"), {}, (60, 60))
    figures = result.figures("fine")
    assert [figures[key] for key in ("own", "final", "forgetting", "share")] == [None] * 4
    assert (figures["whole_own"], figures["whole_final"]) == (0.5, 0.5)
    assert result.without_crops == {"a", "b"}
    assert result.fidelity_curve("fine") == []
    assert result_of(("a", "b"), {"b": 0.3}, (60, 60)).figures("fine")["own"] == 0.3


def test_plasticity_is_late_gain_over_early_gain_by_the_minute():
    skus = [f"p{index}" for index in range(6)]
    seconds = (60, 60, 1, 1, 120, 120)

    def plasticity(*gains: float | None) -> float | None:
        known = {sku: g for sku, g in zip(skus, gains, strict=True) if g is not None}
        found = result_of(skus, known, seconds).figures("fine")["plasticity"]
        return found if found is None else round(found, 6)

    assert plasticity(0.6, 0.4, 0.9, 0.9, 0.2, 0.2) == 0.1 / 0.5
    assert plasticity(0.6, None, 0.9, 0.9, None, 0.2) == round(0.1 / 0.6, 6)
    assert plasticity(-0.1, 0.0, 0.9, 0.9, 0.2, 0.2) is None
    assert plasticity(None, None, 0.9, 0.9, 0.2, 0.2) is None
    two = result_of(skus[:2], dict.fromkeys(skus[:2], 0.5), seconds[:2])
    assert two.figures("fine")["plasticity"] is None


def test_confusion_tells_class_mates_from_others_and_adds_up_to_one():
    encoders = {"fine": ColourEncoder("fine", 5)}
    products = [
        seen_product(encoders, SAND, RED, "red", "mug"),
        seen_product(encoders, SAND, BLUE, "blue", "mug"),
        seen_product(encoders, SAND, GREEN, "green", "hat"),
    ]

    def shares(**painted: Sequence[Colour]) -> tuple[float, ...]:
        looks = {
            sku: look_at([picture(GREEN, color) for color in colors], encoders, BorderMasker())
            for sku, colors in painted.items()
        }
        found = confusion(looks, "fine", products)
        return tuple(found[name] for name in ("own", "class_mate", "another"))

    right = {"red": [RED] * 2, "blue": [BLUE] * 2, "green": [(20, 120, 80)] * 2}
    # Whole pictures would all be taken for the green hat: each stands on green.
    assert shares(**right) == pytest.approx((1, 0, 0))
    assert shares(**right | {"red": [BLUE, RED]}) == pytest.approx((5 / 6, 1 / 6, 0))
    assert shares(**right | {"green": [BLUE] * 2}) == pytest.approx((2 / 3, 0, 1 / 3))
    mixed = shares(red=[BLUE, (20, 120, 80)], blue=[RED, BLUE], green=[RED] * 2)
    assert mixed == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    assert sum(mixed) == pytest.approx(1)


def test_a_product_without_cut_outs_is_recognised_by_whole_pictures():
    encoders = {"fine": ColourEncoder("fine", 5)}
    products = [
        seen_product(encoders, SAND, RED, "red", "mug"),
        seen_product(encoders, GREEN, BLUE, "blue", "mug", masks=0),
    ]
    looks = {
        "red": look_at([picture(BLUE, RED)], encoders, BorderMasker()),
        "blue": look_at([picture(GREEN, BLUE)], encoders, BorderMasker()),
    }
    assert confusion(looks, "fine", products)["own"] == 1
    swapped = {"red": looks["blue"], "blue": looks["red"]}
    assert confusion(swapped, "fine", products)["class_mate"] == 1


def test_scenes_are_the_same_whatever_was_learned_first():
    skus = [f"p{index}" for index in range(6)]
    scenes = draw_scenes(skus, 3)
    assert [len(scene.skus) for scene in scenes] == [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert scenes == draw_scenes(skus[::-1], 3)
    assert all(len(set(scene.skus)) == len(scene.skus) for scene in scenes)
    assert len({scene.skus for scene in scenes if len(scene.skus) == 2}) > 1
    assert draw_scenes(skus, 1) == [scene for scene in scenes if scene.number == 0]
    assert [len(scene.skus) for scene in draw_scenes(skus[:3], 1)] == [2, 3]
    assert draw_scenes(skus, 0) == []


def test_products_of_a_scene_are_found_missing_or_taken_for_others():
    encoder = {"fine": ColourEncoder("fine", 5)}
    colors = {"red": RED, "blue": BLUE, "green": GREEN, "black": (20, 20, 20)}
    products = [seen_product(encoder, SAND, c, sku, sku) for sku, c in colors.items()]
    judge = open_reflection(products, encoder, BorderMasker())

    def figures(*painted: Colour | None, alone: Colour = RED) -> dict[str, dict[str, float]]:
        """A scene of red, blue and green, in which three things are painted."""
        parts = [picture(SAND, color) for color in painted]
        scene = Scene(("red", "blue", "green"), 0)
        single = {"red": [picture(SAND, alone)]}
        return scene_figures(judge, [scene], [np.concatenate(parts, axis=1)], single)

    right = figures(RED, BLUE, GREEN)
    assert set(right) == {"1", "3"}
    whole = dict.fromkeys(("missing", "swapped", "duplicated", "collapsed"), 0)
    assert right["3"] == {"pictures": 1, "all_found": 1, "found": 1, **whole}
    assert right["1"] == {"pictures": 1, "all_found": 1, "found": 1, **whole}
    gone = figures(RED, None, GREEN)["3"]
    assert (gone["all_found"], gone["missing"], gone["collapsed"]) == (0, 1 / 3, 0)
    other = figures(RED, (20, 20, 20), GREEN)["3"]
    assert (other["all_found"], other["missing"], other["collapsed"]) == (0, 1 / 3, 1 / 3)
    exchanged = figures(BLUE, RED, GREEN)["3"]
    assert (exchanged["swapped"], exchanged["collapsed"]) == (2 / 3, 2 / 3)
    twice = figures(RED, RED, GREEN)["3"]
    assert (twice["duplicated"], twice["missing"], twice["collapsed"]) == (1 / 3, 1 / 3, 1 / 3)
    assert figures(RED, BLUE, GREEN, alone=BLUE)["1"]["collapsed"] == 1


def test_all_concepts_are_measured_at_checkpoints():
    assert checkpoints_of(60, (10, 30)) == (10, 30, 60)
    assert checkpoints_of(8, (3, 10)) == (3, 4, 8)
    tasks, points = range(1, 9), checkpoints_of(8)
    counts = [len(measured_concepts(task, points, full_matrix=False)) for task in tasks]
    assert counts == [1, 1, 1, 4, 1, 1, 1, 8]
    assert len(measured_concepts(3, points, full_matrix=True)) == 3
    assert list(measured_concepts(3, points, full_matrix=False)) == [2]
