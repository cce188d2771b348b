"""The trained vocabulary behaves as CLIP's: special ids, padding, any script, saved and opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training.presets import MAX_TOKENS
from catalog_pipeline.base_model.training.tokenizer import END, START, tokenize, train_tokenizer

CAPTIONS = ["a photo of a red mug on green grass", "a blue mug", "a red book, a mug and a lamp"] * 9


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(CAPTIONS, 700)


def test_equal_captions_give_equal_ids(tokenizer: Any) -> None:
    assert train_tokenizer(CAPTIONS, 700).get_vocab() == tokenizer.get_vocab()


def test_start_and_end_are_the_two_last_ids(tokenizer: Any) -> None:
    assert tokenizer.bos_token_id == len(tokenizer) - 2
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.convert_ids_to_tokens([len(tokenizer) - 2, len(tokenizer) - 1]) == [START, END]


def test_the_end_token_also_pads_and_stands_for_the_unknown(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.unk_token_id


def test_a_caption_is_start_words_end_and_padding(tokenizer: Any) -> None:
    (ids,) = tokenize(tokenizer, ["a red mug"]).tolist()
    words = tokenizer.convert_ids_to_tokens(ids[1:4])
    assert len(ids) == MAX_TOKENS
    assert ids[0] == tokenizer.bos_token_id
    assert words == ["a</w>", "red</w>", "mug</w>"]
    assert set(ids[4:]) == {tokenizer.eos_token_id}


def test_a_long_caption_is_cut_and_still_ends(tokenizer: Any) -> None:
    (ids,) = tokenize(tokenizer, ["red mug " * 60]).tolist()
    assert len(ids) == MAX_TOKENS
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[:-1]


@pytest.mark.parametrize("text", ["zigzag qwerty", "ラグーンマグ", "Ünïcödé", "€ 5 & more!"])
def test_text_it_never_saw_still_has_tokens(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text).input_ids[1:-1]
    assert ids
    assert tokenizer.unk_token_id not in ids


def test_case_and_white_space_do_not_matter(tokenizer: Any) -> None:
    assert tokenizer("A  Red\nMUG").input_ids == tokenizer("a red mug").input_ids


def test_saved_and_opened_again_it_answers_the_same(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    opened = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert opened.model_max_length == MAX_TOKENS
    assert opened.get_vocab() == tokenizer.get_vocab()
    text = "a zigzag mug, 5 ラ"
    assert opened(text).input_ids == tokenizer(text).input_ids


def test_it_takes_new_words_as_placeholders(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    opened = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert opened.add_tokens(["<mug-7:0>"]) == 1
    ids = opened("a <mug-7:0> mug").input_ids
    assert opened.convert_tokens_to_ids("<mug-7:0>") == len(opened) - 1
    assert ids.count(len(opened) - 1) == 1


def test_text_is_cut_into_words_as_by_the_shipped_tokenizer(tokenizer: Any) -> None:
    shipped = json.loads((EMBEDDED_WEIGHTS / "tokenizer" / "tokenizer.json").read_text())
    built = json.loads(tokenizer.backend_tokenizer.to_str())
    for stage in ("normalizer", "pre_tokenizer"):
        assert built[stage] == shipped[stage]
    settings = {key: value for key, value in built["model"].items() if key[0] not in "vm"}
    assert settings == {key: shipped["model"][key] for key in settings}
    assert built["post_processor"]["type"] == shipped["post_processor"]["type"]
