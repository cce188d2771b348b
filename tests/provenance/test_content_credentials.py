"""Signed files are read by the C2PA reader, altered ones are told, and no network is asked."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog_pipeline.errors import CertificateError
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.provenance import content_credentials
from catalog_pipeline.provenance.certificates import SigningCertificate, load_certificate
from catalog_pipeline.provenance.content_credentials import PictureSigner, read_credentials
from catalog_pipeline.provenance.origin import Origin
from catalog_pipeline.provenance.own_certificate import make_certificate
from catalog_pipeline.provenance.picture_files import PNG, has_credentials, with_xmp, xmp_of
from catalog_pipeline.provenance.xmp import xmp_packet
from tests.provenance.pictures import ORIGIN, PLACED, decoded, encoded, scene

PIXELS = scene(64)
UNSIGNED = with_xmp(encode_png(PIXELS), xmp_packet(ORIGIN))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python's own sockets; the library's are kept away by its settings."""

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SigningCertificate:
    made = make_certificate(tmp_path_factory.mktemp("own") / "acme", "Acme Tableware")
    return load_certificate(made.chain, made.private_key)


@pytest.fixture(scope="module")
def signer(certificate: SigningCertificate) -> PictureSigner:
    return PictureSigner(certificate)


@pytest.mark.parametrize("origin", [ORIGIN, PLACED, replace(ORIGIN, version="")])
def test_the_reader_finds_signer_and_origin(
    signer: PictureSigner, certificate: SigningCertificate, origin: Origin
) -> None:
    signed = signer.sign(UNSIGNED, PNG, origin)
    found = read_credentials(signed, PNG, [certificate.anchor])
    assert found is not None
    assert (found.intact, found.trusted, found.failures) == (True, True, ())
    assert "Acme Tableware" in found.signer
    assert found.origin == origin


def test_signing_leaves_pixels_and_metadata_alone(signer: PictureSigner) -> None:
    signed = signer.sign(UNSIGNED, PNG, ORIGIN)
    np.testing.assert_array_equal(decoded(signed), PIXELS)
    assert xmp_of(signed) == xmp_packet(ORIGIN)
    assert has_credentials(signed)
    assert not has_credentials(UNSIGNED)
    assert 5_000 < len(signed) - len(UNSIGNED) < 20_000
    assert signer.sign(UNSIGNED, PNG, ORIGIN) != signed  # two signings differ


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_other_forms_are_signed_too(
    signer: PictureSigner, certificate: SigningCertificate, form: str
) -> None:
    media_type = f"image/{form.lower()}"
    signed = signer.sign(encoded(PIXELS, form), media_type, ORIGIN)
    found = read_credentials(signed, media_type, [certificate.anchor])
    assert found is not None
    assert (found.trusted, found.origin) == (True, ORIGIN)


def test_a_signer_whom_nobody_trusts_is_intact_but_not_trusted(
    signer: PictureSigner, tmp_path: Path
) -> None:
    signed = signer.sign(UNSIGNED, PNG, ORIGIN)
    stranger = make_certificate(tmp_path / "other", "Acme Tableware").root.read_text()
    for anchors in ([], [stranger]):
        found = read_credentials(signed, PNG, anchors)
        assert found is not None
        assert (found.intact, found.trusted, found.origin) == (True, False, ORIGIN)


@pytest.mark.parametrize("where", ["pixels", "metadata"])
def test_one_flipped_byte_is_told(
    signer: PictureSigner, certificate: SigningCertificate, where: str
) -> None:
    signed = bytearray(signer.sign(UNSIGNED, PNG, ORIGIN))
    place = signed.rindex(b"IDAT") + 40 if where == "pixels" else signed.index(b"JobId") + 8
    signed[place] ^= 1
    found = read_credentials(bytes(signed), PNG, [certificate.anchor])
    assert found is not None
    assert (found.intact, found.trusted) == (False, False)
    assert found.failures == ("assertion.dataHash.mismatch",)


def test_a_file_without_or_with_rotten_credentials(
    signer: PictureSigner, certificate: SigningCertificate
) -> None:
    assert read_credentials(UNSIGNED, PNG, [certificate.anchor]) is None
    assert read_credentials(encoded(PIXELS, "JPEG"), "image/jpeg") is None
    signed = bytearray(signer.sign(UNSIGNED, PNG, ORIGIN))
    place = signed.index(b"jumb")
    signed[place : place + 40] = bytes(40)
    found = read_credentials(bytes(signed), PNG, [certificate.anchor])
    assert found is not None
    assert not found.intact
    assert found.failures


@pytest.mark.parametrize("said", ["text", [1], 5, {"adapter_versions": 5}, {"job_id": {"a": 1}}])
def test_what_a_stranger_puts_under_our_label_is_read_without_harm(
    certificate: SigningCertificate, monkeypatch: pytest.MonkeyPatch, said: object
) -> None:
    honest = content_credentials._manifest

    def forged(origin: Origin) -> dict[str, Any]:
        manifest = honest(origin)
        manifest["assertions"][1]["data"] = said
        return manifest

    monkeypatch.setattr(content_credentials, "_manifest", forged)
    signed = PictureSigner(certificate).sign(UNSIGNED, PNG, ORIGIN)
    found = read_credentials(signed, PNG, [certificate.anchor])
    assert found is not None
    assert found.trusted
    assert (found.origin is None) == (not isinstance(said, dict))


def test_a_signature_whose_certificate_has_ended_is_told_from_a_broken_one(
    tmp_path: Path,
) -> None:
    """The archive outlives certificates: what it has byte for byte is not altered."""
    almost = datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=2)
    made = make_certificate(tmp_path / "short", "Acme", days=1, now=almost)
    short = load_certificate(made.chain, made.private_key)
    signed = PictureSigner(short).sign(UNSIGNED, PNG, ORIGIN)
    while datetime.now(UTC) < short.ends_utc + timedelta(seconds=1):
        time.sleep(0.1)
    found = read_credentials(signed, PNG, [short.anchor])
    assert found is not None
    assert (found.intact, found.trusted, found.expired) == (True, False, True)
    assert found.origin == ORIGIN


def test_a_certificate_that_has_ended_signs_nothing_more(certificate: SigningCertificate) -> None:
    ended = replace(certificate, ends_utc=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(CertificateError, match=r"ended on .* expected one in force"):
        PictureSigner(ended).sign(UNSIGNED, PNG, ORIGIN)
