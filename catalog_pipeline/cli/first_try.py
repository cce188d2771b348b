"""``try``: from somebody's own photos to a page of pictures, in one command."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import ConfigOption, _folder, app, report_refused
from catalog_pipeline.cli.failures import stop
from catalog_pipeline.cli.progress import open_progress


@app.command("try")
def try_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            parser=_folder,
            help="Photos of one product, or one folder a product; it is only read.",
        ),
    ],
    class_noun: Annotated[
        str,
        typer.Option("--class-noun", metavar="NOUN", help="What the one product is, such as mug."),
    ] = "",
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", metavar="DIR", parser=_folder, help="Where the try lies. [default: ./try]"
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """See your own products in scenes.

    Learns them, renders a few pictures and writes a page of them. Takes about a minute a
    product and some seconds a picture on two cores. Safe to interrupt: the same command goes
    on. Change photos and run it again.
    """
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
    from catalog_pipeline.workflows.catalog.trial import trial_home
    from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
    from catalog_pipeline.workflows.night.gallery import write_gallery
    from catalog_pipeline.workflows.night.plan_night import plan_night
    from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
    from catalog_pipeline.workflows.night.render_night import render_night

    opened = trial_home(load_settings(config, home or Path("try")), folder, class_noun.strip())
    typer.echo("\n".join(report.index_lines(refresh_index(opened))))
    with open_progress() as progress:
        outcomes = []
        for outcome in learn_concepts(
            opened,
            progress=progress,
            on_photo_set=report_refused,
        ):
            outcomes.append(outcome)
            typer.echo(report.outcome_line(outcome))
        if not any(opened.adapters(name).head() for name in opened.collections()):
            stop("error: no product could be learned, so there is nothing to render; see above")
        night = datetime.now(UTC).date()
        plan_night(opened, night)
        rendered = render_night(opened, night, progress=progress)
    typer.echo("\n".join(report.render_lines(rendered)))
    typer.echo(report.manifest_line(publish_manifest(opened, night)))
    page = write_gallery(opened, night)
    typer.echo(f"your pictures: {page}")
    if failed := sum(outcome.status == "failed" for outcome in outcomes):
        stop(f"error: {failed} product(s) could not be learned; see above")
