"""Seconds that a home has measured: attempts at learning, and pictures of nights."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from catalog_pipeline.records import ArchiveRow, LearningRow
from catalog_pipeline.stores.picture_quarantine import FAILED
from catalog_pipeline.workflows.home import Home


@dataclass(frozen=True)
class Attempt:
    """What a cost report needs of a row of the learning log.

    ``length``: ``steps`` and ``minutes_per_sku`` of its settings; 0 and ``None`` where nobody says.

    ``trained``: it learned the product by training, not by taking over what was known.
    """

    sku: str
    name: str
    collection: str
    learned: bool
    trained: bool
    ended_utc: datetime
    seconds: float
    version: str
    length: tuple[int, float | None]
    base: str

    @property
    def day(self) -> date:
        """On which it ended, UTC."""
        return self.ended_utc.astimezone(UTC).date()


@dataclass(frozen=True)
class MadePicture:
    """A picture of a night, in the manifest, in quarantine, or both.

    ``state`` is ``published``, ``held back`` or ``superseded``; ``seconds`` is 0 where unmeasured.
    """

    path: str
    skus: tuple[str, ...]
    state: str
    seconds: float
    attempts: int


@dataclass
class SkuSpent:
    """What a product has taken so far; see ``SkuCost``."""

    name: str = ""
    collection: str = ""
    attempts: int = 0
    learned: int = 0
    refused: int = 0
    untimed_attempts: int = 0
    learning_seconds: float = 0.0
    refused_seconds: float = 0.0
    pictures: int = 0
    picture_share: float = 0.0
    held_back: int = 0
    untimed_pictures: int = 0
    rendering_seconds: float = 0.0


@dataclass
class DaySpent:
    """What a day has taken; see ``NightCost``."""

    attempts: int = 0
    learned: int = 0
    refused: int = 0
    untimed_attempts: int = 0
    learning_seconds: float = 0.0
    refused_seconds: float = 0.0
    published: int = 0
    held_back: int = 0
    superseded: int = 0
    picture_attempts: int = 0
    untimed_pictures: int = 0
    rendering_seconds: float = 0.0
    unused_seconds: float = 0.0


@dataclass
class Spent:
    """What products and days have taken; filled an attempt and a picture at a time."""

    skus: dict[str, SkuSpent] = field(default_factory=lambda: defaultdict(SkuSpent))
    days: dict[date, DaySpent] = field(default_factory=lambda: defaultdict(DaySpent))

    def add_attempt(self, attempt: Attempt) -> None:
        """Count an attempt at learning; attempts come oldest first."""
        sku = self.skus[attempt.sku]
        sku.name, sku.collection = attempt.name, attempt.collection
        for spent in (sku, self.days[attempt.day]):
            spent.attempts += 1
            spent.learned += attempt.learned
            spent.refused += not attempt.learned
            spent.untimed_attempts += not attempt.seconds
            spent.learning_seconds += attempt.seconds
            spent.refused_seconds += 0.0 if attempt.learned else attempt.seconds

    def add_picture(self, day: date, made: MadePicture) -> None:
        """Count a picture of the night of ``day``, in equal shares for the products it names."""
        night, untimed = self.days[day], not made.seconds
        published, held_back = made.state == "published", made.state == "held back"
        night.published += published
        night.held_back += held_back
        night.superseded += made.state == "superseded"
        night.picture_attempts += made.attempts
        night.untimed_pictures += untimed
        night.rendering_seconds += made.seconds
        night.unused_seconds += 0.0 if published else made.seconds
        for name in made.skus:
            sku, share = self.skus[name], 1 / len(made.skus)
            sku.pictures += published
            sku.picture_share += share if published else 0.0
            sku.held_back += held_back
            sku.untimed_pictures += untimed
            sku.rendering_seconds += made.seconds * share


def read_attempts(home: Home) -> list[Attempt]:
    """Every attempt in the learning log, oldest first.

    Raises:
        IntegrityError: a day of the log cannot be read.
    """
    log = home.learning_log
    found = [_attempt(row) for day in log.days() for row in log.read_day(day)]
    return sorted(found, key=lambda attempt: (attempt.ended_utc, attempt.sku))


def _attempt(row: LearningRow) -> Attempt:
    return Attempt(
        sku=row.sku,
        name=row.name,
        collection=row.collection,
        learned=row.status == "learned",
        trained=row.status == "learned" and "final_loss" in row.metrics,
        ended_utc=row.ended_utc,
        seconds=row.seconds,
        version=row.version,
        length=_length(row.settings),
        base=row.base_model_hash,
    )


def _length(settings: str) -> tuple[int, float | None]:
    """``steps`` and ``minutes_per_sku`` of learning.yaml as JSON; 0 where it is no such text."""
    try:
        values = json.loads(settings)
        return int(values["steps"]), values.get("minutes_per_sku")
    except (ValueError, KeyError, TypeError):
        return 0, None


def read_nights(home: Home) -> Iterator[tuple[date, list[MadePicture]]]:
    """Each night with every picture that was made for it, oldest first; one night at a time.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    archive = home.archive
    for day in sorted({*archive.days(), *archive.quarantine.days()}):
        yield day, list(_made(archive.read_day(day), archive.quarantine.read_day(day)))


def _made(rows: Sequence[ArchiveRow], held: Sequence[ArchiveRow]) -> Iterator[MadePicture]:
    """Of a picture that stands in both, as one that was published and then held back, one."""
    by_picture: defaultdict[tuple[str, str], list[ArchiveRow]] = defaultdict(list)
    for row in (*rows, *held):
        by_picture[row.image_id, row.sha256].append(row)
    for found in by_picture.values():
        yield MadePicture(
            path=found[0].path,
            skus=tuple(dict.fromkeys(found[0].skus)),
            state=_state(found),
            seconds=max(row.render_seconds for row in found),
            attempts=max(row.attempts for row in found),
        )


def _state(found: Iterable[ArchiveRow]) -> str:
    asked_for = [row for row in found if not row.superseded]
    if not asked_for:
        return "superseded"
    return "published" if any(row.verdict != FAILED for row in asked_for) else "held back"
