"""No prompt of a product is cut: what is too long for the base is refused before training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import Sku, SkuStatus
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn import learning_inputs, prompt_lengths
from tests.builders import make_adapter_version
from tests.workflows.tiny_catalog import (
    learn_all,
    statuses,
    tiny_settings,
    with_learning,
    write_photos,
)

# Five long words, within the letters that a card may have; 40 word pieces of this base.
LONG = "zyxwvutsrqponm kjihgfedcbazy qwxzvbnmplkjh zxcvbnmlkjhgf mnbvcxzlkjhgfd"


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


def write_noun(settings: Settings, sku: str, noun: str) -> None:
    (settings.catalog_root / sku / "sku.yaml").write_text(f"class_noun: {noun}\n")


def test_a_noun_that_is_too_long_fails_its_product_and_no_other(tiny):
    write_photos(tiny, "A", 1)
    write_photos(tiny, "B", 2)
    write_noun(tiny, "A", LONG)
    outcomes = learn_all(tiny)
    assert outcomes["B"].status == "learned"
    assert outcomes["A"].status == "failed"
    assert "\n" not in outcomes["A"].reason
    assert f"the class_noun '{LONG}' of A is too long" in outcomes["A"].reason
    assert "text encoder reads 48; expected a noun of at most" in outcomes["A"].reason
    assert statuses(tiny)["A"] is SkuStatus.FAILED
    write_noun(tiny, "A", "coffee mug")
    assert learn_all(tiny)["A"].status == "learned"


def test_no_model_is_opened_for_a_product_that_cannot_be_read(tiny, monkeypatch):
    write_photos(tiny, "A", 1)
    write_noun(tiny, "A", LONG)
    monkeypatch.setattr(learning_inputs, "open_tools", lambda _: pytest.fail("opened a model"))
    assert learn_all(tiny)["A"].status == "failed"


@pytest.mark.parametrize("scene", ["in a very " + "very " * 60 + "large room", "🏖️" * 20])
def test_a_scene_that_is_too_long_ends_the_run_before_anything_is_written(tiny, scene):
    write_photos(tiny, "A", 1)
    with pytest.raises(ConfigurationError, match=r"learning.yaml: scenes: .* reads 48; shorten"):
        learn_all(with_learning(tiny, scenes=("in the snow", scene)))
    assert statuses(tiny) == {"A": SkuStatus.NEW}


@pytest.mark.parametrize("slots", ["per_concept", "shared"])
def test_a_product_learned_when_prompts_were_cut_does_not_stop_the_others(tiny, monkeypatch, slots):
    adapter = tiny.learning.adapter.model_copy(update={"slots": slots})
    settings = with_learning(tiny, adapter=adapter, gate_retention_concepts=4)
    write_photos(settings, "A", 1)
    assert learn_all(settings)["A"].status == "learned"
    store = open_home(settings).adapters("default")
    head = store.current()
    assert head is not None
    (known,) = head.concepts
    cut = replace(known, class_noun=LONG)
    fields = {n: getattr(head, n) for n in ("parts", "base_model_hash", "memory_version")}
    old = make_adapter_version(cut, parent=head.version, **fields)
    store.publish(old)
    with store.lease(timeout_seconds=5) as lease:
        store.promote(old.version, expected=head.version, fence=lease.fence)
    write_photos(settings, "B", 2)
    outcome = learn_all(settings, ["B"])["B"]
    assert outcome.status == "learned", outcome.reason


def test_every_prompt_of_training_is_among_those_that_are_counted(tiny, monkeypatch):
    """What is counted beforehand bounds what the text encoder is asked for."""
    from catalog_pipeline.diffusion.prompts import PromptTokenizer
    from catalog_pipeline.workflows.models import prompt_tokenizer

    asked: list[str] = []
    tokens = PromptTokenizer.tokens

    def note(self, prompt):
        asked.append(prompt)
        return tokens(self, prompt)

    shared = tiny.learning.adapter.model_copy(update={"slots": "shared"})
    settings = with_learning(tiny, adapter=shared)
    write_photos(settings, "A", 1)
    write_photos(settings, "B", 2)
    for sku in "AB":
        write_noun(settings, sku, "coffee mug")
    monkeypatch.setattr(PromptTokenizer, "tokens", note)
    assert {o.status for o in learn_all(settings).values()} == {"learned"}
    monkeypatch.undo()
    prompts = prompt_tokenizer(settings.base_model)
    card = Sku("A", "A", "coffee mug")
    bound = max(prompts.count(one) for one in prompt_lengths._prompts(card, settings, None))
    assert max(prompts.count(one) for one in set(asked)) <= bound
