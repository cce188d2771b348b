"""What a night would make: the plan in numbers, its time and its gaps. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from catalog_pipeline.generation.budget import find_deficits
from catalog_pipeline.generation.plan_summary import describe_plan
from catalog_pipeline.records import NightPlan, sources_of
from catalog_pipeline.settings import CoverageSettings
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.night_inputs import (
    ASSUMED_SECONDS_PER_IMAGE,
    count_shown,
    measured_seconds_per_image,
    read_inputs,
)
from catalog_pipeline.workflows.night.plan_night import plan_in_force, plan_key, read_stored
from catalog_pipeline.workflows.scene_words import require_read


@dataclass(frozen=True)
class NightPreview:
    """A plan that is or would be in force, and what it would come to.

    Attributes:
        plan: the jobs, most important first.
        stored: the plan was made earlier and stays as it is.
        rendered: jobs that have a picture already, published, held back or staged.
        seconds_per_image: speed that the minutes are counted at.
        measured: earlier nights measured that speed, of one mode at least; else it is assumed.
        coverage: the least that every product is to be shown.
        shown: published pictures by SKU in the nights before that coverage looks back on.
        deficits: SKU of the catalog -> pictures that it stays short of the coverage.
        unseen: SKUs of the catalog that no picture of the plan shows, sorted.
    """

    plan: NightPlan
    stored: bool
    rendered: int
    seconds_per_image: float
    measured: bool
    coverage: CoverageSettings
    shown: Mapping[str, int]
    deficits: Mapping[str, int]
    unseen: tuple[str, ...]

    @property
    def minutes(self) -> float:
        """Estimate for the pictures that are not there yet, each made once."""
        return (len(self.plan.jobs) - self.rendered) * self.seconds_per_image / 60.0

    def to_record(self) -> dict[str, Any]:
        """JSON-ready: the counts of ``describe_plan``, the estimate, the coverage, every job."""
        return {
            **describe_plan(self.plan),
            "stored": self.stored,
            "rendered": self.rendered,
            "estimate": {
                "minutes": round(self.minutes, 2),
                "seconds_per_image": round(self.seconds_per_image, 3),
                "measured": self.measured,
            },
            "coverage": {
                "images": self.coverage.images,
                "nights": self.coverage.nights,
                "shown_before": dict(sorted(self.shown.items())),
                "deficits": dict(sorted(self.deficits.items())),
            },
            "unseen": list(self.unseen),
            "pictures": [
                {
                    "job_id": job.job_id,
                    "policy": job.policy,
                    "skus": list(job.skus),
                    "layout": job.layout,
                    "template": job.template,
                    "prompt": job.prompt,
                    "negative_prompt": job.negative_prompt,
                    "seed": job.seed,
                    "collection": job.collection,
                    "adapter_version": job.adapter_version,
                    "sources": {sku: s._asdict() for sku, s in sources_of(job).items()},
                    "mode": job.mode,
                    "mode_reason": job.mode_reason,
                    "photos": {anchor.sku: anchor.key for anchor in job.anchors},
                }
                for job in self.plan.jobs
            ],
        }


def preview_night(home: Home, day: date) -> NightPreview:
    """The plan that ``plan_night`` would put in force, in numbers; writes nothing.

    Raises:
        GenerationError: no collection has learned a product that is not retired.
        IntegrityError: the stored plan or a rendering report is damaged.
    """
    require_read(home.written, home.words)
    inputs = read_inputs(home, day)
    plan, stored = plan_in_force(home, inputs, read_stored(home, plan_key(day)), keep=False)
    shown, _ = count_shown(home, inputs)
    on_sale = sorted({c.sku for name in inputs.versions for c in inputs.on_sale(name)})
    planned = {sku for job in plan.jobs for sku in job.skus}
    speed = measured_seconds_per_image(home, inputs.settings, plan.jobs)
    coverage = inputs.settings.policies.coverage
    return NightPreview(
        plan=plan,
        stored=stored,
        rendered=len({job.job_id for job in plan.jobs} & _rendered_ids(home, day)),
        seconds_per_image=speed or ASSUMED_SECONDS_PER_IMAGE,
        measured=speed is not None,
        coverage=coverage,
        shown=shown,
        deficits=find_deficits(plan.jobs, on_sale, coverage, shown),
        unseen=tuple(sku for sku in on_sale if sku not in planned),
    )


def _rendered_ids(home: Home, day: date) -> set[str]:
    archive = home.archive
    rows = (*archive.read_day(day), *archive.quarantine.read_day(day), *archive.staged(day))
    return {row.image_id for row in rows}
