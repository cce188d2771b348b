"""The words of the pages: every language has all of them, with the same gaps to fill."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from string import Formatter

import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.page_texts import LANGUAGES, PageTexts, counted, read_texts
from catalog_pipeline.settings.evaluation import EvaluationSettings

TEMPLATES = Path(__file__).parents[2] / "catalog_pipeline" / "evaluation" / "templates"
ENGLISH = read_texts("en")


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def kinds(language: str) -> set[str]:
    """The keys of a language, those of counted texts once."""
    texts = read_texts(language)
    many = counted(texts)
    return {key.rpartition(".")[0] if key.rpartition(".")[0] in many else key for key in texts}


def test_the_setting_offers_the_languages_that_there_are() -> None:
    assert set(LANGUAGES) == {"en", "ja"}
    for language in LANGUAGES:
        assert EvaluationSettings(language=language).language == language


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_every_language_says_the_same_things(language: str) -> None:
    texts = read_texts(language)
    assert kinds(language) == kinds("en")
    assert counted(texts) == counted(ENGLISH)
    for key, text in texts.items():
        assert gaps(text) == gaps(ENGLISH[key]), key
        assert text.strip(), key
    # A text of many may be the only one, and one of one need not name the number.
    for key in counted(ENGLISH):
        assert gaps(ENGLISH[f"{key}.one"]) <= gaps(ENGLISH[f"{key}.other"])


def test_every_text_that_a_template_asks_for_is_there() -> None:
    asked = set()
    for template in TEMPLATES.glob("*.j2"):
        words = template.read_text("utf-8")
        asked |= set(re.findall(r'(?:say|count)\("([a-z_.]+)"[,)]', words))
    assert len(asked) > 60
    assert asked - kinds("en") == set()


def test_numbers_days_and_times_as_each_language_writes_them() -> None:
    english, japanese = PageTexts("en"), PageTexts("ja")
    assert english.count("report.published", 1) == "1 picture published"
    assert english.count("report.published", 1200) == "1,200 pictures published"
    assert japanese.count("report.published", 1) == "画像 1 枚を公開"
    assert english.day(date(2026, 3, 1)) == "Sunday, 2026-03-01"
    assert japanese.day(date(2026, 3, 1)) == "2026年3月1日（日）"
    assert [english.seconds(s) for s in (0.42, 61, 600, 9000)] == [
        "0.4 s",
        "61 s",
        "10 min",
        "2.5 h",
    ]
    assert japanese.term("mode", "exact") == "写真そのまま"
    assert japanese.term("mode", "of a later release") == "of a later release"


def test_braces_in_a_name_are_no_gap() -> None:
    assert "{mug}" in PageTexts("en").say("report.photo_of", name="{mug}")


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no pages in 'fr'; expected one of en, ja"):
        PageTexts("fr")
