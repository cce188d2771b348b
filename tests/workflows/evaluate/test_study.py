"""Studies of a few sample products, on a tiny real diffusion model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Photo, Sku
from catalog_pipeline.settings import Settings
from catalog_pipeline.studio import sample_catalog
from catalog_pipeline.workflows.evaluate.study import StudyOptions, plan_cells, run_study
from catalog_pipeline.workflows.evaluate.study_deliveries import (
    Delivery,
    gather,
    in_a_stream,
    in_waves,
    waited_days,
)
from catalog_pipeline.workflows.evaluate.study_products import (
    StudyProduct,
    choose,
    family_of,
    group,
)
from catalog_pipeline.workflows.home import open_home
from tests.builders import make_photos
from tests.workflows.tiny_catalog import tiny_sections

SKUS = ["MUG-ZIGZAG-01", "MUG-HEARTS-01", "BACKPACK-STAR-01"]


class PowerCutError(BaseException):
    """The process is gone: nothing in the program may catch this."""


class Cut:
    """A progress sink that ends the process at the start of the n-th training."""

    def __init__(self, at: int) -> None:
        self.trainings, self.at = 0, at

    def start(self, task: str, total: int, done: int = 0) -> None:
        if task.startswith("learn "):
            self.trainings += 1
            if self.trainings == self.at:
                raise PowerCutError

    def advance(self, task: str, count: int = 1, note: str = "") -> None: ...

    def finish(self, task: str) -> None: ...


def card(sku: str, name: str, category: str = "kitchen", **changes: Any) -> Sku:
    return Sku(sku=sku, name=name, class_noun="mug", category=category, **changes)


def product(
    sku: str, category: str = "kitchen", name: str = "Mug", photos: int = 6
) -> StudyProduct:
    own = card(sku, name, category)
    made: tuple[Photo, ...] = make_photos(6, 16, sku=sku)
    return StudyProduct(own, made, family_of(own))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Red mug", "kitchen/mug"),
        ("Mug, light blue, 0.3 l", "kitchen/mug"),
        ("Mug XL", "kitchen/mug"),
        ("Alpine Mug", "kitchen/alpine mug"),
        ("Sofa 2 seats", "kitchen/sofa"),
        ("Rot-Weiß", "kitchen/rot weiss"),
        ("Blue", "kitchen/mug"),
    ],
)
def test_variants_are_told_by_their_names(name, family):
    assert family_of(card("A", name)) == family


def test_a_tag_of_the_card_names_the_family():
    assert family_of(card("A", "Red mug", tags=("new", "Family: M-1"))) == "family:m-1"


def test_categories_take_turns_and_large_families_come_whole():
    cards = [
        *(card(f"K{n}", "Cup" if n < 3 else f"Thing number {'abcd'[n - 3]}") for n in range(7)),
        *(card(f"B{n}", "Bag", "bags") for n in range(2)),
        card("Z", "Lone", "alone"),
    ]
    assert [each.sku for each in choose(cards, 4, 2)] == ["B0", "B1", "K0", "K1"]
    assert [each.sku for each in choose(cards, 5, 2)] == ["B0", "B1", "K0", "K1", "K2"]
    assert len(choose(cards, 99, 9)) == 10


def test_groups_are_named_in_order_and_hold_everything():
    products = [product("A"), product("B", name="Red mug"), product("C", "bags", "Bag")]
    assert [found.folder for found in group(products, "sku")] == ["A", "B", "C"]
    families = group(products, "family")
    assert [(f.folder, [m.sku for m in f.members]) for f in families] == [
        ("family-001", ["C"]),
        ("family-002", ["A", "B"]),
    ]
    assert [f.folder for f in group(products, "category")] == ["category-001", "category-002"]


def test_a_stream_is_that_of_its_seed_and_brings_every_photo_once():
    products = [product(f"S{n}") for n in range(10)]
    stream = in_a_stream(products, 14, 0.5, 3, seed=4)
    assert stream == in_a_stream(products, 14, 0.5, 3, seed=4)
    assert stream != in_a_stream(products, 14, 0.5, 3, seed=5)
    assert len(stream) == 15
    for each in products:
        own = [delivery for delivery in stream if delivery.sku == each.sku]
        keys = [key for delivery in own for key in delivery.photos]
        assert sorted(keys) == sorted(photo.key for photo in each.photos)
        assert len(own[0].photos) in (3, 6)
        assert own[0].day < 14


def test_updates_gather_what_came_and_say_how_long_it_waited():
    came = [Delivery(day, sku, ("x",)) for day, sku in ((0, "A"), (0, "B"), (3, "A"), (8, "C"))]
    assert [len(update.deliveries) for update in gather(came, 0)] == [1, 1, 1, 1]
    assert [(u.day, len(u.deliveries)) for u in gather(came, 1)] == [(0, 2), (3, 1), (8, 1)]
    weekly = gather(came, 7)
    assert [(u.day, len(u.deliveries)) for u in weekly] == [(6, 3), (13, 1)]
    assert waited_days(weekly) == {"A": (6 + 3) / 2, "B": 6.0, "C": 5.0}
    assert waited_days(gather(came, 0)) == {"A": 0.0, "B": 0.0, "C": 0.0}


def test_waves_spread_families_over_days():
    products = [product("A"), product("B"), product("C", "bags"), product("D", "bags")]
    days = {delivery.sku: delivery.day for delivery in in_waves(products, 2)}
    assert days["A"] != days["B"]
    assert days["C"] != days["D"]


def test_what_would_be_the_same_is_not_run_twice(make_settings):
    products = [product("A", name="Mug"), product("B", name="Jar"), product("C", "bags", "Bag")]
    cells, skipped = plan_cells(make_settings(), "granularity", products, StudyOptions(seeds=2))
    assert [cell.name for cell in cells] == [
        *("sku-per_concept-0", "category-per_concept-0"),
        *("sku-per_concept-1", "category-per_concept-1"),
    ]
    assert skipped == ["family is the same as sku for these products: it was not run"]
    cells, _ = plan_cells(make_settings(), "frequency", products, StudyOptions(days=2))
    assert {cell.slots for cell in cells} == {"per_concept", "shared"}


def test_a_choice_is_run_with_every_seed_or_with_none(make_settings):
    """With seed 3 two deliveries come on a day, so that nightly is another choice there."""
    products = [product("A"), product("B", name="Jar"), product("C", "bags", "Bag")]
    options = StudyOptions(seeds=4, later_share=0.0)
    cells, skipped = plan_cells(make_settings(), "frequency", products, options)
    assert skipped == []
    assert [(cell.seed, cell.choice, cell.slots) for cell in cells] == [
        (seed, choice, slots)
        for seed in range(4)
        for slots in ("per_concept", "shared")
        for choice in ("each", "nightly", "weekly")
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"skus": 1}, "--skus 1; expected 2 or more"),
        ({"steps": 0}, "--steps 0; expected 1 or more"),
        ({"later_share": 1.5}, "--later-share 1.5; expected 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(changes, words):
    with pytest.raises(ConfigurationError) as refused:
        StudyOptions(**changes)
    assert words in str(refused.value)


def tiny(home: Path, model: Path) -> Settings:
    sections = tiny_sections(model, steps=3)
    return Settings(home=home, config_dir=home.parent, **sections)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sample products of three photos; the mugs are variants of one thing, by their cards."""
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sample_catalog, "PHOTOS_PER_SKU", 3)
        patched.setattr(sample_catalog, "_AZIMUTHS", sample_catalog._AZIMUTHS[:3])
        sample_catalog.write_sample_catalog(folder, SKUS)
    for sku in SKUS[:2]:
        (path,) = (folder / sku).glob("sku.*")
        content = yaml.safe_load(path.read_text("utf-8"))
        content["tags"] = [*content["tags"], "family:mug"]
        path.write_text(json.dumps(content), "utf-8")
    return folder


@pytest.fixture
def catalog(tmp_path: Path, sample: Path) -> Path:
    """A copy of the sample, to do with as one likes."""
    return Path(shutil.copytree(sample, tmp_path / "catalog"))


OPTIONS = StudyOptions(skus=3, categories=3, images=1, waves=2, days=3, later_share=0.0)


def test_a_granularity_study_learns_each_way_and_goes_on_where_it_was_killed(
    tmp_path, tiny_model_folder, catalog
):
    settings = tiny(tmp_path / "home", tiny_model_folder)
    out = tmp_path / "out"
    with pytest.raises(PowerCutError):
        run_study(settings, "granularity", catalog, out, OPTIONS, progress=Cut(5))
    cells = sorted((out / "granularity" / "cells").iterdir())
    assert [cell.name.rpartition("-")[0] for cell in cells] == [
        "granularity-family-per_concept-0",
        "granularity-sku-per_concept-0",
    ]
    done = {path: path.stat().st_mtime_ns for path in out.rglob("done.json")}
    assert len(done) == 1
    written = run_study(settings, "granularity", catalog, out, OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    report = written.report
    found = {cell.choice: cell for cell in report.cells}
    # The two mugs are a family and a category, so that these are one way.
    assert list(found) == ["sku", "family"]
    assert "category is the same as family" in report.notes[0]
    sku, family = found["sku"], found["family"]
    assert (sku.concepts, sku.tasks, sku.updates) == (3, 3, 2)
    # The mugs come on two days: their one concept is learned twice.
    assert (family.concepts, family.tasks) == (2, 3)
    assert sku.seconds > 0
    assert sku.stored_bytes > sku.served_bytes > family.served_bytes > 0
    rows = {row.sku: row for row in family.rows}
    assert [rows[name].members for name in SKUS] == [2, 2, 1]
    for row in sku.rows:
        assert row.reason == ""
        # Its own slot: the same bytes draw it at the end.
        assert row.forgotten == 0.0
    assert not settings.home.exists()
    table = pq.read_table(written.paths["table"])
    assert table.num_rows == 6
    record = json.loads(written.paths["record"].read_text("utf-8"))
    assert [cell["choice"] for cell in record["cells"]] == ["sku", "family"]
    page = written.paths["page"].read_text("utf-8")
    assert page.count("data:image/webp") == 9
    again = run_study(settings, "granularity", catalog, out, OPTIONS)
    assert again.report.to_record() == report.to_record()


@pytest.mark.slow
def test_steps_times_products_are_another_way(tmp_path, tiny_model_folder, catalog):
    settings = tiny(tmp_path / "home", tiny_model_folder)
    options = replace(OPTIONS, skus=2, categories=1, waves=1, equal_steps=True)
    written = run_study(settings, "granularity", catalog, tmp_path / "out", options)
    assert [cell.choice for cell in written.report.cells] == [
        "sku",
        "family",
        "family, equal steps",
    ]
    steps = {}
    for folder in (tmp_path / "out" / "granularity" / "cells").iterdir():
        home = open_home(settings.model_copy(update={"home": folder / "home"}))
        log = home.learning_log
        steps[folder.name.rpartition("-")[0].removeprefix("granularity-")] = sorted(
            json.loads(row.settings)["steps"] for day in log.days() for row in log.read_day(day)
        )
    assert steps == {
        "sku-per_concept-0": [3, 3],
        "family-per_concept-0": [3],
        "family-equal-steps-per_concept-0": [6],
    }


@pytest.mark.slow
def test_a_frequency_study_runs_both_kinds_of_slots(tmp_path, tiny_model_folder, catalog):
    settings = tiny(tmp_path / "home", tiny_model_folder)
    settings = settings.model_copy(
        update={"catalog": settings.catalog.model_copy(update={"min_photos": 1})}
    )
    options = replace(OPTIONS, skus=2, days=2, later_share=0.5)
    written = run_study(settings, "frequency", catalog, tmp_path / "out", options)
    cells = {(cell.slots, cell.choice): cell for cell in written.report.cells}
    for slots in ("per_concept", "shared"):
        each, weekly = cells[slots, "each"], cells[slots, "weekly"]
        assert each.tasks == 3  # one product came in two parts
        assert weekly.tasks <= each.tasks
        assert weekly.updates <= each.updates
        assert {row.waited_days for row in each.rows} == {0.0}
        assert min(row.waited_days for row in weekly.rows) > 0
        assert all(row.likeness is not None for row in each.rows)
    assert {verdict.slots for verdict in written.report.verdicts} == {"per_concept", "shared"}
    assert "too few for an interval" in written.report.verdicts[0].words


def test_a_catalog_of_one_product_has_nothing_to_compare(tmp_path, tiny_model_folder, catalog):
    settings = tiny(tmp_path / "home", tiny_model_folder)
    for sku in SKUS[1:]:
        for path in (catalog / sku).iterdir():
            path.unlink()
        (catalog / sku).rmdir()
    with pytest.raises(ConfigurationError, match="expected at least 2 to compare"):
        run_study(settings, "granularity", catalog, tmp_path / "out", OPTIONS)
