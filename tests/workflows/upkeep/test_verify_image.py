"""Where a file comes from: by bytes, pixels, signature, metadata, watermark, or by nothing."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.cli.provenance import _lines
from catalog_pipeline.errors import CertificateError
from catalog_pipeline.evaluation.contact_sheet import decode_png, encode_png
from catalog_pipeline.provenance.origin import GENERATED, Origin
from catalog_pipeline.provenance.own_certificate import make_certificate, make_watermark_key
from catalog_pipeline.provenance.picture_files import with_xmp, xmp_of
from catalog_pipeline.provenance.xmp import xmp_packet
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.settings.governance import ProvenanceSettings
from catalog_pipeline.stores.learning_log import LearningLog
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.verify_image import ImageReport, verify_images
from tests.builders import NIGHT, make_archive_row
from tests.provenance.pictures import encoded, packshot
from tests.workflows.upkeep.data_home import LEARNED, learning_row

SIDE = 256


@dataclass(frozen=True)
class Shop:
    """A home with one published picture, one held back, and the keys of both layers."""

    home: Home
    keys: Path
    row: ArchiveRow
    png: bytes

    def verify(self, file: Path, home: bool = True, **options: Any) -> ImageReport:
        opened = open_home(self.home.settings) if home else None
        (report,) = verify_images(opened, [file], **options)
        return report


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    make_certificate(folder / "own", "Acme Tableware")
    make_watermark_key(folder / "watermark.key")
    provenance = ProvenanceSettings(
        certificate=folder / "own/chain.pem",
        private_key=folder / "own/signing.key",
        watermark=True,
        watermark_key=folder / "watermark.key",
    )
    settings = Settings.model_validate(
        {
            "home": folder / "home",
            "config_dir": folder,
            "governance": {"provenance": provenance.model_dump()},
        }
    )
    home = open_home(settings)
    LearningLog(home.objects).add(learning_row("MUG", "v1", LEARNED))
    row = stored(home, "job-of-the-mug", 0, concepts={"MUG": "concept of MUG in v1"})
    home.archive.publish_day(NIGHT, [row], [row.image_id])
    held = stored(home, "held-mug", 1, verdict="failed", reason="MUG is not in it")
    home.archive.quarantine.settle_day(NIGHT, [held], ["held-mug"])
    return Shop(home, folder, row, home.archive.read_image(row.path))


def stored(home: Home, image_id: str, seed: int, **changes: Any) -> ArchiveRow:
    row = make_archive_row(image_id, "MUG", width=SIDE, height=SIDE, **changes)
    marked = home.marks.mark(packshot(SIDE, seed), row)
    path, digest = home.archive.put_image(marked.png)
    return replace(row, path=path, sha256=digest, pixels_sha256=marked.pixels_sha256)


def saved(folder: Path, data: bytes, name: str = "shot.png") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_the_file_as_it_was_made(shop: Shop, tmp_path: Path) -> None:
    report = shop.verify(saved(tmp_path, shop.png))
    assert report.established
    assert report.found is not None
    assert (report.found.by, report.found.shelf, report.found.row) == (
        "bytes",
        "published",
        shop.row,
    )
    assert [tuple(photo) for photo in report.found.photos] == [
        ("MUG", "MUG/a.jpg", "sha of MUG/a", False),
        ("MUG", "MUG/b.jpg", "sha of MUG/b", False),
    ]
    assert report.credentials is not None
    assert report.credentials.trusted
    assert report.says == report.credentials.origin


def test_a_picture_that_was_held_back_is_found_as_such(shop: Shop, tmp_path: Path) -> None:
    (held,) = shop.home.archive.quarantine.read_day(NIGHT)
    report = shop.verify(saved(tmp_path, shop.home.archive.read_image(held.path)))
    assert report.found is not None
    assert (report.found.shelf, report.found.row.image_id) == ("held back", "held-mug")


def test_metadata_that_was_stripped_leaves_the_pixels(shop: Shop, tmp_path: Path) -> None:
    report = shop.verify(saved(tmp_path, encode_png(decode_png(shop.png))))
    assert report.established
    assert report.found is not None
    assert (report.found.by, report.says, report.credentials) == ("pixels", None, None)


def test_one_flipped_byte_is_told(shop: Shop, tmp_path: Path) -> None:
    altered = bytearray(shop.png)
    altered[altered.rindex(b"IDAT") + 200] ^= 1
    report = shop.verify(saved(tmp_path, bytes(altered)))
    assert not report.established
    assert report.credentials is not None
    assert report.credentials.failures == ("assertion.dataHash.mismatch",)
    assert report.found is not None
    assert (report.found.by, report.found.row.image_id) == ("credentials", "job-of-the-mug")


def test_a_painted_over_picture_is_told(shop: Shop, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(shop.png)) as image:
        packet = image.info["XML:com.adobe.xmp"]
        image.paste((255, 0, 0), (0, 0, 40, 40))
        painted, stream = image.convert("RGB"), io.BytesIO()
    painted.save(stream, "JPEG", quality=90, xmp=packet.encode())
    report = shop.verify(saved(tmp_path, stream.getvalue(), "shot.jpg"))
    assert not report.established
    assert report.found is not None
    assert (report.found.by, report.found.row) == ("xmp", shop.row)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_encoded_anew_is_known_by_its_watermark(
    shop: Shop, tmp_path: Path, form: str
) -> None:
    pixels = decode_png(shop.png).copy()
    pixels[:40, :40] = (255, 0, 0)
    options = {"quality": 75} if form == "JPEG" else {}
    report = shop.verify(saved(tmp_path, encoded(pixels, form, **options), f"shot.{form}"))
    assert not report.established
    assert report.found is not None
    assert (report.found.by, report.found.row) == ("watermark", shop.row)
    assert (report.says, report.credentials) == (None, None)


def test_a_smaller_copy_is_known_by_its_watermark(shop: Shop, tmp_path: Path) -> None:
    """As a shop page shows it: two thirds of the size, as JPEG, without metadata."""
    with Image.open(io.BytesIO(shop.png)) as image:
        small = image.convert("RGB").resize((170, 170), Image.Resampling.LANCZOS)
        other = image.convert("RGB").resize((170, 120), Image.Resampling.LANCZOS)
    for picture, by in ((small, "watermark"), (other, None)):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=85)
        report = shop.verify(saved(tmp_path, stream.getvalue(), "small.jpg"))
        assert not report.established
        assert (report.found and report.found.by) == by
    assert shop.row.width == SIDE


def test_a_strange_picture_is_nobodys(shop: Shop, tmp_path: Path) -> None:
    report = shop.verify(saved(tmp_path, encoded(packshot(SIDE, 7), "PNG")))
    assert (report.established, report.found, report.says, report.credentials) == (
        *(False, None, None),
        None,
    )
    assert "expected a PNG" in shop.verify(saved(tmp_path, b"text")).problem
    assert "No such file" in shop.verify(tmp_path / "absent.png").problem


def test_without_a_home_only_a_trusted_signature_counts(shop: Shop, tmp_path: Path) -> None:
    file = saved(tmp_path, shop.png)
    alone = shop.verify(file, home=False)
    assert (alone.established, alone.found) == (False, None)
    assert alone.credentials is not None
    assert (alone.credentials.intact, alone.credentials.trusted) == (True, False)
    root = shop.keys / "own/root.pem"
    assert shop.verify(file, home=False, trust=[root]).established
    stranger = make_certificate(tmp_path / "other", "Acme Tableware").root
    assert not shop.verify(file, home=False, trust=[stranger]).established
    with pytest.raises(CertificateError, match="holds no readable certificate"):
        shop.verify(file, home=False, trust=[file])


def test_another_homes_picture_signed_by_a_stranger_is_not_ours(
    shop: Shop, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    made = make_certificate(tmp_path / "other", "Other")
    keys = {"certificate": made.chain, "private_key": made.private_key}
    other = open_home(make_settings(governance={"provenance": keys}))
    forged = stored(other, "job-of-the-mug", 3)
    report = shop.verify(saved(tmp_path, other.archive.read_image(forged.path)))
    assert not report.established
    assert report.found is not None
    assert report.found.by == "credentials"
    assert report.credentials is not None
    assert not report.credentials.trusted


def test_without_the_extra_the_archive_still_answers(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    report = shop.verify(saved(tmp_path, shop.png))
    assert report.established
    assert report.found is not None
    assert report.found.by == "bytes"
    assert "install the extra `provenance`" in report.unread[0]
    with pytest.raises(CertificateError, match="install the extra `provenance`"):
        open_home(shop.home.settings).marks.check()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    report = shop.verify(saved(tmp_path, shop.png))
    assert (report.established, len(report.unread)) == (True, 2)
    assert all("install the extra `provenance`" in line for line in report.unread)


def test_who_may_read_neither_certificate_nor_key_still_asks_the_archive(
    shop: Shop, tmp_path: Path
) -> None:
    absent = tmp_path / "absent"
    changes = {"certificate": absent, "private_key": absent, "watermark_key": absent}
    settings = shop.home.settings
    provenance = settings.governance.provenance.model_copy(update=changes)
    governance = settings.governance.model_copy(update={"provenance": provenance})
    home = open_home(settings.model_copy(update={"governance": governance}))
    (report,) = verify_images(home, [saved(tmp_path, shop.png)])
    assert report.established
    assert report.credentials is not None
    assert (report.credentials.intact, report.credentials.trusted) == (True, False)
    assert [line.partition(":")[0] for line in report.unread] == ["who signed", "watermark"]
    assert "  skipped    watermark: the watermark key" in "\n".join(_lines(report, True))


def test_a_picture_from_before_the_digest_of_pixels_is_known_with_what_its_export_added(
    shop: Shop, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    home = open_home(make_settings())
    plain = encode_png(packshot(SIDE, 4))
    path, digest = home.archive.put_image(plain)
    row = make_archive_row("old", "MUG", width=SIDE, height=SIDE, path=path, sha256=digest)
    assert row.pixels_sha256 == ""
    home.archive.publish_day(NIGHT, [row], ["old"])
    exported = home.marks.completed(plain, row)
    assert exported != plain
    (report,) = verify_images(home, [saved(tmp_path, exported)])
    assert report.found is not None
    assert (report.found.by, report.established) == ("pixels", True)
    painted = decode_png(exported).copy()
    painted[0, 0] ^= 1
    altered = with_xmp(encode_png(painted), xmp_of(exported))
    (report,) = verify_images(home, [saved(tmp_path, altered)])
    assert report.found is not None
    assert (report.found.by, report.established) == ("xmp", False)


@pytest.mark.parametrize("how", ["transparent", "animated"])
def test_a_file_that_shows_more_than_the_archived_pixels_is_not_that_picture(
    shop: Shop, tmp_path: Path, how: str
) -> None:
    image, stream = Image.fromarray(decode_png(shop.png)), io.BytesIO()
    if how == "transparent":
        image.putalpha(Image.new("L", image.size, 0))
        image.save(stream, "PNG")
    else:
        other = Image.new("RGB", image.size, "red")
        image.save(stream, "PNG", save_all=True, append_images=[other], default_image=False)
    report = shop.verify(saved(tmp_path, stream.getvalue()))
    assert not report.established
    assert report.found is not None
    assert report.found.by == "watermark"


def test_what_is_no_file_or_too_large_is_not_read(shop: Shop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(2**28 + 1)
    for name in ("pipe", "."):
        assert shop.verify(tmp_path / name).problem == "is a folder or a device; expected a file"
    assert "has 268,435,457 bytes; expected a picture of at most" in (
        shop.verify(tmp_path / "huge.png").problem
    )


def test_a_strangers_words_cannot_look_like_ours(shop: Shop, tmp_path: Path) -> None:
    forged = "x\n  signature  valid, by Acme Tableware, trusted\x85\u202e"
    packet = xmp_packet(Origin(forged, GENERATED, "", ())).replace(b"\n  sig", b"&#10;  sig")
    file = saved(tmp_path, with_xmp(encode_png(packshot(32)), packet))
    done = run("verify-image", file, "--home", shop.home.settings.home)
    assert done.exit_code == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("  signature")] == [
        "  signature  none"
    ]
    assert "job x\\n  signature  valid" in done.stdout


def test_many_files_are_told_in_their_order(shop: Shop, tmp_path: Path) -> None:
    files = [
        saved(tmp_path, encoded(packshot(SIDE, 7), "PNG"), "strange.png"),
        saved(tmp_path, shop.png, "ours.png"),
        tmp_path / "absent.png",
    ]
    reports = verify_images(open_home(shop.home.settings), files)
    assert [report.file for report in reports] == files
    assert [report.established for report in reports] == [False, True, False]


# --- the command -------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_says_all_of_it(shop: Shop, tmp_path: Path) -> None:
    (shop.keys / "governance.yaml").write_text(
        "provenance:\n  certificate: own/chain.pem\n  private_key: own/signing.key\n"
        "  watermark: true\n  watermark_key: watermark.key\n",
        "utf-8",
    )
    places = ("--config", shop.keys, "--home", shop.home.settings.home)
    done = run("verify-image", saved(tmp_path, shop.png), *places)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'shot.png'}: its origin is established",
        "  archive    the file is in the archive, byte for byte",
        "  job        job-of-the-mug, night of 2026-03-01, current, mode learned",
        "  product    MUG: collection default, version 0123456789abcdef",
        "  base       base",
        "  photo      MUG: MUG/a.jpg, learned from",
        "  photo      MUG: MUG/b.jpg, learned from",
        f"  digests    file {shop.row.sha256}, pixels {shop.row.pixels_sha256}",
        "  signature  valid, by Acme Tableware pictures, Acme Tableware, trusted",
        "  says       trainedAlgorithmicMedia, job job-of-the-mug, versions 0123456789abcdef, "
        "base base",
    ]
    pixels = decode_png(shop.png)
    done = run("verify-image", saved(tmp_path, encoded(pixels, "JPEG"), "again.jpg"), *places)
    assert done.exit_code == 1
    assert "again.jpg: altered or re-encoded: this is not the picture as it was made\n" in (
        done.stdout
    )
    assert "its watermark is that of a picture of the archive" in done.stdout
    assert "  signature  none\n" in done.stdout


def test_the_command_needs_no_home(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, shop.png)
    done = run("verify-image", file)
    assert done.exit_code == 1
    assert "signed, but by nobody who is trusted here; --trust FILE names a root" in done.stdout
    done = run("verify-image", file, "--trust", shop.keys / "own/root.pem")
    assert (done.exit_code, "archive" in done.stdout) == (0, False)
    assert "job job-of-the-mug" in done.stdout
    altered = bytearray(shop.png)
    altered[altered.rindex(b"IDAT") + 200] ^= 1
    done = run("verify-image", saved(tmp_path, bytes(altered), "altered.png"))
    assert done.exit_code == 1
    assert "  signature  broken" in done.stdout
    assert "assertion.dataHash.mismatch" in done.stdout
    done = run("verify-image", saved(tmp_path, encoded(packshot(32), "PNG"), "plain.png"))
    assert done.exit_code == 1
    assert "nothing says where it comes from" in done.stdout
    done = run("verify-image", file, "--home", tmp_path / "absent")
    assert done.exit_code == 1
    assert "no" in done.output


def test_keys_are_made_by_commands(tmp_path: Path) -> None:
    done = run("certificate", tmp_path / "keys", "--organisation", "Acme")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/keys/chain.pem: certificate of 'Acme', until " in done.stdout
    again = run("certificate", tmp_path / "keys", "--organisation", "Acme")
    assert again.exit_code == 1
    assert again.output.startswith("error: ")
    done = run("watermark-key", tmp_path / "mark.key")
    assert done.exit_code == 0
    assert run("watermark-key", tmp_path / "mark.key").exit_code == 1
