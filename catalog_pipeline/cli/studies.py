"""The command that learns a catalog in several ways and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import ConfigOption, _folder, app
from catalog_pipeline.cli.progress import open_progress
from catalog_pipeline.cli.tables import table_lines

if TYPE_CHECKING:
    from catalog_pipeline.workflows.evaluate.study import WrittenStudy


@app.command()
def study(
    kind: Annotated[
        Literal["granularity", "frequency"],
        typer.Argument(
            metavar="granularity|frequency",
            help="granularity: a concept a SKU, a variant family or a category. frequency: an "
            "update for every delivery, every night or every week, in slots of both kinds.",
        ),
    ],
    catalog: Annotated[
        Path,
        typer.Option(
            "--catalog", metavar="FOLDER", parser=_folder, help="Of product folders; only read."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            parser=_folder,
            help="Where scratch homes and results go; give it again to go on.",
        ),
    ],
    skus: Annotated[int, typer.Option("--skus", help="Products, evenly of the categories.")] = 24,
    categories: Annotated[
        int, typer.Option("--categories", help="Those with the most variants.")
    ] = 4,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Of a concept. [default: those of learning.yaml]"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Times that each way is run.")] = 1,
    images: Annotated[
        int, typer.Option("--images", help="Pictures of each product that are measured.")
    ] = 4,
    waves: Annotated[
        int, typer.Option("--waves", help="granularity: days on which the products come.")
    ] = 2,
    days: Annotated[int, typer.Option("--days", help="frequency: over which they come.")] = 14,
    later_share: Annotated[
        float,
        typer.Option(
            "--later-share", help="frequency: share of products some photos of which come later."
        ),
    ] = 0.5,
    equal_steps: Annotated[
        bool,
        typer.Option(
            "--equal-steps",
            help="granularity: also families and categories with the steps times their products.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Learn a catalog in several ways; say which to choose.

    Each way is learned by the line itself in a scratch home under --out, and every product is
    measured against its photos. Minutes to hours; safe to interrupt. Writes study.html,
    study.parquet and study.json. Where an interval spans zero nothing is recommended.
    """
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.evaluate.study import StudyOptions, run_study

    options = StudyOptions(
        skus, categories, seeds, images, steps, waves, days, later_share, equal_steps
    )
    with open_progress() as progress:
        # The home of the settings is not asked for: a study has its own.
        settings = load_settings(config, out / kind / "home")
        written = run_study(settings, kind, catalog, out, options, progress=progress)
    if as_json:
        paths = {name: str(path) for name, path in written.paths.items()}
        typer.echo(report.as_json({**written.report.to_record(), "files": paths}))
    else:
        typer.echo("\n".join(study_lines(written)))


def study_lines(written: WrittenStudy) -> list[str]:
    """A line a choice, the verdicts, what was left out, and where the files are."""
    from catalog_pipeline.evaluation.study_page import shown

    found = written.report
    lines = table_lines(
        ("choice", "slots", "likeness", "forgotten", "tasks", "learning s", "MB", "days waited"),
        (
            (
                each.choice,
                each.slots,
                shown(each.likeness),
                shown(each.forgotten),
                f"{each.tasks:.3g}",
                f"{each.seconds:.0f}",
                f"{each.stored_bytes / 1e6:.2f}",
                f"{each.waited_days:.1f}",
            )
            for each in found.choices
        ),
        left=True,
    )
    lines += [f"{verdict.slots}: {verdict.words}" for verdict in found.verdicts]
    lines += [f"note: {note}" for note in found.notes]
    return lines + [str(path) for path in written.paths.values()]
