"""The benchmark's harness on a tiny model and tiny products: resumed cells, and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.diffusion.base import hash_model_folder
from catalog_pipeline.errors import ConfigurationError, IntegrityError
from catalog_pipeline.evaluation.learned_looks import photos_alone
from catalog_pipeline.evaluation.product_crops import alone_on_white
from catalog_pipeline.evaluation.product_mask import ProductMask, ProductMasker, judged
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext, LifelongMethod
from catalog_pipeline.learning.methods.registry import METHODS
from catalog_pipeline.learning.task import LearningTask
from catalog_pipeline.records import Features, Photo, Pixels
from catalog_pipeline.settings import BaseModelSettings
from tests.benchmarks.learning.cells import Cell, Choice, choose_cells, in_order
from tests.benchmarks.learning.looks import RememberingMasker, look_at
from tests.benchmarks.learning.measure import (
    base_text_following,
    likeness_figures,
    measured_concepts,
    measured_templates,
    scene_of,
    text_following,
)
from tests.benchmarks.learning.products import Product, ProductShelf, ceilings
from tests.benchmarks.learning.remeasure import remeasure
from tests.benchmarks.learning.report import write_report
from tests.benchmarks.learning.results import Result, read_home
from tests.benchmarks.learning.runner import Bench, run_cells
from tests.benchmarks.learning.suites import SUITES, Sizes, Suite, plain
from tests.benchmarks.learning.tables import COLUMNS, SUITE_COLUMNS
from tests.benchmarks.learning.together import Together

ALL_METHODS = {**METHODS, "together": Together}
NAMES = ("red_mug", "blue_mug", "green_hat")
TINY = Sizes(steps=2, images=4, sampler_steps=2)
Colour = tuple[int, int, int]
LEARNING = {"latent_views": 3, "backdrops_per_scene": 1, "scenes": ["on a white background"]}


class ColourEncoder:
    """Coarse colours as features: a small encoder that tells the tiny products apart."""

    def __init__(self, name: str, side_px: int) -> None:
        self.name, self._side_px = name, side_px
        self.width = 3 * side_px**2

    def encode(self, images: Sequence[Pixels]) -> Features:
        side = (self._side_px, self._side_px)
        rows = [np.asarray(Image.fromarray(i).resize(side, Image.Resampling.BOX)) for i in images]
        flat = np.stack(rows).reshape(len(rows), -1).astype(np.float32) - 127.5
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


class BorderMasker(ProductMasker):
    """A product is what has another colour than the picture's border."""

    def __init__(self) -> None:
        """Opens no network."""

    def mask(self, pixels: Pixels) -> ProductMask:
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(0)
        product = np.abs(pixels - border).max(2) > 40
        return judged(np.where(product, 255, 0).astype(np.uint8))


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    """Three cut-out products, three photos each, in the layout of the benchmark's data."""
    folder = tmp_path / "data" / "photos"
    meta = {}
    for index, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        meta[name] = {"class_noun": name.rpartition("_")[2]}
        for photo in range(3):
            pixels = np.zeros((72, 72, 4), np.uint8)
            pixels[12:60, 12:60] = (40 + 60 * index, 200 - 80 * index, 30 * photo, 255)
            Image.fromarray(pixels).save(folder / name / f"{photo}.png")
    (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
    return tmp_path / "data"


@pytest.fixture(name="bench")
def _bench(tmp_path: Path, data: Path, tiny_model_folder: Path) -> Bench:
    encoders = {"coarse": ColourEncoder("coarse", 3), "fine": ColourEncoder("fine", 5)}
    home = tmp_path / "home"
    base = BaseModelSettings(base_model=str(tiny_model_folder), dtype="float32")
    shelf = ProductShelf(data, home, encoders, BorderMasker)
    return Bench(home, base, encoders, shelf, ALL_METHODS)


@pytest.fixture(name="make_cells")
def _make_cells(tiny_model_folder: Path) -> Callable[..., list[Cell]]:
    def make(*methods: str, suite: str = "main", **choice: object) -> list[Cell]:
        variants = tuple(replace(v, learning=LEARNING) for v in plain(*methods))
        tiny = Suite(suite, "tiny", variants, NAMES, sizes=TINY)
        base_hash = hash_model_folder(tiny_model_folder)
        return choose_cells(tiny, NAMES, base_hash, Choice(**choice))

    return make


def figures_of(bench: Bench, cell: Cell) -> list[dict[str, object]]:
    """The tasks' figures without what depends on the clock."""
    read = []
    for task in range(1, len(cell.products) + 1):
        text = (bench.home / cell.folder / f"task-{task}.json").read_text("utf-8")
        figures = json.loads(text)
        assert figures.pop("cost")["wall_seconds"] > 0
        figures.pop("finished_utc")
        read.append(figures)
    return read


def killed_before_task(make: Callable[[LearningContext], LifelongMethod], task: int):
    """``make``, but the method dies when task number ``task`` begins."""

    def made(context: LearningContext) -> LifelongMethod:
        method = make(context)
        make_task = method.task

        def make_or_die(new: NewConcept) -> LearningTask:
            if new.concept.task == task:
                raise Killed
            return make_task(new)

        method.task = make_or_die  # type: ignore[method-assign]
        return method

    return made


@pytest.mark.parametrize("method", ["ours", "finetune"])
def test_a_killed_cell_goes_on_and_ends_with_the_same_figures(bench, make_cells, tmp_path, method):
    (cell,) = make_cells(method, full_matrix=True)
    whole = replace(bench, home=tmp_path / "whole")
    assert run_cells(whole, [cell]) == 1
    dying = replace(bench, methods={method: killed_before_task(METHODS[method], 2)})
    with pytest.raises(Killed):
        run_cells(dying, [cell])
    assert sorted(p.name for p in (bench.home / cell.folder).glob("task-*")) == [
        "task-1.json",
        "task-1.safetensors",
    ]
    assert run_cells(bench, [cell]) == 1
    figures = figures_of(bench, cell)
    assert figures == figures_of(whole, cell)
    states = [(b.home / cell.folder / "task-3.safetensors").read_bytes() for b in (bench, whole)]
    assert states[0] == states[1]
    assert [len(task["fidelity"]) for task in figures] == [1, 2, 3]
    last = figures[-1]
    assert set(last["drift"]) == set(last["text_following"]) == {"coarse", "fine"}
    assert 0 <= last["confusion"]["coarse"]["accuracy"] <= 1
    assert [p.name for p in (bench.home / cell.folder).glob("*.safetensors")] == [
        "task-3.safetensors"
    ]


def test_a_finished_cell_is_not_run_again_and_a_lost_state_is_told(bench, make_cells):
    (cell,) = make_cells("finetune", products=2)
    assert run_cells(bench, [cell]) == 1
    never = replace(bench, methods={"finetune": killed_before_task(METHODS["finetune"], 1)})
    assert run_cells(never, [cell]) == 0
    folder = bench.home / cell.folder
    (folder / "task-2.json").unlink()
    with pytest.raises(IntegrityError, match="delete the folder"):
        run_cells(bench, [cell])


@pytest.mark.parametrize("method", ["joint", "together"])
def test_a_method_without_memory_of_order_learns_all_at_once(bench, make_cells, method):
    (cell,) = make_cells(method)
    assert run_cells(bench, [cell]) == 1
    assert not (bench.home / cell.folder / "task-2.json").exists()
    last = json.loads((bench.home / cell.folder / "task-3.json").read_text("utf-8"))
    assert len(last["fidelity"]) == 3


def test_a_method_that_trains_what_another_trained_takes_its_cell_over(bench, make_cells):
    ours, cidm = make_cells("ours", "cidm", products=2)
    never = {"cidm": killed_before_task(METHODS["cidm"], 1)}
    assert run_cells(replace(bench, methods=METHODS | never), [ours, cidm]) == 2
    tasks = [
        [json.loads((bench.home / c.folder / f"task-{k}.json").read_text("utf-8")) for k in (1, 2)]
        for c in (ours, cidm)
    ]
    for mine, theirs in zip(*tasks, strict=True):
        assert theirs["state_bytes"] == mine["state_bytes"]
        assert theirs["cost"]["cpu_seconds"] == mine["cost"]["cpu_seconds"]
    alone = replace(bench, home=bench.home.with_name("alone"))
    assert run_cells(alone, [cidm]) == 1
    assert figures_of(alone, cidm) == figures_of(bench, cidm)


def test_products_come_as_the_catalog_sees_them(bench, data):
    product = bench.shelf.load("photos", "red_mug")
    assert (product.sku, product.class_noun) == ("red-mug", "mug")
    assert [photo.mask is not None for photo in product.photos] == [True] * 3
    assert product.features["fine"].shape == (3, 75)
    two = product.with_photos(2)
    assert [photo.key for photo in two.photos] == ["red-mug/0.png", "red-mug/2.png"]
    assert np.array_equal(two.features["fine"], product.features["fine"][[0, 2]])
    assert two.crops["fine"].shape == (3, 75)  # measured against all of them
    with pytest.raises(ConfigurationError, match="--data"):
        bench.shelf.load("photos", "no_such_product")


def test_cells_have_a_fixed_order_and_a_folder_each():
    for suite in SUITES.values():
        names = suite.products or tuple(f"household-{i:04d}" for i in range(suite.household))
        cells = choose_cells(suite, names, "base")
        assert len({cell.folder for cell in cells}) == len(cells)
        assert cells == choose_cells(suite, names, "base")
        assert all(cell.sizes == suite.sizes for cell in cells)
    chosen = choose_cells(
        SUITES["main"], SUITES["main"].products, "base",
        Choice(only=("ours",), seeds=(0, 1), orders=(0, 1), steps=7, products=3),
    )  # fmt: skip
    assert [(c.order, c.seed, c.sizes.steps, len(c.products)) for c in chosen] == [
        (0, 0, 7, 3), (0, 1, 7, 3), (1, 0, 7, 3), (1, 1, 7, 3),
    ]  # fmt: skip
    orders = {in_order("abcd", order) for order in range(24)}
    assert len(orders) == 24
    assert in_order("abcd", 0) == tuple("abcd")
    assert in_order("abcd", 1) == in_order("abcd", 1) != in_order("abcd", 2)
    with pytest.raises(ValueError, match="expected 0 up to"):
        in_order("ab", 2)


def test_every_suite_has_its_columns_and_known_methods():
    assert SUITE_COLUMNS.keys() == SUITES.keys()
    assert {key for columns in SUITE_COLUMNS.values() for key in columns} <= COLUMNS.keys()
    methods = {variant.method for suite in SUITES.values() for variant in suite.variants}
    assert methods <= ALL_METHODS.keys()


def test_all_concepts_are_measured_in_the_middle_and_at_the_end():
    counts = [len(measured_concepts(task, 8, full_matrix=False)) for task in range(1, 9)]
    assert counts == [1, 1, 1, 4, 1, 1, 1, 8]
    assert len(measured_concepts(3, 8, full_matrix=True)) == 3
    assert list(measured_concepts(3, 8, full_matrix=False)) == [2]


def copied(bench: Bench, cell: Cell, label: str, **facts: object) -> None:
    """One more finished cell like ``cell``, with other facts."""
    source = bench.home / cell.folder
    suite = str(facts.get("suite", cell.suite))
    target = bench.home / "cells" / suite / f"{label}-{facts.get('seed', 0)}-copy"
    shutil.copytree(source, target)
    was = json.loads((source / "cell.json").read_text("utf-8"))
    now = was | facts | {"variant": {**was["variant"], "label": label}}
    (target / "cell.json").write_text(json.dumps(now), "utf-8")


def test_the_report_has_every_section_and_says_what_was_not_run(bench, make_cells, tmp_path):
    ours, joint = make_cells("ours", "joint")
    assert run_cells(bench, [ours, joint]) == 2
    copied(bench, ours, "l2dm")
    copied(bench, ours, "ours", seed=1)
    copied(bench, ours, "4 photos", suite="few")
    copied(bench, ours, "alpha 1", suite="ablation")
    stopped = bench.home / "cells" / "ablation" / "alpha 1-0-copy"
    shutil.copytree(stopped, stopped.with_name("stopped"))
    (stopped.with_name("stopped") / "task-3.json").unlink()
    out = tmp_path / "report"
    write_report(bench.home, out, note="A note.")
    text = (out / "learning.md").read_text("utf-8")
    for suite in SUITES.values():
        assert (f"## {suite.title}" in text) == (suite.name != "quick")
    after = {
        name: text.partition(f"## {SUITES[name].title}")[2].partition("\n## ")[0]
        for name in ("main", "parametrisation", "ablation", "few", "scale")
    }
    assert "Not run." in after["parametrisation"]
    assert "Not run." in after["scale"]
    assert "alpha 1 (order 0, seed 0): 2 of 3 tasks" in after["ablation"]
    assert "no prior (order 0, seed 0)" in after["ablation"]
    assert "A note." in text
    rows = {line.split(" | ")[0]: line for line in after["main"].splitlines() if " | " in line}
    assert rows["| ours"].count("100%") >= 1  # final / alone of ours, at no forgetting
    assert "± 0.000" in rows["| ours"]
    assert rows["| joint"].split(" | ")[2] == "–"  # no figure after its own task
    assert "8 photos (order 0, seed 0)" in after["few"]
    facts = json.loads((out / "learning.json").read_text("utf-8"))
    (group,) = facts["sections"][0]["groups"]
    figures = group["rows"]["ours"]["figures"]["coarse"]
    assert figures["forgetting"] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert figures["of_alone"] == pytest.approx([1.0, 1.0], abs=1e-3)
    sheets = [path.name for path in out.iterdir() if path.suffix in {".png", ".jpg"}]
    assert {"learning-main-pictures.jpg", "learning-main-retention-ours.png"} <= set(sheets)
    assert all(name in text for name in sheets)
    assert all((out / name).stat().st_size <= 150_000 for name in sheets)


def test_finished_cells_are_measured_again_from_their_pictures(bench, make_cells):
    (cell,) = make_cells("ours", products=2)
    assert run_cells(bench, [cell]) == 1
    path = bench.home / cell.folder / "task-2.json"
    right = json.loads(path.read_text("utf-8"))
    earlier = {**right, "measures": 1, "text_following": {}, "confusion": {}}
    del earlier["crops"]
    path.write_text(json.dumps(earlier), "utf-8")
    cell_file = path.with_name("cell.json")
    facts = json.loads(cell_file.read_text("utf-8"))
    cell_file.write_text(json.dumps({**facts, "crop_ceilings": {}}), "utf-8")
    first = json.loads(path.with_name("task-1.json").read_text("utf-8"))
    path.with_name("task-1.json").write_text(json.dumps({**first, "crops": {}}), "utf-8")
    with pytest.raises(ConfigurationError, match="remeasure"):
        read_home(bench.home)
    assert remeasure(bench.home, bench.shelf, bench.encoders) == 1
    assert json.loads(path.read_text("utf-8")) == right
    assert json.loads(cell_file.read_text("utf-8")) == facts
    assert json.loads(path.with_name("task-1.json").read_text("utf-8")) == first
    assert remeasure(bench.home, bench.shelf, bench.encoders) == 0


def picture(floor: Colour, product: Colour | None, left: int = 20) -> Pixels:
    """A square of one colour on a floor of another, or the floor alone."""
    pixels = np.full((64, 64, 3), floor, np.uint8)
    if product is not None:
        pixels[20:44, left : left + 24] = product
    return pixels


def seen_product(encoders, floor: Colour, color: Colour, sku: str, noun: str, *, masks: int = 3):
    """A product with three photos on ``floor``, so many of them with a mask."""
    pictures = [picture(floor, color, left) for left in (16, 20, 24)]
    found = [BorderMasker().mask(pixels).mask for pixels in pictures]
    photos = tuple(
        Photo(f"{sku}/{i}", "", pixels, mask if i < masks else None)
        for i, (pixels, mask) in enumerate(zip(pictures, found, strict=True))
    )
    alone = [alone_on_white(*view) for view in photos_alone(photos)]
    return Product(
        *(sku, sku, noun, "", photos),
        features={name: encoder.encode(pictures) for name, encoder in encoders.items()},
        crops={name: encoder.encode(alone) for name, encoder in encoders.items() if alone},
    )


RED, BLUE, SAND, GREEN = (200, 30, 30), (30, 30, 200), (220, 200, 160), (40, 150, 60)


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


def test_cells_of_other_sizes_stand_in_another_table(bench, make_cells):
    cells = make_cells("ours") + make_cells("ours", products=2)
    assert run_cells(bench, cells) == 2
    groups, unfinished = read_home(bench.home)
    assert [len(group.protocol["products"]) for group in groups] in ([3, 2], [2, 3])
    assert unfinished == []


def test_late_tasks_are_compared_with_early_ones():
    skus = [f"p{index}" for index in range(12)]
    tasks = {
        task: {"cost": {"cpu_seconds": 2.0 * task, "peak_rss_bytes": 100}, "state_bytes": 10 * task}
        for task in range(1, 13)
    }
    costs = Result(Path(), {"skus": skus}, tasks).costs()
    assert costs["cpu_seconds"] == pytest.approx(13.0)
    assert (costs["cpu_ratio"], costs["rss_ratio"]) == (pytest.approx(11 / 5), 1.0)
    assert costs["state_ratio"] == pytest.approx(11 / 5)
    few = Result(Path(), {"skus": skus[:3]}, {task: tasks[task] for task in (1, 2, 3)})
    assert few.costs()["cpu_ratio"] is None
