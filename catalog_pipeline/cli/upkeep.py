"""The commands that look after what is stored: time travel, verification, clean-up, retirement."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from catalog_pipeline.cli import report
from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    LatestDayOption,
    _day,
    _folder,
    app,
    chosen_home,
    existing_home,
    published_night,
)
from catalog_pipeline.cli.failures import FAILED
from catalog_pipeline.cli.progress import open_progress


@app.command()
def manifest(
    day: LatestDayOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="VERSION|TIME", help="An earlier state. [default: the present one]"
        ),
    ] = None,
    versions: Annotated[
        bool, typer.Option("--versions", help="List the states that the night has had.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            parser=_folder,
            help="Write the state as Parquet; - is stdout.",
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Print the Parquet file of each night (or of --day) that no publication "
            "replaces, for DuckDB, Polars and others.",
        ),
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Print a night's manifest, as it is or as it was.

    TIME is UTC unless it has a zone, such as 2026-03-01T12:00; a date alone means the
    end of that day.
    """
    from catalog_pipeline.workflows.upkeep.destinations import (
        check_destination,
        is_stream,
        write_file,
    )
    from catalog_pipeline.workflows.upkeep.time_travel import read_manifest

    if files and (versions or as_of is not None or out is not None):
        raise typer.BadParameter("--files goes with --day alone: it names the present files")
    if versions and (as_of is not None or out is not None):
        raise typer.BadParameter("--versions lists every state; it goes with --day alone")
    opened = existing_home(config, home)
    to_stdout = out is not None and out.as_posix() in ("-", "/dev/stdout")
    if out is not None and not to_stdout:
        check_destination(opened.settings, out)
    night = published_night(opened, day)
    if files:
        typer.echo("\n".join(opened.archive.snapshot([day] if day else None)))
        return
    if versions:
        typer.echo("\n".join(report.state_lines(night, opened.archive.history(night))))
        return
    view = read_manifest(opened, night, as_of)
    if out is None:
        typer.echo("\n".join(report.manifest_lines(view)))
        return
    if to_stdout:  # not opened by name, which would cut off the file that it may be
        typer.echo(view.parquet, nl=False)
    else:
        write_file(out, view.parquet)
    line = f"{out}: {len(view.rows)} rows of {view.day}, version {view.state.version}"
    typer.echo(line, err=to_stdout or is_stream(out))


@app.command()
def verify(
    day: Annotated[
        date | None,
        typer.Option("--day", metavar="YYYY-MM-DD", parser=_day, help="One night. [default: all]"),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Recompute the hashes of what is archived.

    Every picture, every state of a manifest, every version with its parts. The exit
    status is 1 when anything is broken or missing.
    """
    from catalog_pipeline.workflows.upkeep.verify import verify as recompute

    with open_progress() as progress:
        result = recompute(existing_home(config, home), day, progress=progress)
    typer.echo("\n".join(report.verify_lines(result)))
    if result.problems:
        raise typer.Exit(FAILED)


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go; remove nothing.")
    ] = False,
    grace_hours: Annotated[
        float,
        typer.Option(
            "--grace-hours", min=0, metavar="H", help="Keep what was written in the last H hours."
        ),
    ] = 72.0,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Remove what nothing refers to, or is past its time.

    Left-over checkpoints, parts, pictures and caches, and adapter versions beyond
    `keep_versions` of archive.yaml; refused candidates, held back pictures and reports older
    than `retention` of governance.yaml. Safe beside other runs as long as none of them takes
    longer than the grace, and safe to interrupt.
    """
    from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage

    result = collect_garbage(chosen_home(config, home), grace_hours=grace_hours, dry_run=dry_run)
    typer.echo("\n".join(report.garbage_lines(result)))


@app.command()
def retire(
    skus: Annotated[
        list[str] | None,
        typer.Argument(metavar="SKU", help="Only these. [default: every one whose folder is gone]"),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Forget products whose folders are gone.

    The current version loses their concepts, checkpoints and planned images go; earlier
    versions keep them. Photos that come back are learned anew.
    """
    from catalog_pipeline.workflows.catalog.retire import retire_concepts

    retired = []
    for outcome in retire_concepts(chosen_home(config, home), skus or None):
        retired.append(outcome)
        typer.echo(report.retirement_line(outcome))
    if not retired:
        typer.echo("nothing to retire: every product in the versions has its folder")
    if any(outcome.reason for outcome in retired):
        raise typer.Exit(FAILED)


@app.command()
def alert(
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message on each channel.")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Name the channels of alerts.yaml, or try them.

    The sensor `alerts` sends on the same ones. The exit status is 1 when a channel did not take
    the test message.
    """
    from datetime import UTC, datetime

    from catalog_pipeline.workflows.upkeep.alerts import (
        deliver,
        enqueue,
        open_channels,
        trial_alert,
    )

    channels = open_channels(chosen_home(config, home).settings.alerts, typer.echo)
    if not test:
        typer.echo(f"channels: {', '.join(channels) or 'none'}; --test sends a message on each")
        return
    waiting, _ = enqueue([], [trial_alert(datetime.now(UTC))], tuple(channels))
    still, problems = deliver(waiting, channels, most=1)
    failed = {name for item in still for name in item.channels}
    taken = [name for name in channels if name not in failed]
    typer.echo(f"taken by: {', '.join(taken) or 'no channel'}")
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if failed:
        raise typer.Exit(FAILED)


@app.command("import-lora")
def import_lora(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=_folder, help="A .safetensors LoRA.")
    ],
    sku: Annotated[str, typer.Option("--sku", metavar="SKU", help="The product that it is of.")],
    trigger: Annotated[
        str,
        typer.Option(
            "--trigger",
            metavar="WORDS",
            help="What named the product in training, without the class noun.",
        ),
    ] = "",
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            metavar="FILE",
            parser=_folder,
            help="Its textual inversion, a .safetensors file. [default: the class noun's rows]",
        ),
    ] = None,
    skip_text_encoder: Annotated[
        bool, typer.Option("--skip-text-encoder", help="Leave out its text encoders' layers.")
    ] = False,
    skip_other_layers: Annotated[
        bool,
        typer.Option("--skip-other-layers", help="Leave out layers that the adapter has not."),
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Take in a LoRA that was trained elsewhere.

    With the names of diffusers, PEFT or kohya. It is judged beside the product's photos as a
    learned one is, and served as a new version; `learn` leaves it alone until the photos
    change. The same file again is no work.
    """
    from catalog_pipeline.workflows.learn.import_lora import LoraSource
    from catalog_pipeline.workflows.learn.import_lora import import_lora as take_in

    source = LoraSource(file, embeddings, trigger.strip(), skip_text_encoder, skip_other_layers)
    with open_progress() as progress:
        outcome = take_in(chosen_home(config, home), sku, source, progress=progress)
    typer.echo(report.outcome_line(outcome))


@app.command()
def vocabulary(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Any language. [default: all that is kept]"),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="WORD=PHRASE", help="Read WORD as PHRASE; WORD= forgets the word."
        ),
    ] = None,
    scenes: Annotated[
        bool, typer.Option("--scenes", help="The words are scenes. [default: class nouns]")
    ] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Show or set what words of other languages mean.

    One line a word: the phrase that prompts have, its score, where it comes from, and what
    is next nearest. A word that was read once is read so for ever, until it is set here.
    """
    from catalog_pipeline.workflows.upkeep.vocabulary import kept_words, read_words, set_word

    opened = chosen_home(config, home)
    part: Literal["noun", "scene"] = "scene" if scenes else "noun"
    for pair in change or []:
        word, sign, phrase = pair.partition("=")
        if not sign:
            raise typer.BadParameter(f"--set {pair!r}; expected WORD=PHRASE")
        entry, skus = set_word(opened, part, word.strip(), phrase.strip())
        typer.echo(report.word_line(entry) if entry else f"{word.strip()}: forgotten")
        if skus:
            typer.echo(f"learn those of these anew whose card has it: {', '.join(skus)}")
    if words or not change:
        entries = read_words(opened, part, words) if words else kept_words(opened)
        typer.echo("\n".join(map(report.word_line, entries)) or "no word was read so far")
