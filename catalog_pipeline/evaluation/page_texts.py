"""The words of the pages for people, in each language that they can be written in.

``texts/<language>.yaml`` has the same keys and the same ``{placeholders}`` in every language. What
people typed (prompts, names, reasons in words) is never translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.plain_text import read_yaml

TEXTS_FOLDER = Path(__file__).parent / "texts"
LANGUAGES = tuple(sorted(path.stem for path in TEXTS_FOLDER.glob("*.yaml")))

_FORMS = {"one", "other"}


class PageTexts:
    """The texts of one language, by key such as ``gallery.title``.

    Raises:
        ConfigurationError: no such language.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise ConfigurationError(
                f"there are no pages in {language!r}; expected one of {', '.join(LANGUAGES)}"
            )
        self.language = language
        self._texts = read_texts(language)

    def say(self, key: str, **values: object) -> str:
        """The text under ``key``, its placeholders filled."""
        return self._texts[key].format(**values)

    def count(self, key: str, number: int, **values: object) -> str:
        """The text under ``key`` for so many: ``{count}`` in it is ``number``."""
        one = f"{key}.one" if number == 1 and f"{key}.one" in self._texts else f"{key}.other"
        return self.say(one, count=f"{number:,}", **values)

    def term(self, group: str, word: str) -> str:
        """``word`` of a closed set in this language; as it is where the set lacks it."""
        return self._texts.get(f"{group}.{word}", word)

    def day(self, day: date) -> str:
        """A date with its weekday, as it is written in this language."""
        weekday = self._texts[f"weekday.{day.isoweekday()}"]
        values = {"year": day.year, "month": day.month, "day": day.day, "weekday": weekday}
        return self.say("date", **values)

    def seconds(self, seconds: float) -> str:
        """A time that something took: seconds below two minutes, then minutes, then hours."""
        if seconds < 10:
            return self.say("time.seconds", amount=f"{seconds:.1f}")
        if seconds < 120:
            return self.say("time.seconds", amount=f"{seconds:.0f}")
        if seconds < 7200:
            return self.say("time.minutes", amount=f"{seconds / 60:.0f}")
        return self.say("time.hours", amount=f"{seconds / 3600:.1f}")

    def listed(self, parts: list[str]) -> str:
        """``parts`` one after the other, as a sentence lists them."""
        return self._texts["list.separator"].join(parts)


@cache
def read_texts(language: str) -> Mapping[str, str]:
    """Every text of ``language`` by its dotted key; counted ones end in ``.one`` and ``.other``."""
    content = read_yaml((TEXTS_FOLDER / f"{language}.yaml").read_text("utf-8"))
    return dict(_flat(content, ""))


def counted(texts: Mapping[str, str]) -> set[str]:
    """The keys of ``texts`` that have a form a number."""
    return {
        key.rpartition(".")[0]
        for key in texts
        if key.rpartition(".")[2] in _FORMS and f"{key.rpartition('.')[0]}.other" in texts
    }


def _flat(content: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    found = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, str(value))]
    return found
