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
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt
from catalog_pipeline.errors import ConfigurationError, IntegrityError
from catalog_pipeline.learning.methods.cidm import Cidm
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.method import LearningContext, LifelongMethod
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.learning.methods.registry import METHODS
from catalog_pipeline.learning.task import LearningTask
from catalog_pipeline.records import Concept
from catalog_pipeline.settings import BaseModelSettings
from tests.benchmarks.drawn_products import BorderMasker, ColourEncoder
from tests.benchmarks.learning.__main__ import command_line, open_encoders
from tests.benchmarks.learning.cells import Cell, Choice, choose_cells, in_order
from tests.benchmarks.learning.groups import read_home
from tests.benchmarks.learning.products import ProductShelf
from tests.benchmarks.learning.remeasure import remeasure
from tests.benchmarks.learning.report import write_report
from tests.benchmarks.learning.runner import Bench, run_cells
from tests.benchmarks.learning.scenes import draw_scenes
from tests.benchmarks.learning.suites import REPEATED, SUITES, Sizes, Suite, plain
from tests.benchmarks.learning.tables import COLUMNS, SUITE_TABLES
from tests.benchmarks.learning.together import Together

ALL_METHODS = {**METHODS, "together": Together}
NAMES = ("red_mug", "blue_mug", "green_hat")
TINY = Sizes(steps=2, images=4, sampler_steps=2, scenes=0)
LEARNING = {"latent_views": 3, "backdrops_per_scene": 1, "scenes": ["on a white background"]}


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
    def make(
        *methods: str, suite: str = "main", sizes: Sizes = TINY, **choice: object
    ) -> list[Cell]:
        variants = tuple(replace(v, learning=LEARNING) for v in plain(*methods))
        tiny = Suite(suite, "tiny", variants, NAMES, sizes=sizes)
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
    assert [sorted(task.get("confusion", {})) for task in figures] == [
        ["coarse", "fine"],
        [],
        ["coarse", "fine"],
    ]
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


def test_the_main_suite_crosses_seeds_and_orders_of_five_methods():
    suite = SUITES["main"]
    runs: dict[str, list[tuple[int, int]]] = {}
    for cell in choose_cells(suite, suite.products, "base"):
        runs.setdefault(cell.variant.label, []).append((cell.order, cell.seed))
    crossed = {name for name, cells in runs.items() if len(cells) > 2}
    assert crossed == set(REPEATED)
    assert len(crossed) == 5
    assert runs.keys() == METHODS.keys()
    for name, cells in runs.items():
        seeds, orders = (3, 2) if name in crossed else (2, 1)
        assert sorted(cells) == [(order, seed) for order in range(orders) for seed in range(seeds)]


def test_every_suite_has_its_columns_and_known_methods():
    assert SUITE_TABLES.keys() == SUITES.keys()
    keys = {key for tables in SUITE_TABLES.values() for keys in tables.values() for key in keys}
    assert keys == COLUMNS.keys()
    methods = {variant.method for suite in SUITES.values() for variant in suite.variants}
    assert methods <= ALL_METHODS.keys()


def copied(bench: Bench, cell: Cell, label: str, **facts: object) -> None:
    """One more finished cell like ``cell``, with other facts."""
    source = bench.home / cell.folder
    suite = str(facts.get("suite", cell.suite))
    target = bench.home / "cells" / suite / f"{label}-{facts.get('seed', 0)}-copy"
    shutil.copytree(source, target)
    was = json.loads((source / "cell.json").read_text("utf-8"))
    now = was | facts | {"variant": {**was["variant"], "label": label}}
    (target / "cell.json").write_text(json.dumps(now), "utf-8")


def table_of(section: str, title: str) -> dict[str, dict[str, str]]:
    """Row -> column -> what is written, of the table ``title`` of a section of the report."""
    name, _, encoder = title.partition(" (")
    heading = f"**{name}**" + (f" ({encoder}" if encoder else "") + "\n\n"
    assert section.count(heading) == 1, title
    lines = section.partition(heading)[2].partition("\n\n")[0].splitlines()
    columns, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


def test_the_report_has_every_section_and_says_what_was_not_run(bench, make_cells, tmp_path):
    ours, joint = make_cells("ours", "joint", sizes=replace(TINY, dreambench=1, scenes=1))
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
    likeness = table_of(after["main"], "Likeness (coarse)")
    assert likeness["ours"]["final / alone"].startswith("100%")  # at no forgetting
    assert likeness["ours"]["final"].endswith("± 0.000")
    assert likeness["joint"]["after own task"] == "–"
    assert "final, whole picture" in likeness["joint"]
    assert "prior drift" in table_of(after["main"], "The base and the prompts (fine)")["ours"]
    routed = table_of(after["main"], "The base and the prompts (coarse)")
    assert routed["joint"]["base-only through a slot"] == "100%"
    taken = table_of(after["few"], "Likeness (fine)")["4 photos"]
    shares = [int(taken[name].rstrip("%")) for name in ("own product", "class mate", "another")]
    assert abs(sum(shares) - 100) <= 1  # each is rounded
    assert list(table_of(after["main"], "Missing")["ours"])[2:] == ["1 named", "2 named", "3 named"]
    assert table_of(after["main"], "Cost")["ours"]["state a product"].startswith("16 kB")
    assert "8 photos (order 0, seed 0)" in after["few"]
    facts = json.loads((out / "learning.json").read_text("utf-8"))
    (group,) = facts["sections"][0]["groups"]
    figures = group["rows"]["ours"]["figures"]["coarse"]
    assert figures["forgetting"] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert figures["whole_of_alone"] == pytest.approx([1.0, 1.0], abs=1e-3)
    assert len(figures["confused_own"]) == len(figures["confused_own@1"]) == 2
    assert figures["of_alone"] == pytest.approx([1.0, 1.0], abs=1e-3)
    sheets = [path.name for path in out.iterdir() if path.suffix in {".png", ".jpg"}]
    names = ("pictures.jpg", "retention-ours.png", "all-found.png")
    assert {f"learning-main-{name}" for name in names} <= set(sheets)
    assert all(name in text for name in sheets)
    assert all((out / name).stat().st_size <= 150_000 for name in sheets)


def test_finished_cells_are_measured_again_from_their_pictures(bench, make_cells):
    sizes = replace(TINY, dreambench=2, scenes=2)
    (cell,) = make_cells("ours", products=2, sizes=sizes)
    assert run_cells(bench, [cell]) == 1
    path = bench.home / cell.folder / "task-2.json"
    right = json.loads(path.read_text("utf-8"))
    assert set(right["dreambench"]["crops"]) == {"red-mug", "blue-mug"}
    assert [right["scenes"][size]["pictures"] for size in ("1", "2")] == [8, 2]
    earlier = {**right, "measures": 1, "text_following": {}, "confusion": {}}
    for lost in ("crops", "dreambench", "scenes"):
        del earlier[lost]
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


def test_cells_of_other_sizes_stand_in_another_table(bench, make_cells):
    cells = make_cells("ours") + make_cells("ours", products=2)
    assert run_cells(bench, cells) == 2
    groups, unfinished = read_home(bench.home)
    assert [len(group.protocol["products"]) for group in groups] in ([3, 2], [2, 3])
    assert unfinished == []


class SendsAstray(OwnSlots):
    """Every prompt of a product passes through the slot of the one that was learned first."""

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        return self.learned[0].sku if concept is not None else None


class Hesitates(Cidm):
    """All products weigh alike, but the one that was learned last a little more."""

    def weights(self, prompt: str) -> dict[str, float]:
        return {c.sku: 1.0 + 0.1 * (c == self.learned[-1]) for c in self.learned}


@pytest.mark.parametrize(
    ("made", "wrong_slot", "base_routed"),
    [
        ("ours", 0, 0),
        ("finetune", 0, 1),
        ("c_lora", 0, 1),
        (SendsAstray, 1 / 2, 0),
        (Hesitates, 1 / 2, 1),
    ],
)
def test_routing_errors_are_told_by_the_slot_that_a_prompt_takes(
    bench, make_cells, made, wrong_slot, base_routed
):
    name = made if isinstance(made, str) else "ours"
    (cell,) = make_cells(name, products=2)
    methods = METHODS if isinstance(made, str) else {"ours": made}
    assert run_cells(replace(bench, methods=methods), [cell]) == 1
    last = json.loads((bench.home / cell.folder / "task-2.json").read_text("utf-8"))
    assert last["routing"] == {"wrong_slot": wrong_slot, "base_routed": base_routed}


def test_each_column_of_a_scene_reads_its_own_product_through_the_methods_slot(
    bench, make_cells, monkeypatch
):
    batches = []
    sample = DiffusionEngine.sample

    def recorded(engine: DiffusionEngine, batch: Sequence[RegionalPrompt], seeds, plan):
        batches.append((batch, plan))
        return sample(engine, batch, seeds, plan)

    monkeypatch.setattr(DiffusionEngine, "sample", recorded)
    cells = make_cells("ours", "finetune", products=2, sizes=replace(TINY, images=1, scenes=1))
    for cell, slots in zip(cells, (None, ("shared", "shared")), strict=True):
        batches.clear()
        assert run_cells(bench, [cell]) == 1
        (scene,) = draw_scenes(("red-mug", "blue-mug"), 1)
        (((item,), plan),) = [found for found in batches if len(found[0][0].prompts) > 1]
        assert item.slots == (slots or scene.skus)
        assert all(scene.text in prompt for prompt in item.prompts)
        assert len(set(item.prompts)) == 2
        height, width = item.masks.shape[1:]
        assert (plan.width, width) == (1.5 * plan.height, 1.5 * height)
        left, right = item.masks[..., : width // 2].mean((1, 2)).tolist()
        assert (left, right) == (1, 0)


def test_an_encoder_in_a_folder_judges_beside_the_packaged_ones(data, tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=12, num_hidden_layers=1,
        num_attention_heads=2, image_size=32, patch_size=16,
    )  # fmt: skip
    folder = tmp_path / "clip"
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    options = command_line().parse_args(["run", "--data", str(data), "--encoder", str(folder)])
    encoders = open_encoders(options.encoder)
    first, second, clip = encoders
    assert (first, second) == ("mobilenet_v2", "efficientnet_lite0")
    # Another model in a folder of that name must not read what this one has left in the home.
    assert clip.startswith("clip-")
    assert len(clip) > len("clip-")
    shelf = ProductShelf(data, tmp_path / "home", encoders, BorderMasker)
    product = shelf.load("photos", "red_mug")
    assert product.features[clip].shape == product.crops[clip].shape == (3, 12)


def test_a_table_is_by_the_encoders_that_judged_every_cell(bench, make_cells):
    (cell,) = make_cells("ours", products=2)
    assert run_cells(bench, [cell]) == 1
    copied(bench, cell, "l2dm")
    path = bench.home / cell.folder / "task-2.json"
    last = json.loads(path.read_text("utf-8"))
    for by in last["fidelity"].values():
        del by["fine"]
    path.write_text(json.dumps(last), "utf-8")
    ((group,), _) = read_home(bench.home)
    assert [result.encoders for result in group.rows["l2dm"]] == [("coarse", "fine")]
    assert group.encoders == ("coarse",)
