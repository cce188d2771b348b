"""A certificate authority of a deployment's own, for who has none to ask, and secret keys."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.errors import CertificateError, ConfigurationError
from catalog_pipeline.provenance.certificates import open_to_all, require_cryptography

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

SIGNING_DAYS = 1095
_ROOT_DAYS = 3653
_CLOCKS_DIFFER = timedelta(hours=1)
"""Validity begins so much earlier, for verifiers whose clock is behind."""
_KEY_BYTES = 32


@dataclass(frozen=True)
class MadeCertificate:
    """Where :func:`make_certificate` put what it made, and until when pictures can be signed."""

    chain: Path
    private_key: Path
    root: Path
    root_key: Path
    ends_utc: datetime


def make_certificate(
    folder: Path, organisation: str, *, days: int = SIGNING_DAYS, now: datetime | None = None
) -> MadeCertificate:
    """Make a root and a signing certificate that it has issued, both of P-256 keys.

    Writes ``chain.pem`` and ``signing.key`` for the settings, ``root.pem`` for verifiers, and
    ``root.key``, which could issue the next signing certificate and belongs somewhere safe. Keys
    can be read by their owner alone. Nothing that is there is overwritten.

    Args:
        folder: made where it is absent.
        organisation: whom verifiers see.
        days: how long the signing certificate is valid; the root lasts ten years, or as long.
        now: when both begin, with a zone; default the present.

    Raises:
        CertificateError: cryptography is not installed, ``organisation`` is blank or too long, a
            file of these names is there, or the folder cannot be written.
    """
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    begins = (now or datetime.now(UTC)) - _CLOCKS_DIFFER
    ends = begins + _CLOCKS_DIFFER + timedelta(days=days)
    chain, signing, anchor, secret = (
        folder / name for name in ("chain.pem", "signing.key", "root.pem", "root.key")
    )
    made = MadeCertificate(chain, signing, anchor, secret, ends)
    taken = [path.name for path in (chain, signing, anchor, secret) if path.exists()]
    if taken:
        raise CertificateError(
            f"{folder} holds {', '.join(taken)} already; expected a folder without: what was "
            "signed is verified with its old root; give another folder"
        )
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_ends = max(ends, begins + timedelta(days=_ROOT_DAYS))
    root = _root(_subject(organisation, "root of pictures"), root_key, begins, root_ends)
    leaf = _leaf(_subject(organisation, "pictures"), key, root, root_key, begins, ends)
    root_pem, leaf_pem = (one.public_bytes(Encoding.PEM) for one in (root, leaf))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_secret(made.root_key, _pem(root_key))
        _write_secret(made.private_key, _pem(key))
        made.root.write_bytes(root_pem)
        made.chain.write_bytes(leaf_pem + root_pem)
    except OSError as error:
        raise CertificateError(
            f"{folder} cannot be written: {error.strerror}; give another folder"
        ) from error
    return made


def make_watermark_key(file: Path) -> None:
    """Write 32 random bytes as hex into ``file``, which its owner alone can read.

    Raises:
        ConfigurationError: ``file`` is there, or cannot be written.
    """
    try:
        _write_secret(file, secrets.token_hex(_KEY_BYTES).encode() + b"\n")
    except FileExistsError as error:
        raise ConfigurationError(
            f"{file} is there already; pictures that it has marked need it for ever; give another"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}; give another"
        ) from error


def read_watermark_key(file: Path) -> bytes:
    """The key in ``file``.

    Raises:
        ConfigurationError: it cannot be read, is everybody's, or is not 32 bytes in hex.
    """
    try:
        problem = open_to_all(file)
        key = bytes.fromhex(file.read_text("ascii").strip())
    except OSError as error:
        raise ConfigurationError(
            f"the watermark key {file} cannot be read: {error.strerror}; correct governance.yaml: "
            "provenance.watermark_key, or make one with `catalog-pipeline watermark-key`"
        ) from error
    except ValueError as error:
        raise ConfigurationError(_no_key(file)) from error
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(_no_key(file))
    if problem:
        raise ConfigurationError(f"the watermark key {file} {problem}")
    return key


def _no_key(file: Path) -> str:
    return (
        f"the watermark key {file} is not {_KEY_BYTES} bytes in hex; make one with "
        "`catalog-pipeline watermark-key FILE`"
    )


def _root(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    builder = _builder(name, name, key, begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_usage(key_cert_sign=True), critical=True).sign(key, SHA256())


def _leaf(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    builder = _builder(name, root.subject, key, begins, ends)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        (issuer, False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(root_key, SHA256())


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(organisation: str, what: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        if not organisation.strip():
            raise ValueError("it is blank")
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{organisation} {what}"),
            ]
        )
    except ValueError as error:
        raise CertificateError(
            f"{organisation!r} cannot stand in a certificate ({error}); expected 1 to 40 letters"
        ) from error


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_secret(file: Path, data: bytes) -> None:
    """A new file that its owner alone can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
