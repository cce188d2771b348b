"""The commands for where a picture comes from: verify files, make what they are signed with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catalog_pipeline.catalog.file_kinds import printable
from catalog_pipeline.cli.commands import (
    ConfigOption,
    HomeOption,
    _folder,
    app,
    chosen_home,
    existing_home,
)
from catalog_pipeline.cli.failures import FAILED
from catalog_pipeline.records import sources_of

if TYPE_CHECKING:
    from catalog_pipeline.provenance.origin import Origin
    from catalog_pipeline.workflows.home import Home
    from catalog_pipeline.workflows.upkeep.verify_image import Found, ImageReport

_HOW = {
    "bytes": "the file is in the archive, byte for byte",
    "pixels": "the archive has the same picture, pixel for pixel, in a file of other bytes",
    "credentials": "its Content Credentials name a picture of the archive, whose pixels differ",
    "xmp": "its metadata names a picture of the archive, whose pixels differ",
    "watermark": "its watermark is that of a picture of the archive, whose pixels differ",
}
_NOT_AN_ORIGINAL = "altered or re-encoded: this is not the picture as it was made"


@app.command("verify-image")
def verify_image(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", parser=_folder, help="PNG, JPEG or WebP.")
    ],
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            parser=_folder,
            help="A root certificate (PEM) whose signatures count, besides that of "
            "governance.yaml; may be repeated.",
        ),
    ] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
) -> None:
    """Say what made a picture, and if it was altered.

    Which job, products, versions and photos, and who signed it. Looked up in the archive by bytes,
    pixels, signature, metadata and watermark; where there is no home, only what the file says
    counts. The exit status is 1 when the origin of a file is not established.
    """
    from catalog_pipeline.workflows.upkeep.verify_image import verify_images

    opened = _home_if_any(config, home)
    reports = verify_images(opened, files, trust=trust or ())
    # Files of strangers say what strangers like: no line of theirs may look like one of ours.
    told = ("\n".join(map(printable, _lines(each, opened is not None))) for each in reports)
    typer.echo("\n\n".join(told))
    if not all(each.established for each in reports):
        raise typer.Exit(FAILED)


@app.command("certificate")
def make_certificate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=_folder, help="Where to; absent or without.")
    ],
    organisation: Annotated[
        str,
        typer.Option("--organisation", metavar="NAME", help="Whom verifiers see as the signer."),
    ],
    days: Annotated[
        int, typer.Option("--days", min=1, max=3650, help="How long pictures can be signed.")
    ] = 1095,
) -> None:
    """Make a certificate to sign pictures with.

    And the root that issues it, for a deployment that has no certificate authority to ask.
    Verifiers elsewhere do not know the root: give it to them, or replace all of it by what your
    company's authority issues.
    """
    from catalog_pipeline.provenance.own_certificate import make_certificate as make

    made = make(folder, organisation, days=days)
    typer.echo(
        f"{made.chain}: certificate of {organisation!r}, until {made.ends_utc:%Y-%m-%d}\n"
        f"{made.private_key}: its key; keep it where only this program reads\n"
        f"{made.root}: the root; give it to whoever verifies (verify-image --trust)\n"
        f"{made.root_key}: the root's key, which signs no picture; move it off this machine\n"
        "now set provenance.certificate and provenance.private_key in governance.yaml"
    )


@app.command("watermark-key")
def make_watermark_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=_folder, help="A new file.")],
) -> None:
    """Make the secret of invisible watermarks.

    They are made and read with it, and say nothing without it, so keep a copy.
    """
    from catalog_pipeline.provenance.own_certificate import make_watermark_key as make

    make(file)
    typer.echo(
        f"{file}: keep a copy for as long as pictures are to be recognised\n"
        "now set provenance.watermark and provenance.watermark_key in governance.yaml"
    )


def _home_if_any(config: Path | None, home: Path | None) -> Home | None:
    """The home of the options or of the place; ``None`` where nobody names one and none is."""
    from catalog_pipeline.settings import HOME_ENV, default_config_dir, environment

    if config is not None or home is not None or environment(HOME_ENV):
        return existing_home(config, home)
    if not default_config_dir().is_dir():
        return None
    opened = chosen_home(None, None)
    there = opened.settings.archive.s3 is not None or opened.settings.home.is_dir()
    return opened if there else None


def _lines(report: ImageReport, asked: bool) -> Iterator[str]:
    """The verdict, then what it rests on; ``asked`` is whether there was an archive to ask."""
    yield f"{report.file}: {_verdict(report, asked)}"
    if report.problem:
        yield f"  problem    {report.problem}"
    if report.found is not None:
        yield from _archived(report.found)
    elif asked and not report.problem:
        yield "  archive    has no such picture"
    yield from _signature(report)
    yield from (f"  skipped    {line}" for line in report.unread)
    said = report.says or (report.credentials.origin if report.credentials else None)
    if said is not None:
        yield f"  says       {_told(said)}"


def _verdict(report: ImageReport, asked: bool) -> str:
    if report.established:
        return "its origin is established"
    signed, found = report.credentials, report.found
    if found is not None or (signed is not None and not signed.intact):
        return _NOT_AN_ORIGINAL
    if report.problem:
        return "is no picture that can be verified"
    if signed is not None and signed.expired:
        return "signed, but the certificate has ended, and nothing says when that was"
    if signed is not None:
        return "signed, but by nobody who is trusted here; --trust FILE names a root"
    if report.says is not None:
        return "says where it comes from, but nothing proves it" + ("" if asked else "; no home")
    return "nothing says where it comes from"


def _archived(found: Found) -> Iterator[str]:
    row = found.row
    published = "superseded" if row.superseded else "current"
    state = published if found.shelf == "published" else found.shelf
    yield f"  archive    {_HOW[found.by]}"
    yield f"  job        {row.job_id}, night of {row.day}, {state}, mode {row.mode}"
    for sku, source in sources_of(row).items():
        drawn_by = f"collection {source.collection}, version {source.adapter_version}"
        yield f"  product    {sku}: {drawn_by}"
    yield f"  base       {row.base_model_hash}"
    for photo in found.photos:
        role = "stands in the picture" if photo.in_picture else "learned from"
        yield f"  photo      {photo.sku}: {photo.photo or photo.sha256}, {role}"
    yield f"  digests    file {row.sha256}, pixels {row.pixels_sha256 or 'not noted then'}"


def _signature(report: ImageReport) -> Iterator[str]:
    signed = report.credentials
    if signed is None:
        if not report.problem and not any(line.startswith("signature") for line in report.unread):
            yield "  signature  none"
    elif signed.intact:
        trusted = "trusted" if signed.trusted else "not trusted here"
        if signed.expired:
            trusted = "whose certificate has ended"
        yield f"  signature  valid, by {signed.signer}, {trusted}"
    else:
        by = f", by {signed.signer}" if signed.signer else ""
        yield f"  signature  broken{by}: {', '.join(signed.failures)}"


def _told(origin: Origin) -> str:
    versions = ", ".join(origin.adapter_versions)
    return (
        f"{origin.source_type or 'no source type'}, job {origin.job_id}, "
        f"versions {versions or 'none'}, base {origin.base_model_hash or 'none'}"
    )
