"""The command that writes pages for people about nights."""

from __future__ import annotations

from typing import Annotated

import typer

from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    LanguageOption,
    LatestDayOption,
    app,
    chosen_home,
)
from catalog_pipeline.cli.failures import stop


@app.command()
def report(
    day: LatestDayOption = None,
    every: Annotated[bool, typer.Option("--all", help="Of every night.")] = False,
    lang: LanguageOption = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write the report of a night and print its path.

    One HTML page: what came of the night, what to do next, new and refused products, the
    worst pictures, errors and times. `generate` writes it, too. The page of all nights,
    index.html, lies beside it.
    """
    if every and day is not None:
        raise typer.BadParameter("--all goes without --day")
    from catalog_pipeline.workflows.night.night_report import reported_days, write_night_report

    opened = chosen_home(config, home)
    nights = [day] if day else reported_days(opened)
    if not nights:
        stop(
            f"error: nothing was learned or rendered in {opened.where}; run `learn` and "
            "`generate` first"
        )
    for night in nights if every else nights[-1:]:
        typer.echo(write_night_report(opened, night, language=lang))
