"""The plan of a night: scenes x product counts, balanced, seeded, within a budget.

Pure functions of their arguments: no clock, no random state, no file. The order
in which concepts are given does not matter, and nothing depends on Python's
``hash``. Three rules shape the result:

1. *What* is planned depends on the day, the scenes, the policies and on which
   products exist; never on when a product was learned. Every draw is a hash of
   ``(settings.seed, day, collection, what is drawn)``, so that a product learned
   anew on the same day keeps its scenes, its partners and its seeds.
2. *In which order*, and so what falls to a short budget, is decided by
   ``Concept.task``: the pictures of the products learned last come first.
3. A job id hashes what changes the picture and nothing else
   (:func:`identify_job`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.draws import KINDS, Slot, draw_slots, hash_number, shorten
from catalog_pipeline.records import Concept, NightPlan, Region, RenderJob
from catalog_pipeline.settings import BudgetSettings, GenerationSettings

_LAYOUTS = {1: "single", 2: "left_right", 3: "three_columns"}


def plan_night(
    day: date,
    concepts: Sequence[Concept],
    settings: GenerationSettings,
    *,
    collection: str,
    adapter_version: str,
    concept_hashes: Mapping[str, str] | None = None,
    seconds_per_image: float | None = None,
) -> NightPlan:
    """Plan one night of one collection.

    Args:
        day: the night's date; another day draws other pairs, scenes and seeds.
        concepts: the learned products to show, in any order.
        settings: scenes, policies, budget and sampling parameters.
        collection: name of the collection the concepts belong to.
        adapter_version: the version that :attr:`RenderJob.adapter_version` names.
        concept_hashes: what a picture of a SKU depends on, a hash by SKU (its part
            of the adapter version). A SKU that is missing here counts as changed
            with every ``adapter_version``.
        seconds_per_image: estimate that ``budget.max_minutes`` is divided by.

    Returns:
        Jobs in the order in which they are to be rendered, most important first;
        ``notes`` says what could not be planned and what the budget dropped.

    Raises:
        GenerationError: no concept, a SKU given twice, two scenes of one name, no
            scene, or ``max_minutes`` without an estimate.
    """
    _check_inputs(concepts, settings, collection)
    by_sku = {concept.sku: concept for concept in sorted(concepts, key=lambda c: c.sku)}
    draw = f"{settings.seed}|{day.isoformat()}|{collection}"
    slots, notes = draw_slots(by_sku, settings, draw)
    slots.sort(key=lambda slot: _importance(slot, by_sku, draw))
    jobs = []
    for slot in slots:
        shown = tuple(by_sku[sku] for sku in slot.skus)
        job = RenderJob(
            job_id="",
            day=day,
            template=slot.scene.name,
            prompt=f"{list_names([c.name for c in shown])} {slot.scene.text}",
            scene=slot.scene.text,
            skus=slot.skus,
            regions=split_layout(len(shown)),
            layout=_LAYOUTS[len(shown)],
            seed=hash_number(draw, "seed", *slot.key) & 0x7FFFFFFF,
            sampler=settings.sampler,
            steps=settings.steps,
            guidance=settings.guidance,
            width=settings.width,
            height=settings.height,
            negative_prompt=settings.negative_prompt,
            collection=collection,
            adapter_version=adapter_version,
        )
        jobs.append(replace(job, job_id=identify_job(job, shown, concept_hashes or {})))
    whole = _seal(day, jobs, notes)
    return join_plans(day, [whole], settings.budget, seconds_per_image=seconds_per_image)


def join_plans(
    day: date,
    plans: Sequence[NightPlan],
    budget: BudgetSettings,
    *,
    seconds_per_image: float | None = None,
) -> NightPlan:
    """One night from the plans of several collections, under one budget.

    Each plan keeps its own order; the plans are interleaved so that a short budget
    takes the same share of every collection.

    Raises:
        GenerationError: a plan of another day, a job id twice, or ``max_minutes``
            without ``seconds_per_image``.
    """
    strays = sorted({plan.day.isoformat() for plan in plans if plan.day != day})
    if strays:
        raise GenerationError(
            f"cannot join plans of {', '.join(strays)} into the night of {day.isoformat()}; "
            "plan every collection for the same day"
        )
    ranked = [
        ((place + 0.5) / len(plan.jobs), number, job)
        for number, plan in enumerate(plans)
        for place, job in enumerate(plan.jobs)
    ]
    jobs = [job for _, _, job in sorted(ranked, key=lambda entry: entry[:2])]
    repeated = [job_id for job_id, count in Counter(j.job_id for j in jobs).items() if count > 1]
    if repeated:
        raise GenerationError(
            f"job id {repeated[0]} is planned more than once; every picture of a night "
            "needs its own id, so give a collection only once"
        )
    limit, reason = _image_limit(budget, seconds_per_image)
    notes = [note for plan in plans for note in plan.notes]
    if limit is not None and limit < len(jobs):
        notes.append(_explain_cut(jobs, limit, reason))
        jobs = jobs[:limit]
    return _seal(day, jobs, notes)


def split_layout(count: int) -> tuple[Region, ...]:
    """Where the products of a picture stand: equal columns, left to right.

    One product has the full image, two its halves, three its thirds.

    Raises:
        GenerationError: ``count`` is not 1, 2 or 3.
    """
    if count not in _LAYOUTS:
        raise GenerationError(
            f"no layout for {count} products; a picture shows one, two or three, "
            "so split the scene into smaller ones"
        )
    return tuple(Region(i / count, 0.0, (i + 1) / count, 1.0) for i in range(count))


def list_names(names: Sequence[str]) -> str:
    """``a red mug, an alarm clock and a vase``: products as a sentence names them.

    A name that begins with an article, or with no Latin letter or digit, takes none.
    """
    phrases = [_with_article(name.strip()) for name in names]
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def identify_job(
    job: RenderJob, concepts: Sequence[Concept], concept_hashes: Mapping[str, str]
) -> str:
    """32 hex digits over everything that changes the picture, and nothing else.

    The scene, the products in their order with the words and the weights that
    render them, regions, seed, sampler parameters and size count. The product's
    display name, the template's name, the day itself (the seed draws on it) and the
    adapter version of SKUs that have a hash of their own do not: a picture that
    would come out the same keeps its id.
    """
    return _digest(
        {
            "collection": job.collection,
            "scene": job.scene,
            "concepts": [
                [c.sku, c.identifier, concept_hashes.get(c.sku, f"version:{job.adapter_version}")]
                for c in concepts
            ],
            "regions": [[r.left, r.top, r.right, r.bottom] for r in job.regions],
            "layout": job.layout,
            "seed": job.seed,
            "sampler": job.sampler,
            "steps": job.steps,
            "guidance": job.guidance,
            "size": [job.width, job.height],
            "negative_prompt": job.negative_prompt,
        }
    )[:32]


def describe_plan(plan: NightPlan) -> dict[str, Any]:
    """Counts for people, JSON-ready: jobs by template, layout, collection and SKU.

    ``per_sku`` counts, for each SKU, the pictures of each layout that show it.
    """
    per_sku: dict[str, Counter[str]] = {}
    for job in plan.jobs:
        for sku in job.skus:
            per_sku.setdefault(sku, Counter())[job.layout] += 1
    return {
        "day": plan.day.isoformat(),
        "plan_hash": plan.plan_hash,
        "jobs": len(plan.jobs),
        "per_template": _counts(job.template for job in plan.jobs),
        "per_layout": _counts(job.layout for job in plan.jobs),
        "per_collection": _counts(job.collection for job in plan.jobs),
        "per_sku": {sku: dict(sorted(counts.items())) for sku, counts in sorted(per_sku.items())},
        "notes": list(plan.notes),
    }


# --- order, budget, hashes, words ---------------------------------------------------


def _importance(slot: Slot, by_sku: Mapping[str, Concept], draw: str) -> tuple[Any, ...]:
    """Sort key: the product learned last, then fewer products, then a draw of the day."""
    newest = max(by_sku[sku].task for sku in slot.skus)
    return (-newest, len(slot.skus), slot.turn, hash_number(draw, "order", *slot.key), slot.skus)


def _check_inputs(
    concepts: Sequence[Concept], settings: GenerationSettings, collection: str
) -> None:
    if not concepts:
        raise GenerationError(
            f"collection {collection!r} has no learned product to plan with; "
            "learn at least one SKU first (catalog-pipeline learn)"
        )
    skus = Counter(concept.sku for concept in concepts)
    twice = sorted(sku for sku, count in skus.items() if count > 1)
    if twice:
        raise GenerationError(
            f"SKU {twice[0]!r} is given {skus[twice[0]]} times to the plan of {collection!r}; "
            "expected each learned product once"
        )
    names = Counter(scene.name for scene in settings.scenes)
    double = sorted(name for name, count in names.items() if count > 1)
    if double:
        raise GenerationError(
            f"scene {double[0]!r} is defined {names[double[0]]} times in generation.yaml; "
            "give every scene its own name"
        )
    if not settings.scenes:
        raise GenerationError(
            "generation.yaml defines no scenes; expected at least one entry under 'scenes'"
        )


def _image_limit(budget: BudgetSettings, seconds_per_image: float | None) -> tuple[int | None, str]:
    bounds: list[tuple[int, str]] = []
    if budget.max_images is not None:
        bounds.append((budget.max_images, f"max_images {budget.max_images}"))
    if budget.max_minutes is not None:
        if seconds_per_image is None or seconds_per_image <= 0:
            raise GenerationError(
                f"budget max_minutes {budget.max_minutes:g} needs a positive estimate of the "
                f"seconds an image takes, got {seconds_per_image}; pass seconds_per_image or "
                "use max_images"
            )
        images = int(budget.max_minutes * 60.0 / seconds_per_image)
        bounds.append(
            (images, f"max_minutes {budget.max_minutes:g} at {seconds_per_image:.2f} s an image")
        )
    return min(bounds) if bounds else (None, "")


def _explain_cut(jobs: Sequence[RenderJob], limit: int, reason: str) -> str:
    kept, dropped = jobs[:limit], jobs[limit:]
    by_kind = Counter(KINDS[len(job.skus)] for job in dropped)
    listed = ", ".join(f"{by_kind[kind]} {kind}" for kind in KINDS.values() if by_kind[kind])
    unseen = sorted(
        {sku for job in dropped for sku in job.skus} - {sku for job in kept for sku in job.skus}
    )
    note = (
        f"budget ({reason}): {len(kept)} of {len(jobs)} pictures planned, dropped {listed}; "
        "the products learned last came first"
    )
    return f"{note}; no picture of {shorten(unseen)}" if unseen else note


def _with_article(name: str) -> str:
    head = name[:1].lower()
    if name.lower().startswith(("a ", "an ", "the ")) or not (head.isascii() and head.isalnum()):
        return name
    return f"{'an' if head in 'aeiou' else 'a'} {name}"


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _seal(day: date, jobs: Sequence[RenderJob], notes: Sequence[str]) -> NightPlan:
    content = {"day": day.isoformat(), "jobs": [asdict(job) for job in jobs], "notes": list(notes)}
    return NightPlan(day, _digest(content), tuple(jobs), tuple(notes))


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=date.isoformat)
    return hashlib.sha256(text.encode()).hexdigest()
