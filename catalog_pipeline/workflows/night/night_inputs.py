"""What a night is planned from: served versions, products of the catalog, pictures shown, speed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.records import (
    SHARED,
    AdapterVersion,
    Concept,
    RenderJob,
    SkuStatus,
    Source,
    concept_part,
)
from catalog_pipeline.settings import GenerationSettings
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.serving import read_heads, serving_collections

ASSUMED_SECONDS_PER_IMAGE = 3.0
"""Speed a ``max_minutes`` budget starts from before any night was measured."""

REPORTS_READ = 60
"""Nights that a mode's speed is looked for in: of a mode that is rare, few would tell."""

REPORTS_PREFIX = "reports/render/"


@dataclass(frozen=True)
class NightInputs:
    """What a plan is made from; ``content_hash`` is stored beside the plan.

    ``serving`` maps each product of the catalog to the one collection that it is rendered from,
    ``photos`` each whose photos may stand in scenes to the content hash of its folder.
    """

    day: date
    settings: GenerationSettings
    versions: Mapping[str, AdapterVersion]
    serving: Mapping[str, str]
    photos: Mapping[str, str]

    @property
    def content_hash(self) -> str:
        """Of day, settings that change a plan, versions, products and their folders."""
        left_out = {"batch_size", "quality"}
        if not self.settings.across_collections:  # as before there was the setting
            left_out.add("across_collections")
        content = {
            "day": self.day.isoformat(),
            "generation": self.settings.model_dump(mode="json", exclude=left_out),
            "collections": {
                collection: {
                    "version": version.version,
                    "skus": sorted(concept.sku for concept in self.on_sale(collection)),
                }
                for collection, version in self.versions.items()
            },
            "photos": self.photos,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def on_sale(self, collection: str) -> list[Concept]:
        """The learned products that ``collection`` serves and that are not retired."""
        concepts = self.versions[collection].concepts
        return [c for c in concepts if self.serving.get(c.sku) == collection]

    def planned_together(self) -> tuple[list[PlannedProducts], list[str]]:
        """What is on sale, in groups whose products may share pictures; and what stays apart, why.

        Slots of products' own on the same base can stand in one picture. A shared slot is
        its whole collection's, trained for no other beside it.
        """
        names = [name for name in self.versions if self.on_sale(name)]
        groups: dict[tuple[str, str], list[str]] = {}
        for name in names:
            version = self.versions[name]
            alone = SHARED in version.parts or not self.settings.across_collections
            groups.setdefault((version.base_model_hash, name if alone else ""), []).append(name)
        most = max(groups.values(), key=len, default=[])
        notes = [
            f"across_collections: no product of {_listed(group)} stands beside one of "
            f"{_listed(most)}, because "
            + (
                "a shared slot (learning.yaml: adapter.slots) is for one collection"
                if any(SHARED in self.versions[name].parts for name in (group[0], most[0]))
                else "they were learned on different bases"
            )
            for group in groups.values()
            if group is not most and self.settings.across_collections
        ]
        return [self._planned(group) for group in groups.values()], notes

    def _planned(self, collections: Sequence[str]) -> PlannedProducts:
        concepts: list[Concept] = []
        sources: dict[str, Source] = {}
        hashes: dict[str, str] = {}
        for name in collections:
            version, own = self.versions[name], self.on_sale(name)
            newest = max(concept.task for concept in own)
            concepts += [replace(concept, task=concept.task - newest) for concept in own]
            sources |= {concept.sku: Source(name, version.version) for concept in own}
            known = hash_concepts(version)
            hashes |= {c.sku: known[c.sku] for c in own if c.sku in known}
        return PlannedProducts(tuple(collections), concepts, sources, hashes)


@dataclass(frozen=True)
class PlannedProducts:
    """Products of one collection, or of several that may share pictures.

    ``concepts`` have tasks that count back from 0, the newest of each collection; ``sources``
    says what draws a SKU, ``hashes`` of which weights (:func:`hash_concepts`).
    """

    collections: tuple[str, ...]
    concepts: Sequence[Concept]
    sources: Mapping[str, Source]
    hashes: Mapping[str, str]


def _listed(collections: Sequence[str]) -> str:
    return ", ".join(map(repr, collections))


def read_inputs(home: Home, day: date) -> NightInputs:
    """The promoted version of every collection, and which one serves each product."""
    rows, heads = home.index.read(), read_heads(home)
    retired = {row.sku for row in rows if row.status is SkuStatus.RETIRED}
    serving = serving_collections(rows, heads)
    on_sale = {sku: name for sku, name in serving.items() if sku not in retired}
    generation = home.settings.generation
    photos = {
        row.sku: row.content_hash
        for row in rows
        if row.sku in on_sale and generation.allows_photos(on_sale[row.sku])
    }
    return NightInputs(day, generation, heads, on_sale, photos)


def count_shown(home: Home, inputs: NightInputs) -> tuple[dict[str, int], list[str]]:
    """Published pictures by SKU in the ``coverage.nights - 1`` nights before, and what went wrong.

    Superseded pictures do not count. One manifest is read a night, none when neither
    coverage nor best-sellers ask for it. A night without a manifest counts as 0, and so
    does one whose manifest is damaged, with a note that says so.
    """
    policies = inputs.settings.policies
    shown: Counter[str] = Counter()
    problems: list[str] = []
    if not policies.coverage.images and not policies.best_sellers.items:
        return {}, problems
    for back in range(1, policies.coverage.nights):
        night = inputs.day - timedelta(days=back)
        try:
            rows = home.archive.read_day(night)
        except IntegrityError as error:
            problems.append(f"coverage: the night of {night} counts as empty, because {error}")
            continue
        shown.update(
            sku
            for row in rows
            if not row.superseded and row.verdict != "failed"
            for sku in row.skus
        )
    return dict(shown), problems


def measured_seconds_per_image(
    home: Home, settings: GenerationSettings, jobs: Sequence[RenderJob]
) -> float | None:
    """The mean of ``jobs``, each at what the latest night of its mode, size and steps measured.

    A mode that none of the latest :data:`REPORTS_READ` nights had counts as assumed;
    ``None`` where that is so of all.

    Raises:
        IntegrityError: a rendering report is damaged.
    """
    like = {"steps": settings.steps, "width": settings.width, "height": settings.height}
    wanted = Counter(job.mode for job in jobs)
    measured: dict[str, float] = {}
    for key in reversed(home.objects.list(REPORTS_PREFIX)[-REPORTS_READ:]):
        if wanted.keys() <= measured.keys():
            break
        try:
            report = json.loads(home.objects.read(key).data)
            alike = all(report[name] == value for name, value in like.items())
            if alike and "seconds_per_image" in report:
                measured = _seconds_by_mode(report["seconds_per_image"]) | measured
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{home.objects.uri(key)} is not a rendering report ({error}); delete it"
            ) from error
    if not wanted.keys() & measured.keys():
        return None
    seconds = sum(
        count * measured.get(mode, ASSUMED_SECONDS_PER_IMAGE) for mode, count in wanted.items()
    )
    return seconds / wanted.total()


def _seconds_by_mode(found: Any) -> dict[str, float]:
    """One number is of a night before there were modes: all its pictures were learned."""
    if not isinstance(found, dict):
        return {"learned": float(found)}
    return {mode: float(seconds) for mode, seconds in found.items()}


def hash_concepts(version: AdapterVersion) -> dict[str, str]:
    """SKU -> hash of the weights that draw it: the base, the shared part, its own part."""
    hashes = {}
    for concept in version.concepts:
        part = version.parts.get(concept_part(concept.sku))
        if part is not None:
            weights = [version.base_model_hash, version.parts.get(SHARED, ""), part]
            hashes[concept.sku] = hashlib.sha256(json.dumps(weights).encode()).hexdigest()
    return hashes
