"""The generation benchmark's harness: draws, methods on a tiny model, cells, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.prompts import own_prompts
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.records import Pixels
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.memory import MemoryEntry, encode_memory
from catalog_pipeline.workflows.home import open_home
from tests.benchmarks.generation.attend_and_excite import AttendAndExcite
from tests.benchmarks.generation.attention import suite_name
from tests.benchmarks.generation.attention_report import compare, write_attention_report
from tests.benchmarks.generation.cells import (
    Cell,
    CellFiles,
    read_current,
    rejudge,
    run_cell,
    run_suite,
)
from tests.benchmarks.generation.colours import Half, judge_color
from tests.benchmarks.generation.methods import METHODS, Method, Workbench
from tests.benchmarks.generation.report import DETECTOR, write_report
from tests.benchmarks.generation.results import bootstrap, read_rows
from tests.benchmarks.generation.scenes import COMPARED, Scene, draw_groups, draw_scenes
from tests.benchmarks.generation.shapes import draw_scene, draw_things, find_things, judge_picture
from tests.benchmarks.generation.speed import PATHS, measure_speed, read_speed, summarize
from tests.builders import make_adapter_version, make_concept, promote
from tests.tiny_model import fill_slot, open_tiny_engine

CLASSES = {f"sku-{n:02}": noun for n, noun in enumerate(["mug", "mug", *"abcdefghij"] * 2)}
PAIR = (
    Scene(0, ("A", "B"), "on green grass", 7),
    Scene(1, ("B", "A"), "in the snow", 8),
)


# --- draws -----------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "size", "covering"), [("pairs", 2, 12), ("triples", 3, 8)])
def test_draws_show_every_product_before_any_again_and_begin_alike(suite, size, covering) -> None:
    scenes = draw_scenes(suite, CLASSES, 30)
    assert scenes == draw_scenes(suite, dict(reversed(CLASSES.items())), 30)
    assert draw_scenes(suite, CLASSES, covering) == scenes[:covering]
    assert {name for scene in scenes[:covering] for name in scene.things} == set(CLASSES)
    assert all(len({CLASSES[name] for name in scene.things}) == size for scene in scenes)
    assert len({scene.seed for scene in scenes}) == 30
    assert len({scene.text for scene in scenes}) == 8
    assert len({frozenset(scene.things) for scene in scenes}) == 30


def test_a_class_alone_gives_no_pair_and_more_scenes_than_pairs_repeat_them() -> None:
    assert draw_groups({"a": "mug", "b": "mug"}, 2, 3) == []
    assert draw_groups({"a": "mug", "b": "hat"}, 2, 3) == [("a", "b")] * 3


def test_class_mates_meet_in_two_turns_and_swaps_name_two_colours_of_two_nouns() -> None:
    mates = draw_scenes("same_class", {"a": "mug", "b": "mug", "c": "hat", "d": "hat"}, 99)
    assert [set(scene.things) for scene in mates] == [{"a", "b"}, {"c", "d"}] * 2
    assert len({scene.seed for scene in mates}) == 4
    for scene in draw_scenes("swaps", {}, 30):
        (first, one), (second, other) = (thing.split(" ", 1) for thing in scene.things)
        assert first != second
        assert one != other


# --- methods ---------------------------------------------------------------------------


@pytest.fixture(name="bench")
def _bench(make_settings: Callable[..., Settings], tiny_model_folder: Path) -> Workbench:
    """A home of two learned products on the tiny model, opened, with two denoising steps."""
    settings = make_settings(
        base_model={"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        learning={"adapter": {"rank": 2}},
    )
    engine = DiffusionEngine(load_base_model(settings.base_model), settings.learning.adapter)
    store = open_home(settings).adapters("default")
    parts, concepts = {}, []
    for task, (sku, noun) in enumerate([("A", "mug"), ("B", "alarm clock")]):
        tokens, generator = placeholder_tokens(sku, 1), fill_slot(engine, sku, task, scale=1.0)
        engine.text.table.add(tokens[0], torch.randn(16, generator=generator))
        data = encode_part(slot_part(engine, sku) | token_part(engine, tokens))
        memory = MemoryEntry(sku, ("a photo",), np.eye(2, 4, task, dtype=np.float32))
        parts[f"concept/{sku}"] = store.write_part(data)
        parts[f"memory/{sku}"] = store.write_part(encode_memory(memory))
        concepts.append(make_concept(sku, task, class_noun=noun, placeholder_tokens=tokens))
    base = engine.base.content_hash
    promote(store, make_adapter_version(*concepts, base_model_hash=base, parts=parts))
    bench = Workbench(settings)
    bench.plan = replace(bench.plan, steps=2)
    return bench


def test_every_method_paints_learned_products_and_things_of_the_base(bench) -> None:
    things = (Scene(0, ("red mug", "blue toy car"), "in the snow", 5),)
    for method in METHODS.values():
        for scenes in (PAIR, things):
            pictures = bench.render(method, scenes)
            # two things have half as much room again
            assert [p.shape for p in pictures] == [(16, 24, 3)] * len(scenes)
            again = bench.render(method, scenes[:1])
            assert np.array_equal(again[0], pictures[0]), method.name
    assert bench.classes == {"A": "mug", "B": "alarm clock"}
    assert bench.banks()["A"].shape == (2, 4)
    assert bench.facts(METHODS["plain"])["steps"] == 2


def test_things_of_the_base_are_painted_as_the_bare_base_would(bench) -> None:
    (scene,) = draw_scenes("swaps", {}, 1)
    (painted,) = bench.render(METHODS["regional"], [scene])
    concepts = [bench.concept(thing) for thing in scene.things]
    plan = bench.plan_of(scene)
    assert plan.width > plan.height
    masks = region_masks(split_layout(2), plan.height // 2, plan.width // 2)
    bare = RegionalPrompt(own_prompts(concepts, scene.text), (None, None), masks)
    assert all(t in prompt for t, prompt in zip(scene.things, bare.prompts, strict=True))
    latents = bench.engine.sample([bare] * 8, [scene.seed] * 8, plan)
    assert np.array_equal(painted, bench.engine.decode(latents)[0])


def test_attend_and_excite_routes_the_deltas_and_leaves_the_unet_as_it_was(engine) -> None:
    fill_slot(engine, "A", 3, scale=1.0)
    artist = AttendAndExcite(engine, SamplingPlan(2, 3.0, 16, 16))
    unet = engine.base.unet
    processors = unet.attn_processors
    prompt = "a photo of a mug and an alarm clock"
    painted = [
        artist.render(RegionalPrompt((prompt,), (slot,)), ["mug", "alarm clock"], 1)
        for slot in ("A", None)
    ]
    (sampled,) = engine.decode(
        engine.sample([RegionalPrompt((prompt,), (None,))], [1], SamplingPlan(2, 3.0, 16, 16))
    )
    assert painted[0].shape == (16, 16, 3)
    assert not np.array_equal(*painted)
    assert not np.array_equal(painted[1], sampled)
    assert "forward" not in vars(unet)
    assert unet.attn_processors == processors
    assert engine.adapter.route is None


def test_attend_and_excite_wants_a_base_in_full_precision(tiny_model_folder) -> None:
    engine = open_tiny_engine(tiny_model_folder, "bfloat16")
    with pytest.raises(ValueError, match="expected float32"):
        AttendAndExcite(engine, SamplingPlan(2, 3.0, 16, 16))


def test_speed_is_measured_in_rounds_that_a_second_run_does_not_repeat(bench, tmp_path) -> None:
    threads = torch.get_num_threads()
    try:
        measure_speed(tmp_path, bench, rounds=1, threads=1)
        first = read_speed(tmp_path)
        measure_speed(tmp_path, bench, rounds=1, threads=1)
        assert read_speed(tmp_path) == first
        measure_speed(tmp_path, bench, rounds=2, threads=1)
    finally:
        torch.set_num_threads(threads)
    found = read_speed(tmp_path)
    assert first is not None
    assert found is not None
    assert found["rounds"][:1] == first["rounds"]
    summary = summarize(found)
    assert set(summary["paths"]) == set(PATHS)
    assert all(path["images_per_second"] > 0 for path in summary["paths"].values())
    low, high = summary["ratios"][0]["range"]
    assert low <= summary["ratios"][0]["ratio"] <= high


# --- cells -----------------------------------------------------------------------------


class KilledError(BaseException):
    """What a kill looks like from inside."""


class Brush:
    """Paints a field whose red is the seed; dies in call number ``dies_at``."""

    def __init__(self, dies_at: int = 0) -> None:
        self.calls: list[tuple[list[int], float]] = []
        self._dies_at = dies_at

    def render(
        self, method: Method, scenes: Sequence[Scene], strength: float = 1.0
    ) -> list[Pixels]:
        self.calls.append(([scene.number for scene in scenes], strength))
        if len(self.calls) == self._dies_at:
            raise KilledError
        return [np.full((8, 8, 3), scene.seed % 256, np.uint8) for scene in scenes]

    def facts(self, method: Method) -> dict[str, Any]:
        return {"version": "v", "base": "b"}


class EvenJudge:
    """Finds both things where the red is even, else misses the second."""

    def __init__(self, parity: int = 0) -> None:
        self._parity = parity

    def judge(self, pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        verdicts = []
        for picture, scene in zip(pictures, scenes, strict=True):
            there = int(picture[0, 0, 0]) % 2 == self._parity
            said = {scene.things[0]: "found", scene.things[1]: "found" if there else "missing"}
            verdicts.append({"found": said, "passed": there, "count_error": int(not there)})
        return verdicts


SCENES = tuple(Scene(n, ("A", "B"), "in the snow", 100 + n) for n in range(11))


def test_a_killed_cell_keeps_its_batches_and_repeats_none(tmp_path) -> None:
    cell = Cell("pairs", METHODS["regional"], SCENES, {"version": "v"})
    with pytest.raises(KilledError):
        run_cell(tmp_path, cell, Brush(dies_at=2), EvenJudge())
    files = CellFiles(tmp_path, cell.folder)
    assert sorted(files.rendered()) == list(range(8))
    assert files.verdicts() is None
    brush = Brush()
    verdicts = run_cell(tmp_path, cell, brush, EvenJudge())
    assert brush.calls == [([8, 9, 10], 1.0)]
    assert [verdict["passed"] for verdict in verdicts] == [n % 2 == 0 for n in range(11)]
    assert run_cell(tmp_path, cell, brush, EvenJudge(1)) == verdicts
    assert len(brush.calls) == 1
    assert all(cost["wall_seconds"] >= 0 for cost in files.rendered().values())
    assert (tmp_path / cell.folder / "sheet.png").is_file()
    assert replace(cell, facts={"version": "w"}).folder != cell.folder


def test_the_gate_repaints_what_failed_and_the_first_that_passes_counts(tmp_path) -> None:
    brush = Brush()
    run_suite(tmp_path, "pairs", SCENES, ["plain", "ours"], brush, EvenJudge(), gate=(3, 1.5))
    odd = [1, 3, 5, 7, 9]
    assert [call for call in brush.calls if call[1] > 1] == [(odd, 1.5)]
    rows = read_rows(tmp_path, "pairs")
    assert list(rows) == ["plain", "ours", "gate"]
    figures = {name: row.figures() for name, row in rows.items()}
    assert figures["ours"]["all_found"] == pytest.approx(6 / 11)
    assert figures["ours"]["missing"] == figures["ours"]["count_errors"] == 5
    assert figures["gate"]["all_found"] == 1.0
    assert figures["gate"]["attempts"] == pytest.approx(1 + 5 / 11)
    assert figures["gate"]["cpu_seconds"] >= figures["ours"]["cpu_seconds"]
    low, high = figures["ours"]["interval"]
    assert 0.1 < low < 6 / 11 < high < 0.95


def test_new_verdicts_need_no_new_pictures_and_other_scenes_start_a_new_set(tmp_path) -> None:
    brush = Brush()
    run_suite(tmp_path, "pairs", SCENES, ["plain"], brush, EvenJudge())
    assert rejudge(tmp_path, "pairs", EvenJudge()) == 0
    assert rejudge(tmp_path, "pairs", EvenJudge(1)) == 11
    assert rejudge(tmp_path, "triples", EvenJudge()) == 0
    assert read_rows(tmp_path, "pairs")["plain"].figures()["missing"] == 6
    assert len(brush.calls) == 2
    run_suite(tmp_path, "pairs", SCENES[:3], ["regional"], brush, EvenJudge())
    assert list(read_current(tmp_path)["pairs"]["cells"]) == ["regional"]


def test_the_bootstrap_of_a_sure_thing_has_no_width() -> None:
    assert bootstrap([True] * 5) == (1.0, 1.0, 1.0)


# --- attention control -------------------------------------------------------------------


class Guided(Brush):
    """Paints what the judge finds whole wherever attention is guided."""

    def render(
        self, method: Method, scenes: Sequence[Scene], strength: float = 1.0
    ) -> list[Pixels]:
        pictures = super().render(method, scenes, strength)
        return [0 * p for p in pictures] if method.attention == "gradient" else pictures


def test_attention_off_and_on_are_compared_picture_by_picture(tmp_path) -> None:
    home, out, products = tmp_path / "home", tmp_path / "docs", tmp_path / "products"
    for sku in "AB":
        (products / sku).mkdir(parents=True)
        Image.new("RGB", (30, 20), (90, 0, 0)).save(products / sku / "front.png")
    for seed in range(2):
        scenes = tuple(replace(scene, seed=scene.seed + seed) for scene in SCENES)
        suite = suite_name("anchored", "pairs", seed)
        run_suite(home, suite, scenes, COMPARED, Guided(), EvenJudge())
    rows = read_rows(home, suite_name("anchored", "pairs", 0))
    one = compare([(rows["ours"], rows["ours_gradient"])])
    assert (one["gained"], one["lost"]) == (5, 0)
    assert one["all_difference"][0] == pytest.approx(5 / 11)
    assert one["each_difference"][0] == pytest.approx(2.5 / 11)
    assert one["all_difference"][1] < 5 / 11 < one["all_difference"][2]
    assert one["off"]["all"][0] == pytest.approx(6 / 11)
    back = compare([(rows["ours_gradient"], rows["ours"])])
    assert (back["gained"], back["lost"]) == (0, 5)
    write_attention_report(home, out, products, note="On a busy machine.")
    text = (out / "attention.md").read_text("utf-8")
    # of every scene one of two noises is even: half is found without, whichever scenes are drawn
    assert "| anchored | two products | ours + gradient | 11 x 2 | 50 % (50 % to 50 %) |" in text
    assert "**+50.0** (+50.0 to +50.0)" in text
    assert "On a busy machine." in text
    (table,) = json.loads((out / "attention.json").read_text("utf-8"))["tables"]
    assert table["gained"] == 11
    assert (out / "attention.jpg").stat().st_size < 400_000


def test_shapes_are_read_as_they_were_drawn_and_faults_have_their_names() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3) * 8:
        scene = draw_scene(rng, draw_things(rng, count))
        assert sorted(find_things(scene.pixels)) == sorted(scene.things)
        assert scene.masks.any((1, 2)).all()
        assert not scene.masks.all(0).any() or count == 1
    pixels = draw_scene(rng, ("red circle", "blue square")).pixels
    assert set(judge_picture(pixels, ("red circle", "blue square")).values()) == {"found"}
    swapped = judge_picture(pixels, ("blue circle", "red square", "green cross"))
    assert list(swapped.values()) == ["swapped", "swapped", "missing"]
    twice = np.concatenate([pixels, pixels], 1)
    assert judge_picture(twice, ("red circle",)) == {"red circle": "duplicated"}


# --- colours and report ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("painted", "verdict"),
    [((200, 40, 40), "found"), ((40, 90, 200), "swapped"), ((130, 130, 135), "missing")],
)
def test_a_thing_in_its_neighbours_colour_is_swapped(painted, verdict) -> None:
    pixels = np.full((20, 20, 3), (40, 90, 200), np.uint8)  # what lies outside does not count
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    pixels[mask] = painted
    assert judge_color(Half(pixels, mask), "red", "blue") == verdict
    assert judge_color(Half(pixels, np.zeros_like(mask)), "red", "blue") == "missing"


def test_the_report_is_written_from_what_a_home_holds(tmp_path) -> None:
    home, out, products = tmp_path / "home", tmp_path / "docs", tmp_path / "products"
    for sku in "AB":
        (products / sku).mkdir(parents=True)
        Image.new("RGBA", (30, 20), (90, 0, 0, 0)).save(products / sku / "front.png")
    write_report(home, out, products)
    assert (out / "generation.md").read_text("utf-8").count("Not run.") == 6
    run_suite(home, "pairs", SCENES, ["plain", "ours"], Brush(), EvenJudge(), gate=(2, 1.5))
    things = tuple(replace(scene, things=("red mug", "blue hat")) for scene in SCENES[:2])
    run_suite(home, "swaps", things, ["plain"], Brush(), EvenJudge())
    figures = {"scenes": 4, "things": 0.98, "pictures": 0.96, "order": 1.0, "false_swaps": 0.0}
    (home / "colour_judge.json").write_text(json.dumps(figures), "utf-8")
    seconds = {"stock": 6.0, "stock_tuned": 1.2, "plain": 1.0, "ours": 2.0, "ours_gradient": 2.4}
    rounds = [{name: {"wall": s, "cpu": s} for name, s in seconds.items()}] * 2
    facts = {"version": "v", "threads": 2, "batch": 8, "dtype": "float32", "control": {}}
    (home / "speed.json").write_text(json.dumps({"facts": facts, "rounds": rounds}), "utf-8")
    half = {"scenes": 96, **dict.fromkeys(DETECTOR, 0.971)}
    (home / "detector").mkdir()
    record = {"held_out": half, "calibration": half | {"count_accuracy": None}}
    (home / "detector" / "detector.json").write_text(json.dumps(record), "utf-8")
    write_report(home, out, products, note="On a busy machine.")
    text = (out / "generation.md").read_text("utf-8")
    assert text.count("Not run.") == 2
    assert "| ours + gate (1.45 attempts) | 11 | 100 % |" in text
    assert "| plain / stock | >= 1.5 | 6.00 |" in text
    assert "| ours / stock_tuned | >= 0.6 | 0.60 |" in text
    assert "98 % of the things" in text
    assert "On a busy machine." in text
    assert "| found or not, accuracy | 97 % | 97 % |" in text
    assert "| count, accuracy on good pictures | 97 % | – |" in text
    record = json.loads((out / "generation.json").read_text("utf-8"))
    pairs = record["sections"][0]
    assert pairs["images"][1]["verdicts"] == {
        "plain": ["found", "missing"],
        "ours": ["found", "missing"],
        "gate": ["found", "found"],
    }
    with Image.open(out / "generation-pairs.jpg") as sheet:
        assert sheet.width > 5 * 100
    assert (out / "generation-pairs.jpg").stat().st_size < 300_000
    assert (out / "generation-swaps.jpg").is_file()
