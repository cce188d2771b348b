"""The rules of the quality gate: what a further attempt changes, and which one is kept. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from catalog_pipeline.records import ArchiveRow, Pixels, RenderJob, SkuPassRate
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.workflows.night.picture_scores import Judgement

FOUND = "found/"
"""Score ``found/<sku>``: 1 when the picture that was kept shows the product, else 0."""

_WEAKER = 0.75
"""Strength of the redraw of each further attempt, times this."""

FOUND_FIRST = "found_first/"
"""Score ``found_first/<sku>``: the same of the first picture that was made for the job."""


@dataclass(frozen=True)
class Attempt:
    """One picture made for a job; the first attempt has ``number`` 1.

    ``job`` is the job as this attempt made it, ``real_pixels`` the share of its products'
    pixels that are the photos' own.
    """

    number: int
    job: RenderJob
    picture: Pixels
    judgement: Judgement
    real_pixels: float = 0.0


def attempt_seed(job: RenderJob, number: int) -> int:
    """The starting noise of an attempt, 31 bits: the job's own for the first one."""
    if number == 1:
        return job.seed
    digest = hashlib.sha256(f"{job.seed} attempt {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def attempt_job(job: RenderJob, quality: QualitySettings, number: int) -> RenderJob:
    """``job`` as attempt ``number`` makes it: with another seed, and nearer to the photos.

    A picture that starts from photos is redrawn less with each further attempt of a round, from
    other photos of the same products; the last one is exact.
    """
    turn = (number - 1) % quality.attempts
    made = replace(job, seed=attempt_seed(job, number))
    if job.mode == "learned" or turn == 0:
        return made
    photos = (job.anchors, *job.spare_anchors)
    return replace(
        made,
        anchors=photos[turn % len(photos)],
        strength=job.strength * _WEAKER**turn,
        mode="exact" if turn == quality.attempts - 1 else job.mode,
    )


def attempt_strength(quality: QualitySettings, number: int) -> float:
    """How much harder than planned attention is guided: a power of ``strength_factor``.

    Attempts come in rounds of ``quality.attempts``; each round begins at 1 again, so that
    asking for held back pictures once more does not guide them ever harder.
    """
    return float(quality.strength_factor ** ((number - 1) % quality.attempts))


def last_of_round(quality: QualitySettings, number: int) -> int:
    """The number of the last attempt of the round that attempt ``number`` is in."""
    return ((number - 1) // quality.attempts + 1) * quality.attempts


def rank(scores: Mapping[str, float]) -> tuple[float, ...]:
    """Of two failed pictures the one with the greater rank is kept.

    A picture with content before a blank one, then the share of products found, colours in
    place, the right number of things, and how alike the least alike product is.
    """
    return (
        -scores.get("blank", 0.0),
        scores.get("reflection", 0.0),
        -scores.get("color_swap", 0.0),
        -abs(scores.get("count_error", 0.0)),
        scores.get("min_fidelity", -1.0),
    )


def found_first(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores ``found_first/<sku>`` that a first attempt with ``scores`` gives."""
    return {
        FOUND_FIRST + name.removeprefix(FOUND): value
        for name, value in scores.items()
        if name.startswith(FOUND)
    }


def pass_rates(rows: Iterable[ArchiveRow]) -> tuple[SkuPassRate, ...]:
    """How often each product was found in ``rows``, worst first; unscored rows do not count."""
    judged: dict[str, list[tuple[bool, bool]]] = {}
    for row in rows:
        for sku in row.skus if row.verdict != "unscored" else ():
            at_last = row.scores.get(FOUND + sku, 0.0) > 0
            judged.setdefault(sku, []).append((at_last, row.scores.get(FOUND_FIRST + sku, 0.0) > 0))
    rates = [
        SkuPassRate(sku, len(seen), sum(at_last for at_last, _ in seen), sum(b for _, b in seen))
        for sku, seen in judged.items()
    ]
    return tuple(sorted(rates, key=lambda rate: (rate.rate, rate.first_rate, rate.sku)))


def skus_to_retake(rates: Iterable[SkuPassRate], quality: QualitySettings) -> tuple[str, ...]:
    """The products that were found too rarely: their photos should be taken again."""
    return tuple(
        rate.sku
        for rate in rates
        if rate.pictures >= quality.min_pass_rate_pictures and rate.rate < quality.min_pass_rate
    )


@dataclass(frozen=True)
class PictureFault:
    """One thing that is wrong with a picture: ``blank``, ``not_found`` (``skus``),
    ``color_swap``, ``too_many`` (``count``) or ``not_passed``."""

    kind: str
    skus: tuple[str, ...] = ()
    count: int = 0

    def __str__(self) -> str:
        """In words, as a manifest's row has it."""
        words = {
            "blank": "the picture is blank",
            "not_found": f"not found: {', '.join(self.skus)}",
            "color_swap": "colours have changed places",
            "too_many": f"{self.count} thing{'s' if self.count > 1 else ''} too many",
            "not_passed": "the judge did not pass it",
        }
        return words[self.kind]


def picture_faults(row: ArchiveRow) -> list[PictureFault]:
    """What is wrong with a picture that did not pass; at least one thing."""
    scores = row.scores
    faults = [PictureFault("blank")] if scores.get("blank", 0.0) > 0 else []
    lost = tuple(sku for sku in row.skus if scores.get(FOUND + sku, 1.0) <= 0)
    if lost:
        faults.append(PictureFault("not_found", lost))
    if scores.get("color_swap", 0.0) > 0:
        faults.append(PictureFault("color_swap"))
    extra = round(scores.get("count_error", 0.0))
    if not faults and extra > 0:
        faults.append(PictureFault("too_many", count=extra))
    return faults or [PictureFault("not_passed")]


def why_failed(row: ArchiveRow) -> str:
    """In words, what is wrong with a picture that did not pass."""
    return "; ".join(str(fault) for fault in picture_faults(row))
