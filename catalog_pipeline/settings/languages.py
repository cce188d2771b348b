"""``languages.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from catalog_pipeline.settings.values import PromptText, Strict


class LanguageSettings(Strict):
    """``languages.yaml``: how cards and scenes in other languages than English are read."""

    enabled: bool = Field(True, description="false: what is not English is refused, as it stands")
    language: Literal["en", "ja", "de", "fr", "es", "zh"] = Field(
        "en", description="what is written here; its words in plain letters are read too"
    )
    threshold: float = Field(0.65, ge=0, le=1, description="least score of a class noun")
    scene_threshold: float = Field(0.6, ge=0, le=1, description="least score of other texts")
    words: dict[str, PromptText] = Field(
        default_factory=dict, description="own words and phrases -> English; they go first"
    )
    vocabulary: Path | None = Field(
        None, description="a file with the nouns and scenes that the base knows, and no others"
    )

    @field_validator("words")
    @classmethod
    def _english_for_each(cls, words: dict[str, str]) -> dict[str, str]:
        for word, phrase in words.items():
            if not word.strip() or not re.search("[a-z0-9]", phrase, re.IGNORECASE):
                raise ValueError(
                    f"{word!r}: {phrase!r} is no word with English for it; expected such as "
                    "'急須: teapot'"
                )
        return words
