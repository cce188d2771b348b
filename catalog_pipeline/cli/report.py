"""What workflows return, as lines of text for people; ``as_json`` for programs."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from catalog_pipeline.cli.tables import table_lines

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.scoring import EncoderScore, SkuScore
    from catalog_pipeline.records import (
        AdapterVersion,
        IndexReport,
        LearnOutcome,
        ManifestReport,
        NightPlan,
        PhotoSet,
        RenderReport,
    )
    from catalog_pipeline.stores.archive import ManifestState
    from catalog_pipeline.workflows.catalog.retire import RetireOutcome
    from catalog_pipeline.workflows.evaluate.evaluate import EvaluationReport
    from catalog_pipeline.workflows.learn.learning_preview import LearnForecast
    from catalog_pipeline.workflows.night.preview_night import NightPreview
    from catalog_pipeline.workflows.upkeep.collect_garbage import GarbageReport
    from catalog_pipeline.workflows.upkeep.doctor import CheckResult
    from catalog_pipeline.workflows.upkeep.time_travel import ManifestView
    from catalog_pipeline.workflows.upkeep.verify import VerifyReport
    from catalog_pipeline.workflows.upkeep.versions import VersionEntry
    from catalog_pipeline.workflows.upkeep.vocabulary import WordEntry

NAMES_AT_MOST = 12
_UNSEEN_AT_MOST = 20


def index_lines(report: IndexReport) -> list[str]:
    """Counts by status, what is new, why products failed, what was refused and why; warnings."""
    statuses = Counter(row.status.value for row in report.rows)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    lines = [f"{len(report.rows)} products: {counts}" if report.rows else "0 products"]
    for title, skus in (
        ("new", report.added),
        ("changed", report.changed),
        ("retired", report.retired),
    ):
        if skus:
            lines.append(f"{title}: {_names(skus)}")
    if report.unsettled:
        lines.append(f"still being uploaded: {_names(report.unsettled)}{_settles(report)}")
    lines += [
        f"renamed: {sku} has the same photos and card as {before}, which is gone"
        for sku, before in sorted(report.renamed.items())
    ]
    failed = [row for row in report.rows if row.status == "failed"]
    lines += [
        f"failed {row.sku}: {row.reason.removeprefix(f'{row.sku}: ')}"
        for row in failed[:NAMES_AT_MOST]
    ]
    if len(failed) > NAMES_AT_MOST:
        lines.append(f"failed {len(failed) - NAMES_AT_MOST} more; `status` names each")
    told = "\n".join(lines)
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for file in report.refused:
        if file.key not in told or file.reason not in told:
            by_reason[file.reason].append(file.key)
    for reason, keys in by_reason.items():
        one_each = keys if len(keys) <= NAMES_AT_MOST else [_names(keys)]
        lines += [f"refused {which}: {reason}" for which in one_each]
    lines += [f"warning: {warning}" for warning in report.warnings[:NAMES_AT_MOST]]
    if len(report.warnings) > NAMES_AT_MOST:
        lines.append(f"warning: {len(report.warnings) - NAMES_AT_MOST} more; `doctor` says each")
    return lines


def _settles(report: IndexReport) -> str:
    if report.settled_utc is None:
        return ""
    left = math.ceil((report.settled_utc - datetime.now(UTC)).total_seconds())
    return (
        f"; still for long enough in {max(0, left)} s (settle_seconds), if nothing changes there: "
        "run `index` again then, or `index --wait`"
    )


def refused_lines(photo_set: PhotoSet) -> list[str]:
    """The photos of a set that do not count, a shared reason once; then what to know of others."""
    from catalog_pipeline.plain_text import shown

    by_reason: dict[str, list[str]] = {}
    for file in photo_set.refused:
        by_reason.setdefault(file.reason, []).append(shown(file.key))
    lines = [f"refused    {_names(keys)}: {reason}" for reason, keys in by_reason.items()]
    return lines + [f"warning    {warning}" for warning in photo_set.warnings]


def outcome_line(outcome: LearnOutcome) -> str:
    """One product: learned with its figures, unchanged, or failed with the reason."""
    if outcome.status == "failed":
        return f"failed     {outcome.sku}: {outcome.reason.removeprefix(f'{outcome.sku}: ')}"
    if outcome.status == "unchanged":
        return f"unchanged  {outcome.sku}"
    figures = "".join(f"  {name} {_figure(v)}" for name, v in sorted(outcome.metrics.items()))
    how = f"  {outcome.reason}" if outcome.reason else ""
    seconds = f"{outcome.seconds:.0f} s"
    return f"learned    {outcome.sku}  {seconds}  version {outcome.version}{figures}{how}"


def outcomes_summary(outcomes: Sequence[LearnOutcome]) -> str:
    """How many of each."""
    if not outcomes:
        return "nothing to learn: no product is new, changed or failed (`index` looks for more)"
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[status]} {status}" for status in ("learned", "unchanged", "failed"))


def forecast_lines(forecast: Sequence[LearnForecast], seconds: float | None) -> list[str]:
    """One line a SKU, and about how long all of them take."""
    lines = table_lines(("SKU", "would be"), [(one.sku, one.why) for one in forecast], left=True)
    count = sum(one.trains for one in forecast)
    time = f"about {count * seconds / 60:.1f} minutes" if seconds else "no measured time yet"
    lines.append(f"{count} of {len(forecast)} would be learned: {time}; dry run, nothing was done")
    return lines


def stale_lines(stale: Sequence[LearnForecast]) -> list[str]:
    """What to know of products that were learned under other settings; none, no line."""
    if not stale:
        return []
    why = stale[0].why
    return [
        f"{len(stale)} of the learned products would come out otherwise now ({why}): "
        "`learn --all --dry-run` says what learning them anew would cost"
    ]


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
        lines += table_lines(
            ("SKU", "images", "found", "at once"),
            (
                (rate.sku, rate.pictures, f"{rate.rate:.0%}", f"{rate.first_rate:.0%}")
                for rate in report.pass_rates[:NAMES_AT_MOST]
            ),
        )
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
        lines.append(f"{score.collection} version {score.version}")
        products = table_lines(
            ("SKU", "fidelity", "ceiling", "share", "colours", "recognised", "scenes", "forgotten"),
            (
                (
                    sku.sku,
                    f"{sku.fidelity:.3f}",
                    f"{sku.ceiling:.3f}",
                    f"{sku.share:.2f}",
                    _colors(sku),
                    f"{sku.recognised:.2f}",
                    _share(sku.scene_followed),
                    _optional(sku.forgotten),
                )
                for sku in sorted(score.skus, key=lambda sku: sku.share)
            ),
        )
        lines += [f"  {line}" for line in products]
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


def _colors(sku: SkuScore) -> str:
    """How far they are off, and the most allowed."""
    if sku.color_difference is None or sku.color_bound is None:
        return "-"
    return f"{sku.color_difference:.0f}/{sku.color_bound:.0f}"


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


def product_lines(found: Sequence[Mapping[str, Any]], *, in_full: bool) -> list[str]:
    """One line a product; ``in_full`` adds its photos that were left out."""
    if not found:
        return ["no product (`index` looks for new folders)"]
    lines = table_lines(
        ("SKU", "status", "learned", "version", "photos", "what it is", "reason"),
        (
            (
                one["sku"],
                one["status"] + ("" if one["served_by"] or one["status"] != "learned" else " (!)"),
                (one["learned_utc"] or "-")[:16].replace("T", " "),
                one["learned_version"][:8] or "-",
                f"{one['photos_used']}/{one['photos']}" if one["photos_used"] else one["photos"],
                f"{one['class_noun']}: {one['name']}",
                one["reason"].removeprefix(f"{one['sku']}: "),
            )
            for one in found
        ),
        left=True,
    )
    lines += [f"to do     {one['sku']}: {one['to_do']}" for one in found if _waits(one)]
    if in_full:
        lines += [
            f"left out  {photo}: {reason}"
            for one in found
            for photo, reason in one["left_out"].items()
        ]
    if any(one["status"] == "learned" and not one["served_by"] for one in found):
        lines.append("(!) no version of now knows it: run `doctor --repair`")
    return lines


def _waits(product: Mapping[str, Any]) -> bool:
    """Whether a person is to do something about it."""
    return bool(product["to_do"]) and not str(product["to_do"]).startswith("nothing")


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
            f"{version.collection}  {len(version.concepts)} products{_imported(version)}, "
            f"last {newest}  parent {version.parent or '-'}"
        )
    return lines


def _imported(version: AdapterVersion) -> str:
    count = sum(bool(concept.imported_from) for concept in version.concepts)
    return f" ({count} imported)" if count else ""


def check_lines(results: Iterable[CheckResult]) -> list[str]:
    """One line a check, and below it what to do where something is wrong."""
    lines = []
    for result in results:
        lines.append(f"{result.level:<8} {result.what}")
        if result.hint and result.level != "ok":
            lines.append(f"{'':<8} -> {result.hint}")
    return lines


def preview_lines(preview: NightPreview) -> list[str]:
    """Pictures by kind, policy, layout and scene; every product; coverage; time."""
    record = preview.to_record()
    lines = []
    for title, key in (
        ("kind", "per_kind"),
        ("policy", "per_policy"),
        ("layout", "per_layout"),
        ("scene", "per_template"),
        ("collection", "per_collection"),
    ):
        lines += [*table_lines((title, "pictures"), record[key].items()), ""]
    head = ("product", "pictures", "shown before", "short of")
    lines += [*table_lines(head, _products(preview, record)), ""]
    lines.append(_coverage_line(preview))
    if preview.unseen:
        lines.append(f"no picture tonight: {_names(preview.unseen, _UNSEEN_AT_MOST)}")
    speed = f"{preview.seconds_per_image:.2f} s a picture"
    source = "as the latest like night took" if preview.measured else "assumed, no night measured"
    todo = len(preview.plan.jobs) - preview.rendered
    lines.append(
        f"about {preview.minutes:.1f} minutes for {todo} pictures ({speed}, {source}; "
        f"{preview.rendered} already there); a picture that is tried again takes as long again"
    )
    lines.append(
        "this plan is stored already; nothing would change"
        if preview.stored
        else "dry run: nothing was written; `generate` without --dry-run makes this night"
    )
    return lines


def state_lines(day: date, states: Sequence[ManifestState]) -> list[str]:
    """One line a state, oldest first; ``*`` marks the present one."""
    if not states:
        return [f"{day} has no manifest: the night was not published"]
    return [
        f"{'*' if state is states[-1] else ' '} {state.version}  "
        f"{state.published_utc:%Y-%m-%d %H:%M:%S} UTC  {state.rows} rows, "
        f"{state.superseded} superseded"
        for state in states
    ]


def manifest_lines(view: ManifestView) -> list[str]:
    """A heading, and one line a row."""
    from catalog_pipeline.records import sources_of

    state = view.state
    lines = [
        f"{view.day} version {state.version} of {state.published_utc:%Y-%m-%d %H:%M:%S} UTC: "
        f"{state.rows} rows, {state.superseded} superseded"
    ]
    if view.rows:
        lines += table_lines(
            ("image", "sha256", "version", "mode", "", "products", "prompt"),
            (
                (
                    row.image_id[:12],
                    row.sha256[:12],
                    "+".join({s.adapter_version[:8]: 0 for s in sources_of(row).values()}),
                    row.mode,
                    "superseded" if row.superseded else "",
                    "+".join(row.skus),
                    row.prompt,
                )
                for row in view.rows
            ),
            left=True,
        )
    return lines


def verify_lines(report: VerifyReport) -> list[str]:
    """What was read, and each problem."""
    read = (
        f"{len(report.days)} nights, {report.pictures} pictures, {report.states} manifest states, "
        f"{report.versions} versions, {report.objects} of their objects"
    )
    if not report.problems:
        return [f"verified {read}: all hashes are right"]
    return [*(f"broken   {p}" for p in report.problems), f"{len(report.problems)} broken of {read}"]


def garbage_lines(report: GarbageReport) -> list[str]:
    """Counts and sizes by kind, the keys in a dry run, and what was left alone."""
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for item in report.garbage:
        by_kind[item.kind].append(item.info.size_bytes)
    lines = []
    if report.dry_run:
        lines += [
            f"{item.kind:<17}  {item.info.modified_utc:%Y-%m-%d %H:%M}  "
            f"{_size(item.info.size_bytes):>9}  {item.key}"
            for item in report.garbage
        ]
    lines += [f"skipped {text}" for text in report.skipped]
    verb = "would remove" if report.dry_run else "removed"
    counts = ", ".join(f"{len(sizes)} {kind}" for kind, sizes in sorted(by_kind.items()))
    total = f"{len(report.garbage)} objects, {_size(report.size_bytes)}"
    lines.append(
        f"{verb} {total}" + (f" ({counts})" if counts else "") + " written before "
        f"{report.before_utc:%Y-%m-%d %H:%M} UTC"
    )
    return lines


def retirement_line(outcome: RetireOutcome) -> str:
    """One product: what went, or why it is still there."""
    if outcome.reason:
        return f"kept      {outcome.sku}: {outcome.reason}"
    done = ", ".join(outcome.done) or "nothing was left of it"
    if outcome.serving:
        return f"moved     {outcome.sku}: {outcome.serving} serves it, {done}"
    return f"retired   {outcome.sku}: {done}"


def _products(
    preview: NightPreview, record: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> list[tuple[object, ...]]:
    tonight = {sku: sum(counts.values()) for sku, counts in record["per_sku"].items()}
    return [
        (sku, tonight.get(sku, 0), preview.shown.get(sku, 0), preview.deficits.get(sku, "-"))
        for sku in sorted({*tonight, *preview.deficits, *preview.unseen})
    ]


def _coverage_line(preview: NightPreview) -> str:
    coverage = preview.coverage
    if not coverage.images:
        return "coverage: off (policies.coverage.images is 0)"
    wanted = f"{coverage.images} pictures in {coverage.nights} nights"
    if not preview.deficits:
        return f"coverage: every product has {wanted}"
    return f"coverage: below {wanted}: {_names(sorted(preview.deficits), _UNSEEN_AT_MOST)}"


def _size(size_bytes: int) -> str:
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _names(skus: Sequence[str], at_most: int = NAMES_AT_MOST) -> str:
    more = len(skus) - at_most
    return ", ".join(skus[:at_most]) + (f" and {more} more" if more > 0 else "")


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


def word_line(entry: WordEntry) -> str:
    """A word, what is read for it, how sure that is, and what comes next."""
    match = entry.match
    others = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in match.alternatives)
    if match.way == "unknown":
        return f"{match.text}: unknown (best {match.score:.2f}); nearest {others or 'none kept'}"
    meaning = f", for {match.meaning}" if match.meaning != match.phrase else ""
    line = f"{match.text}: {match.phrase}{meaning} ({match.score:.2f}, {entry.source})"
    if others:
        line += f"; next {others}"
    return line + (f"; {entry.note}" if entry.note else "")
