"""What signs pictures is looked at in full before the first one."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from catalog_pipeline.errors import CertificateError, ConfigurationError
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.provenance.certificates import load_certificate, read_anchors
from catalog_pipeline.provenance.content_credentials import PictureSigner, read_credentials
from catalog_pipeline.provenance.own_certificate import (
    MadeCertificate,
    make_certificate,
    make_watermark_key,
    read_watermark_key,
)
from catalog_pipeline.provenance.picture_files import PNG
from tests.provenance.pictures import ORIGIN, scene


@pytest.fixture
def made(tmp_path: Path) -> MadeCertificate:
    return make_certificate(tmp_path / "own", "Acme Tableware")


def test_what_is_made_can_be_used_and_is_kept_from_others(made: MadeCertificate) -> None:
    loaded = load_certificate(made.chain, made.private_key)
    assert loaded.signer == "Acme Tableware pictures, Acme Tableware"
    assert loaded.algorithm == "ES256"
    assert loaded.anchor == made.root.read_text() == read_anchors(made.chain)
    assert loaded.chain == made.chain.read_text()
    assert abs(loaded.ends_utc - datetime.now(UTC) - timedelta(days=1095)) < timedelta(minutes=5)
    for key in (made.private_key, made.root_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert "PRIVATE KEY" in key.read_text()


def test_nothing_is_overwritten(made: MadeCertificate) -> None:
    before = {path.name: path.read_bytes() for path in made.chain.parent.iterdir()}
    assert len(before) == 4
    with pytest.raises(CertificateError, match=r"holds chain\.pem, signing\.key, root\.pem"):
        make_certificate(made.chain.parent, "Acme Tableware")
    assert {path.name: path.read_bytes() for path in made.chain.parent.iterdir()} == before


@pytest.mark.parametrize("organisation", ["", "x" * 200])
def test_a_name_that_no_certificate_can_have_is_refused(tmp_path: Path, organisation: str) -> None:
    with pytest.raises(CertificateError, match="cannot stand in a certificate"):
        make_certificate(tmp_path / "own", organisation)
    assert not (tmp_path / "own").exists()


def test_an_expired_or_a_future_certificate_is_refused(
    made: MadeCertificate, tmp_path: Path
) -> None:
    late = datetime.now(UTC) + timedelta(days=1096)
    with pytest.raises(CertificateError, match=r"is valid from .* expected one in force; renew it"):
        load_certificate(made.chain, made.private_key, late)
    early = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(CertificateError, match="expected one in force"):
        load_certificate(made.chain, made.private_key, early)
    old = make_certificate(
        tmp_path / "old", "Acme", days=30, now=datetime.now(UTC) - timedelta(days=31)
    )
    with pytest.raises(CertificateError, match=r"'Acme pictures, Acme' in .* is valid from"):
        load_certificate(old.chain, old.private_key)
    assert read_anchors(old.chain) == old.root.read_text()


def test_the_key_of_another_is_refused(made: MadeCertificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other", "Acme Tableware")
    with pytest.raises(CertificateError, match="is not that of the certificate"):
        load_certificate(made.chain, other.private_key)
    mixed = tmp_path / "mixed.pem"
    leaf = made.chain.read_text().partition("-----END CERTIFICATE-----\n")
    mixed.write_text(leaf[0] + leaf[1] + other.root.read_text())
    with pytest.raises(CertificateError, match="has not issued 'Acme Tableware pictures"):
        load_certificate(mixed, made.private_key)


def test_a_chain_of_one_and_one_in_the_wrong_order_are_refused(
    made: MadeCertificate, tmp_path: Path
) -> None:
    with pytest.raises(CertificateError, match="holds one certificate alone"):
        load_certificate(made.root, made.root_key)
    first, end, second = made.chain.read_text().partition("-----END CERTIFICATE-----\n")
    swapped = tmp_path / "swapped.pem"
    swapped.write_text(second + first + end)
    with pytest.raises(CertificateError, match="is not that of the certificate"):
        load_certificate(swapped, made.private_key)
    with pytest.raises(CertificateError, match="expected the signing certificate first"):
        load_certificate(swapped, made.root_key)


def test_files_that_are_none_say_so(made: MadeCertificate, tmp_path: Path) -> None:
    absent, text = tmp_path / "absent.pem", tmp_path / "text.pem"
    text.write_text("a note")
    for certificate, key, said in (
        (absent, made.private_key, "the certificate .*absent.pem cannot be read: No such file"),
        (made.chain, absent, "the private key .*absent.pem cannot be read: No such file"),
        (text, made.private_key, "holds no readable certificate"),
        (made.chain, text, "holds no readable private key"),
        (tmp_path, made.private_key, "cannot be read: Is a directory"),
    ):
        with pytest.raises(CertificateError, match=said):
            load_certificate(certificate, key)


def test_an_encrypted_key_is_refused_with_what_to_do(made: MadeCertificate, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = tmp_path / "sealed.key"
    password = BestAvailableEncryption(b"password")
    sealed.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, password))
    with pytest.raises(CertificateError, match="is encrypted; expected one without a password"):
        load_certificate(made.chain, sealed)


def test_a_key_that_everybody_may_read_is_refused(made: MadeCertificate, tmp_path: Path) -> None:
    made.private_key.chmod(0o644)
    with pytest.raises(CertificateError, match=r"has the mode 0644: .* run `chmod 600 .*signing"):
        load_certificate(made.chain, made.private_key)
    made.private_key.chmod(0o640)  # the group of the service
    assert load_certificate(made.chain, made.private_key).algorithm == "ES256"
    make_watermark_key(tmp_path / "mark.key")
    (tmp_path / "mark.key").chmod(0o604)
    with pytest.raises(ConfigurationError, match=r"mark.key has the mode 0604: everybody"):
        read_watermark_key(tmp_path / "mark.key")


def test_without_the_package_every_door_says_what_to_install(
    made: MadeCertificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for door in (
        lambda: load_certificate(made.chain, made.private_key),
        lambda: read_anchors(made.root),
        lambda: make_certificate(tmp_path / "more", "Acme"),
    ):
        with pytest.raises(CertificateError, match="install the extra `provenance`"):
            door()


def issued(folder: Path, made: MadeCertificate, key, *extensions: x509.ExtensionType) -> Path:
    """A chain for ``key``, issued by the root of ``made``, and the key beside it."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    root = x509.load_pem_x509_certificate(made.root.read_bytes())
    root_key = load_pem_private_key(made.root_key.read_bytes(), None)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Press office")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    leaf = builder.sign(root_key, SHA256())
    chain = folder / "chain.pem"
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + made.root.read_bytes())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "signing.key").touch(0o600)
    (folder / "signing.key").write_bytes(pem)
    return chain


def usable(made: MadeCertificate) -> tuple[x509.ExtensionType, ...]:
    root = x509.load_pem_x509_certificate(made.root.read_bytes())
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    more = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    usage = x509.KeyUsage(digital_signature=True, **dict.fromkeys((*names, *more), False))
    return (
        usage,
        x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")]),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
    )


def test_a_certificate_for_web_servers_does_not_sign_pictures(
    made: MadeCertificate, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    server = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    chain = issued(tmp_path, made, key, server)
    lacks = (
        "'Press office' in .* lacks key usage digitalSignature, extended key usage "
        "emailProtection or documentSigning, an authority key identifier"
    )
    with pytest.raises(CertificateError, match=lacks):
        load_certificate(chain, tmp_path / "signing.key")


@pytest.mark.parametrize(
    ("make_key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (lambda: rsa.generate_private_key(65537, 2048), "PS256"),
    ],
)
def test_a_companys_own_certificate_may_have_another_kind_of_key(
    made: MadeCertificate, tmp_path: Path, make_key, algorithm: str
) -> None:
    chain = issued(tmp_path, made, make_key(), *usable(made))
    loaded = load_certificate(chain, tmp_path / "signing.key")
    assert (loaded.algorithm, loaded.signer) == (algorithm, "Press office")
    signed = PictureSigner(loaded).sign(encode_png(scene(16)), PNG, ORIGIN)
    found = read_credentials(signed, PNG, [loaded.anchor])
    assert found is not None
    assert (found.trusted, found.signer, found.origin) == (True, "Press office", ORIGIN)


def test_a_key_that_signs_no_pictures_is_refused(made: MadeCertificate, tmp_path: Path) -> None:
    chain = issued(tmp_path, made, ed25519.Ed25519PrivateKey.generate(), *usable(made))
    with pytest.raises(CertificateError, match="expected P-256, P-384 or RSA of at least 2048"):
        load_certificate(chain, tmp_path / "signing.key")


def test_a_watermark_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "watermark.key"
    make_watermark_key(file)
    key = read_watermark_key(file)
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="is there already"):
        make_watermark_key(file)
    assert read_watermark_key(file) == key
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        make_watermark_key(tmp_path / "absent" / "key")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_watermark_key(tmp_path / "absent.key")
    for text in ("", "00" * 31, "no hex", "ff" * 33):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match="is not 32 bytes in hex"):
            read_watermark_key(file)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CertificateError, match="cannot be written: Not a directory"):
        make_certificate(tmp_path / "file" / "own", "Acme")
