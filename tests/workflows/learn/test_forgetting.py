"""The forgetting gate inside the learning step: second try, quarantine, resumption."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.evaluation.contact_sheet import decode_png
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.records import SHARED, SkuStatus
from catalog_pipeline.settings import AdapterSettings, Settings
from catalog_pipeline.stores.loss_curves import decode_curve, encode_curve, read_curve
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.forgetting_gate import ForgettingGate
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress
from tests.workflows.tiny_catalog import (
    elsewhere,
    learn_all,
    statuses,
    tiny_settings,
    with_learning,
    write_photos,
)

QUARANTINE = "collections/default/quarantine/"


@pytest.fixture
def own(make_settings, tiny_model_folder) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


@pytest.fixture
def shared(own) -> Settings:
    return with_learning(own, adapter=AdapterSettings(slots="shared", rank=2))


class Trainings:
    """Sees every training: its losses, its fingerprint, and the slot that it starts from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[dict[str, float], str, dict[str, torch.Tensor]]] = []
        train = ConceptTrainer.train

        def seen_train(trainer, task, *others):
            adapter = trainer._engine.adapter
            start = adapter.slot_tensors(SHARED) if SHARED in adapter.slots else {}
            losses = task.losses.model_dump()
            self.seen.append((losses, task.fingerprint, start))
            return train(trainer, task, *others)

        monkeypatch.setattr(ConceptTrainer, "train", seen_train)

    @property
    def weights(self) -> list[tuple[float, float, float]]:
        names = ("replay_weight", "distillation_weight", "prior_weight")
        return [tuple(losses[name] for name in names) for losses, _, _ in self.seen]


def quarantined(settings: Settings) -> dict[str, bytes]:
    """File name -> bytes of the one refused candidate."""
    objects = open_home(settings).objects
    found = {key: objects.read(key).data for key in objects.list(QUARANTINE)}
    assert len({key.rpartition("/")[0] for key in found}) == 1
    return {key.rpartition("/")[2]: data for key, data in found.items()}


def test_what_passes_carries_its_figures_and_its_curve(shared):
    for seed, sku in enumerate("AB"):
        write_photos(shared, sku, seed)
    outcomes = learn_all(shared)
    assert [o.status for o in outcomes.values()] == ["learned"] * 2
    store = open_home(shared).adapters("default")
    head = store.current()
    assert head is not None
    assert {"shared", "curve/A", "curve/B"} <= set(head.parts)
    assert [c.task for c in head.concepts] == [1, 2]
    assert head.concepts[0].metrics["forgetting"] == 0.0
    assert head.concepts[1].metrics == outcomes["B"].metrics == head.metrics
    assert {"forgetting", "prior_drift"} <= set(head.metrics)
    assert head.metrics["tries"] == 1.0
    assert head.metrics["prior_drift"] > 0.0
    assert read_curve(store, head, "B") == list(outcomes["B"].loss_curve)
    assert read_curve(store, head, "C") == []
    assert store.staging_names() == []


def test_a_candidate_that_forgets_is_tried_again_then_quarantined(knows_a, monkeypatch):
    shared = knows_a("shared")
    store = open_home(shared).adapters("default")
    head = store.current()
    assert head is not None
    write_photos(shared, "B", 2)
    trainings = Trainings(monkeypatch)
    outcome = learn_all(with_learning(shared, gate_max_forgetting=-1.0))["B"]

    assert trainings.weights == [(0.1, 1.0, 1.0), pytest.approx((0.3, 3.0, 1.0))]
    (_, first, start), (_, second, again) = trainings.seen
    assert first != second
    assert all(torch.equal(start[name], again[name]) for name in start)
    assert outcome.status == "failed"
    for words in (
        "B: the candidate forgets A (",
        "expected a fall of at most -1",
        "second try, with replay_weight 0.3, distillation_weight 3",
        "the head stays as it was",
        "losses.replay_weight",
        "`catalog-pipeline learn B`",
        f"quarantine/B-{second[:16]}/pictures.png",
    ):
        assert words in outcome.reason
    assert "\n" not in outcome.reason
    assert statuses(shared) == {"A": SkuStatus.LEARNED, "B": SkuStatus.FAILED}
    (row,) = (row for row in open_home(shared).index.read() if row.sku == "B")
    assert row.reason == outcome.reason
    assert store.current() == head
    assert store.staging_names() == []

    files = quarantined(shared)
    names = ["concept.safetensors", "pictures.png", "report.json", "shared.safetensors"]
    assert sorted(files) == names
    assert files["pictures.png"] == outcome.contact_sheet_png
    assert decode_png(files["pictures.png"]).shape[0] == 2 * (96 + 18 + 2) - 2
    report = json.loads(files["report.json"])
    assert [tried["try"] for tried in report["tries"]] == [1, 2]
    assert [tried["fallen"] for tried in report["tries"]] == [["A"], ["A"]]
    assert report["tries"][1]["losses"]["replay_weight"] == pytest.approx(0.3)
    assert report["parent"] == head.version
    assert report["gate"]["gate_max_forgetting"] == -1.0
    assert outcome.metrics["forgetting"] == pytest.approx(report["metrics"]["forgetting"], abs=1e-6)


def test_a_refused_sku_is_learned_once_the_gate_lets_it(shared):
    for seed, sku in enumerate("AB"):
        write_photos(shared, sku, seed)
    strict = with_learning(shared, gate_max_forgetting=-1.0, gate_second_try_factor=0.0)
    first = learn_all(strict, ["A"])
    assert first["A"].status == "learned"
    refused = learn_all(strict, ["B"])["B"]
    assert refused.status == "failed"
    assert "second try" not in refused.reason
    learned = learn_all(shared)
    assert {sku: o.status for sku, o in learned.items()} == {"B": "learned"}
    assert statuses(shared)["B"] is SkuStatus.LEARNED


def test_a_second_try_that_holds_is_promoted(shared, monkeypatch):
    for seed, sku in enumerate("AB"):
        write_photos(shared, sku, seed)
    judge = ForgettingGate.judge
    judged = []

    def strict_at_first(gate):
        report = judge(gate)
        judged.append(report)
        # The second judgement is the first try of B: A was the first.
        return report if len(judged) != 2 else replace(report, max_forgetting=-1.0)

    monkeypatch.setattr(ForgettingGate, "judge", strict_at_first)
    trainings = Trainings(monkeypatch)
    outcomes = learn_all(shared)
    assert [o.status for o in outcomes.values()] == ["learned"] * 2
    assert [o.metrics["tries"] for o in outcomes.values()] == [1.0, 2.0]
    assert len(trainings.seen) == 3
    store = open_home(shared).adapters("default")
    assert store.staging_names() == []
    assert open_home(shared).objects.list(QUARANTINE) == []
    # The stronger weights are the gate's doing, not other settings: nothing is left to do.
    assert learn_all(shared, ["B"])["B"].status == "unchanged"


def test_a_drifting_base_raises_the_prior_and_is_shown(shared, monkeypatch):
    write_photos(shared, "A", 1)
    trainings = Trainings(monkeypatch)
    outcome = learn_all(with_learning(shared, gate_max_prior_drift=0.0))["A"]
    # There is nothing to replay in the first task.
    assert trainings.weights == [(0.1, 1.0, 1.0), pytest.approx((0.1, 1.0, 3.0))]
    assert outcome.status == "failed"
    assert "base-only pictures drift by" in outcome.reason
    assert outcome.metrics["prior_drift"] > 0.0
    assert open_home(shared).adapters("default").head() is None
    assert "pictures.png" in quarantined(shared)


def test_a_second_try_that_would_be_the_same_is_not_made(shared, monkeypatch):
    write_photos(shared, "A", 1)
    trainings = Trainings(monkeypatch)
    no_prior = with_learning(shared, gate_max_prior_drift=0.0, prior_images=0)
    assert learn_all(no_prior)["A"].status == "failed"
    assert len(trainings.seen) == 1


class _Labels(SilentProgress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.steps.append(task)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_in_the_second_try_resumes_there(knows_a, tmp_path, killed_learning):
    shared = knows_a("shared")
    other = elsewhere(shared, tmp_path / "undisturbed")
    write_photos(shared, "B", 2)
    refresh_index(open_home(shared))
    shutil.copytree(shared.home, other.home)
    strict = with_learning(shared, gate_max_forgetting=-1.0)
    want = learn_all(with_learning(other, gate_max_forgetting=-1.0), ["B"])["B"]
    killed_learning(strict, 3, "second try")
    store = open_home(shared).adapters("default")
    checkpoint, note = sorted(store.staging_names(), key=lambda name: "refused" in name)
    assert checkpoint.endswith(".safetensors")
    assert note.endswith(".refused.json")
    assert statuses(shared)["B"] is SkuStatus.NEW

    progress = _Labels()
    (outcome,) = learn_concepts(open_home(strict), progress=progress)
    # Steps 3 to 6 of the second try; nothing of the first.
    assert progress.steps == ["learn B, second try"] * 4
    assert outcome.status == "failed"
    assert outcome.metrics == pytest.approx(dict(want.metrics))
    assert quarantined(shared) == quarantined(other)
    assert store.staging_names() == []


def test_the_note_of_another_gate_is_not_believed(knows_a, tmp_path):
    shared = knows_a("shared")
    write_photos(shared, "B", 2)
    refresh_index(open_home(shared))
    strict = with_learning(shared, gate_max_forgetting=-1.0)

    class Stop(SilentProgress):
        def start(self, task: str, total: int, done: int = 0) -> None:
            if "second try" in task:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(learn_concepts(open_home(strict), ["B"], progress=Stop()))
    store = open_home(shared).adapters("default")
    (note,) = store.staging_names()
    assert note.endswith(".refused.json")
    progress = _Labels()
    (outcome,) = learn_concepts(open_home(shared), ["B"], progress=progress)
    assert progress.steps == ["learn B"] * 6
    assert outcome.status == "learned"
    assert store.staging_names() == []


def test_own_slots_pass_with_zeros_and_one_training(own, monkeypatch):
    for seed, sku in enumerate("AB"):
        write_photos(own, sku, seed)
    trainings = Trainings(monkeypatch)
    outcomes = learn_all(with_learning(own, gate_max_forgetting=0.0, gate_max_prior_drift=0.0))
    for outcome in outcomes.values():
        assert outcome.status == "learned"
        assert (outcome.metrics["forgetting"], outcome.metrics["prior_drift"]) == (0.0, 0.0)
    assert len(trainings.seen) == 2


def test_own_slots_with_a_leak_are_refused_without_a_second_try(knows_a, monkeypatch):
    own = knows_a("per_concept")
    write_photos(own, "B", 2)
    train, calls = ConceptTrainer.train, []

    def leaking(trainer, task, *others):
        curve = train(trainer, task, *others)
        with torch.no_grad():
            for parameter in trainer._engine.adapter.parameters_of("A"):
                parameter.add_(0.2)
        trainer._engine.adapter.parameters_changed()
        calls.append(task)
        return curve

    monkeypatch.setattr(ConceptTrainer, "train", leaking)
    outcome = learn_all(own, ["B"])["B"]
    assert outcome.status == "failed"
    assert "the candidate forgets A" in outcome.reason
    assert "an error of the program or of the machine" in outcome.reason
    assert len(calls) == 1
    assert "shared.safetensors" not in quarantined(own)
    store = open_home(own).adapters("default")
    assert [c.sku for c in store.current().concepts] == ["A"]  # type: ignore[union-attr]


def test_a_damaged_curve_is_named():
    assert decode_curve(encode_curve([(10, 0.5), (20, 0.25)])) == [(10, 0.5), (20, 0.25)]
    with pytest.raises(CatalogPipelineError, match="not a loss curve"):
        decode_curve(b"nonsense")
