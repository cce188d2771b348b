"""How well words of other languages are read: five languages, a gold list written beforehand.

Writes ``languages.md`` and ``languages.json``.

    python -m tests.benchmarks.languages [--data shared/data] [--out docs/benchmarks]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from catalog_pipeline.base_model import EMBEDDED_VOCABULARY
from catalog_pipeline.languages.encoder import open_encoder
from catalog_pipeline.languages.english import folded
from catalog_pipeline.languages.matching import Match, Matcher, find_english_head
from catalog_pipeline.languages.vocabulary import Part, read_known_phrases, read_vocabulary
from catalog_pipeline.languages.word_list import LANGUAGES
from catalog_pipeline.settings import LanguageSettings
from tests.benchmarks.harness.home import DOCS
from tests.benchmarks.harness.report import machine, today, write_json, write_page

COMMAND = "python -m tests.benchmarks.languages"
GOLD = Path(__file__).parents[1] / "languages" / "gold.yaml"
TEMPLATE = Path(__file__).with_name("languages.md.j2")
THRESHOLDS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7)
TITLES = {
    "catalog": "Japanese product names",
    "ja": "Japanese",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "zh": "Chinese",
}

Gold = Sequence[tuple[str, Sequence[str]]]
"""Text, and the phrases that are right."""


@dataclass(frozen=True)
class Accuracy:
    """Of one list: right as it ships, and of the parts of that alone. Shares of all words."""

    name: str
    words: int
    shipped: float
    wrong: float
    unknown: float
    listed: float
    encoder_first: float
    encoder_three: float
    spelling: float


@dataclass(frozen=True)
class Threshold:
    """Of the encoder alone: shares of all words, of the accepted, of those without counterpart."""

    threshold: float
    accepted: float
    right_of_accepted: float
    right_kept: float
    false_accepts: float


@dataclass(frozen=True)
class Encoded:
    """What the encoder alone makes of a text: its best phrases, and whether it can read it."""

    right: Sequence[str]
    ranked: Sequence[tuple[str, float]]

    @property
    def score(self) -> float:
        """Of the best one; 0 where the text has letters that the encoder has not."""
        return self.ranked[0][1] if self.ranked else 0.0

    @property
    def first(self) -> bool:
        """Whether the best one is right."""
        return bool(self.ranked) and self.ranked[0][0] in self.right


def encode_alone(part: Part, gold: Gold) -> list[Encoded]:
    """Every text of ``gold`` without the list of words and without a threshold."""
    matcher = Matcher(read_vocabulary(part), 0.0, open_encoder)
    found = []
    for text, right in gold:
        match = matcher._match_encoded(text)
        ranked = [(match.meaning, match.score), *match.alternatives]
        found.append(Encoded(right, [] if match.way == "unknown" else ranked))
    return found


def shipped_matcher(part: Part, language: str) -> Matcher:
    """As the default settings have it for a home that names the language."""
    languages = LanguageSettings()
    threshold = languages.threshold if part == "noun" else languages.scene_threshold
    return Matcher(read_vocabulary(part), threshold, open_encoder, language)


def measure(part: Part, name: str, language: str, gold: Gold) -> Accuracy:
    """The accuracy on one list."""
    matcher = shipped_matcher(part, language)
    matches: list[tuple[Match, Sequence[str]]] = [(matcher.match(t), r) for t, r in gold]
    alone = encode_alone(part, gold)
    phrases = read_vocabulary(part).phrases
    spelled = [get_close_matches(folded(text), phrases, n=1, cutoff=0) for text, _ in gold]
    count = len(gold)

    def share(truths: Sequence[bool]) -> float:
        return sum(truths) / count

    return Accuracy(
        name=name,
        words=count,
        shipped=share([match.meaning in right for match, right in matches]),
        wrong=share([bool(m.meaning) and m.meaning not in right for m, right in matches]),
        unknown=share([match.way == "unknown" for match, _ in matches]),
        listed=share([match.way in ("listed", "head") for match, _ in matches]),
        encoder_first=share([each.first for each in alone]),
        encoder_three=share(
            [any(phrase in each.right for phrase, _ in each.ranked[:3]) for each in alone]
        ),
        spelling=share([best[0] in r for best, (_, r) in zip(spelled, gold, strict=True)]),
    )


def calibrate(part: Part, gold: Gold, unknown: Gold) -> list[Threshold]:
    """What each threshold lets through, of the encoder alone."""
    known, none = encode_alone(part, gold), encode_alone(part, unknown)
    rights = [each for each in known if each.first]
    rows = []
    for threshold in THRESHOLDS:
        accepted = [each for each in known if each.score >= threshold]
        rows.append(
            Threshold(
                threshold,
                len(accepted) / len(known),
                sum(each.first for each in accepted) / len(accepted),
                sum(each.score >= threshold for each in rights) / len(rights),
                sum(each.score >= threshold for each in none) / len(none),
            )
        )
    return rows


def other_names(catalog: Path, gold: Gold) -> dict[str, int]:
    """Japanese names of the catalog that are not in ``gold``, against their English names.

    An English name says what is right where it ends in a noun of the vocabulary; a product of
    several views or colours counts once a name.
    """
    vocabulary, matcher = read_vocabulary("noun"), shipped_matcher("noun", "ja")
    products = json.loads(catalog.read_text("utf-8"))
    pairs = {(p["name_ja"], find_english_head(p["name"], vocabulary)) for p in products}
    seen = {text for text, _ in gold}
    counts = dict.fromkeys(("names", "right", "wrong", "unknown", "listed", "listed_right"), 0)
    for text, english in sorted((t, e) for t, e in pairs if e is not None and t not in seen):
        match = matcher.match(text)
        right = match.meaning == english
        counts["names"] += 1
        counts["right" if right else "wrong" if match.meaning else "unknown"] += 1
        if match.way in ("listed", "head"):
            counts["listed"] += 1
            counts["listed_right"] += right
    return counts


def known_to_embedded(gold: Gold) -> float:
    """Share of the nouns of ``gold`` that the embedded base knows, or has another word for."""
    vocabulary = read_vocabulary("noun", read_known_phrases(EMBEDDED_VOCABULARY))
    phrases = [vocabulary.for_base(right[0]) for _, right in gold]
    return sum(map(vocabulary.is_known, phrases)) / len(phrases)


def seconds_a_word(gold: Gold) -> dict[str, float]:
    """Opening the encoder apart; one text a call, as cards are read."""
    started = time.perf_counter()
    open_encoder().encode(["a"])
    opening = time.perf_counter() - started
    started = time.perf_counter()
    encode_alone("noun", gold[:1])
    vocabulary = time.perf_counter() - started
    started = time.perf_counter()
    encode_alone("noun", gold)
    return {
        "open": opening,
        "vocabulary": vocabulary,
        "word": (time.perf_counter() - started) / len(gold),
    }


def measure_all(gold: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Every figure of the page."""
    catalog: Gold = list(gold["catalog"].items())
    nouns = {c: [(row[c], row["right"]) for row in gold["nouns"]] for c in LANGUAGES}
    scenes = {c: [(row[c], row["right"]) for row in gold["scenes"]] for c in LANGUAGES}
    timing = seconds_a_word(catalog)
    all_nouns: Gold = [*catalog, *(pair for pairs in nouns.values() for pair in pairs)]
    all_scenes: Gold = [pair for pairs in scenes.values() for pair in pairs]
    file = data / "household_catalog" / "catalog.json"
    return {
        "seconds": timing,
        "nouns": [
            measure("noun", "catalog", "ja", catalog),
            *(measure("noun", code, code, pairs) for code, pairs in nouns.items()),
        ],
        "scenes": [measure("scene", code, code, pairs) for code, pairs in scenes.items()],
        "noun_thresholds": calibrate("noun", all_nouns, _without(gold["unknown"])),
        "scene_thresholds": calibrate("scene", all_scenes, _without(gold["unknown_scenes"])),
        "shipped_false_accepts": _false_accepts(gold["unknown"]),
        "unknown_words": sum(map(len, gold["unknown"].values())),
        "unknown_scenes": sum(map(len, gold["unknown_scenes"].values())),
        "known_to_embedded": known_to_embedded(all_nouns),
        "other_names": other_names(file, catalog) if file.exists() else None,
        "vocabulary": {p: len(read_vocabulary(p).phrases) for p in ("noun", "scene")},
    }


def _without(unknown: Mapping[str, Sequence[str]]) -> Gold:
    return [(text, ()) for texts in unknown.values() for text in texts]


def _false_accepts(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """Words without a counterpart for which the shipped settings have one all the same."""
    return [
        f"{text}: {match.meaning}"
        for code, texts in unknown.items()
        for text in texts
        if (match := shipped_matcher("noun", code).match(text)).meaning
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    figures = measure_all(yaml.safe_load(GOLD.read_text("utf-8")), options.data)
    facts: dict[str, Any] = {
        "date": today(),
        "machine": machine(),
        "encoder": open_encoder().version,
        **figures,
    }
    for key in ("nouns", "scenes", "noun_thresholds", "scene_thresholds"):
        facts[key] = [asdict(row) for row in facts[key]]
    write_json(options.out / "languages.json", facts, digits=4)
    write_page(options.out, TEMPLATE, command=COMMAND, titles=TITLES, **facts)


if __name__ == "__main__":
    main()
