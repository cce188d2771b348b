"""A night of which scenes are written in other languages: the same pictures, and notes."""

from __future__ import annotations

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.stores.matches import MATCHES_KEY
from catalog_pipeline.workflows.night.plan_night import find_plan, plan_night
from catalog_pipeline.workflows.night.preview_night import preview_night
from tests.workflows.painted_night import DAY, Studio

ENGLISH = [
    {"name": "wood", "text": "on a wooden table"},
    {"name": "beach", "text": "on a sandy beach"},
]
JAPANESE = [
    {"name": "wood", "text": "木のテーブルの上"},
    {"name": "beach", "text": "on a sandy beach"},
]


def test_a_scene_in_japanese_makes_the_jobs_of_the_english_one_and_a_note(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    english = plan_night(studio.configured(scenes=ENGLISH).home, DAY)
    assert english.notes == ()
    home = studio.configured(scenes=JAPANESE).home
    preview = preview_night(home, DAY)
    assert MATCHES_KEY not in home.objects.list("catalog/")
    assert preview.stored  # the very inputs of the English night
    plan = plan_night(home, DAY)
    assert plan == english
    fresh = studio.configured(scenes=JAPANESE, seed=1).home
    plan = plan_night(fresh, DAY)
    assert {job.scene for job in plan.jobs} == {"on a wooden table", "on a sandy beach"}
    assert plan.notes[0].startswith(
        "scene 'wood': '木のテーブルの上' is read as 'on a wooden table' (score 0."
    )
    assert fresh.words.kept["scene"]["木のテーブルの上"].phrase == "on a wooden table"
    assert plan_night(fresh, DAY) == plan


def test_a_scene_that_is_like_nothing_stops_the_plan_and_names_the_nearest(studio: Studio) -> None:
    studio.learn("a")
    scenes = [*ENGLISH, {"name": "price", "text": "安い値段で"}]
    home = studio.configured(scenes=scenes).home
    for make in (plan_night, preview_night):
        with pytest.raises(
            ConfigurationError, match=r"generation.yaml: scene 'price'.*nearest are '.*words$"
        ):
            make(home, DAY)
    assert find_plan(home, DAY) is None


def test_an_english_scene_that_the_base_does_not_know_is_planned_and_noted(studio: Studio) -> None:
    studio.learn("a", "b", "c")
    scenes = [*ENGLISH, {"name": "rink", "text": "on an ice rink"}]
    plan = plan_night(studio.configured(scenes=scenes).home, DAY)
    (note,) = plan.notes
    assert note.startswith("scene 'rink': the base was not trained on 'on an ice rink'; the near")
    assert "on an ice rink" in {job.scene for job in plan.jobs}
