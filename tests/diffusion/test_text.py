from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog_pipeline.catalog.card import ProductCard
from catalog_pipeline.diffusion.prompts import open_prompt_tokenizer
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.errors import PromptError
from tests.tiny_model import open_tiny_engine


def test_prompts_without_placeholders_are_encoded_as_by_the_base(engine):
    prompt = "a photo of a red mug on a wooden table"
    ids = engine.base.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(engine.text.input_ids([prompt]), ids)
    before = engine.text.encode([prompt])
    engine.text.table.add("<A:0>", torch.ones(16))
    assert torch.equal(engine.text.encode([prompt]), before)


def test_placeholders_take_one_position_each_and_carry_gradient(engine):
    for index, token in enumerate(placeholder_tokens("MUG-1.a", 2)):
        engine.text.table.add(token, torch.full((16,), float(index)))
    prompt = "a photo of a <MUG-1.a:0> <MUG-1.a:1> mug"
    ids = engine.text.input_ids([prompt])[0].tolist()
    known = engine.text.table.base.num_embeddings
    assert [i - known for i in ids if i >= known] == [0, 1]
    end = engine.base.tokenizer.eos_token_id
    plain = engine.text.input_ids(["a photo of a mug"])[0].tolist()
    assert ids.index(end) == plain.index(end) + 2
    engine.text.encode([prompt]).sum().backward()
    assert engine.text.table.parameter_of("<MUG-1.a:1>").grad is not None


@pytest.mark.parametrize(
    "words",
    ["mug " * 200, "x" * 200, "🏖️" * 12, "沙滩上的咖啡杯" * 3, "İÑþ" * 20],
    ids=["many words", "one word", "emoji", "Chinese", "other letters"],
)
def test_a_prompt_is_encoded_whole_or_not_at_all(engine, words):
    with pytest.raises(PromptError, match=r"has \d+ tokens, .* reads 48; shorten") as refused:
        engine.text.encode([words])
    assert len(str(refused.value)) < 600
    assert not engine.text.prompts.fits([words])


def test_the_last_prompt_that_fits_keeps_its_every_word(engine):
    length = engine.base.tokenizer.model_max_length
    full = "mug " * (length - 2)
    ids = engine.text.input_ids([full])[0].tolist()
    assert ids[1:-1] == [ids[1]] * (length - 2)
    assert ids[-1] == engine.base.tokenizer.eos_token_id
    assert engine.text.prompts.count(full) == length
    with pytest.raises(PromptError):
        engine.text.input_ids([full + "mug"])


def test_prompts_are_counted_without_weights_as_the_encoder_reads_them(engine, tiny_model_folder):
    alone = open_prompt_tokenizer(tiny_model_folder)
    assert alone.length == engine.text.length
    prompt = "a photo of a <MUG-1.a:0> <MUG-1.a:1> mug on a 🏖️"
    assert alone.tokens(prompt) == engine.text.prompts.tokens(prompt)


def test_a_tokenizer_without_a_limit_takes_that_of_the_encoder(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    file = folder / "tokenizer" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["model_max_length"]
    file.write_text(json.dumps(config))
    assert open_prompt_tokenizer(folder).length == 77
    assert open_tiny_engine(folder).text.encode(["a mug"]).shape[1] == 77


def test_a_row_of_another_base_is_refused(engine):
    with pytest.raises(ValueError, match=r"<A:0> has shape \(40,\), expected \(16,\)"):
        engine.text.load({"<A:0>": torch.zeros(40)})


def test_unknown_placeholder_and_second_conditioner_are_refused(engine):
    with pytest.raises(PromptError, match="names the token <NONE:0>, which stands for no product"):
        engine.text.input_ids(["a <NONE:0> mug"])
    with pytest.raises(ValueError, match="already"):
        engine.base.text_conditioner()


def test_every_noun_that_a_card_takes_is_found_among_its_neighbours(engine):
    signs = st.text("abcdez0159'&+%./-  ", min_size=1, max_size=14)

    @given(signs | st.sampled_from(["led lamp 5w", "3-seater sofa", "salt & pepper shaker"]))
    @settings(max_examples=60, derandomize=True)
    def check(noun):
        try:
            noun = ProductCard(class_noun=noun).class_noun
        except ValidationError:
            assume(False)
        assume(noun)
        prompt = f"a mug, a {noun}, a cap and a {noun} on green grass"
        assume(engine.text.prompts.fits([prompt]))
        assert engine.text.positions(prompt, noun)

    check()
