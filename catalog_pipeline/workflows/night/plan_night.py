"""Plan a night over every collection that serves a version, and keep the plan.

The plan of a day is one JSON object, ``plans/dt=YYYY-MM-DD/plan.json``. It carries
a hash of what it was made from; as long as that is the same, the stored plan stays
as it is, byte for byte, and once it differs a new plan takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from catalog_pipeline.errors import (
    ConfigurationError,
    GenerationError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.generation import planner
from catalog_pipeline.generation.draws import Fits
from catalog_pipeline.generation.policies import list_items
from catalog_pipeline.generation.prompts import empty_scene, rendered_prompts
from catalog_pipeline.records import (
    Anchor,
    AttentionControl,
    Concept,
    NightPlan,
    Region,
    RenderJob,
    Source,
)
from catalog_pipeline.settings import SceneTemplate, Settings
from catalog_pipeline.stores.keys import PLANS_PREFIX
from catalog_pipeline.stores.objects import StoredObject, until_won
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import check_picture_size, prompt_tokenizer
from catalog_pipeline.workflows.night.night_inputs import (
    ASSUMED_SECONDS_PER_IMAGE,
    REPORTS_PREFIX,
    NightInputs,
    count_shown,
    measured_seconds_per_image,
    read_inputs,
)
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from catalog_pipeline.workflows.scene_words import require_read, scene_notes

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.prompts import PromptTokenizer

PLAN_SCHEMA_VERSION = 4
"""Raised whenever a job's fields change. Version 2 added ``attention`` and ``policy``, version 3
``mode`` and what belongs to it, version 4 ``sources``; a plan without these is one of version 3."""


def plan_night(home: Home, day: date) -> NightPlan:
    """Plan ``day`` and write the plan; the plan in force is returned.

    Every collection with a promoted version is planned from that version's concepts,
    retired SKUs left out, and all share the budget. Idempotency key: the day with
    the generation settings (``batch_size`` and ``quality`` aside), the versions and the
    SKUs shown; a call with the same ones writes nothing. Atomic: readers see the old
    plan or the new one.

    What coverage counts, the manifests of the nights before, is read when a plan is
    made; a stored plan does not change because an earlier night did.

    Raises:
        GenerationError: no collection has learned a product that is not retired.
        BaseModelError: the base model cannot be opened.
        ConfigurationError: a scene or a negative prompt that the base cannot read, or a picture
            not of a size that it makes.
    """
    require_read(home.written, home.words)
    inputs = read_inputs(home, day)
    home.words.keep()
    key = plan_key(day)

    def attempt() -> NightPlan:
        stored = read_stored(home, key)
        plan = plan_in_force(home, inputs, stored)[0]
        data = encode_plan(plan, inputs.content_hash)
        if stored is None or stored.data != data:
            home.objects.compare_and_swap(key, data, stored.version if stored else None)
        return plan

    return until_won(attempt, key)


def read_plan(home: Home, day: date) -> NightPlan:
    """The stored plan of ``day``.

    Raises:
        GenerationError: the day was never planned.
        IntegrityError: the object is not a plan of this day.
    """
    plan = find_plan(home, day)
    if plan is None:
        raise GenerationError(
            f"{day.isoformat()} has no plan in {home.settings.home}; plan the night first "
            f"(catalog-pipeline generate --day {day.isoformat()})"
        )
    return plan


def find_plan(home: Home, day: date) -> NightPlan | None:
    """The stored plan of ``day``, ``None`` when the day was never planned.

    Raises:
        IntegrityError: the object is not a plan of this day.
    """
    objects, key = home.objects, plan_key(day)
    stored = read_stored(home, key)
    if stored is None:
        return None
    plan, _ = decode_plan(stored.data, objects.uri(key))
    if plan.day != day:
        raise IntegrityError(
            f"{objects.uri(key)} is the plan of {plan.day.isoformat()}, expected "
            f"{day.isoformat()}; delete it and plan the night again"
        )
    return plan


def plan_key(day: date) -> str:
    """``plans/dt=YYYY-MM-DD/plan.json``."""
    return f"{PLANS_PREFIX}{day.isoformat()}/plan.json"


def encode_plan(plan: NightPlan, inputs_hash: str) -> bytes:
    """JSON bytes, keys sorted: the same plan of the same inputs gives the same bytes."""
    content = {
        "schema_version": PLAN_SCHEMA_VERSION if any(job.sources for job in plan.jobs) else 3,
        "day": plan.day.isoformat(),
        "inputs_hash": inputs_hash,
        "plan_hash": plan.plan_hash,
        "notes": list(plan.notes),
        "jobs": [{**planner.job_record(job), "day": job.day.isoformat()} for job in plan.jobs],
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"


def decode_plan(data: bytes, what: str) -> tuple[NightPlan, str]:
    """The plan of :func:`encode_plan` and its inputs hash; ``what`` names it in errors.

    Raises:
        IntegrityError: not such a plan.
        StoreError: written by a newer version of this program.
    """
    try:
        content = json.loads(data)
        schema_version = int(content["schema_version"])
        if schema_version > PLAN_SCHEMA_VERSION:
            raise StoreError(
                f"{what} has schema version {schema_version}; this program reads up to "
                f"{PLAN_SCHEMA_VERSION}: upgrade catalog-pipeline"
            )
        plan = NightPlan(
            day=date.fromisoformat(content["day"]),
            plan_hash=content["plan_hash"],
            jobs=tuple(_decode_job(job) for job in content["jobs"]),
            notes=tuple(content["notes"]),
        )
        return plan, str(content["inputs_hash"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{what} is not a plan ({error}); delete it and plan the night again"
        ) from error


def report_key(day: date) -> str:
    """What the last rendering run of a day measured: ``reports/render/dt=YYYY-MM-DD.json``."""
    return f"{REPORTS_PREFIX}dt={day.isoformat()}.json"


def _decode_job(content: Mapping[str, Any]) -> RenderJob:
    return RenderJob(
        **{
            **content,
            "day": date.fromisoformat(content["day"]),
            "skus": tuple(content["skus"]),
            "regions": tuple(Region(**region) for region in content["regions"]),
            "attention": AttentionControl(**content.get("attention", {})),
            "anchors": _decode_anchors(content.get("anchors", ())),
            "spare_anchors": tuple(map(_decode_anchors, content.get("spare_anchors", ()))),
            "sources": {sku: Source(*where) for sku, where in content.get("sources", {}).items()},
        }
    )


def _decode_anchors(content: Sequence[Mapping[str, Any]]) -> tuple[Anchor, ...]:
    return tuple(
        Anchor(
            **{
                **anchor,
                "box": Region(**anchor["box"]),
                "seen": Region(**anchor["seen"]) if anchor["seen"] else None,
            }
        )
        for anchor in content
    )


def read_stored(home: Home, key: str) -> StoredObject | None:
    """The stored plan under ``key``, not decoded; ``None`` when there is none."""
    try:
        return home.objects.read(key)
    except ObjectNotFoundError:
        return None


def plan_in_force(
    home: Home, inputs: NightInputs, stored: StoredObject | None, *, keep: bool = True
) -> tuple[NightPlan, bool]:
    """The stored plan while it is of the same inputs, else a new one; and whether it is stored.

    ``keep`` stores what is found out about photos on the way.
    """
    if stored is not None:
        kept, kept_inputs = decode_plan(stored.data, home.objects.uri(plan_key(inputs.day)))
        if kept_inputs == inputs.content_hash:
            return kept, True
    return _plan_all(home, inputs, keep), False


def _plan_all(home: Home, inputs: NightInputs, keep: bool) -> NightPlan:
    settings = inputs.settings
    step, fits = check_picture_size(home.settings), _open_fits(home.settings)
    photos = PhotoBook(home, inputs.photos, keep=keep)
    shown, problems = count_shown(home, inputs)
    groups, apart = inputs.planned_together()
    problems += apart
    items = set().union(*(list_items({c.sku: c for c in group.concepts}) for group in groups))
    plans = [
        planner.draw_plan(
            inputs.day,
            group.concepts,
            settings,
            collection=", ".join(group.collections),
            adapter_version="",
            sources=group.sources,
            concept_hashes=group.hashes,
            shown=shown,
            elsewhere=items,
            fits=fits,
            find_photos=photos.find,
            size_step_px=step,
        )
        for place, group in enumerate(groups)
    ]
    if not plans:
        raise GenerationError(
            f"nothing to plan for {inputs.day.isoformat()}: {len(inputs.versions)} collection(s) "
            f"under {home.objects.uri('collections')} have learned products, "
            "and the folders of all of them are gone; learn at least one SKU first "
            "(catalog-pipeline learn)"
        )
    if problems:
        plans[0] = replace(plans[0], notes=(*problems, *plans[0].notes))
    seconds = None
    if settings.budget.max_minutes is not None:
        jobs = [wish.make() for plan in plans for wish in plan.wishes]
        seconds = measured_seconds_per_image(home, settings, jobs) or ASSUMED_SECONDS_PER_IMAGE
    joined = planner.join_plans(
        inputs.day,
        plans,
        settings.budget,
        seconds_per_image=seconds,
        coverage=settings.policies.coverage,
        shown=shown,
    )
    return replace(joined, notes=(*scene_notes(home.written, home.words), *joined.notes))


def _open_fits(settings: Settings) -> Fits:
    """Whether the base reads what a night renders; its tokenizer alone is opened.

    Raises:
        BaseModelError: the base model cannot be opened.
        ConfigurationError: a scene or a negative prompt that is too long beside any product.
    """
    generation, prompts = settings.generation, prompt_tokenizer(settings.base_model)
    check_texts(settings, prompts)

    def fits(concepts: Sequence[Concept], scene: SceneTemplate) -> bool:
        control = planner.choose_control(generation.attention, len(concepts))
        return prompts.fits(rendered_prompts(concepts, scene.text, control, generation.steps))

    return fits


def check_texts(settings: Settings, prompts: PromptTokenizer) -> None:
    """Refuse a scene or a negative prompt of ``generation.yaml`` that no picture can have.

    Raises:
        ConfigurationError: names it, its tokens and what the base reads.
    """
    generation = settings.generation
    texts = {"negative_prompt": generation.negative_prompt}
    for scene in generation.scenes:
        texts[f"text of scene {scene.name!r}"] = empty_scene(scene.text)
        texts[f"negative_prompt of scene {scene.name!r}"] = scene.negative_prompt or ""
    for what, text in texts.items():
        if not prompts.fits([text]):
            raise ConfigurationError(
                f"generation.yaml: the {what} comes to {prompts.count(text)} tokens, and the "
                f"base's text encoder reads {prompts.length}; shorten it"
            )
