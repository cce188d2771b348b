"""Does a picture show its products: measured against what is remembered of them, and judged."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import (
    AdapterVersion,
    Cutout,
    Features,
    Palette,
    Pixels,
    Region,
    RenderJob,
    memory_part,
)
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.stores.memory import MemoryEntry, decode_memory
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import concepts_of, product_masker
from catalog_pipeline.workflows.night.crop_scores import CropScorer, crop_faults

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

RIVALS_PER_CLASS = 64
"""Products of one class noun, at most, that a picture's product may be taken for."""

RIVALS_IN_ALL = 128
"""Products that a judge knows as long as the classes of the named ones do not need more."""

_RESIDENT_JUDGES = 32
"""Judges kept in memory, of so many sets of products; the one opened first leaves first."""

PictureVerdict = Literal["passed", "failed", "unscored"]


class Judged(Protocol):
    """What a judge says of one picture: :class:`evaluation.reflection.Reflection`."""

    @property
    def passed(self) -> bool:
        """Every named product is there, once, in its own looks."""
        ...

    def to_scores(self) -> dict[str, float]:
        """Flat figures for the manifest, ``found/<sku>`` among them."""
        ...


class PictureJudge(Protocol):
    """What looks at pictures: :class:`evaluation.reflection.ReflectionJudge`."""

    def judge(
        self, pictures: Sequence[Pixels], named: Sequence[Sequence[tuple[str, Region]]]
    ) -> Sequence[Judged]:
        """One judgement a picture, of the products that it names and where they stand."""
        ...


OpenJudge = Callable[
    [Mapping[str, Features], Mapping[str, str], "FeatureEncoder", Mapping[str, Palette]],
    PictureJudge,
]
"""``(features by SKU, class nouns by SKU, encoder, palettes by SKU)`` -> a judge that knows these
products; a SKU that was learned without a palette has none."""


@dataclass(frozen=True)
class Judgement:
    """A picture's scores and verdict; ``unscored`` when a product has no memory."""

    verdict: PictureVerdict
    scores: Mapping[str, float]


class PictureScorer:
    """Scores pictures of learned products; each memory and the encoder are read once."""

    def __init__(
        self,
        home: Home,
        drawers: Mapping[str, AdapterVersion],
        open_encoder: Callable[[], FeatureEncoder],
        open_judge: OpenJudge | None = None,
        quality: QualitySettings | None = None,
    ) -> None:
        """``drawers``: SKU -> the version that draws it, of all products of these versions.

        ``open_judge`` is ``None`` when nothing is to be judged, only measured.
        """
        self._home = home
        self._drawers = drawers
        self._concepts = concepts_of(drawers)
        self._open_encoder = open_encoder
        self._open_judge = open_judge
        self._quality = quality or QualitySettings()
        self._crops = CropScorer(open_encoder)
        self._memory: dict[str, MemoryEntry | None] = {}
        self._judges: OrderedDict[tuple[str, ...], PictureJudge] = OrderedDict()

    def judge(
        self,
        jobs: Sequence[RenderJob],
        pictures: Sequence[Pixels],
        cutouts: Mapping[str, Cutout] = MappingProxyType({}),
    ) -> list[Judgement]:
        """The scores of :meth:`score` and those of the judge, with its verdict.

        ``cutouts`` has the products of the jobs' photos by SHA-256.

        Raises:
            GenerationError: a memory was made with an encoder of another width.
            IntegrityError: a memory is corrupted.
        """
        scores = self.score(jobs, pictures)
        judgements = [Judgement("unscored", measured) for measured in scores]
        alike: dict[tuple[str, ...], list[int]] = {}
        for index, job in enumerate(jobs) if self._open_judge is not None else ():
            if all(self._remember(sku) is not None for sku in job.skus):
                alike.setdefault(self._confusable(job.skus), []).append(index)
        for skus, indices in alike.items():
            named = [list(zip(jobs[i].skus, jobs[i].regions, strict=True)) for i in indices]
            found = self._judge_of(skus).judge([pictures[i] for i in indices], named)
            for index, judged in zip(indices, found, strict=True):
                verdict: PictureVerdict = "passed" if judged.passed else "failed"
                judgements[index] = Judgement(verdict, {**scores[index], **judged.to_scores()})
        return [
            self._beside_photos(job, picture, cutouts, judgement)
            for job, picture, judgement in zip(jobs, pictures, judgements, strict=True)
        ]

    def _beside_photos(
        self,
        job: RenderJob,
        picture: Pixels,
        cutouts: Mapping[str, Cutout],
        judgement: Judgement,
    ) -> Judgement:
        """The judgement of a picture that starts from photos: each product against its own.

        A product that is not its photo's is not found. In an exact picture these crops
        decide what is found: its products are the photos' own pixels, and the judge sees whole
        regions only. It still says whether something else stands there, too.
        """
        if job.mode == "learned":
            return judgement
        scores = {**judgement.scores, **self._crops.score(job, picture, cutouts)}
        if judgement.verdict == "unscored":
            return Judgement("unscored", scores)
        lost = {fault.sku for fault in crop_faults(job.skus, scores, self._quality)}
        if job.mode != "exact":
            lost |= {sku for sku in job.skus if scores.get(f"found/{sku}", 0.0) <= 0}
        scores |= {f"found/{sku}": float(sku not in lost) for sku in job.skus}
        scores["reflection"] = 1 - len(lost) / len(job.skus)
        if job.mode == "exact":
            amiss = scores.get("blank", 0.0) > 0 or scores.get("count_error", 0.0) > 0
            passed = not lost and not amiss
        else:
            passed = not lost and judgement.verdict == "passed"
        return Judgement("passed" if passed else "failed", scores)

    def score(
        self, jobs: Sequence[RenderJob], pictures: Sequence[Pixels]
    ) -> list[dict[str, float]]:
        """``fidelity/<sku>`` of every product of each picture, and ``min_fidelity``.

        The fidelity of a product is the mean cosine of the features of its region to
        the remembered features of its photos; its ceiling is below 1, so compare
        pictures of one product, not products. A product without a memory has no
        score, and a picture of such products alone has none at all.

        Raises:
            GenerationError: a memory was made with an encoder of another width.
            IntegrityError: a memory is corrupted.
        """
        from catalog_pipeline.evaluation.retention import cosine_to_photos

        wanted = [
            (index, sku, memory.features, crop_region(picture, region))
            for index, (job, picture) in enumerate(zip(jobs, pictures, strict=True))
            for sku, region in zip(job.skus, job.regions, strict=True)
            if (memory := self._remember(sku)) is not None
        ]
        scores: list[dict[str, float]] = [{} for _ in jobs]
        if not wanted:
            return scores
        features = self._open_encoder().encode([crop for *_, crop in wanted])
        for (index, sku, photos, _), feature in zip(wanted, features, strict=True):
            _check_width(sku, photos, feature.shape[0])
            scores[index][f"fidelity/{sku}"] = float(cosine_to_photos(feature[None], photos))
        for score in scores:
            if score:
                score["min_fidelity"] = min(score.values())
        return scores

    def _confusable(self, named: Sequence[str]) -> tuple[str, ...]:
        """``named``, the products of their class nouns, and others of their collections, sorted.

        All of collections of up to ``RIVALS_IN_ALL``. Of larger ones, and of a class of
        more than ``RIVALS_PER_CLASS``, a fixed draw takes part, so that a picture does not
        read thousands of memories.
        """
        own = {self._drawers[sku].version for sku in named}
        known = [c for c in self._concepts.values() if self._drawers[c.sku].version in own]
        concepts = sorted(known, key=lambda concept: _draw_order(concept.sku))
        skus = list(named)
        for noun in {c.class_noun for c in concepts if c.sku in named}:
            rivals = [c.sku for c in concepts if c.class_noun == noun and c.sku not in named]
            skus += rivals[:RIVALS_PER_CLASS]
        others = [c.sku for c in concepts if c.sku not in skus]
        skus += others[: max(0, RIVALS_IN_ALL - len(skus))]
        return tuple(sorted(sku for sku in skus if self._remember(sku) is not None))

    def _judge_of(self, skus: tuple[str, ...]) -> PictureJudge:
        assert self._open_judge is not None
        if skus not in self._judges:
            encoder = self._open_encoder()
            known = {sku: entry for sku in skus if (entry := self._remember(sku)) is not None}
            for sku, entry in known.items():
                _check_width(sku, entry.features, encoder.width)
            banks = {sku: entry.features for sku, entry in known.items()}
            palettes = {s: e.palette for s, e in known.items() if e.palette is not None}
            nouns = {sku: self._concepts[sku].class_noun for sku in banks}
            self._judges[skus] = self._open_judge(banks, nouns, encoder, palettes)
            if len(self._judges) > _RESIDENT_JUDGES:
                self._judges.popitem(last=False)
        return self._judges[skus]

    def _remember(self, sku: str) -> MemoryEntry | None:
        if sku not in self._memory:
            version = self._drawers[sku]
            part = version.parts.get(memory_part(sku))
            data = part and self._home.adapters(version.collection).read_part(part)
            self._memory[sku] = decode_memory(data) if data else None
        return self._memory[sku]


def crop_region(picture: Pixels, region: Region) -> Pixels:
    """The pixels of ``region``: ``(height, width, 3)`` -> ``(region height, region width, 3)``."""
    height, width = picture.shape[:2]
    top, bottom = round(region.top * height), round(region.bottom * height)
    left, right = round(region.left * width), round(region.right * width)
    return picture[top:bottom, left:right]


def shipped_judge(
    banks: Mapping[str, Features],
    classes: Mapping[str, str],
    encoder: FeatureEncoder,
    palettes: Mapping[str, Palette],
) -> PictureJudge:
    """The reflection score over the products of ``banks``; all share one product masker."""
    from catalog_pipeline.evaluation.reflection.score import ReflectionJudge

    return ReflectionJudge(banks, classes, encoder, product_masker(), palettes=palettes)


def _check_width(sku: str, photos: Features, width: int) -> None:
    if photos.shape[1] != width:
        raise GenerationError(
            f"the memory of {sku!r} has {photos.shape[1]} features, the encoder gives "
            f"{width}; learn the SKU again with the encoder in use"
        )


def _draw_order(sku: str) -> bytes:
    return hashlib.sha256(sku.encode()).digest()
