"""The checks of ``doctor`` over words: what the base was not trained on, what cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from catalog_pipeline.records import SkuStatus
from catalog_pipeline.workflows.card_words import untrained_noun
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.scene_words import require_read, unknown_places
from catalog_pipeline.workflows.upkeep.check_results import CheckResult, guarded

_SKUS_NAMED = 5


def check_words(home: Home) -> Iterator[CheckResult]:
    """Scenes that no plan can be made with, nouns and scenes that the base was not trained on."""
    unread = [
        *guarded("words", lambda home: _unread(home, learning=False), home),
        *guarded("words", lambda home: _unread(home, learning=True), home),
    ]
    yield from unread
    for line in unknown_places(home.written, home.words):
        yield CheckResult("warning", f"words: {line}", "use one of these, or look at its pictures")
    by_noun = defaultdict(list)
    for row in home.index.read():
        if row.status is not SkuStatus.RETIRED:
            by_noun[row.class_noun].append(row.sku)
    for noun, skus in sorted(by_noun.items()):
        if line := untrained_noun(noun, home.words):
            more = f" and {len(skus) - _SKUS_NAMED} more" if len(skus) > _SKUS_NAMED else ""
            yield CheckResult(
                "warning",
                f"words: {', '.join(skus[:_SKUS_NAMED])}{more}: {line}",
                "a noun that it knows teaches it sooner; write it into the card, and learn again",
            )
    for text, match in sorted(home.words.kept.get("noun", {}).items()):
        if not match.phrase:
            nearest = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in match.alternatives)
            yield CheckResult(
                "warning",
                f"words: {text!r} is like no noun that is known; the nearest are {nearest}",
                f"`catalog-pipeline vocabulary --set {text}=NOUN`, and learn its products again",
            )
    kept = sum(len(texts) for texts in home.words.kept.values())
    if kept:
        yield CheckResult("ok", f"words: {kept} read from other languages and kept", "")


def _unread(home: Home, learning: bool) -> Iterator[CheckResult]:
    require_read(home.written, home.words, learning=learning)
    yield from ()
