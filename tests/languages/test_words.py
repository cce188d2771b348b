"""Words of cards and scenes read for a home: kept, set, told; English untouched."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import ConfigurationError, IntegrityError, StoreError
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.stores.matches import MATCHES_KEY, KeptMatch, MatchStore
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.vocabulary import kept_words, read_words, set_word


def kept(home: Home) -> dict:
    return json.loads(home.objects.read(MATCHES_KEY).data)["matches"]


def test_cards_in_five_languages_become_english_nouns_and_are_kept(shop) -> None:
    cards = {
        "A": "class_noun: マグカップ",
        "B": "class_noun: Bücherschrank",
        "C": "class_noun: théière",
        "D": "class_noun: lámpara de mesa",
        "E": "class_noun: 背包",
        "F": "class_noun: Gartenbänke",
        "G": "class_noun: mug",
    }
    for sku, card in cards.items():
        shop.put(sku, card)
    report = refresh_index(shop.home)
    nouns = {row.sku: row.class_noun for row in report.rows}
    assert nouns == {
        **{"A": "mug", "B": "file cabinet", "C": "teapot", "D": "lamp"},
        **{"E": "backpack", "F": "bench", "G": "mug"},
    }
    assert {row.status for row in report.rows} == {SkuStatus.NEW}
    assert any(
        line.startswith("F: class_noun 'Gartenbänke' is read as 'bench' (score 0.7")
        for line in report.warnings
    )
    assert any(
        line.startswith("F: the base was not trained on the class noun 'bench'")
        for line in report.warnings
    )
    assert not any(line.startswith(("A:", "C:", "D:", "E:", "G:")) for line in report.warnings)
    home = shop.home
    assert set(kept(home)["noun"]) == {
        "マグカップ",
        "Bücherschrank",
        "théière",
        "lámpara de mesa",
        "背包",
        "Gartenbänke",
    }
    assert kept(home)["noun"]["Gartenbänke"]["encoder"].startswith("fast-universal-sentence-enc")
    photo_set = validate_photo_set(home, "D")
    assert (photo_set.sku.class_noun, photo_set.sku.typed_noun) == ("lamp", "lámpara de mesa")


def test_english_cards_open_neither_encoder_nor_store(shop, no_encoder) -> None:
    shop.put("A", "class_noun: Coffee Mug\nname: x")
    shop.put("B", "class_noun: teddy bear")
    home = shop.home
    report = refresh_index(home)
    assert [row.class_noun for row in report.rows] == ["coffee mug", "teddy bear"]
    assert [line[:55] for line in report.warnings] == [
        "A: the base was not trained on the class noun 'coffee m"
    ]
    assert "mug" in report.warnings[0].partition("nearest")[2]
    assert MATCHES_KEY not in home.objects.list("catalog/")


def test_a_word_that_was_read_once_is_read_so_for_ever(shop, monkeypatch, no_encoder) -> None:
    shop.put("A", "class_noun: Gartenbänke")
    home = shop.home
    old = KeptMatch("stool", "stool", 0.7, "matched", "an earlier vocabulary", "0.0.1")
    MatchStore(home.objects).update(lambda _: {"noun": {"Gartenbänke": old}})
    assert [row.class_noun for row in refresh_index(home).rows] == ["stool"]
    assert kept(home)["noun"]["Gartenbänke"]["vocabulary"] == "an earlier vocabulary"


def test_an_unknown_word_is_a_product_and_a_warning_with_the_nearest(shop) -> None:
    shop.put("A", "class_noun: Steuererklärung")
    report = refresh_index(shop.home)
    assert [(row.class_noun, row.status) for row in report.rows] == [("product", SkuStatus.NEW)]
    (line,) = report.warnings
    assert line.startswith("A: class_noun 'Steuererklärung' is like no noun that is known, and 'pr")
    assert line.count("(0.") == 3
    assert kept(shop.home)["noun"]["Steuererklärung"]["way"] == "unknown"
    assert shop.home.words.noun("Steuererklärung") == "product"


def test_without_the_encoder_listed_words_are_read_and_others_fail_their_sku_alone(
    shop, no_encoder
) -> None:
    shop.put("A", "class_noun: マグカップ")
    shop.put("B", "class_noun: Gartenbänke")
    rows = {row.sku: row for row in refresh_index(shop.home).rows}
    assert (rows["A"].class_noun, rows["A"].status) == ("mug", SkuStatus.NEW)
    assert rows["B"].status is SkuStatus.FAILED
    assert "the extra 'languages' is not installed" in rows["B"].reason
    assert list(kept(shop.home)["noun"]) == ["マグカップ"]


def test_a_name_suggests_a_noun_and_is_never_taken_for_one(shop, no_encoder) -> None:
    shop.put("A", "names: {ja: ラグーンマグ}")
    shop.put("B", "name: Lagoon mugs")
    shop.put("blue_mug", "category: kitchen")
    report = refresh_index(shop.home)
    assert {row.class_noun for row in report.rows} == {"product"}
    assert [line.partition(": write")[0] for line in report.warnings] == [
        "A: no class noun; the name 'ラグーンマグ' suggests 'mug'",
        "B: no class noun; the name 'Lagoon mugs' suggests 'mug'",
    ]


def test_own_words_and_words_set_by_hand_go_first(shop, no_encoder) -> None:
    shop.put("A", "class_noun: 急須")
    home = shop.home
    refresh_index(home)
    entry, skus = set_word(home, "noun", "急須", "Bottle")
    assert entry is not None
    assert (entry.match.phrase, entry.source, entry.kept) == ("bottle", "set by hand", True)
    assert skus == ["A"]
    assert shop.home.words.noun("急須") == "bottle"
    assert validate_photo_set(shop.home, "A").sku.class_noun == "bottle"
    own = Home(shop.configured(languages={"words": {"急須": "jar", "Samovar": "teapot"}}))
    assert (own.words.noun("急須"), own.words.noun("samovar")) == ("jar", "teapot")
    with pytest.raises(ConfigurationError, match=r"languages.yaml: words has '急須' already"):
        set_word(own, "noun", "急須", "bottle")
    assert [entry.source for entry in kept_words(own)][:2] == ["languages.yaml", "languages.yaml"]
    assert set_word(home, "noun", "急須", "") == (None, [])
    assert shop.home.words.noun("急須") == "teapot"


@pytest.mark.parametrize(
    ("text", "phrase", "problem"),
    [("急須", "ティーポット", "expected WORD=PHRASE"), ("samovar", "teapot", "in plain letters")],
)
def test_what_cannot_be_set_is_refused(shop, text, phrase, problem) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        set_word(shop.home, "noun", text, phrase)


def test_plain_words_are_read_where_the_settings_name_their_language(shop) -> None:
    english = shop.home.words
    assert english.noun("Tasse") == "Tasse"
    german = Home(shop.configured(languages={"language": "de"})).words
    assert (german.noun("Tasse"), german.noun("Boot")) == ("mug", "ship")
    assert (german.noun("mug"), german.noun("guitar")) == ("mug", "guitar")
    assert german.noun("Samovar") == "Samovar"
    assert german.read("scene", "auf einem Holztisch").phrase == "on a wooden table"
    assert german.read("scene", "on a wooden table").way == "typed"
    off = Home(shop.configured(languages={"enabled": False})).words
    assert off.noun("マグカップ") == "マグカップ"


def test_another_base_has_no_closed_vocabulary_and_may_be_given_one(
    shop, tmp_path, no_encoder
) -> None:
    base = {"base_model": {"base_model": str(tmp_path / "another")}}
    words = Home(shop.configured(**base)).words
    assert words.noun("アームチェア") == "armchair"
    assert words.is_known("noun", "samovar")
    (tmp_path / "assets_config" / "known.txt").write_text("nouns: [chair]\nscenes: []", "utf-8")
    given = shop.configured(**base, languages={"vocabulary": "known.txt"})
    assert Home(given).words.noun("アームチェア") == "chair"
    assert not Home(given).words.is_known("noun", "samovar")


def test_matches_that_are_none_or_newer_are_refused(shop) -> None:
    home = shop.home
    store = MatchStore(home.objects)
    assert store.read() == {}
    home.objects.put(MATCHES_KEY, b'{"schema_version": 9, "matches": {}}')
    with pytest.raises(StoreError, match="schema version 9"):
        store.read()
    home.objects.put(MATCHES_KEY, b"[]")
    with pytest.raises(IntegrityError, match="what words were read as"):
        store.read()


def test_two_writers_lose_no_word(shop, no_encoder) -> None:
    first, second = shop.home, shop.home
    assert first.words.kept == second.words.kept == {}
    first.words.noun("急須")
    second.words.noun("やかん")
    first.words.keep()
    second.words.keep()
    assert set(kept(first)["noun"]) == {"急須", "やかん"}
    before = first.objects.read(MATCHES_KEY).version
    first.words.keep()
    assert first.objects.read(MATCHES_KEY).version == before


def test_the_command_shows_and_sets(shop) -> None:
    shop.put("A", "class_noun: 急須")
    folder = shop.settings.config_dir
    options = ["--config", str(folder), "--home", str(shop.settings.home)]

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["vocabulary", *arguments, *options])
        assert result.exit_code == 0, result.output
        return result.output

    assert run() == "no word was read so far\n"
    lines = run("急須", "アームチェア", "Gartenbänke", "Steuererklärung", "mug").splitlines()
    assert lines[0] == "急須: teapot (1.00, list of words)"
    assert lines[1] == "アームチェア: chair, for armchair (1.00, list of words)"
    assert lines[2].startswith("Gartenbänke: bench (0.7")
    assert "encoder); next " in lines[2]
    assert "; the base was not trained on it; nearest " in lines[2]
    assert lines[3].startswith("Steuererklärung: unknown (best 0.")
    assert lines[4] == "mug: mug (1.00, typed, stays as it is)"
    assert run("--scenes", "木のテーブルの上").startswith("木のテーブルの上: on a wooden table (0.")
    assert run("--set", "急須=Bottle") == "急須: bottle (1.00, set by hand)\n"
    assert run() == "急須: bottle (1.00, set by hand)\n"
    assert run("--set", "急須=") == "急須: forgotten\n"
    wrong = CliRunner().invoke(app, ["vocabulary", "--set", "急須", *options])
    assert wrong.exit_code == 2


def test_what_is_only_looked_at_is_not_kept(shop) -> None:
    home = shop.home
    assert [entry.kept for entry in read_words(home, "noun", ["急須"])] == [False]
    assert MATCHES_KEY not in home.objects.list("catalog/")


def test_a_photo_set_that_is_touched_again_keeps_its_noun(shop) -> None:
    shop.put("A", "class_noun: マグカップ")
    home = shop.home
    refresh_index(home)
    later = datetime.now(UTC) + timedelta(days=1)
    again = refresh_index(Home(shop.settings), now=later)
    assert (again.changed, again.rows[0].class_noun) == ((), "mug")
