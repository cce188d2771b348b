"""Evaluation of what was really learned, on a tiny real diffusion model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog_pipeline.errors import ConfigurationError, GenerationError, IntegrityError, PromptError
from catalog_pipeline.evaluation.scoring import CollectionScore
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.versions import version_hash
from catalog_pipeline.workflows.evaluate.evaluate import EvaluationReport, evaluate
from catalog_pipeline.workflows.home import open_home
from tests.builders import promote
from tests.evaluation.test_gallery import Collector
from tests.workflows.tiny_catalog import learn_all, tiny_sections, write_photos


@dataclass(frozen=True)
class Line:
    """A, evaluated, then B, evaluated again; both are mugs with a slot of their own."""

    settings: Settings
    first: EvaluationReport
    second: EvaluationReport
    heard: list[str]


@pytest.fixture(scope="module")
def line(tmp_path_factory, tiny_model_folder) -> Line:
    folder = tmp_path_factory.mktemp("evaluated")
    settings = tiny_settings(folder / "home", tiny_model_folder)
    write_photos(settings, "A", 1)
    learn_all(settings)
    first = evaluate(open_home(settings))
    write_photos(settings, "B", 2)
    learn_all(settings)
    heard = Heard()
    return Line(
        settings, first, evaluate(open_home(settings), "default", progress=heard), heard.tasks
    )


@pytest.fixture
def copied(line, tmp_path) -> Settings:
    """Settings over a copy of the line's home, to do with as one likes."""
    shutil.copytree(line.settings.home, tmp_path / "home")
    return line.settings.model_copy(update={"home": tmp_path / "home"})


def tiny_settings(home: Path, model: Path, **learning: Any) -> Settings:
    sections = tiny_sections(model, **learning)
    sections["generation"] = {"steps": 2, "width": 32, "height": 32}
    evaluation = {"images_per_sku": 2}
    return Settings(home=home, config_dir=home, evaluation=evaluation, **sections)


def with_section(settings: Settings, section: str, **changes) -> Settings:
    changed = getattr(settings, section).model_copy(update=changes)
    return settings.model_copy(update={section: changed})


def without_photos_of(settings: Settings, sku: str) -> None:
    for path in (settings.catalog_root / sku).iterdir():
        path.unlink()


def cached_base_pictures(settings: Settings) -> dict[Path, float]:
    return {p: p.stat().st_mtime_ns for p in settings.home.glob("base/*/evaluation-*")}


class Heard:
    """A progress sink that remembers what was done."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def start(self, task: str, total: int, done: int = 0) -> None:
        self.tasks.append(task)

    def advance(self, task: str, count: int = 1, note: str = "") -> None: ...

    def finish(self, task: str) -> None: ...


def test_every_learned_product_is_measured_and_forgetting_follows(line):
    first, second = line.first, line.second
    assert first.html_path.is_file()
    assert list(first.per_sku) == ["A"]
    assert first.per_sku["A"].forgotten is None
    scores = second.per_sku
    assert set(scores) == {"A", "B"}
    # Its own slot: a concept learned later leaves the pictures of this one untouched.
    assert scores["A"].fidelity == pytest.approx(first.per_sku["A"].fidelity, abs=1e-5)
    assert scores["A"].forgotten == pytest.approx(0, abs=1e-5)
    assert scores["B"].forgotten is None
    assert scores["A"].rival == "B"
    for score in scores.values():
        assert set(score.other_shares) == {"efficientnet_lite0"}
    # The bare base was rendered by the first evaluation.
    assert line.heard == ["evaluate default", "prior prompts again", "class prompts again"]
    html = second.html_path.read_text(encoding="utf-8")
    assert Collector(html).open == []
    for title in ("Retention", "Fidelity by version", "Training loss"):
        assert title in html


def test_what_has_the_wrong_colours_is_not_recognised(line, copied):
    version = open_home(copied).adapters("default").current()
    spreads = {concept.sku: concept.metrics["color_spread"] for concept in version.concepts}
    for sku, score in line.second.per_sku.items():
        assert score.color_bound == pytest.approx(spreads[sku] + 999)
        assert score.off_color == (False, False)
        # Six steps of a model of noise: nothing of the box's colour.
        assert score.color_difference > 10
    strict = evaluate(open_home(with_section(copied, "learning", gate_max_color_shift=0.0)))
    for sku, score in strict.per_sku.items():
        assert score.color_bound == pytest.approx(spreads[sku])
        expected = [
            like == sku and not off
            for like, off in zip(score.looks_like, score.off_color, strict=True)
        ]
        assert score.recognised == sum(expected) / 2
        assert score.fidelity == pytest.approx(line.second.per_sku[sku].fidelity, abs=1e-5)


def test_the_file_for_programs_holds_all_figures_and_the_retention_matrix(line):
    done = line.second.collections[0]
    record = json.loads(done.json_path.read_text(encoding="utf-8"))
    head = open_home(line.settings).adapters("default").head()
    assert head is not None
    assert record["version"] == head.version
    assert CollectionScore.from_record(record) == done.score
    rows = record["retention"]["fidelity"]
    assert record["retention"]["concepts"] == ["A", "B"]
    assert rows[0][1] is None
    assert rows[0][0] == pytest.approx(rows[1][0], abs=1e-5)
    assert rows[1] == [score.fidelity for score in done.score.skus]
    assert [e["encoder"] for e in record["encoders"]] == ["mobilenet_v2", "efficientnet_lite0"]
    for encoder in record["encoders"]:
        assert encoder["scenes_by_chance"] == 0.5
        assert 0 <= encoder["scenes_followed_by_base"] <= 1
        assert encoder["same_class"] == pytest.approx(1 - encoder["recognised"])  # Two mugs.
    (printed,) = json.loads(json.dumps(line.second.to_record()))["collections"]
    assert printed == {
        **record,
        "html_path": str(done.html_path),
        "json_path": str(done.json_path),
    }


def test_a_slot_of_its_own_leaves_the_base_alone(line):
    for encoder in line.second.collections[0].score.encoders:
        assert encoder.prior_drift == pytest.approx(0, abs=1e-6)
        assert encoder.class_drift == pytest.approx(0, abs=1e-6)


def test_a_shared_slot_moves_the_base(tmp_path, tiny_model_folder):
    settings = tiny_settings(
        tmp_path / "home",
        tiny_model_folder,
        adapter_lr=0.3,
        adapter={"rank": 2, "slots": "shared"},
    )
    write_photos(settings, "A", 1)
    learn_all(settings)
    for encoder in evaluate(open_home(settings)).collections[0].score.encoders:
        assert encoder.prior_drift > 0.001
        assert encoder.class_drift is not None
        assert encoder.class_drift > 0.001


def test_cached_pictures_of_the_base_belong_to_what_they_were_made_with(copied):
    cached = cached_base_pictures(copied)
    assert len(cached) == 3  # scenes, general prompts, class nouns
    rotten = next(iter(cached))
    rotten.write_bytes(b"not a tensor file")
    before = evaluate(open_home(copied))
    after = cached_base_pictures(copied)
    assert {path for path in cached if after[path] != cached[path]} == {rotten}
    assert rotten.read_bytes() != b"not a tensor file"
    assert before.collections[0].score.encoders[0].prior_drift == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_another_protocol_is_not_compared_and_has_base_pictures_of_its_own(copied):
    other = with_section(copied, "generation", steps=1)
    assert evaluate(open_home(other)).per_sku["A"].forgotten is None
    assert len(cached_base_pictures(copied)) == 6


def test_what_would_be_cut_is_named_before_anything_is_rendered(copied):
    heard = Heard()
    long = with_section(copied, "generation", negative_prompt="blurry, " * 40)
    with pytest.raises(PromptError, match=r"negative_prompt comes to \d+ tokens, .* reads 48"):
        evaluate(open_home(long), progress=heard)
    store = open_home(copied).adapters("default")
    head = store.current()
    cut = replace(head.concepts[0], class_noun="zyxwvutsrqponm " * 5)
    version = replace(head, concepts=(cut, *head.concepts[1:]), parent=head.version)
    promote(store, replace(version, version=version_hash(version)))
    with pytest.raises(PromptError, match=rf"fewer than the prompts of {cut.sku} have .* retire"):
        evaluate(open_home(copied), progress=heard)
    assert heard.tasks == []


def test_one_picture_a_product_cannot_tell_scenes_apart(copied):
    score = evaluate(open_home(copied), images_per_sku=1).collections[0].score
    assert score.skus[0].scene_followed is None
    assert score.encoders[0].scenes_followed is None
    assert score.forgetting is None  # Another number of pictures is another protocol.


def test_a_product_learned_anew_starts_a_new_column(copied):
    write_photos(copied, "A", 3)
    learn_all(copied, ["A"])
    done = evaluate(open_home(copied)).collections[0]
    assert done.retention.concepts == ("B", "A")
    values = done.retention.values
    assert np.isnan(values[0, 1])
    assert not np.isnan([values[0, 0], values[1, 0], values[1, 1]]).any()
    assert done.score.skus[-1].forgotten is None  # Other photos: nothing to compare.


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"collection": "default"}'])
def test_a_broken_earlier_evaluation_is_named(line, copied, content):
    earlier = line.first.collections[0].json_path.name
    (copied.home / "reports" / earlier).write_bytes(content)
    with pytest.raises(IntegrityError, match="evaluat"):
        evaluate(open_home(copied))


def dino_folder(folder: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def test_a_configured_folder_gives_the_headline_figures(line, copied, tmp_path):
    without_photos_of(copied, "B")
    dino = with_section(copied, "evaluation", encoder=str(dino_folder(tmp_path / "dino")))
    done = evaluate(open_home(dino)).collections[0]
    plain = line.second.collections[0].score
    names = [encoder.encoder for encoder in done.score.encoders]
    assert names[0].startswith("dino-")
    assert names[1:] == ["mobilenet_v2", "efficientnet_lite0"]
    assert [encoder.products for encoder in done.score.encoders] == [1, 2, 1]
    assert done.score.unmeasured == ("B",)
    assert done.retention.concepts == ("A",)
    assert done.score.protocol != plain.protocol
    html = done.html_path.read_text(encoding="utf-8")
    assert f"encoder {names[0]}" in html
    assert "any more: B" in html
    by_mobilenet = done.score.encoders[1]
    assert by_mobilenet.fidelity == pytest.approx(plain.encoders[0].fidelity, abs=1e-5)
    without_photos_of(copied, "A")
    with pytest.raises(GenerationError, match="can be measured by the encoder dino-"):
        evaluate(open_home(dino))


def test_another_model_in_the_folder_is_another_encoder(tmp_path):
    from catalog_pipeline.evaluation.features import encoder_identity

    folder = dino_folder(tmp_path / "dino")
    before = encoder_identity(str(folder))
    assert encoder_identity(str(folder)) == before
    dino_folder(folder)  # Random weights: other ones now.
    assert encoder_identity(str(folder)) != before
    assert encoder_identity("mobilenet_v2") == "mobilenet_v2"


def test_no_such_encoder_is_said(line):
    with pytest.raises(ConfigurationError, match="no image encoder 'no/such'"):
        evaluate(open_home(with_section(line.settings, "evaluation", encoder="no/such")))


def test_nothing_learned_is_said(settings):
    with pytest.raises(GenerationError, match="no collection has learned anything"):
        evaluate(open_home(settings))
    with pytest.raises(GenerationError, match="'mugs' has learned nothing"):
        evaluate(open_home(settings), "mugs")
    with pytest.raises(GenerationError, match="images_per_sku is 0"):
        evaluate(open_home(settings), images_per_sku=0)
