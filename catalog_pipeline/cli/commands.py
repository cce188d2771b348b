"""The commands. Each reads the settings, calls one workflow and prints what came of it."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from catalog_pipeline import __version__
from catalog_pipeline.cli import report
from catalog_pipeline.cli.failures import FAILED, ReportingGroup, stop
from catalog_pipeline.cli.progress import open_progress
from catalog_pipeline.dates import parse_day
from catalog_pipeline.errors import BaseModelError, CatalogPipelineError, ConfigurationError
from catalog_pipeline.records import SkuStatus

if TYPE_CHECKING:
    from catalog_pipeline.records import PhotoSet
    from catalog_pipeline.workflows.home import Home

app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learn every new product of a catalog and render scenes of the learned ones.",
)

CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", metavar="NAME", help="One collection. [default: the only one]"),
]


def _day(text: str) -> date:
    try:
        return parse_day(text)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def _folder(text: str) -> Path:
    if not text.strip():
        raise typer.BadParameter("a blank path; expected a name, or leave the option out")
    return Path(text)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="DIR",
        parser=_folder,
        help="Folder of settings. [default: $CATALOG_PIPELINE_CONFIG, else ./assets_config]",
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        parser=_folder,
        help="Folder of all state. [default: $CATALOG_PIPELINE_HOME, else "
        "dagster_home/storage beside the settings folder]",
    ),
]
DayOption = Annotated[
    date | None,
    typer.Option(
        "--day", metavar="YYYY-MM-DD", parser=_day, help="The night. [default: today, UTC]"
    ),
]
LatestDayOption = Annotated[
    date | None,
    typer.Option(
        "--day", metavar="YYYY-MM-DD", parser=_day, help="The night. [default: the newest]"
    ),
]


LanguageOption = Annotated[
    Literal["en", "ja"] | None,
    typer.Option("--lang", help="Language of the page. [default: that of evaluation.yaml]"),
]


def chosen_home(config: Path | None, home: Path | None) -> Home:
    """The one home of a command, as its options choose it."""
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.home import Home

    return Home(load_settings(config, home))


def existing_home(config: Path | None, home: Path | None) -> Home:
    """The one home of a command that only reads; ends the command where nothing is there yet."""
    opened = chosen_home(config, home)
    where = opened.settings.home
    if opened.settings.archive.s3 is None and not where.is_dir():
        stop(
            f"error: no home at {where}: nothing has been written there yet; correct --home, or "
            "begin with `catalog-pipeline index`"
        )
    return opened


def report_refused(photo_set: PhotoSet) -> None:
    """Print which photos of a set do not count, and why."""
    for line in report.refused_lines(photo_set):
        typer.echo(line)


def published_night(opened: Home, day: date | None) -> date:
    """``day``, or the newest night; ends the command where there is none."""
    nights = [day] if day else opened.archive.days()
    if not nights:
        stop(f"error: no night has been published in {opened.settings.home}; run `generate` first")
    return nights[-1]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"catalog-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Learn every new product of a catalog and render scenes of the learned ones."""


@app.command("sample-catalog")
def sample_catalog(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", parser=_folder, help="Where to. [default: the watched folder]"
        ),
    ] = None,
    skus: Annotated[
        list[str] | None,
        typer.Option("--sku", metavar="SKU", help="Only this one; may be repeated."),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write a sample catalog of 8 products.

    Six photos and a card each; the same files every time.
    """
    from catalog_pipeline.studio.sample_catalog import write_sample_catalog

    target = directory or chosen_home(config, home).settings.catalog_root
    written = write_sample_catalog(target, skus or None)
    typer.echo(f"{len(written)} product(s) in {target}: {', '.join(written)}")


@app.command()
def index(
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until what is still being uploaded has settled.")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Bring the index of the product folders up to date."""
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index, refresh_settled

    opened = chosen_home(config, home)
    if not wait:
        typer.echo("\n".join(report.index_lines(refresh_index(opened))))
        return
    with open_progress() as progress:
        result = refresh_settled(opened, progress=progress)
    typer.echo("\n".join(report.index_lines(result)))


@app.command()
def learn(
    skus: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SKU", help="Only these. [default: every new, changed or failed one]"
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Train the named products anew, an imported LoRA too."),
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also what was learned under other settings than those of now."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be learned, and about how long it takes."),
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Learn what is new, changed or failed.

    One product after the other, each stored as soon as it is learned; a failed one does
    not stop the rest. Safe to interrupt and to run again.
    """
    if force and not skus:
        raise typer.BadParameter("--force goes with the SKUs that are to be trained anew")
    if everything and skus:
        raise typer.BadParameter("--all goes without SKUs: it means every product on sale")
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
    from catalog_pipeline.workflows.learn.learning_preview import forecast_learning, seconds_per_sku

    opened = chosen_home(config, home)
    if dry_run:
        forecast = forecast_learning(opened, skus or None, everything=everything)
        typer.echo("\n".join(report.forecast_lines(forecast, seconds_per_sku(opened))))
        return

    outcomes = []
    with open_progress() as progress:
        for outcome in learn_concepts(
            opened,
            skus or None,
            progress=progress,
            on_photo_set=report_refused,
            force=force,
            everything=everything,
        ):
            outcomes.append(outcome)
            typer.echo(report.outcome_line(outcome))
    typer.echo(report.outcomes_summary(outcomes))
    if not outcomes:
        with suppress(BaseModelError):  # nothing is learned on it now, so it may be away
            stale = [one for one in forecast_learning(opened, everything=True) if one.trains]
            typer.echo("".join(report.stale_lines(stale)), nl=bool(stale))
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(FAILED)


@app.command()
def generate(
    day: DayOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what a night would make; write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print one JSON object.")
    ] = False,
    retry_quarantined: Annotated[
        bool,
        typer.Option("--retry-quarantined", help="Make further attempts at held back images."),
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Plan, render and publish a night of scenes.

    A rerun does only what is missing. Safe to interrupt: rendered images are kept, and the
    manifest is replaced as a whole. Images that do not show every product that they name
    are tried again, then held back.
    """
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run; a night prints lines")
    opened = chosen_home(config, home)
    night = day or datetime.now(UTC).date()
    if dry_run:
        _preview(opened, night, as_json)
        return
    from catalog_pipeline.workflows.models import check_base_model
    from catalog_pipeline.workflows.night.plan_night import find_plan, plan_night
    from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
    from catalog_pipeline.workflows.night.render_night import render_night

    if find_plan(opened, night) is None:
        check_base_model(opened.settings)
    plan = plan_night(opened, night)
    typer.echo("\n".join(report.plan_lines(plan, in_full=False)))
    if night < datetime.now(UTC).date():
        typer.echo(f"note: {night} is past; it is planned with the versions that are served now")
    with open_progress() as progress:
        rendered = render_night(
            opened, night, retry_quarantined=retry_quarantined, progress=progress
        )
    typer.echo("\n".join(report.render_lines(rendered)))
    typer.echo(report.manifest_line(publish_manifest(opened, night)))
    problems = _report(opened, night)
    if rendered.failed:
        failed = f"{len(rendered.failed)} of {len(plan.jobs)}"
        problems.append(f"error: {failed} images could not be rendered")
    if problems:
        stop("\n".join(problems))


def _report(opened: Home, night: date) -> list[str]:
    """Write the report of a night that is published; what went wrong, as lines."""
    from catalog_pipeline.workflows.night.night_report import write_night_report

    try:
        typer.echo(f"report {write_night_report(opened, night)}")
    except CatalogPipelineError as error:
        again = f"`catalog-pipeline report --day {night.isoformat()}`"
        return [f"error: the night is published, its report is not: {error}; then run {again}"]
    return []


def _preview(opened: Home, night: date, as_json: bool) -> None:
    from catalog_pipeline.workflows.night.preview_night import preview_night

    preview = preview_night(opened, night)
    if as_json:
        typer.echo(report.as_json(preview.to_record()))
    else:
        lines = [*report.plan_lines(preview.plan, in_full=True), "", *report.preview_lines(preview)]
        typer.echo("\n".join(lines))


@app.command()
def evaluate(
    collection: CollectionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Measure what is retained; writes a report."""
    from catalog_pipeline.workflows.evaluate.evaluate import evaluate as measure

    with open_progress() as progress:
        result = measure(existing_home(config, home), collection, progress=progress)
    lines = report.evaluation_lines(result)
    typer.echo(report.as_json(result.to_record()) if as_json else "\n".join(lines))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Tell where products, versions and nights stand."""
    from catalog_pipeline.workflows.upkeep.status import collect_status

    state = collect_status(existing_home(config, home))
    typer.echo(report.as_json(state) if as_json else "\n".join(report.status_lines(state)))


@app.command()
def products(
    skus: Annotated[
        list[str] | None, typer.Argument(metavar="SKU", help="Only these, in full.")
    ] = None,
    statuses: Annotated[
        list[SkuStatus] | None,
        typer.Option("--status", help="Only those that are so; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """List the products and where each stands.

    What was learned, and what is to be done. With SKUs also their photos that were left out,
    and why.
    """
    from catalog_pipeline.workflows.upkeep.products import list_products

    found = list_products(existing_home(config, home), skus or (), statuses or ())
    if as_json:
        typer.echo(report.as_json({"products": found}))
    else:
        typer.echo("\n".join(report.product_lines(found, in_full=bool(skus))))


@app.command()
def versions(
    collection: CollectionOption = None, config: ConfigOption = None, home: HomeOption = None
) -> None:
    """List the learned versions, oldest first."""
    from catalog_pipeline.workflows.upkeep.versions import list_versions

    typer.echo(
        "\n".join(report.version_lines(list_versions(existing_home(config, home), collection)))
    )


@app.command()
def rollback(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As `versions` prints it.")],
    collection: CollectionOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Make an earlier version the current one.

    Says which products fall out, come back or change. Nothing is deleted: rolling forward
    again is the same command.
    """
    from catalog_pipeline.workflows.upkeep.versions import rollback as move_head
    from catalog_pipeline.workflows.upkeep.versions import rollback_effect

    opened = existing_home(config, home)
    typer.echo("\n".join(rollback_effect(opened, version, collection).lines))
    if dry_run:
        typer.echo("dry run: nothing was changed")
        return
    head = move_head(opened, version, collection)
    typer.echo(f"current version is now {head.version}")


@app.command()
def gallery(
    day: LatestDayOption = None,
    lang: LanguageOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write an HTML page of a night and print its path."""
    from catalog_pipeline.workflows.night.gallery import shown_days, write_gallery

    opened = existing_home(config, home)
    nights = [day] if day else shown_days(opened)
    if not nights:
        stop(f"error: no night has a picture in {opened.where}; run `generate` first")
    typer.echo(write_gallery(opened, nights[-1], language=lang))


@app.command()
def preview(
    skus: Annotated[list[str], typer.Argument(metavar="SKU", help="Learned products.")],
    scene: Annotated[
        str | None,
        typer.Option("--scene", metavar="NAME", help="Of generation.yaml. [default: the first]"),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Render products in every mode, beside a photo.

    Learned, anchored, exact; each product alone. Writes reports/preview.png under the home,
    and no picture of any night.
    """
    from catalog_pipeline.workflows.night.preview_products import preview_products

    strips, written = preview_products(chosen_home(config, home), skus, scene=scene)
    for strip in strips:
        without = f"; learned only: {strip.reason}" if strip.reason else ""
        typer.echo(f"{strip.sku}: {', '.join(strip.pictures)}{without}")
    typer.echo(written)


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="First put right what is safe to put right.")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Check settings, folders, base model and stores.

    Says what to do about each problem; the exit status is 1 when one is an error. A repair
    frees dead locks, removes temporary files, brings the index in line with the served
    version, takes a product out of a collection that its card no longer names and writes
    nights of earlier releases in the present schema; it never changes what was learned,
    rendered or published.
    """
    from catalog_pipeline.workflows.upkeep.doctor import run_doctor

    results = run_doctor(chosen_home(config, home), repair=repair)
    typer.echo("\n".join(report.check_lines(results)))
    if any(result.level == "error" for result in results):
        sys.exit(FAILED)


@app.command()
def export(
    skus: Annotated[list[str], typer.Argument(metavar="SKU", help="Learned products.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", parser=_folder, help="Where to; absent or empty."),
    ],
    collection: CollectionOption = None,
    form: Annotated[
        Literal["lora", "kohya", "pipeline"],
        typer.Option(
            "--format",
            help="LoRA and token files with the names of diffusers, or with those of kohya "
            "(ComfyUI, A1111, sd-scripts), or a whole diffusers folder.",
        ),
    ] = "lora",
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write learned products for other programs.

    The README.txt in the folder has the lines of code and the prompt. Several products go
    together only where they share their deltas.
    """
    from catalog_pipeline.workflows.upkeep.export_concept import export_concept

    written = export_concept(chosen_home(config, home), skus, out, collection=collection, form=form)
    typer.echo(
        f"{', '.join(written.prompts)} of version {written.version} in {written.folder}: "
        f"{len(written.files)} files, {written.bytes / 1e6:.1f} MB"
    )
    for prompt in written.prompts.values():
        typer.echo(f"prompt: {prompt}")
