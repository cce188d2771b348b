"""Renamed folders and cards that name another collection: nothing is trained or served twice."""

from __future__ import annotations

import pytest

from catalog_pipeline.records import LearnOutcome, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows import serving
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.retire import retire_concepts
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn import commit as workflow
from catalog_pipeline.workflows.learn.task_runner import TaskRunner
from catalog_pipeline.workflows.models import drawn_by, open_sampler, served_version
from catalog_pipeline.workflows.serving import read_heads, served_twice
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from tests.builders import make_render_job
from tests.workflows.tiny_catalog import learn_all, statuses, write_photos


@pytest.fixture
def tiny(knows_a) -> Settings:
    """A line that has learned the product A."""
    return knows_a("per_concept")


@pytest.fixture
def shared(knows_a) -> Settings:
    """The same with one slot for all."""
    return knows_a("shared")


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """The SKUs that were really trained."""
    names: list[str] = []
    run = TaskRunner.run

    def noted(self, parent, photo_set, *rest):
        names.append(photo_set.sku.sku)
        return run(self, parent, photo_set, *rest)

    monkeypatch.setattr(TaskRunner, "run", noted)
    return names


def move(settings: Settings, sku: str, collection: str) -> None:
    card = f"class_noun: mug\ncollection: {collection}\n"
    (settings.catalog_root / sku / "sku.yaml").write_text(card)


def known(settings: Settings) -> dict[str, set[str]]:
    heads = read_heads(open_home(settings)).items()
    return {name: {concept.sku for concept in head.concepts} for name, head in heads}


def test_a_product_follows_its_card_and_comes_back_without_training(tiny, trained):
    write_photos(tiny, "B", 2)
    learn_all(tiny)
    before = read_heads(open_home(tiny))["default"]
    for collection in ("spring", "default"):
        move(tiny, "A", collection)
        (outcome,) = learn_all(tiny).values()
        assert (outcome.status, outcome.sku) == ("learned", "A")
        assert "not trained again" in outcome.reason
        assert outcome.loss_curve[-1][0] == 6
        assert {name for name, skus in known(tiny).items() if "A" in skus} == {collection}
    assert trained == ["B"]
    after = read_heads(open_home(tiny))["default"]
    assert after.parts == before.parts
    assert {c.sku: c.metrics for c in after.concepts} == {c.sku: c.metrics for c in before.concepts}
    assert set(statuses(tiny).values()) == {SkuStatus.LEARNED}
    assert [r.what for r in run_doctor(open_home(tiny)) if "A" in r.what.split()] == []


@pytest.mark.parametrize("finished_by", ["learn", "retire", "doctor"])
def test_a_move_that_was_cut_off_is_finished(tiny, monkeypatch, finished_by):
    class PowerCutError(BaseException):
        pass

    def cut(*_, **__):
        raise PowerCutError

    move(tiny, "A", "spring")
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "drop_elsewhere", cut)
        with pytest.raises(PowerCutError):
            learn_all(tiny)
    assert known(tiny) == {"default": {"A"}, "spring": {"A"}}
    home = open_home(tiny)
    if finished_by == "learn":
        assert learn_all(tiny)["A"].status == "unchanged"
    elif finished_by == "retire":
        assert [outcome.serving for outcome in retire_concepts(home)] == ["spring"]
    else:
        run_doctor(home, repair=True)
    assert known(tiny) == {"default": set(), "spring": {"A"}}
    assert served_twice(home) == {}


def test_a_shared_slot_is_trained_in_its_new_collection(shared, trained):
    move(shared, "A", "spring")
    assert learn_all(shared)["A"].status == "learned"
    assert trained == ["A"]
    assert known(shared) == {"default": set(), "spring": {"A"}}


def rename(settings: Settings, old: str, new: str) -> LearnOutcome:
    (settings.catalog_root / old).rename(settings.catalog_root / new)
    report = refresh_index(open_home(settings))
    assert report.renamed == {new: old}
    return learn_all(settings)[new]


def test_a_renamed_folder_keeps_what_was_learned_of_it(tiny, trained):
    renamed = rename(tiny, "A", "mug")
    assert (renamed.status, renamed.reason) == ("learned", "as A in default, not trained again")
    assert trained == []
    home = open_home(tiny)
    version = served_version(home, "default")
    sampler = open_sampler(home, drawn_by(version))
    concepts = {concept.sku: concept for concept in version.concepts}
    jobs = [make_render_job(sku, adapter_version=version.version) for sku in ("A", "mug")]
    pictures = [sampler.render([job], concepts)[0].tolist() for job in jobs]
    assert pictures[0] == pictures[1]
    assert version.parts["concept/mug"] == version.parts["concept/A"]
    assert len(list(retire_concepts(home))) == 1
    assert known(tiny) == {"default": {"mug"}}
    assert learn_all(tiny, ["mug"])["mug"].status == "unchanged"


def test_a_renamed_folder_is_forgotten_only_once_its_new_name_is_learned(tiny, trained):
    (tiny.catalog_root / "A").rename(tiny.catalog_root / "mug")
    home = open_home(tiny)
    refresh_index(home)
    assert list(retire_concepts(home)) == []  # as it does every night, before any learning
    assert learn_all(tiny)["mug"].reason == "as A in default, not trained again"
    assert [outcome.sku for outcome in retire_concepts(home)] == ["A"]
    assert (known(tiny), trained) == ({"default": {"mug"}}, [])


def test_a_copy_and_another_class_are_products_of_their_own(tiny, trained):
    write_photos(tiny, "B", 1)
    learn_all(tiny)
    (tiny.catalog_root / "A").rename(tiny.catalog_root / "C")
    (tiny.catalog_root / "C" / "sku.yaml").write_text("class_noun: jug\n")
    assert learn_all(tiny)["C"].reason == ""
    assert trained == ["B", "C"]


def test_where_the_original_is_damaged_there_is_training(tiny, trained):
    digest = read_heads(open_home(tiny))["default"].parts["memory/A"]
    (tiny.home / f"collections/default/parts/{digest}.safetensors").write_bytes(b"rotten")
    move(tiny, "A", "spring")
    assert learn_all(tiny)["A"].reason == ""
    assert trained == ["A"]


def test_a_damaged_collection_keeps_no_other_from_learning(tiny):
    head = read_heads(open_home(tiny))["default"]
    (tiny.home / f"collections/default/versions/{head.version}.json").write_bytes(b"rotten")
    write_photos(tiny, "B", 2)
    move(tiny, "B", "spring")
    assert learn_all(tiny)["B"].status == "learned"
    assert statuses(tiny)["B"] is SkuStatus.LEARNED


def test_a_collection_that_cannot_drop_it_does_not_undo_what_was_learned(tiny, monkeypatch):
    monkeypatch.setitem(serving.drop_elsewhere.__kwdefaults__, "lease_wait_seconds", 0.0)
    move(tiny, "A", "spring")
    with open_home(tiny).adapters("default").lease(timeout_seconds=5):  # somebody is learning
        outcome = learn_all(tiny)["A"]
    assert outcome.status == "learned"
    assert "`catalog-pipeline retire` is to drop it elsewhere: " in outcome.reason
    assert statuses(tiny)["A"] is SkuStatus.LEARNED
