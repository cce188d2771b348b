"""The plan of a night: scenes x product counts, balanced, seeded, within a budget.

Pure functions of their arguments: no clock, no random state, no file. The order
in which concepts are given does not matter, and nothing depends on Python's
``hash``. Three rules shape the result:

1. *What* is planned depends on the day, the scenes, the policies and on which
   products exist; never on when a product was learned. Every draw is a hash of
   ``(settings.seed, day, collection, what is drawn)``, so that a product learned
   anew on the same day keeps its scenes, its partners and its seeds.
2. *In which order*, and so what falls to a short budget, is decided by what
   coverage still lacks, then by ``Concept.task``: the pictures of the products
   learned last come first.
3. A job id hashes what changes the picture and nothing else
   (:func:`identify_job`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from typing import Any

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation import budget as budgets
from catalog_pipeline.generation.anchors import BETWEEN_REASONS, FindPhotos, anchor_job
from catalog_pipeline.generation.draws import Fits, NightDraw, Slot, hash_number, shorten
from catalog_pipeline.generation.layouts import find_regions
from catalog_pipeline.generation.policies import draw_slots
from catalog_pipeline.records import (
    AttentionControl,
    Concept,
    NightPlan,
    RenderJob,
    Source,
    sources_of,
)
from catalog_pipeline.settings import (
    AttentionSettings,
    BudgetSettings,
    CoverageSettings,
    GenerationSettings,
)


@dataclass(frozen=True)
class Wish:
    """A picture that a collection asks for; ``make`` gives its job, with photos and an id."""

    skus: tuple[str, ...]
    make: Callable[[], RenderJob]


@dataclass(frozen=True)
class DrawnPlan:
    """All that a collection asks of a night, most important first, before any budget.

    A night has room for a few of many wishes: jobs are made of those alone.
    """

    day: date
    wishes: tuple[Wish, ...]
    notes: tuple[str, ...]


def draw_plan(
    day: date,
    concepts: Sequence[Concept],
    settings: GenerationSettings,
    *,
    collection: str,
    adapter_version: str,
    sources: Mapping[str, Source] | None = None,
    concept_hashes: Mapping[str, str] | None = None,
    shown: Mapping[str, int] | None = None,
    elsewhere: Collection[str] = (),
    fits: Fits = lambda concepts, scene: True,
    find_photos: FindPhotos | None = None,
    size_step_px: int = 1,
) -> DrawnPlan:
    """What one collection asks of a night, or several whose products share pictures.

    Args:
        day: the night's date; another day draws other pairs, scenes and seeds.
        concepts: the learned products to show, in any order.
        settings: scenes, policies, budget and sampling parameters.
        collection: name of the collection the concepts belong to; of several, for notes alone.
        adapter_version: the version that :attr:`RenderJob.adapter_version` names.
        sources: what draws each SKU, where that is not the two above for all.
        concept_hashes: what a picture of a SKU depends on, a hash by SKU (its part
            of the adapter version). A SKU that is missing here counts as changed
            with every ``adapter_version``.
        shown: published pictures by SKU in the ``coverage.nights - 1`` nights before;
            a SKU that is missing here has had none.
        elsewhere: what other collections know of the lists, ``policies.list_items``.
        fits: whether the base reads the prompts of these products in this scene whole.
        find_photos: what is known of a product's photos; default all scenes are learned.
        size_step_px: what the sides of the base's pictures are multiples of.

    Returns:
        Wishes in the order in which they are to be rendered, most important first;
        ``notes`` says what could not be planned.

    Raises:
        GenerationError: no concept, a SKU given twice, two scenes of one name, or no scene.
    """
    _check_inputs(concepts, settings, collection)
    by_sku = {concept.sku: concept for concept in sorted(concepts, key=lambda c: c.sku)}
    drawn_from = sources or dict.fromkeys(by_sku, Source(collection, adapter_version))
    draws = NightDraw(
        f"{settings.seed}|{day.isoformat()}",
        {sku: drawn_from[sku].collection for sku in by_sku},
    )
    slots, notes = draw_slots(
        by_sku,
        settings,
        draws,
        collection=collection,
        shown=shown or {},
        elsewhere=elsewhere,
        fits=fits,
    )
    slots.sort(key=lambda slot: _importance(slot, by_sku, draws.of(slot.skus)))

    def make(slot: Slot) -> RenderJob:
        named = tuple(by_sku[sku] for sku in slot.skus)
        draw, (first, *others) = draws.of(slot.skus), (drawn_from[sku] for sku in slot.skus)
        job = draft_job(slot, named, settings, day, *first, draw, size_step_px)
        if any(other != first for other in others):
            job = replace(job, sources={sku: drawn_from[sku] for sku in slot.skus})
        if find_photos is not None:
            job = anchor_job(job, slot, named, settings, find_photos, draw)
        return replace(job, job_id=identify_job(job, named, concept_hashes or {}))

    wishes = tuple(Wish(slot.skus, partial(make, slot)) for slot in slots)
    return DrawnPlan(day, wishes, tuple(notes))


def draft_job(
    slot: Slot,
    concepts: Sequence[Concept],
    settings: GenerationSettings,
    day: date,
    collection: str,
    adapter_version: str,
    draw: str,
    size_step_px: int = 1,
) -> RenderJob:
    """The job of one picture of ``concepts``, in the order of the slot: learned, without an id."""
    return RenderJob(
        job_id="",
        day=day,
        template=slot.scene.name,
        prompt=f"{list_names([c.name for c in concepts])} {slot.scene.text}",
        scene=slot.scene.text,
        skus=slot.skus,
        regions=find_regions(slot.layout, settings.layouts),
        layout=slot.layout,
        seed=hash_number(draw, "seed", *slot.key) & 0x7FFFFFFF,
        sampler=settings.sampler,
        steps=settings.steps,
        guidance=settings.guidance,
        width=choose_width(settings, len(slot.skus), size_step_px),
        height=settings.height,
        negative_prompt=_negative_prompt(slot, settings),
        collection=collection,
        adapter_version=adapter_version,
        policy=slot.policy,
        attention=choose_control(settings.attention, len(slot.skus)),
    )


def join_plans(
    day: date,
    plans: Sequence[DrawnPlan],
    budget: BudgetSettings,
    *,
    seconds_per_image: float | None = None,
    coverage: CoverageSettings | None = None,
    shown: Mapping[str, int] | None = None,
) -> NightPlan:
    """One night from the plans of several collections, under one budget.

    Each plan keeps its own order; the plans are interleaved so that a short budget
    takes the same share of every collection. What ``coverage`` lacks comes first. ``notes``
    says what could not be planned and what the budget dropped.

    Args:
        day: the night's date.
        plans: of the collections.
        budget: of the whole night.
        seconds_per_image: estimate that ``budget.max_minutes`` is divided by.
        coverage: the least that every SKU is shown; default nothing.
        shown: published pictures by SKU in the nights that ``coverage`` looks back on.

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
        ((place + 0.5) / len(plan.wishes), number, wish)
        for number, plan in enumerate(plans)
        for place, wish in enumerate(plan.wishes)
    ]
    wishes = [wish for _, _, wish in sorted(ranked, key=lambda entry: entry[:2])]
    wanted = coverage or CoverageSettings()
    wishes = budgets.put_lacking_first(wishes, wanted, shown or {})
    limit, reason = budgets.image_limit(budget, seconds_per_image)
    cut: list[str] = []
    if limit is not None and limit < len(wishes):
        cut.append(budgets.explain_cut(wishes, limit, reason))
        skus = sorted({sku for wish in wishes for sku in wish.skus})
        wishes = wishes[:limit]
        deficits = budgets.find_deficits(wishes, skus, wanted, shown or {})
        if deficits:
            cut.append(budgets.explain_deficits(deficits, wanted))
    jobs = [wish.make() for wish in wishes]
    repeated = [job_id for job_id, count in Counter(j.job_id for j in jobs).items() if count > 1]
    if repeated:
        raise GenerationError(
            f"job id {repeated[0]} is planned more than once; every picture of a night "
            "needs its own id, so give a collection only once"
        )
    notes = [*(note for plan in plans for note in plan.notes), *_explain_learned(jobs), *cut]
    return _seal(day, jobs, notes)


def list_names(names: Sequence[str]) -> str:
    """``a red mug, an alarm clock and a vase``: products as a sentence names them.

    A name that begins with an article, or with no Latin letter or digit, takes none.
    """
    phrases = [_with_article(name.strip()) for name in names]
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def choose_control(settings: AttentionSettings, products: int) -> AttentionControl:
    """The control of a picture of so many products, drawn as learned.

    One alone has nothing to keep apart; ``auto`` guides two (docs/benchmarks/attention.md).
    """
    if products == 1:
        return AttentionControl()
    auto = "gradient" if products == 2 else "none"
    method = auto if settings.method == "auto" else settings.method
    return AttentionControl(**settings.model_dump() | {"method": method})


def choose_width(settings: GenerationSettings, products: int, size_step_px: int = 1) -> int:
    """Pixels, a multiple of 8 and of the base's step.

    Each product stands in nearly the room that it was learned in.
    """
    step = math.lcm(8, size_step_px)
    return step * round(settings.width * (1 + settings.widening * (products - 1)) / step)


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
    sources = sources_of(job)
    versions = {sku: f"version:{source.adapter_version}" for sku, source in sources.items()}
    return _digest(
        {
            "collection": job.collection,
            "scene": job.scene,
            "concepts": [
                [c.sku, c.identifier, concept_hashes.get(c.sku) or versions[c.sku]]
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
            **({"attention": asdict(job.attention)} if job.attention != AttentionControl() else {}),
            **(_anchoring(job) if job.mode != "learned" else {}),
            **({"collections": [s.collection for s in sources.values()]} if job.sources else {}),
        }
    )[:32]


def job_record(job: RenderJob) -> dict[str, Any]:
    """The fields of a job as plain data; ``sources`` only where a picture has some.

    So a plan without pictures across collections is what it was before there were any.
    """
    record = asdict(job)
    if not job.sources:
        del record["sources"]
    return record


# --- order, hashes, words ------------------------------------------------------------


def _anchoring(job: RenderJob) -> dict[str, Any]:
    """What changes a picture that starts from photos: each photo by its bytes, and its place."""
    return {
        "mode": job.mode,
        "photos": [[anchor.sku, anchor.sha256, asdict(anchor.box)] for anchor in job.anchors],
        "strength": job.strength,
        "backdrop_steps": job.backdrop_steps,
        "output_scale": job.output_scale,
    }


def _explain_learned(jobs: Sequence[RenderJob]) -> list[str]:
    """One note for all pictures that photos were asked for and that have none."""
    said = {part for job in jobs for part in job.mode_reason.split(BETWEEN_REASONS) if part}
    reasons = sorted(said)
    if not reasons:
        return []
    count = sum(bool(job.mode_reason) for job in jobs)
    return [f"{count} picture(s) are learned, without photos in them: {shorten(reasons)}"]


def _importance(slot: Slot, by_sku: Mapping[str, Concept], draw: str) -> tuple[Any, ...]:
    """Sort key: the product learned last, then fewer products, then a draw of the day."""
    newest = max(by_sku[sku].task for sku in slot.skus)
    return (-newest, len(slot.skus), slot.turn, hash_number(draw, "order", *slot.key), slot.skus)


def _negative_prompt(slot: Slot, settings: GenerationSettings) -> str:
    own = slot.scene.negative_prompt
    return settings.negative_prompt if own is None else own


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


def _with_article(name: str) -> str:
    head = name[:1].lower()
    if name.lower().startswith(("a ", "an ", "the ")) or not (head.isascii() and head.isalnum()):
        return name
    return f"{'an' if head in 'aeiou' else 'a'} {name}"


def _seal(day: date, jobs: Sequence[RenderJob], notes: Sequence[str]) -> NightPlan:
    records = [job_record(job) for job in jobs]
    content = {"day": day.isoformat(), "jobs": records, "notes": list(notes)}
    return NightPlan(day, _digest(content), tuple(jobs), tuple(notes))


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=date.isoformat)
    return hashlib.sha256(text.encode()).hexdigest()
