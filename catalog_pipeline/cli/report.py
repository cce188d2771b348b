"""What workflows return, as lines of text for people; ``as_json`` for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.scoring import EncoderScore
    from catalog_pipeline.records import (
        IndexReport,
        LearnOutcome,
        ManifestReport,
        NightPlan,
        RenderReport,
    )
    from catalog_pipeline.workflows.evaluate.evaluate import EvaluationReport
    from catalog_pipeline.workflows.upkeep.check_results import CheckResult
    from catalog_pipeline.workflows.upkeep.versions import VersionEntry

NAMES_AT_MOST = 12


def index_lines(report: IndexReport) -> list[str]:
    """Counts by status, what is new, and every refused file with its reason."""
    statuses = Counter(row.status.value for row in report.rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    lines = [f"{len(report.rows)} products: {counts}" if report.rows else "0 products"]
    for title, skus in (
        ("new", report.added),
        ("changed", report.changed),
        ("retired", report.retired),
        ("still being uploaded, left for the next run", report.unsettled),
    ):
        if skus:
            lines.append(f"{title}: {_names(skus)}")
    lines += [f"refused {file.key}: {file.reason}" for file in report.refused]
    return lines


def outcome_line(outcome: LearnOutcome) -> str:
    """One product: learned with its figures, unchanged, or failed with the reason."""
    if outcome.status == "failed":
        return f"failed     {outcome.sku}: {outcome.reason}"
    if outcome.status == "unchanged":
        return f"unchanged  {outcome.sku}"
    figures = "".join(f"  {name} {_figure(v)}" for name, v in sorted(outcome.metrics.items()))
    return f"learned    {outcome.sku}  {outcome.seconds:.0f} s  version {outcome.version}{figures}"


def outcomes_summary(outcomes: Sequence[LearnOutcome]) -> str:
    """How many of each."""
    if not outcomes:
        return "nothing to learn: no product is new, changed or failed (`index` looks for more)"
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[status]} {status}" for status in ("learned", "unchanged", "failed"))


def plan_lines(plan: NightPlan, *, in_full: bool) -> list[str]:
    """The plan's size and notes; ``in_full`` adds a line per image."""
    sizes = Counter(len(job.skus) for job in plan.jobs)
    names = {1: "singles", 2: "pairs", 3: "triples"}
    counts = ", ".join(f"{n} {names.get(size, f'of {size}')}" for size, n in sorted(sizes.items()))
    lines = [f"plan {plan.plan_hash[:12]} of {plan.day}: {len(plan.jobs)} images ({counts})"]
    lines += [f"note: {note}" for note in plan.notes]
    if in_full:
        lines += [
            f"{job.job_id}  seed {job.seed:<10}  {job.policy} {job.layout}  "
            f"{'+'.join(job.skus)}: {job.prompt}"
            for job in plan.jobs
        ]
    return lines


def render_lines(report: RenderReport) -> list[str]:
    """What was rendered, what was already there, each image that failed, and how often each
    product was found (the twelve found least)."""
    lines = [
        f"rendered {report.rendered}, already there {report.reused}, "
        f"failed {len(report.failed)} in {report.seconds:.0f} s"
    ]
    lines += [f"failed {problem}" for problem in report.failed]
    if report.attempts > report.rendered:
        lines.append(f"{report.attempts} attempts at {report.rendered} images")
    if report.pass_rates:
        width = max([3, *(len(rate.sku) for rate in report.pass_rates)])
        lines.append(f"{'SKU':<{width}}  images  found  at once")
        lines += [
            f"{rate.sku:<{width}}  {rate.pictures:6d}  {rate.rate:5.0%}  {rate.first_rate:7.0%}"
            for rate in report.pass_rates[:NAMES_AT_MOST]
        ]
        if len(report.pass_rates) > NAMES_AT_MOST:
            more = len(report.pass_rates) - NAMES_AT_MOST
            lines.append(f"and {more} more, found at least as often")
    if report.retake:
        lines.append(f"take other photos of: {_names(report.retake)}")
    return lines


def manifest_line(report: ManifestReport) -> str:
    """Where the night's manifest is, and what publishing changed."""
    change = (
        f"{report.added} added, {report.superseded} superseded"
        if report.changed
        else "nothing changed"
    )
    held = f"; {report.quarantined} held back in quarantine" if report.quarantined else ""
    return f"manifest {report.path}: {report.rows} rows ({change}){held}"


def evaluation_lines(report: EvaluationReport) -> list[str]:
    """A table a collection (worst product first), and where its page is."""
    lines = []
    for part in report.collections:
        score = part.score
        width = max([3, *(len(sku.sku) for sku in score.skus)])
        lines.append(f"{score.collection} version {score.version}")
        lines.append(f"  {'SKU':<{width}}  fidelity  ceiling  share  recognised  scenes  forgotten")
        lines += [
            f"  {sku.sku:<{width}}  {sku.fidelity:8.3f}  {sku.ceiling:7.3f}  {sku.share:5.2f}  "
            f"{sku.recognised:10.2f}  {_share(sku.scene_followed):>6}  "
            f"{_optional(sku.forgotten):>9}"
            for sku in sorted(score.skus, key=lambda sku: sku.share)
        ]
        lines.append(
            f"  mean fidelity {score.fidelity:.3f}, share {score.share:.2f}, "
            f"forgetting {_optional(score.forgetting)}"
        )
        lines += [f"  {_encoder_line(encoder)}" for encoder in score.encoders]
        lines += [
            f"  {pair.share:.0%} of the pictures of {pair.named} look more like {pair.recognised}"
            for pair in score.confusion.most_confused(3)
        ]
        if score.unmeasured:
            lines.append(f"  not measured, no photos: {_names(score.unmeasured)}")
        lines.append(f"  {part.html_path}")
    return lines


def _encoder_line(encoder: EncoderScore) -> str:
    base, chance = encoder.scenes_followed_by_base, encoder.scenes_by_chance
    return (
        f"{encoder.encoder}: share {_share(encoder.share)}, "
        f"recognised {_share(encoder.recognised)}, scenes followed "
        f"{_share(encoder.scenes_followed)} (the bare base {_share(base)}, chance "
        f"{_share(chance)}), prior drift {encoder.prior_drift:.3f}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def status_lines(state: Mapping[str, Any]) -> list[str]:
    """Nested mappings as indented ``key: value`` lines."""
    return list(_nested(state, ""))


def as_json(state: Mapping[str, Any]) -> str:
    """One JSON object, keys in the order of the workflow, text unescaped."""
    return json.dumps(state, indent=2, ensure_ascii=False)


def version_lines(entries: Sequence[VersionEntry]) -> list[str]:
    """One line a version; ``*`` marks the one that is served."""
    if not entries:
        return ["no version yet: nothing has been learned"]
    lines = []
    for entry in entries:
        version = entry.version
        mark = "*" if entry.is_head else " "
        newest = version.concepts[-1].sku if version.concepts else "-"
        lines.append(
            f"{mark} {version.version}  {version.created_utc:%Y-%m-%d %H:%M} UTC  "
            f"{version.collection}  {len(version.concepts)} products, last {newest}  "
            f"parent {version.parent or '-'}"
        )
    return lines


def finding_lines(results: Iterable[CheckResult]) -> list[str]:
    """One line a finding, and below it what to do where something is wrong."""
    lines = []
    for finding in results:
        lines.append(f"{finding.level:<8} {finding.what}")
        if finding.hint and finding.level != "ok":
            lines.append(f"{'':<8} -> {finding.hint}")
    return lines


def _names(skus: Sequence[str]) -> str:
    shown = ", ".join(skus[:NAMES_AT_MOST])
    more = len(skus) - NAMES_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _figure(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _nested(value: Any, indent: str) -> Iterable[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield f"{indent}{key}:"
            yield from _nested(inner, indent + "  ")
        elif isinstance(inner, list) and any(isinstance(entry, Mapping) for entry in inner):
            yield f"{indent}{key}:"
            for entry in inner:
                first = "; ".join(f"{k} {_scalar(v)}" for k, v in entry.items())
                yield f"{indent}  - {first}"
        else:
            yield f"{indent}{key}: {_scalar(inner)}"


def _scalar(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_scalar(entry) for entry in value) or "-"
    return _figure(value)
