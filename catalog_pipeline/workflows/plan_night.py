"""Plan a night over every collection that serves a version, and keep the plan.

The plan of a day is one JSON object, ``plans/dt=YYYY-MM-DD/plan.json``. It carries
a hash of what it was made from; as long as that is the same, the stored plan stays
as it is, byte for byte, and once it differs a new plan takes its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from catalog_pipeline.errors import (
    GenerationError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.generation import planner
from catalog_pipeline.records import AdapterVersion, NightPlan, Region, RenderJob, SkuStatus
from catalog_pipeline.settings import BudgetSettings, GenerationSettings, Settings
from catalog_pipeline.stores.contention import until_won
from catalog_pipeline.stores.contract import StoredObject
from catalog_pipeline.workflows.home import Home, open_home

PLAN_SCHEMA_VERSION = 1

ASSUMED_SECONDS_PER_IMAGE = 3.0
"""Speed a ``max_minutes`` budget starts from before any night was measured."""

_REPORTS = "reports/render/"


def plan_night(settings: Settings, day: date) -> NightPlan:
    """Plan ``day`` and write the plan; the plan in force is returned.

    Every collection with a promoted version is planned from that version's concepts,
    retired SKUs left out, and all share the budget. Idempotency key: the day with
    the generation settings (``batch_size`` aside), the versions and the SKUs shown; a
    call with the same ones writes nothing. Atomic: readers see the old plan or the
    new one.

    Raises:
        GenerationError: no collection has learned a product that is not retired.
    """
    home = open_home(settings)
    inputs = _read_inputs(home, settings.generation, day)
    key = plan_key(day)

    def attempt() -> NightPlan:
        stored = _read_stored(home, key)
        plan = _plan_in_force(home, inputs, stored)
        data = encode_plan(plan, inputs.content_hash)
        if stored is None or stored.data != data:
            home.objects.compare_and_swap(key, data, stored.version if stored else None)
        return plan

    return until_won(attempt, key)


def preview_night(settings: Settings, day: date) -> NightPlan:
    """The plan that :func:`plan_night` would put in force; writes nothing.

    Raises:
        GenerationError: no collection has learned a product that is not retired.
    """
    home = open_home(settings)
    inputs = _read_inputs(home, settings.generation, day)
    return _plan_in_force(home, inputs, _read_stored(home, plan_key(day)))


def read_plan(settings: Settings, day: date) -> NightPlan:
    """The stored plan of ``day``.

    Raises:
        GenerationError: the day was never planned.
        IntegrityError: the object is not a plan of this day.
    """
    plan = find_plan(settings, day)
    if plan is None:
        raise GenerationError(
            f"{day.isoformat()} has no plan in {settings.home}; plan the night first "
            f"(catalog-pipeline generate --day {day.isoformat()})"
        )
    return plan


def find_plan(settings: Settings, day: date) -> NightPlan | None:
    """The stored plan of ``day``, ``None`` when the day was never planned.

    Raises:
        IntegrityError: the object is not a plan of this day.
    """
    home = open_home(settings)
    objects, key = home.objects, plan_key(day)
    stored = _read_stored(home, key)
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
    return f"plans/dt={day.isoformat()}/plan.json"


def encode_plan(plan: NightPlan, inputs_hash: str) -> bytes:
    """JSON bytes, keys sorted: the same plan of the same inputs gives the same bytes."""
    content = {
        "schema_version": PLAN_SCHEMA_VERSION,
        "day": plan.day.isoformat(),
        "inputs_hash": inputs_hash,
        "plan_hash": plan.plan_hash,
        "notes": list(plan.notes),
        "jobs": [{**asdict(job), "day": job.day.isoformat()} for job in plan.jobs],
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
    return f"{_REPORTS}dt={day.isoformat()}.json"


def _decode_job(content: Mapping[str, Any]) -> RenderJob:
    return RenderJob(
        **{
            **content,
            "day": date.fromisoformat(content["day"]),
            "skus": tuple(content["skus"]),
            "regions": tuple(Region(**region) for region in content["regions"]),
        }
    )


@dataclass(frozen=True)
class _Inputs:
    """What a plan is made from; ``content_hash`` is stored beside the plan."""

    day: date
    settings: GenerationSettings
    versions: Mapping[str, AdapterVersion]
    retired: set[str]

    @property
    def content_hash(self) -> str:
        return _hash_inputs(self.day, self.settings, self.versions, self.retired)


def _read_inputs(home: Home, settings: GenerationSettings, day: date) -> _Inputs:
    retired = {row.sku for row in home.index.read() if row.status is SkuStatus.RETIRED}
    return _Inputs(day, settings, _read_heads(home), retired)


def _read_stored(home: Home, key: str) -> StoredObject | None:
    try:
        return home.objects.read(key)
    except ObjectNotFoundError:
        return None


def _plan_in_force(home: Home, inputs: _Inputs, stored: StoredObject | None) -> NightPlan:
    """The stored plan while it is of the same inputs, else a new one."""
    if stored is not None:
        kept, kept_inputs = decode_plan(stored.data, home.objects.uri(plan_key(inputs.day)))
        if kept_inputs == inputs.content_hash:
            return kept
    return _plan_all(home, inputs.settings, inputs.day, inputs.versions, inputs.retired)


def _read_heads(home: Home) -> dict[str, AdapterVersion]:
    heads: dict[str, AdapterVersion] = {}
    for collection in home.collections():
        version = home.adapters(collection).current()
        if version is not None:
            heads[collection] = version
    return heads


def _plan_all(
    home: Home,
    settings: GenerationSettings,
    day: date,
    versions: Mapping[str, AdapterVersion],
    retired: set[str],
) -> NightPlan:
    unlimited = settings.model_copy(
        update={"budget": BudgetSettings(max_images=None, max_minutes=None)}
    )
    plans = []
    for collection, version in versions.items():
        shown = [concept for concept in version.concepts if concept.sku not in retired]
        if shown:
            plan = planner.plan_night(
                day,
                shown,
                unlimited,
                collection=collection,
                adapter_version=version.version,
                concept_hashes=_hash_concepts(version),
            )
            plans.append(plan)
    if not plans:
        raise GenerationError(
            f"nothing to plan for {day.isoformat()}: {len(versions)} collection(s) under "
            f"{home.objects.uri('collections')} have learned products, and none is on sale; "
            "learn at least one SKU first (catalog-pipeline learn)"
        )
    seconds = None
    if settings.budget.max_minutes is not None:
        seconds = _estimate_seconds_per_image(home, settings)
    return planner.join_plans(day, plans, settings.budget, seconds_per_image=seconds)


def _hash_concepts(version: AdapterVersion) -> dict[str, str]:
    """SKU -> hash of the weights that draw it: the base, the shared part, its own part."""
    hashes = {}
    for concept in version.concepts:
        part = version.parts.get(f"concept/{concept.sku}")
        if part is not None:
            weights = [version.base_model_hash, version.parts.get("shared", ""), part]
            hashes[concept.sku] = hashlib.sha256(json.dumps(weights).encode()).hexdigest()
    return hashes


def _hash_inputs(
    day: date,
    settings: GenerationSettings,
    versions: Mapping[str, AdapterVersion],
    retired: set[str],
) -> str:
    content = {
        "day": day.isoformat(),
        "generation": settings.model_dump(mode="json", exclude={"batch_size"}),
        "collections": {
            collection: {
                "version": version.version,
                "skus": sorted(c.sku for c in version.concepts if c.sku not in retired),
            }
            for collection, version in versions.items()
        },
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _estimate_seconds_per_image(home: Home, settings: GenerationSettings) -> float:
    """What the latest night of the same size and steps measured, else the assumed speed."""
    like = {"steps": settings.steps, "width": settings.width, "height": settings.height}
    for key in reversed(home.objects.list(_REPORTS)):
        try:
            report = json.loads(home.objects.read(key).data)
            alike = all(report[name] == value for name, value in like.items())
            if alike and "seconds_per_image" in report:
                return float(report["seconds_per_image"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{home.objects.uri(key)} is not a rendering report ({error}); delete it"
            ) from error
    return ASSUMED_SECONDS_PER_IMAGE
