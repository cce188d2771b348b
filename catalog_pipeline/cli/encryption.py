"""The commands of encryption at rest: on, off, another master key, and copies that open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    _folder,
    app,
    existing_home,
)
from catalog_pipeline.cli.failures import FAILED
from catalog_pipeline.cli.progress import open_progress

if TYPE_CHECKING:
    from catalog_pipeline.workflows.upkeep.encryption import ChangedForm


@app.command()
def encrypt(config: ConfigOption = None, home: HomeOption = None) -> None:
    """Encrypt what was stored before a master key was set.

    What is written from then on is encrypted anyway. Set `encryption.master_key` of
    governance.yaml first, and end every run that still has the old settings. The same command
    goes on where it was interrupted.
    """
    from catalog_pipeline.workflows.upkeep.encryption import encrypt_home

    with open_progress() as progress:
        done = encrypt_home(existing_home(config, home), progress=progress)
    _tell(done, "encrypted")


@app.command()
def decrypt(config: ConfigOption = None, home: HomeOption = None) -> None:
    """Store everything plain, and destroy all data keys.

    End every run first, and take `encryption.master_key` out of governance.yaml afterwards.
    What cannot be opened any more is named and stays, and with it the keys.
    """
    from catalog_pipeline.workflows.upkeep.encryption import decrypt_home

    with open_progress() as progress:
        done = decrypt_home(existing_home(config, home), progress=progress)
    _tell(done, "decrypted")
    typer.echo("now set encryption.master_key of governance.yaml to null")


@app.command("rotate-key")
def rotate_key(
    new: Annotated[
        str, typer.Option("--new", metavar="KEY", help="file:/path/of/key or kms:alias/name.")
    ],
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Put another master key in place of the present one.

    Every data key is wrapped anew; no encrypted object is touched. Both master keys are needed
    until it has ended. The same command goes on where it was interrupted. Then set
    `encryption.master_key` of governance.yaml to the new one.
    """
    from catalog_pipeline.workflows.upkeep.encryption import rotate_master_key

    count = rotate_master_key(existing_home(config, home), new)
    typer.echo(f"{count} data keys are wrapped by {new} now")
    typer.echo(f"now set encryption.master_key of governance.yaml to {new}")


@app.command("export-objects")
def export_objects(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="What the keys of the objects begin with.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", parser=_folder, help="Where to; absent or empty."),
    ],
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Copy stored objects to a folder, decrypted.

    By their keys, such as `collections/default/quarantine/MUG-01-` for what is kept of refused
    candidates. The copies are as open as the folder.
    """
    from catalog_pipeline.workflows.upkeep.export_objects import export_objects as copy_out

    copied = copy_out(existing_home(config, home), prefix, out)
    typer.echo("\n".join(copied.keys))
    typer.echo(f"{len(copied.keys)} objects in {copied.folder}: {copied.bytes / 1e6:.1f} MB")


def _tell(done: ChangedForm, verb: str) -> None:
    """Print what was changed; ends the command where something could not be."""
    for problem in done.problems:
        typer.echo(f"left as it is: {problem}", err=True)
    typer.echo(f"{verb} {done.changed} objects")
    if done.problems:
        raise typer.Exit(FAILED)
