"""Exported concepts, opened by plain diffusers, give the pictures of this program."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.diffusion.base import hash_model_folder
from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.errors import BaseModelError, ConfigurationError, LearningError
from catalog_pipeline.settings import SceneTemplate, Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.models import open_engine
from catalog_pipeline.workflows.upkeep.export_concept import ExportFormat, export_concept
from tests.builders import make_adapter_version, make_concept, promote
from tests.tiny_model import fill_slot

STEPS, SEED, SIDE = 3, 7, 16
PLAN = SamplingPlan(steps=STEPS, guidance=1.0, width=SIDE, height=SIDE)
SKU = "Mug-00123.a"

Publish = Callable[..., tuple[Settings, DiffusionEngine]]


@pytest.fixture
def publish(make_settings: Callable[..., Settings], tiny_model_folder: Path) -> Publish:
    """``publish(["mug"], parametrisation="dense")``: a learned collection and its open engine."""

    def make(
        skus: Sequence[str] = (SKU,), collection: str = "default", **adapter: Any
    ) -> tuple[Settings, DiffusionEngine]:
        settings = make_settings(
            base_model={"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
            learning={"adapter": {"rank": 2, **adapter}},
            generation={"steps": STEPS, "guidance": 1.0, "width": SIDE, "height": SIDE},
        )
        engine = open_engine(settings)
        shared = settings.learning.adapter.slots == "shared"
        store = open_home(settings).adapters(collection)
        parts: dict[str, str] = {}
        if shared:
            fill_slot(engine, "shared", 1)
            parts["shared"] = store.write_part(encode_part(slot_part(engine, "shared")))
        concepts = []
        for number, sku in enumerate(skus):
            tokens = placeholder_tokens(sku, 2)
            for index, token in enumerate(tokens):
                generator = torch.Generator().manual_seed(10 * number + index)
                engine.text.table.add(token, torch.randn(16, generator=generator))
            tensors = token_part(engine, tokens)
            if not shared:
                fill_slot(engine, sku, number)
                tensors |= slot_part(engine, sku)
            parts[f"concept/{sku}"] = store.write_part(encode_part(tensors))
            concepts.append(make_concept(sku, number + 1, placeholder_tokens=tokens))
        base = hash_model_folder(tiny_model_folder)
        fields = {"collection": collection, "parts": parts, "base_model_hash": base}
        promote(store, make_adapter_version(*concepts, **fields))
        return settings, engine

    return make


def ours(engine: DiffusionEngine, sku: str, slot: str) -> torch.Tensor:
    tokens = " ".join(placeholder_tokens(sku, 2))
    regional_prompt = RegionalPrompt((f"a photo of a {tokens} mug on a white background",), (slot,))
    return engine.sample([regional_prompt], [SEED], PLAN)


def theirs(pipeline: StableDiffusionPipeline, prompt: str) -> torch.Tensor:
    """The pipeline's own way from a prompt and a seed to latents."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    ).images


def plain_pipeline(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    if type(pipeline.scheduler) is not DPMSolverMultistepScheduler:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline


@pytest.mark.parametrize("parametrisation", ["low_rank", "dense", "spectral_shift"])
def test_an_exported_pipeline_gives_the_same_picture(
    publish: Publish, tmp_path: Path, parametrisation: str
) -> None:
    settings, engine = publish(parametrisation=parametrisation)
    report = export_concept(open_home(settings), [SKU], tmp_path / "out", form="pipeline")
    pipeline = StableDiffusionPipeline.from_pretrained(report.folder)
    assert type(pipeline.scheduler) is DPMSolverMultistepScheduler
    want = ours(engine, SKU, SKU)
    torch.testing.assert_close(theirs(pipeline, report.prompts[SKU]), want, atol=1e-4, rtol=1e-3)
    bare = ours(engine, SKU, None)
    assert not torch.allclose(bare, want, atol=1e-2), "the concept must have changed something"


def test_placeholder_tokens_are_single_tokens_of_the_exported_vocabulary(
    publish: Publish, tmp_path: Path
) -> None:
    settings, engine = publish()
    report = export_concept(open_home(settings), [SKU], tmp_path / "out", form="pipeline")
    tokenizer = plain_pipeline(report.folder).tokenizer
    prompt = report.prompts[SKU]
    ids = tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(ids, engine.text.input_ids([prompt]))
    assert tokenizer.tokenize(prompt).count(f"<{SKU}:0>") == 1


@pytest.mark.parametrize("parametrisation", ["low_rank", "dense"])
def test_products_of_a_shared_slot_go_into_one_pipeline(
    publish: Publish, tmp_path: Path, parametrisation: str
) -> None:
    settings, engine = publish(["A", "a"], slots="shared", parametrisation=parametrisation)
    report = export_concept(open_home(settings), ["A", "a"], tmp_path / "out", form="pipeline")
    pipeline = plain_pipeline(report.folder)
    for sku in ("A", "a"):
        want = ours(engine, sku, "shared")
        got = theirs(pipeline, report.prompts[sku])
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


def readme_code(folder: Path) -> list[str]:
    text = (folder / "README.txt").read_text("utf-8")
    block = re.search(r"Run from within this folder:\n\n((?: {4}.*\n)+)", text)
    assert block is not None
    return [line[4:] for line in block.group(1).splitlines()]


def run_readme(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pipeline: StableDiffusionPipeline | None
) -> Any:
    """The README's lines as they stand; the last one makes ``image``."""
    names: dict[str, Any] = {"pipe": pipeline}
    monkeypatch.chdir(folder)
    exec("\n".join(readme_code(folder)), names)
    return names


def test_an_exported_lora_gives_the_same_picture_by_the_readme(
    publish: Publish, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft", reason="load_lora_weights needs peft: install the dev extra")
    settings, engine = publish()
    report = export_concept(open_home(settings), [SKU], tmp_path / "out", form="lora")
    assert report.files == (
        "README.txt",
        "learned_embeds.safetensors",
        "pytorch_lora_weights.safetensors",
    )
    pipeline = plain_pipeline(tiny_model_folder)
    assert len(readme_code(report.folder)) == 7
    names = run_readme(report.folder, monkeypatch, pipeline)
    assert names["image"].size == (SIDE, SIDE)
    want = ours(engine, SKU, SKU)
    got = theirs(pipeline, report.prompts[SKU])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


# peft warns of every second adapter; this is about a second one.
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_exports_are_used_together_by_their_readmes(
    publish: Publish, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order that they come in, each is added to what is active already."""
    pytest.importorskip("peft", reason="load_lora_weights needs peft: install the dev extra")
    skus = ["mug.v1", "mug_v1", "CON"]
    settings, _ = publish(skus)
    pipeline = plain_pipeline(tiny_model_folder)
    alone, reports = [], []
    for sku in skus:
        reports.append(export_concept(open_home(settings), [sku], tmp_path / sku))
        single = plain_pipeline(tiny_model_folder)
        run_readme(reports[-1].folder, monkeypatch, single)
        alone.append(weight_change(single))
        run_readme(reports[-1].folder, monkeypatch, pipeline)
        assert len(pipeline.get_active_adapters()) == len(reports)
    torch.testing.assert_close(weight_change(pipeline), sum(alone), atol=1e-5, rtol=1e-4)
    tokenizer = pipeline.tokenizer
    ids = [
        tuple(tokenizer(pipeline.maybe_convert_prompt(report.prompts[sku], tokenizer)).input_ids)
        for sku, report in zip(skus, reports, strict=True)
    ]
    assert len(set(ids)) == 3, "each prompt reads its own rows"
    theirs(pipeline, reports[0].prompts["mug.v1"])


def test_products_of_a_shared_slot_exported_apart_load_it_once(
    publish: Publish, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft", reason="load_lora_weights needs peft: install the dev extra")
    settings, engine = publish(["A", "B"], slots="shared", collection="spring.2027")
    pipeline = plain_pipeline(tiny_model_folder)
    for sku in ("A", "B"):
        report = export_concept(open_home(settings), [sku], tmp_path / sku)
        run_readme(report.folder, monkeypatch, pipeline)
        got = theirs(pipeline, report.prompts[sku])
        torch.testing.assert_close(got, ours(engine, sku, "shared"), atol=1e-4, rtol=1e-3)
    assert len(pipeline.get_active_adapters()) == 1


def weight_change(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    """What the active adapters add to the output of one layer."""
    layer = next(module for module in pipeline.unet.modules() if hasattr(module, "lora_A"))
    with torch.no_grad():
        probe = torch.eye(layer.in_features)
        return layer(probe) - layer.base_layer(probe)


def test_the_readme_of_a_pipeline_runs_as_it_stands(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = publish()
    report = export_concept(open_home(settings), [SKU], tmp_path / "out", form="pipeline")
    names = run_readme(report.folder, monkeypatch, None)
    assert names["image"].size == (SIDE, SIDE)


def test_shared_products_have_a_token_file_each_beside_one_lora(
    publish: Publish, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft", reason="load_lora_weights needs peft: install the dev extra")
    settings, engine = publish(["A", "B"], slots="shared")
    report = export_concept(open_home(settings), ["B", "A"], tmp_path / "out")
    assert report.files[1:3] == ("learned_embeds-A.safetensors", "learned_embeds-B.safetensors")
    pipeline = plain_pipeline(tiny_model_folder)
    run_readme(report.folder, monkeypatch, pipeline)
    for sku in ("A", "B"):
        got = theirs(pipeline, report.prompts[sku])
        torch.testing.assert_close(got, ours(engine, sku, "shared"), atol=1e-4, rtol=1e-3)


def test_guidance_differs_from_plain_diffusers_in_the_half_without_a_prompt(
    publish: Publish, tmp_path: Path
) -> None:
    """Documented: our negative half is the untouched base."""
    settings, engine = publish()
    report = export_concept(open_home(settings), [SKU], tmp_path / "out", form="pipeline")
    pipeline = plain_pipeline(report.folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = engine.initial_noise([SEED], PLAN)
    got = pipeline(
        report.prompts[SKU],
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        latents=noise,
        output_type="latent",
    ).images
    regional_prompt = RegionalPrompt((report.prompts[SKU],), (SKU,))
    want = engine.sample([regional_prompt], [SEED], replace(PLAN, guidance=3.0))
    assert not torch.allclose(got, want, atol=1e-2)


def test_the_prompt_that_a_readme_shows_is_read_whole(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    texts = {"far": "in a " + "very " * 40 + "large room", "wood": "on a wooden table"}
    scenes = [SceneTemplate(name=name, text=text) for name, text in texts.items()]
    for shown, ends in ((scenes, "mug on a wooden table"), (scenes[:1], "mug")):
        generation = settings.generation.model_copy(update={"scenes": tuple(shown)})
        home = open_home(settings.model_copy(update={"generation": generation}))
        report = export_concept(home, [SKU], tmp_path / str(len(shown)))
        assert report.prompts[SKU].endswith(ends)


# --- what is refused ---------------------------------------------------------


def test_products_with_deltas_of_their_own_are_not_mixed(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish(["A", "B"])
    with pytest.raises(ConfigurationError, match="one by one"):
        export_concept(open_home(settings), ["A", "B"], tmp_path / "out", form="pipeline")
    assert list(tmp_path.glob("*out*")) == []
    assert export_concept(open_home(settings), ["B"], tmp_path / "out").prompts.keys() == {"B"}


def test_a_change_of_full_rank_is_no_lora(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish(parametrisation="dense")
    with pytest.raises(ConfigurationError, match=r"has rank \d+.*--format pipeline"):
        export_concept(open_home(settings), [SKU], tmp_path / "out", form="lora")
    assert list(tmp_path.glob("*out*")) == []


def test_names_that_differ_in_case_do_not_share_a_lora(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish(["A", "a"], slots="shared")
    with pytest.raises(ConfigurationError, match="differ in case only"):
        export_concept(open_home(settings), ["A", "a"], tmp_path / "out", form="lora")


def test_nothing_is_overwritten(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not an empty folder"):
        export_concept(open_home(settings), [SKU], tmp_path / "out")
    (tmp_path / "out" / "mine.txt").unlink()
    assert export_concept(open_home(settings), [SKU], tmp_path / "out").version


def test_the_place_is_looked_at_before_a_model_is(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    gone = settings.base_model.model_copy(update={"base_model": str(tmp_path / "gone")})
    home = open_home(settings.model_copy(update={"base_model": gone}))
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out, words in (
        (tmp_path / "file", "is a file; expected a folder"),
        (settings.catalog_root / "mug", "among the watched photos"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            export_concept(home, [SKU], out)
    with pytest.raises(BaseModelError, match="gone"):
        export_concept(home, [SKU], tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["lora", "pipeline"])
def test_an_empty_mounted_volume_is_exported_into(
    publish: Publish, tmp_path: Path, form: ExportFormat
) -> None:
    settings, _ = publish()
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(volume)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here; test_destinations.py has the other places")
    try:
        report = export_concept(open_home(settings), [SKU], volume, form=form)
        assert set(report.files) == {
            p.relative_to(volume).as_posix() for p in volume.rglob("*") if p.is_file()
        }
        assert "README.txt" in report.files
    finally:
        subprocess.run(["umount", str(volume)], check=True)


def test_what_is_not_learned_or_ambiguous_is_named(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    with pytest.raises(ConfigurationError, match=f"learned are default: {SKU}"):
        export_concept(open_home(settings), ["NONE"], tmp_path / "out")
    with pytest.raises(ConfigurationError, match="expected one of default"):
        export_concept(open_home(settings), [SKU], tmp_path / "out", collection="other")
    with pytest.raises(ConfigurationError, match="no SKU"):
        export_concept(open_home(settings), [], tmp_path / "out")
    publish(collection="second")
    with pytest.raises(ConfigurationError, match=r"default, second.*--collection"):
        export_concept(open_home(settings), [SKU], tmp_path / "out")
    assert export_concept(open_home(settings), [SKU], tmp_path / "out", collection="second").files


def test_another_base_is_refused(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    other = settings.model_copy(
        update={"base_model": settings.base_model.model_copy(update={"base_model": "embedded"})}
    )
    with pytest.raises(LearningError, match="learned on base"):
        export_concept(open_home(other), [SKU], tmp_path / "out")


def test_the_command_says_what_it_wrote(publish: Publish, tmp_path: Path) -> None:
    settings, _ = publish()
    rooms = {
        "base_model": {"base_model": settings.base_model.base_model, "dtype": "float32"},
        "generation": {"steps": STEPS, "width": SIDE, "height": SIDE},
    }
    for room, content in rooms.items():
        path = settings.config_dir / f"{room}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    where = ["--config", os.fspath(settings.config_dir), "--home", os.fspath(settings.home)]
    out = tmp_path / "exported" / "mug"
    result = CliRunner().invoke(app, ["export", SKU, "--out", os.fspath(out), *where])
    assert result.exit_code == 0, result.output
    assert f"in {out}: 3 files" in result.stdout
    assert f"prompt: a photo of a <{SKU.lower()}> mug" in result.stdout
    again = CliRunner().invoke(app, ["export", SKU, "--out", os.fspath(out), *where])
    assert again.exit_code == 1
    assert again.stderr.count("\n") == 1
    wrong = CliRunner().invoke(app, ["export", SKU, "--out", "x", "--format", "zip", *where])
    assert wrong.exit_code == 2
