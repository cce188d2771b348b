"""Nights whose pictures say how they were made: the same bytes again, and signed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog_pipeline import __version__
from catalog_pipeline.errors import CertificateError, ConfigurationError
from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_png
from catalog_pipeline.provenance.content_credentials import read_credentials
from catalog_pipeline.provenance.origin import COMPOSITE, GENERATED
from catalog_pipeline.provenance.own_certificate import make_certificate, make_watermark_key
from catalog_pipeline.provenance.picture_files import (
    PNG,
    has_credentials,
    pixel_digest,
    read_picture,
    with_xmp,
    xmp_of,
)
from catalog_pipeline.provenance.watermark import extract, payload_of, wrong_bits
from catalog_pipeline.provenance.xmp import read_origin, xmp_packet
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.settings.governance import ProvenanceSettings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.picture_marks import PictureMarks
from catalog_pipeline.workflows.upkeep.check_results import guarded
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor_provenance import check_provenance
from tests.builders import make_archive_row
from tests.workflows.painted_night import DAY, Studio


def governed(studio: Studio, **provenance: Any) -> Studio:
    """The same home with other settings of provenance."""
    part = ProvenanceSettings.model_validate(provenance)
    governance = studio.settings.governance.model_copy(update={"provenance": part})
    return Studio(studio.settings.model_copy(update={"governance": governance}))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, and a watermark key."""
    folder = tmp_path_factory.mktemp("keys")
    make_certificate(folder / "own", "Acme Tableware")
    make_watermark_key(folder / "watermark.key")
    return folder


def signing(keys: Path) -> dict[str, Path]:
    return {"certificate": keys / "own/chain.pem", "private_key": keys / "own/signing.key"}


def pictures(studio: Studio) -> dict[str, tuple[ArchiveRow, bytes]]:
    """Job -> row and file, of everything published or staged."""
    archive = studio.home.archive
    rows = [*archive.read_day(DAY), *archive.staged(DAY)]
    return {row.image_id: (row, archive.read_image(row.path)) for row in rows}


def test_metadata_is_all_that_is_new_of_a_picture(studio: Studio) -> None:
    studio.learn("mug", "00123")
    bare = governed(Studio(elsewhere(studio.settings)), metadata=False)
    bare.learn("mug", "00123")
    studio.render()
    bare.render()
    with_chunk, without = pictures(studio), pictures(bare)
    assert with_chunk.keys() == without.keys() != set()
    for job, (row, png) in with_chunk.items():
        plain = without[job][1]
        assert plain == encode_png(decode_png(plain))
        origin = read_origin(xmp_of(png))
        assert origin is not None
        assert png == with_xmp(plain, xmp_packet(origin))
        assert (origin.job_id, origin.source_type, origin.version) == (job, GENERATED, __version__)
        assert origin.adapter_versions == (row.adapter_version,)
        assert row.pixels_sha256 == without[job][0].pixels_sha256 == pixel_digest(decode_png(png))


def elsewhere(settings: Settings) -> Settings:
    return settings.model_copy(update={"home": settings.home / "other"})


def test_the_same_job_has_the_same_bytes_without_a_signature(studio: Studio, keys: Path) -> None:
    marks = {"watermark": True, "watermark_key": keys / "watermark.key"}
    one, two = governed(studio, **marks), governed(Studio(elsewhere(studio.settings)), **marks)
    for each in (one, two):
        each.learn("mug", "00123")
        each.render()
    first, second = ({job: png for job, (_, png) in pictures(each).items()} for each in (one, two))
    assert first == second != {}


def test_a_signed_night_is_signed_once(studio: Studio, keys: Path) -> None:
    """Two signings differ, so a second run must find what is there and sign nothing."""
    studio = governed(studio, **signing(keys))
    studio.learn("mug", "00123")
    staged = studio.render()
    assert staged.rendered > 0
    publish_manifest(studio.home, DAY)
    before = studio.files()
    assert studio.render().rendered == 0
    assert not publish_manifest(studio.home, DAY).changed
    assert studio.files() == before
    anchor = (keys / "own/root.pem").read_text()
    for job, (row, png) in pictures(studio).items():
        found = read_credentials(png, PNG, [anchor])
        assert found is not None
        assert (found.trusted, found.failures) == (True, ())
        assert found.origin == read_origin(xmp_of(png))
        assert found.origin is not None
        assert found.origin.job_id == job
        assert row.pixels_sha256 == pixel_digest(decode_png(png))
        assert row.sha256 in row.path


def test_what_was_made_before_signing_was_set_stays_as_it_is(studio: Studio, keys: Path) -> None:
    studio.learn("mug")
    studio.render()
    publish_manifest(studio.home, DAY)
    before = studio.files()
    later = governed(studio, **signing(keys))
    assert later.render().rendered == 0
    assert not publish_manifest(later.home, DAY).changed
    assert later.files() == before
    assert not any(has_credentials(png) for _, png in pictures(later).values())


def test_of_two_workers_that_sign_a_picture_one_row_wins_and_gc_takes_the_other_file(
    studio: Studio, keys: Path
) -> None:
    studio = governed(studio, **signing(keys))
    studio.learn("mug")
    studio.render()
    archive = studio.home.archive
    first = archive.staged(DAY)
    assert first
    twice = []
    for row in first:  # what a worker that was thought dead stages beside its successor
        marked = studio.home.marks.mark(decode_png(archive.read_image(row.path)), row)
        path, digest = archive.put_image(marked.png)
        assert path != row.path
        assert marked.pixels_sha256 == row.pixels_sha256
        later = row.created_utc + timedelta(seconds=1)
        twice.append(replace(row, path=path, sha256=digest, created_utc=later))
    archive.stage(DAY, "other", twice)
    publish_manifest(studio.home, DAY)
    rows = archive.read_day(DAY)
    assert [row.path for row in rows] == [row.path for row in sorted(twice, key=job_of)]
    assert archive.verify_day(DAY) == []
    assert len(archive.image_keys()) == 2 * len(first)
    assert studio.render().rendered == 0
    gone = collect_garbage(studio.home, now=datetime.now(UTC) + timedelta(hours=73))
    images = {item.key for item in gone.garbage if item.kind == "image"}
    assert images == {row.path for row in first}
    assert archive.verify_day(DAY) == []


def job_of(row: ArchiveRow) -> str:
    return row.image_id


def test_a_lost_signed_picture_is_made_and_signed_again(studio: Studio, keys: Path) -> None:
    studio = governed(studio, **signing(keys))
    studio.learn("mug")
    studio.render()
    publish_manifest(studio.home, DAY)
    lost = studio.home.archive.read_day(DAY)[0]
    (studio.settings.home / lost.path).unlink()
    assert studio.render().rendered == 1
    assert publish_manifest(studio.home, DAY).changed
    found = studio.home.archive.read_day(DAY)[0]
    assert (found.image_id, found.pixels_sha256) == (lost.image_id, lost.pixels_sha256)
    assert found.sha256 != lost.sha256
    assert studio.home.archive.verify_day(DAY) == []


@pytest.mark.parametrize("wrong", ["missing", "another's key", "expired", "no key at all"])
def test_a_night_that_cannot_be_signed_is_refused_before_its_first_picture(
    studio: Studio, keys: Path, tmp_path: Path, wrong: str
) -> None:
    studio.learn("mug")
    paths = signing(keys)
    if wrong == "missing":
        paths["certificate"] = keys / "absent.pem"
    elif wrong == "another's key":
        paths["private_key"] = make_certificate(tmp_path / "other", "Other").private_key
    elif wrong == "expired":
        old = datetime.now(UTC) - timedelta(days=40)
        made = make_certificate(tmp_path / "old", "Acme", days=39, now=old)
        paths = {"certificate": made.chain, "private_key": made.private_key}
    else:
        paths["private_key"] = keys / "watermark.key"
    broken = governed(studio, **paths)
    with pytest.raises(CertificateError) as caught:
        broken.render()
    assert "\n" not in str(caught.value)
    assert broken.painters == []
    assert broken.home.archive.staged(DAY) == []
    assert broken.home.archive.image_keys() == []
    said = guarded("provenance", check_provenance, broken.home)
    assert [result.level for result in said] == ["error"]
    assert str(caught.value) in said[0].what


def test_a_missing_watermark_key_is_refused_as_early(studio: Studio, tmp_path: Path) -> None:
    studio.learn("mug")
    broken = governed(studio, watermark=True, watermark_key=tmp_path / "absent")
    with pytest.raises(ConfigurationError, match=r"watermark key .*absent cannot be read"):
        broken.render()
    assert broken.painters == []
    with pytest.raises(ValueError, match="watermark is on without a watermark_key"):
        ProvenanceSettings(watermark=True)


def test_doctor_says_what_pictures_carry_and_warns_before_the_end(
    studio: Studio, keys: Path, tmp_path: Path
) -> None:
    def said(each: Studio) -> list[tuple[str, str]]:
        return [(r.level, r.what) for r in guarded("provenance", check_provenance, each.home)]

    assert said(studio) == [("ok", "provenance: new pictures carry XMP")]
    assert said(governed(studio, metadata=False)) == [
        ("ok", "provenance: new pictures carry nothing: every layer is switched off")
    ]
    marks = {"watermark": True, "watermark_key": keys / "watermark.key"}
    ((level, line),) = said(governed(studio, **signing(keys), **marks))
    assert (level, line) == (
        "ok",
        "provenance: new pictures carry XMP, a watermark, a signature of "
        "'Acme Tableware pictures, Acme Tableware'",
    )
    soon = make_certificate(tmp_path / "soon", "Acme", days=9)
    ending = governed(studio, certificate=soon.chain, private_key=soon.private_key)
    assert [level for level, _ in said(ending)] == ["ok", "warning"]


def test_relative_paths_are_in_the_settings_folder(studio: Studio) -> None:
    folder = studio.settings.config_dir
    make_certificate(folder / "keys", "Acme")
    paths = {"certificate": Path("keys/chain.pem"), "private_key": Path("keys/signing.key")}
    certificate = governed(studio, **paths).home.marks.certificate()
    assert certificate is not None
    assert certificate.signer == "Acme pictures, Acme"


def test_a_watermark_names_the_job_in_pictures_large_enough(
    make_settings: Callable[..., Settings], keys: Path
) -> None:
    night = {"width": 128, "height": 128, "policies": {"singles_per_sku": 1, "pairs": 0}}
    marks = {"watermark": True, "watermark_key": keys / "watermark.key"}
    studio = governed(Studio(make_settings()).configured(**night), **marks)
    studio.learn("mug")
    studio.render()
    key = studio.home.marks.watermark_key
    assert key is not None
    found = pictures(studio)
    assert found
    for job, (row, png) in found.items():
        pixels = decode_png(png)
        assert wrong_bits(extract(pixels, key), payload_of(job, key)) <= 3
        assert row.pixels_sha256 == pixel_digest(pixels)  # of what is stored: mark included


def test_a_stored_picture_gets_what_it_lacks_and_nothing_twice(
    settings: Settings, keys: Path
) -> None:
    part = ProvenanceSettings.model_validate(signing(keys))
    governance = settings.governance.model_copy(update={"provenance": part})
    marks = PictureMarks(settings.model_copy(update={"governance": governance}))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    row = make_archive_row("job", "mug", mode="exact", real_pixels=0.5)
    old = encode_png(pixels)
    done = marks.completed(old, row)
    origin = read_origin(xmp_of(done))
    assert origin is not None
    assert (origin.source_type, origin.version) == (COMPOSITE, "")  # nobody knows which made it
    assert has_credentials(done)
    assert marks.completed(done, row) == done
    told = PictureMarks(settings).completed(old, row)
    assert told == PictureMarks(settings).completed(told, row) == with_xmp(old, xmp_packet(origin))
    new = PictureMarks(settings).mark(pixels, row).png
    assert read_picture(marks.completed(new, row)).xmp == xmp_of(new)


def test_a_signed_night_comes_back_whole_from_a_bucket(
    studio: Studio, keys: Path, s3_settings: Any
) -> None:
    archive = studio.settings.archive.model_copy(update={"s3": s3_settings})
    studio = Studio(studio.settings.model_copy(update={"archive": archive}))
    studio = governed(studio, **signing(keys))
    studio.learn("mug")
    studio.render()
    publish_manifest(studio.home, DAY)
    stored = pictures(Studio(studio.settings))
    assert stored
    anchor = (keys / "own/root.pem").read_text()
    for row, png in stored.values():
        found = read_credentials(png, PNG, [anchor])
        assert found is not None
        assert found.trusted
        assert row.pixels_sha256 == pixel_digest(decode_png(png))
    keys_before = studio.home.objects.list("")
    assert studio.render().rendered == 0
    assert studio.home.objects.list("") == keys_before
    assert open_home(studio.settings).archive.verify_day(DAY) == []
