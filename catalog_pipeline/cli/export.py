"""The command ``export``: learned products for plain diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from catalog_pipeline.cli.commands import CollectionOption, ConfigOption, HomeOption, app


@app.command()
def export(
    skus: Annotated[list[str], typer.Argument(metavar="SKU", help="Learned products.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where to; absent or empty.")
    ],
    collection: CollectionOption = None,
    form: Annotated[
        Literal["lora", "pipeline"],
        typer.Option("--format", help="LoRA and token files, or a whole diffusers folder."),
    ] = "lora",
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Write learned products for plain diffusers.

    The README.txt in the folder has the lines of code and the prompt. Several products go
    together only where they share their deltas.
    """
    from catalog_pipeline.settings import load_settings
    from catalog_pipeline.workflows.upkeep.export_concept import export_concept

    settings = load_settings(config, home)
    report = export_concept(settings, skus, out, collection=collection, form=form)
    typer.echo(
        f"{', '.join(report.prompts)} of version {report.version} in {report.folder}: "
        f"{len(report.files)} files, {report.bytes / 1e6:.1f} MB"
    )
    for prompt in report.prompts.values():
        typer.echo(f"prompt: {prompt}")
