"""Where products stand: boxes, and how often each arrangement is drawn."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.layouts import LAYOUTS, find_regions, split_layout
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.records import Region
from catalog_pipeline.settings import LAYOUT_COUNTS, LayoutSettings
from tests.generation.plans import concepts, ids, plan, policy


def arranged(layouts: dict[str, Any], **policies: Any) -> Any:
    generation = policy(**policies)
    return generation.model_copy(update={"layouts": LayoutSettings.model_validate(layouts)})


def test_the_settings_know_every_layout_and_its_number_of_products() -> None:
    assert {name: len(regions) for name, regions in LAYOUTS.items()} == LAYOUT_COUNTS


@pytest.mark.parametrize("name", LAYOUTS)
def test_columns_follow_each_other_and_fill_the_picture(name: str) -> None:
    regions = LAYOUTS[name]
    assert (regions[0].left, regions[-1].right) == (0.0, 1.0)
    assert all(one.right == two.left for one, two in pairwise(regions))
    assert all((region.top, region.bottom) == (0.0, 1.0) for region in regions)
    masks = region_masks(regions, 100, 100)
    shares = masks.mean(dim=(1, 2)).tolist()
    assert shares == pytest.approx([region.right - region.left for region in regions], abs=0.011)


def test_layouts_are_drawn_by_weight() -> None:
    generation = arranged({"pairs": {"left_right": 3, "wide_left": 1, "wide_right": 0}}, pairs=400)
    drawn = Counter(job.layout for job in plan(concepts(30), generation).jobs)
    assert set(drawn) == {"left_right", "wide_left"}
    assert 1.8 < drawn["left_right"] / drawn["wide_left"] < 4.5


def test_products_that_meet_again_change_the_layout() -> None:
    generation = arranged({"pairs": {"left_right": 1, "wide_left": 1}}, pairs=4)
    layouts = [job.layout for job in plan(concepts(2), generation).jobs]
    assert all(one != two for one, two in pairwise(layouts))


def test_a_layout_moves_neither_scenes_nor_seeds_nor_sides() -> None:
    plain = plan(concepts(5), policy(pairs=6, singles_per_sku=1))
    other = plan(concepts(5), arranged({"pairs": {"wide_left": 1}}, pairs=6, singles_per_sku=1))
    assert [(j.skus, j.template, j.seed) for j in plain.jobs] == [
        (j.skus, j.template, j.seed) for j in other.jobs
    ]
    singles = {j.job_id for j in plain.jobs if len(j.skus) == 1}
    assert ids(plain) & ids(other) == singles


def test_boxes_of_ones_own_are_drawn_too() -> None:
    boxes = {"in_front": [[0.0, 0.4, 0.6, 1.0], [0.3, 0.0, 1.0, 0.7]]}
    generation = arranged({"boxes": boxes, "pairs": {"in_front": 1}}, pairs=1)
    (job,) = plan(concepts(2), generation).jobs
    assert job.layout == "in_front"
    assert job.regions == (Region(0.0, 0.4, 0.6, 1.0), Region(0.3, 0.0, 1.0, 0.7))


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(GenerationError, match="no layout 'stacked'; expected one of single, left"):
        find_regions("stacked", LayoutSettings())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_plain_layouts_are_equal_columns(count: int) -> None:
    assert [r.right - r.left for r in split_layout(count)] == pytest.approx([1 / count] * count)
