"""What pictures are signed with: a chain of certificates and the key of the first of them.

A deployment signs with its own: a chain that the company's certificate authority has issued, or
one that ``own_certificate`` makes. Everything that a verifier would object to later is refused
when the chain is loaded, which is before the first picture of a night.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.errors import CertificateError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

SIGNING_USES = {
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
}
"""Extended key usages, any of which lets a certificate sign pictures."""

_LEAST_RSA_BITS = 2048
_ADVICE = "docs/governance/provenance.md says what is needed"
INSTALL = "install the extra `provenance` (pip install 'catalog-pipeline[provenance]')"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class SigningCertificate:
    """A chain that was found good, and how to sign with its key.

    Attributes:
        chain: PEM, the signing certificate first.
        anchor: PEM of the last certificate of the chain, which a verifier has to trust.
        algorithm: ``ES256``, ``ES384`` or ``PS256``, by the kind of key.
        signer: whom the signing certificate names.
        ends_utc: when the first of the chain's certificates ends.
        sign: the signature of some bytes.
    """

    chain: str
    anchor: str
    algorithm: str
    signer: str
    ends_utc: datetime
    sign: Sign


def load_certificate(
    certificate: Path, private_key: Path, now: datetime | None = None
) -> SigningCertificate:
    """The chain in ``certificate`` with the key in ``private_key``, both PEM.

    Args:
        certificate: the signing certificate first, then its issuers, up to the root.
        private_key: not encrypted, in a file that is not everybody's; P-256, P-384, or RSA of at
            least 2048 bits.
        now: the time at which all are to be valid, with a zone; default the present.

    Raises:
        CertificateError: a file cannot be read, the key is another's or open to everybody, a
            certificate is not valid at ``now``, the chain does not lead from issuer to issuer, or
            C2PA would not take it.
    """
    require_cryptography()
    from cryptography.hazmat.primitives.serialization import Encoding

    chain, key = _read_chain(certificate), _read_key(private_key)
    leaf = chain[0]
    if key.public_key() != leaf.public_key():
        raise CertificateError(
            f"the key in {private_key} is not that of the certificate in {certificate} "
            f"({_name(leaf)}); expected a pair; correct certificate or private_key"
        )
    _check_validity(chain, certificate, now or datetime.now(UTC))
    _check_order(chain, certificate)
    _check_use(leaf, certificate)
    algorithm, sign = _signing(key, private_key)
    return SigningCertificate(
        chain=_as_pem(chain),
        anchor=chain[-1].public_bytes(Encoding.PEM).decode(),
        algorithm=algorithm,
        signer=_name(leaf),
        ends_utc=min(one.not_valid_after_utc for one in chain),
        sign=sign,
    )


def read_anchors(file: Path) -> str:
    """The roots among the certificates in ``file`` as PEM, else the last: whom to trust.

    Raises:
        CertificateError: the file cannot be read, or holds no certificate; or cryptography is not
            installed.
    """
    require_cryptography()
    found = _read_chain(file)
    return _as_pem([one for one in found if one.issuer == one.subject] or found[-1:])


def require_cryptography() -> None:
    """Raises CertificateError where the package that reads and makes certificates is missing."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise CertificateError(
            f"certificates need the package cryptography, which is not installed; {INSTALL}"
        ) from error


def open_to_all(file: Path) -> str:
    """What is wrong with the mode of a file that holds a secret; empty where nothing is.

    A group may have it: a service and the operators who made it share one.

    Raises:
        OSError: it cannot be looked at.
    """
    mode = stat.S_IMODE(file.stat().st_mode)
    if not mode & stat.S_IRWXO:
        return ""
    return f"has the mode {mode:04o}: everybody on this machine may use it; run `chmod 600 {file}`"


def _as_pem(chain: Sequence[x509.Certificate]) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in chain).decode()


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{what} {file} cannot be read: {error.strerror}; expected a PEM file; correct "
            "governance.yaml: provenance, or make one with `catalog-pipeline certificate`"
        ) from error


def _read_chain(file: Path) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(_read(file, "the certificate"))
    except ValueError as error:
        raise CertificateError(
            f"{file} holds no readable certificate ({error}); expected PEM, the signing "
            f"certificate first and its root last; {_ADVICE}"
        ) from error


def _read_key(file: Path) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(file, "the private key"), password=None)
    except TypeError as error:
        raise CertificateError(
            f"the private key {file} is encrypted; expected one without a password, in a file "
            "that only this program's user can read; decrypt it there"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{file} holds no readable private key; expected PEM; {_ADVICE}"
        ) from error
    if problem := open_to_all(file):
        raise CertificateError(f"the private key {file} {problem}")
    return key


def _check_validity(chain: Sequence[x509.Certificate], file: Path, moment: datetime) -> None:
    for one in chain:
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if not begins <= moment <= ends:
            raise CertificateError(
                f"the certificate {_name(one)!r} in {file} is valid from {begins:%Y-%m-%d} to "
                f"{ends:%Y-%m-%d}, and it is {moment:%Y-%m-%d}; expected one in force; renew it"
            )


def _check_order(chain: Sequence[x509.Certificate], file: Path) -> None:
    from cryptography.exceptions import InvalidSignature

    if len(chain) == 1:
        raise CertificateError(
            f"{file} holds one certificate alone ({_name(chain[0])!r}); expected that of the key "
            "and then its issuers, the root last, since what signs itself is not taken by "
            f"verifiers; {_ADVICE}"
        )
    for issued, issuer in pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(
                f"{_name(issuer)!r} in {file} has not issued {_name(issued)!r}, which stands "
                "before it; expected the signing certificate first, each followed by its issuer"
            ) from error


def _check_use(leaf: x509.Certificate, file: Path) -> None:
    """What C2PA asks of a certificate that signs."""
    from cryptography import x509

    def extension(kind: type) -> object:
        try:
            return leaf.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    usage, uses = extension(x509.KeyUsage), extension(x509.ExtendedKeyUsage)
    named = {oid.dotted_string for oid in uses} if isinstance(uses, x509.ExtendedKeyUsage) else ()
    lacks = [
        *([] if getattr(usage, "digital_signature", False) else ["key usage digitalSignature"]),
        *(
            []
            if SIGNING_USES.keys() & set(named)
            else [f"extended key usage {' or '.join(SIGNING_USES.values())}"]
        ),
        *([] if extension(x509.AuthorityKeyIdentifier) else ["an authority key identifier"]),
    ]
    if lacks:
        raise CertificateError(
            f"the certificate {_name(leaf)!r} in {file} lacks {', '.join(lacks)}; expected one "
            f"that may sign pictures; {_ADVICE}"
        )


def _signing(key: PrivateKeyTypes, file: Path) -> tuple[str, Sign]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": ("ES256", hashes.SHA256()), "secp384r1": ("ES384", hashes.SHA384())}
        if key.curve.name in curves:
            name, digest = curves[key.curve.name]
            return name, lambda data: key.sign(data, ec.ECDSA(digest))
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        return "PS256", lambda data: key.sign(data, pss, hashes.SHA256())
    raise CertificateError(
        f"the private key {file} is of a kind that does not sign pictures; expected P-256, P-384 "
        f"or RSA of at least {_LEAST_RSA_BITS} bits; {_ADVICE}"
    )


def _name(certificate: x509.Certificate) -> str:
    """Common name and organisation of its subject, for people."""
    from cryptography.x509.oid import NameOID

    oids = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    found = [a for oid in oids for a in certificate.subject.get_attributes_for_oid(oid)]
    return ", ".join(str(attribute.value) for attribute in found) or "(no name)"
