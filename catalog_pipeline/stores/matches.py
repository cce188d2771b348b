"""What was read for words in other languages: once read, a word means the same for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.stores.objects import ObjectStore, StoredObject, until_won

MATCHES_KEY = "catalog/matches.json"
MATCHES_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class KeptMatch:
    """``phrase`` is what prompts have for a text; empty where nothing was near enough.

    ``way`` and ``score`` say how it came about, ``vocabulary`` (a hash) and ``encoder`` (a
    version) of what; ``alternatives`` are the nearest other phrases with their scores.
    """

    phrase: str
    meaning: str
    score: float
    way: str
    vocabulary: str
    encoder: str
    alternatives: tuple[tuple[str, float], ...] = ()


Matches = Mapping[str, Mapping[str, KeptMatch]]
"""Part of a prompt (``noun``, ``scene``, ``avoid``) -> text as it was typed -> what was read."""


class MatchStore:
    """``catalog/matches.json``, replaced as a whole by compare-and-swap."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def read(self) -> Matches:
        """Everything kept; nothing where no word was ever read.

        Raises:
            IntegrityError: the object is not what :meth:`update` writes.
            StoreError: written by a newer version of this program.
        """
        return self._decode(self._find())

    def update(self, change: Callable[[Matches], Matches]) -> Matches:
        """Keep ``change`` of what is kept; writes nothing where that is the same.

        ``change`` may be called more than once: another writer's words are never lost.
        """

        def attempt() -> Matches:
            stored = self._find()
            old = self._decode(stored)
            new = change(old)
            if new != old:
                version = stored.version if stored else None
                self._objects.compare_and_swap(MATCHES_KEY, _encode(new), version)
            return new

        return until_won(attempt, MATCHES_KEY)

    def _find(self) -> StoredObject | None:
        try:
            return self._objects.read(MATCHES_KEY)
        except ObjectNotFoundError:
            return None

    def _decode(self, stored: StoredObject | None) -> Matches:
        if stored is None:
            return {}
        where = self._objects.uri(MATCHES_KEY)
        try:
            content = json.loads(stored.data)
            if int(content["schema_version"]) > MATCHES_SCHEMA_VERSION:
                raise StoreError(
                    f"{where} has schema version {content['schema_version']}; this program reads "
                    f"up to {MATCHES_SCHEMA_VERSION}: upgrade catalog-pipeline"
                )
            return {
                part: {text: _decode_match(kept) for text, kept in texts.items()}
                for part, texts in content["matches"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{where} does not say what words were read as ({error!r}); expected the JSON "
                "that this program writes; restore it from a backup: without it words are read "
                "anew, and a product whose noun changes is learned anew"
            ) from error


def _decode_match(content: Mapping[str, Any]) -> KeptMatch:
    others = tuple((str(phrase), float(score)) for phrase, score in content["alternatives"])
    return KeptMatch(**{**content, "alternatives": others})


def _encode(matches: Matches) -> bytes:
    content = {
        "schema_version": MATCHES_SCHEMA_VERSION,
        "matches": {
            part: {text: asdict(kept) for text, kept in texts.items()}
            for part, texts in matches.items()
        },
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1).encode() + b"\n"
