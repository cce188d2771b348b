"""A LoRA that was exported, or trained elsewhere, is served as if it had been learned here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.cli.report import version_lines
from catalog_pipeline.diffusion.prompts import trigger_word
from catalog_pipeline.errors import (
    AuditError,
    CatalogError,
    ConfigurationError,
    LearningError,
    QualityGateError,
)
from catalog_pipeline.records import LearnOutcome, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.audit_log import AuditLog
from catalog_pipeline.stores.versions import encode_version
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.import_lora import LoraSource, import_lora
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.models import drawn_by, open_sampler, served_version
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.claims import head_problems
from catalog_pipeline.workflows.upkeep.export_concept import export_concept
from catalog_pipeline.workflows.upkeep.status import collect_status
from catalog_pipeline.workflows.upkeep.verify import verify
from catalog_pipeline.workflows.upkeep.versions import list_versions, rollback
from tests.builders import make_render_job
from tests.tiny_families import write_tiny_klein
from tests.workflows.tiny_catalog import (
    elsewhere,
    learn_all,
    statuses,
    tiny_sections,
    tiny_settings,
    with_learning,
    write_photos,
)

LORA = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Learned:
    """The product A as another home has learned and exported it."""

    settings: Settings
    lora: Path
    kohya: Path
    outcome: LearnOutcome

    @property
    def file(self) -> Path:
        return self.lora / LORA


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Learned:
    folder = tmp_path_factory.mktemp("learned")
    sections = tiny_sections(tiny_model_folder, gate_images=1)
    settings = Settings.model_validate(
        {"home": folder / "home", "config_dir": folder / "assets_config", **sections}
    )
    write_photos(settings, "A", 1)
    outcome = learn_all(settings)["A"]
    lora, kohya = (export(settings, folder / form, form) for form in ("lora", "kohya"))
    return Learned(settings, lora, kohya, outcome)


@pytest.fixture
def tiny(make_settings: Callable[..., Settings], tiny_model_folder: Path) -> Settings:
    """A catalog of the product A, of which nothing is learned yet."""
    settings = tiny_settings(make_settings, tiny_model_folder, gate_images=1)
    write_photos(settings, "A", 1)
    return settings


@pytest.fixture
def klein(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """The same on a base whose text encoder is a language model."""
    folder = write_tiny_klein(tmp_path / "klein")
    settings = tiny_settings(make_settings, folder, gate_images=1)
    write_photos(settings, "A", 1)
    base = settings.base_model.model_copy(update={"side_px": 32})
    generation = settings.generation.model_copy(update={"sampler": "euler"})
    return settings.model_copy(update={"base_model": base, "generation": generation})


def take_in(settings: Settings, file: Path, sku: str = "A", **options) -> LearnOutcome:
    refresh_index(open_home(settings))
    return import_lora(open_home(settings), sku, LoraSource(file, **options))


def export(settings: Settings, out: Path, form="lora") -> Path:
    return export_concept(open_home(settings), ["A"], out, form=form).folder


def served(settings: Settings, collection: str = "default"):
    version = open_home(settings).adapters(collection).current()
    assert version is not None
    return version


def picture(settings: Settings, sku: str = "A", **changes) -> np.ndarray:
    home = open_home(settings)
    sampler = open_sampler(home, drawn_by(served_version(home, "default")))
    side = settings.base_model.side_px or 16
    job = make_render_job(
        sku, adapter_version="", width=side, height=side, sampler=settings.generation.sampler
    )
    concepts = [c for c in served(settings).concepts if c.sku == sku]
    (made,) = sampler.render([replace(job, **changes)], {sku: concepts[0]})
    return np.asarray(made)


@pytest.mark.parametrize("form", ["lora", "kohya"])
def test_an_exported_concept_gives_the_same_pictures_in_another_home(
    tiny: Settings, learned: Learned, form: str
) -> None:
    file, rows = learned.file, learned.lora / "learned_embeds.safetensors"
    if form == "kohya":
        file, rows = learned.kohya / "A.safetensors", learned.kohya / "A-words.safetensors"
    outcome = take_in(tiny, file, embeddings=rows)
    assert (outcome.status, outcome.reason) == ("learned", f"imported from {file.name}")
    assert statuses(tiny) == {"A": SkuStatus.LEARNED}
    want, got = (served(s).concept("A") for s in (learned.settings, tiny))
    assert want is not None
    assert got is not None
    assert len(got.imported_from) == 64
    assert not want.imported_from
    assert got.metrics.keys() == set(want.metrics) - {"final_loss", "tries"}
    fidelity = learned.outcome.metrics["fidelity"]
    assert got.metrics["fidelity"] == pytest.approx(fidelity, abs=2e-3)
    assert got.placeholder_tokens == want.placeholder_tokens
    assert set(served(tiny).parts) == {"concept/A", "memory/A"}
    assert served(tiny).parts["memory/A"] == served(learned.settings).parts["memory/A"]
    assert np.abs(picture(learned.settings).astype(int) - picture(tiny)).max() <= 1


def test_a_kohya_file_says_what_it_is(learned: Learned) -> None:
    assert sorted(path.name for path in learned.kohya.iterdir()) == [
        "A-words.safetensors",
        "A.safetensors",
        "README.txt",
    ]
    with safe_open(learned.kohya / "A.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "2"
    assert metadata["catalog_pipeline_triggers"] == '["<a>"]'
    assert metadata["catalog_pipeline_version"] == served(learned.settings).version
    readme = (learned.kohya / "README.txt").read_text("utf-8")
    assert "<lora:A:1>" in readme
    assert "embedding:A-words" in readme


@pytest.mark.slow
def test_a_word_stands_for_a_product_of_a_language_model(klein: Settings, tmp_path: Path) -> None:
    learn_all(klein)
    word = trigger_word("A")
    other = elsewhere(klein, tmp_path / "another home")
    for form, file in (("lora", LORA), ("kohya", "A.safetensors")):
        folder = export(klein, tmp_path / form, form)
        assert sorted(path.name for path in folder.iterdir()) == sorted(["README.txt", file])
        readme = (folder / "README.txt").read_text("utf-8")
        assert f"a photo of a {word} mug on" in readme
        assert "load_textual_inversion" not in readme
        outcome = take_in(other, folder / file)
        assert outcome.status == "learned", "the second file has other bytes, so it is work"
        assert np.abs(picture(klein).astype(int) - picture(other)).max() <= 1
    whole = export(klein, tmp_path / "whole", "pipeline")
    assert f"a photo of a {word} mug" in (whole / "README.txt").read_text("utf-8")
    assert (whole / "transformer").is_dir()
    with pytest.raises(ConfigurationError, match="learns no rows"):
        take_in(other, tmp_path / "lora" / LORA, embeddings=tmp_path / "lora" / LORA)
    triggered = take_in(other, tmp_path / "lora" / LORA, trigger="sks")
    concept = served(other).concept("A")
    assert triggered.status == "learned"
    assert concept is not None
    assert concept.identifier == "sks mug"
    assert head_problems(open_home(other).adapters("default")) == []
    readme = (export(other, tmp_path / "again") / "README.txt").read_text("utf-8")
    assert "a photo of a sks mug" in readme


def test_the_same_file_again_is_no_work_and_learn_leaves_it_alone(
    tiny: Settings, learned: Learned
) -> None:
    file = learned.file
    first = take_in(tiny, file)
    head = served(tiny)
    again = take_in(tiny, file)
    assert (again.status, again.version) == ("unchanged", first.version)
    assert learn_all(tiny) == {}
    assert learn_all(with_learning(tiny, steps=7), ["A"])["A"].status == "unchanged"
    assert served(tiny) == head
    assert learn_all(tiny, ["A"])["A"].metrics == first.metrics
    forced = {o.sku: o for o in learn_concepts(open_home(tiny), ["A"], force=True)}["A"]
    assert (forced.status, forced.reason) == ("learned", "in place of what was imported")
    assert not served(tiny).concepts[0].imported_from
    assert "curve/A" in served(tiny).parts
    assert take_in(tiny, file).status == "learned"
    assert "curve/A" not in served(tiny).parts
    write_photos(tiny, "A", 9)
    changed = learn_all(tiny)["A"]
    assert changed.reason == "in place of what was imported"


def test_versions_status_verify_and_rollback_know_an_import(
    tiny: Settings, learned: Learned
) -> None:
    before = learn_all(tiny)["A"].version
    home = open_home(tiny)
    imported = take_in(tiny, learned.file).version
    assert imported != before
    entries = list_versions(home)
    assert [entry.is_head for entry in entries] == [False, True]
    assert [" products (1 imported)," in line for line in version_lines(entries)] == [False, True]
    kept = collect_status(home)["collections"]["default"]["imported"]
    assert kept == {"A": served(tiny).concepts[0].imported_from}
    assert verify(home).problems == ()
    rollback(home, before)
    assert statuses(tiny) == {"A": SkuStatus.LEARNED}
    assert not served(tiny).concepts[0].imported_from
    rollback(home, imported)
    assert served(tiny).concepts[0].imported_from
    records = [encode_version(entry.version).record for entry in entries]
    assert [b'"schema_version": 3' in record for record in records] == [False, True]


def test_an_imported_product_moves_with_its_photos(tiny: Settings, learned: Learned) -> None:
    """A renamed folder, and a card of another collection, train nothing over it."""
    take_in(tiny, learned.file)
    digest = served(tiny).concepts[0].imported_from
    (tiny.catalog_root / "A").rename(tiny.catalog_root / "B")
    renamed = learn_all(tiny)["B"]
    assert renamed.reason == "as A in default, not trained again"
    found = served(tiny).concept("B")
    assert found is not None
    assert found.imported_from == digest
    assert found.placeholder_tokens == ("<B:0>", "<B:1>")
    card = tiny.catalog_root / "B" / "sku.yaml"
    card.write_text("class_noun: mug\ncollection: spring\n")
    assert learn_all(tiny)["B"].reason == "as B in default, not trained again"
    assert served(tiny, "spring").concepts[0].imported_from == digest


@pytest.mark.slow
def test_another_rank_is_imported_beside_what_was_learned(
    tiny: Settings, learned: Learned, tmp_path: Path
) -> None:
    write_photos(tiny, "B", 2)
    learn_all(tiny, ["B"])
    tensors = {}
    for name, value in load_file(learned.file).items():
        side = 0 if "lora_A" in name else 1
        tensors[name] = torch.cat([value, torch.zeros_like(value), value], side)
    wide = tmp_path / "wide.safetensors"
    save_file(tensors, wide)
    before = picture(tiny, "B")
    assert take_in(tiny, wide).status == "learned"
    assert np.array_equal(picture(tiny, "B"), before)
    write_photos(tiny, "C", 3)
    assert learn_all(tiny)["C"].status == "learned"


def test_an_import_that_died_before_the_head_moved_is_done_by_a_rerun(
    tiny: Settings, learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(AdapterStore, "promote", dies)
        with pytest.raises(KeyboardInterrupt):
            take_in(tiny, learned.file)
    store = open_home(tiny).adapters("default")
    (written,) = store.version_names()
    assert (store.head(), store.staging_names()) == (None, [])
    assert statuses(tiny) == {"A": SkuStatus.NEW}
    assert take_in(tiny, learned.file).version == written


def test_an_import_whose_entries_were_refused_is_noted_by_a_rerun(
    tiny: Settings, learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_, **__):
        raise AuditError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", refuses)
        with pytest.raises(AuditError):
            take_in(tiny, learned.file)
    version = served(tiny).version
    for _ in range(2):
        assert take_in(tiny, learned.file).status == "unchanged"
    entries = matching_entries(open_home(tiny), sku="A")
    assert [(e.action, e.version) for e in entries] == [("promote", version), ("import", version)]


# --- what is refused ---------------------------------------------------------


def test_a_lora_that_does_not_look_like_the_photos_is_quarantined(
    tiny: Settings, learned: Learned
) -> None:
    strict = with_learning(tiny, gate_min_fidelity_share=0.99)
    with pytest.raises(QualityGateError, match=r"expected at least 99%.*import-lora .* --sku A"):
        take_in(strict, learned.file)
    home = open_home(tiny)
    assert home.adapters("default").head() is None
    assert statuses(tiny) == {"A": SkuStatus.NEW}
    assert any("report.json" in key for key in home.objects.list("collections/default/quarantine/"))
    assert take_in(tiny, learned.file).status == "learned"


def test_what_cannot_be_imported_is_said_in_one_line(
    tiny: Settings, learned: Learned, tmp_path: Path
) -> None:
    file = learned.file
    pickled = tmp_path / "lora.ckpt"
    pickled.write_bytes(b"\x80\x04")
    tensors = load_file(file)
    more = {
        "unet.down_blocks.1.attentions.0.proj_in": (2, 16, 1, 1),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (2, 16),
    }
    for name, shape in more.items():
        tensors[f"{name}.lora_A.weight"] = torch.ones(shape)
        tensors[f"{name}.lora_B.weight"] = torch.ones(16, 2, *shape[2:])
    bigger = tmp_path / "bigger.safetensors"
    save_file(tensors, bigger)
    adapter = tiny.learning.adapter
    shared = adapter.model_copy(update={"slots": "shared"})
    dense = adapter.model_copy(update={"parametrisation": "dense"})
    narrow = adapter.model_copy(update={"feed_forward": False})
    text_only = {"skip_text_encoder": True}
    for settings, source, options, error, words in (
        (tiny, tmp_path / "gone.safetensors", {}, ConfigurationError, "is not a file"),
        (tiny, pickled, {}, ConfigurationError, "never opened"),
        (tiny, bigger, {}, ConfigurationError, "1 layers of text encoders.*--skip-text-encoder"),
        (tiny, bigger, text_only, ConfigurationError, r"1 layers besides.*--skip-other-layers"),
        (tiny, file, {"trigger": "x", "embeddings": file}, ConfigurationError, "expected one"),
        (with_learning(tiny, adapter=shared), file, {}, ConfigurationError, "slots is shared"),
        (with_learning(tiny, adapter=dense), file, {}, ConfigurationError, "is dense"),
        (with_learning(tiny, adapter=narrow), file, {}, ConfigurationError, "could have 6 of"),
    ):
        with pytest.raises(error, match=words) as raised:
            take_in(settings, source, **options)
        assert "\n" not in str(raised.value)
    with pytest.raises(CatalogError, match="does not know NOPE"):
        take_in(tiny, file, "NOPE")
    assert open_home(tiny).adapters("default").head() is None
    both = take_in(tiny, bigger, skip_text_encoder=True, skip_other_layers=True)
    assert both.status == "learned"


def test_a_trigger_is_read_as_its_words(tiny: Settings, learned: Learned) -> None:
    take_in(tiny, learned.file, trigger="red clock")
    concept = served(tiny).concepts[0]
    assert concept.placeholder_tokens == ("<A:0>", "<A:1>")
    home = open_home(tiny)
    sampler = open_sampler(home, drawn_by(served_version(home, "default")))
    sampler.render([make_render_job("A", adapter_version="")], {"A": concept})
    text = sampler._engine.text
    plain = text.encode(["a photo of a red clock mug"])
    assert torch.allclose(text.encode([f"a photo of a {concept.identifier}"]), plain, atol=1e-3)


def test_another_base_keeps_what_was_imported(
    tiny: Settings, learned: Learned, tmp_path: Path, tiny_model_folder: Path
) -> None:
    take_in(tiny, learned.file)
    folder = tmp_path / "other model"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "unet" / "note.json").write_text("{}")
    base = tiny.base_model.model_copy(update={"base_model": str(folder)})
    moved = tiny.model_copy(update={"base_model": base})
    with pytest.raises(LearningError, match="was learned on base"):
        take_in(moved, learned.file)
    outcome = learn_all(moved, ["A"])["A"]
    assert outcome.status == "failed"
    assert "was learned on base" in outcome.reason


def test_the_command_says_what_became_of_it(
    tiny: Settings, learned: Learned, tiny_model_folder: Path
) -> None:
    sections = tiny_sections(tiny_model_folder, gate_images=1)
    sections["catalogs"] = sections.pop("catalog")
    for room, content in sections.items():
        (tiny.config_dir / f"{room}.yaml").write_text(yaml.safe_dump(content), "utf-8")
    where = ["--config", str(tiny.config_dir), "--home", str(tiny.home)]
    refresh_index(open_home(tiny))
    command = ["import-lora", str(learned.file), "--sku", "A", *where]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("learned    A")
    assert f"imported from {LORA}" in done.stdout
    assert CliRunner().invoke(app, command).stdout == "unchanged  A\n"
    shared = sections["learning"] | {"adapter": {"slots": "shared"}}
    (tiny.config_dir / "learning.yaml").write_text(yaml.safe_dump(shared), "utf-8")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: learning.yaml: adapter.slots is shared")
    assert refused.stderr.count("\n") == 1
    assert CliRunner().invoke(app, ["learn", "--force", *where]).exit_code == 2
