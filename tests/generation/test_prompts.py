"""What a plan counts is what the sampler encodes; what is too long is left out, and said."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.catalog.card import parse_card
from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer
from catalog_pipeline.diffusion.sampling import RegionalPrompt
from catalog_pipeline.diffusion.text import TextConditioner, placeholder_tokens
from catalog_pipeline.errors import ConfigurationError, PromptError
from catalog_pipeline.generation.prompts import own_prompts, region_prompts, rendered_prompts
from catalog_pipeline.generation.scene_regions import opening_stages, region_masks
from catalog_pipeline.records import AttentionControl, Concept, Region
from catalog_pipeline.settings import SceneTemplate
from tests.builders import make_concept
from tests.generation.plans import concept, plan, policy
from tests.tiny_model import open_tiny_engine

READS = open_prompt_tokenizer(EMBEDDED_WEIGHTS)
LONG = "zyxwvutsrqponm kjihgfedcbazy qwxzvbnmplkjh zxcvbnmlkjhgf mnbvcxzlkjhgfd"
"""Five long words, within the letters that a card may have."""
MIDDLING = "semi-transparent hexagonal water bottle"
"""Fits alone and in a pair; three of them do not."""


def fits(concepts: Sequence[Concept], scene: SceneTemplate) -> bool:
    control = AttentionControl(silent_share=0.05, gap=0.08, apart_share=1.0)
    return READS.fits(rendered_prompts(concepts, scene.text, control, 20))


@pytest.fixture(scope="module")
def text(tiny_model_folder: Path) -> TextConditioner:
    """Knows the placeholder tokens of S0, S1 and S2."""
    conditioner = open_tiny_engine(tiny_model_folder).text
    tokens = [token for n in range(3) for token in placeholder_tokens(f"S{n}", 2)]
    conditioner.load({token: torch.zeros(16) for token in tokens})
    return conditioner


@pytest.mark.parametrize(
    ("silent", "apart", "gap"), list(product((0, 0.1), (0, 0.5, 1.0), (0, 0.08)))
)
def test_the_prompts_that_are_counted_are_those_of_every_stage(silent, apart, gap):
    control = AttentionControl(silent_share=silent, apart_share=apart, gap=gap)
    named, scene = [make_concept("A"), make_concept("B", class_noun="clock")], "on grass"
    halves = region_masks((Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1)))
    batch = [RegionalPrompt(own_prompts(named, scene), ("A", "B"), halves)]
    stages = opening_stages(batch, [region_prompts(named, scene)], [scene], control, 20)
    encoded = {text for stage in stages for item in stage.batch for text in item.prompts}
    encoded |= set(batch[0].prompts)
    assert set(rendered_prompts(named, scene, control, 20)) == encoded


def test_a_product_that_fits_no_scene_is_left_out_and_the_others_stay_as_they_were():
    shop = [concept("A", 1), concept("B", 2), concept("C", 3, noun=LONG)]
    wanted = policy(singles_per_sku=2, pairs=2)
    night = plan(shop, wanted, fits=fits)
    assert Counter(sku for job in night.jobs for sku in job.skus if len(job.skus) == 1) == {
        "A": 2,
        "B": 2,
    }
    assert not any("C" in job.skus for job in night.jobs)
    (note,) = [note for note in night.notes if "left out" in note]
    assert re.match(r"\d picture\(s\) left out, since in no scene .* whole: .*C.*; shorten", note)
    assert plan(shop[:2], wanted, fits=fits) == plan(shop[:2], wanted)


def test_three_long_nouns_do_not_share_a_picture_and_cover_alone():
    shop = [concept(sku, noun=MIDDLING) for sku in ("A", "B", "C")]
    night = plan(shop, policy(triples=1, singles_per_sku=1), fits=fits)
    assert {job.skus for job in night.jobs} == {("A",), ("B",), ("C",)}
    assert any("1 picture(s) left out" in note and "A + B + C" in note for note in night.notes)
    long = [concept(sku, noun="extraordinarily well decorated hexagonal thermos") for sku in "AB"]
    pairs = policy(coverage={"images": 1, "nights": 7, "top_up": "pairs"})
    assert {job.skus for job in plan(long, pairs, fits=fits).jobs} == {("A",), ("B",)}


def test_a_scene_that_is_too_long_beside_a_product_gives_way_to_the_others():
    shop = [concept("A"), concept("B", noun=MIDDLING)]
    wanted = policy(singles_per_sku=2)
    far = SceneTemplate(name="far", text="on a table " + "very " * 12 + "far away")
    wanted = wanted.model_copy(update={"scenes": (far, *wanted.scenes[:1])})
    night = plan(shop, wanted, fits=fits)
    scenes = {sku: {j.template for j in night.jobs if j.skus == (sku,)} for sku in ("A", "B")}
    assert scenes == {"A": {"far", "wood"}, "B": {"wood"}}
    assert sum(j.skus == ("B",) for j in night.jobs) == 2
    assert any("scene 'far' is passed over" in n and n.endswith("for B") for n in night.notes)


words = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz'-"), min_size=1, max_size=25)
nouns = st.one_of(
    st.lists(words, min_size=1, max_size=7).map(" ".join),
    st.text(max_size=100),
    st.sampled_from(["mug", "coffee mug", LONG, MIDDLING, "x" * 5000, "☕" * 9, "咖啡杯"]),
)
scenes = st.one_of(st.text(max_size=60), st.sampled_from(["on a table", "", "🏖️ " * 10]))


@settings(max_examples=60, deadline=None)
@given(nouns=st.lists(nouns, min_size=1, max_size=3), scene=scenes)
def test_from_the_card_to_the_encoder_a_prompt_is_whole_or_refused_by_name(
    text: TextConditioner, nouns: list[str], scene: str
) -> None:
    learned = []
    for number, noun in enumerate(nouns):
        if is_refused(lambda noun=noun, n=number: parse_card(f"S{n}", "sku.json", as_json(noun))):
            assert not is_short(noun)
            continue
        card = parse_card(f"S{number}", "sku.json", as_json(noun))
        tokens = placeholder_tokens(card.sku, 2)
        learned.append(concept(card.sku, noun=card.class_noun))
        learned[-1] = replace(learned[-1], placeholder_tokens=tokens)
    if not learned:
        return
    template = SceneTemplate(name="one", text=scene)
    wanted = policy(singles_per_sku=1, pairs=1, triples=1)
    wanted = wanted.model_copy(update={"scenes": (template,)})
    night = plan(learned, wanted, fits=fits)
    by_sku, end = {c.sku: c for c in learned}, text.tokenizer.eos_token_id
    for job in night.jobs:
        named = [by_sku[sku] for sku in job.skus]
        for prompt in rendered_prompts(named, job.scene, job.attention, job.steps):
            ids = text.input_ids([prompt])[0].tolist()
            assert ids[READS.count(prompt) - 1] == end, "cut, or of other tokens"
    planned = {job.skus for job in night.jobs}
    for own in learned:
        (prompt,) = own_prompts([own], scene)
        assert ((own.sku,) in planned) == (READS.count(prompt) <= READS.length)
        if (own.sku,) not in planned:
            assert any("left out" in note and own.sku in note for note in night.notes)
            with pytest.raises(PromptError):
                text.input_ids([prompt])


def is_refused(act: Callable[[], object]) -> bool:
    """Whether it ends in one line that people can read; any other error is raised."""
    try:
        act()
    except ConfigurationError as error:
        reason = str(error)
    else:
        return False
    assert "\n" not in reason
    assert len(reason) < 600
    return True


def as_json(noun: str) -> bytes:
    return json.dumps({"class_noun": noun}).encode()


def is_short(noun: str) -> bool:
    """A noun as people write it: one to five words of plain letters, 80 together."""
    return bool(re.fullmatch(r"[a-z]+( [a-z]+){0,4}", noun)) and len(noun) <= 80
