"""Content Credentials (C2PA): a signed statement of origin inside the file, and its verification.

Offline throughout: no time stamp is asked for, no revocation looked up and no manifest fetched. A
signature can therefore be verified until its certificate ends. Two signings of the same picture
differ in bytes, since an ECDSA signature and a C2PA manifest have random parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from catalog_pipeline import __version__
from catalog_pipeline.errors import CertificateError
from catalog_pipeline.provenance.certificates import INSTALL, SIGNING_USES, SigningCertificate
from catalog_pipeline.provenance.origin import PROGRAM, Origin, source_type_of

if TYPE_CHECKING:
    from c2pa import Context, Signer

_JOB = "catalog-pipeline.job"
"""Label of our own assertion: which job, base and versions."""
_CREATED = "c2pa.created"
_ACTIONS = ("c2pa.actions", "c2pa.actions.v2")
_PROOFS = {"claimSignature.validated", "assertion.dataHash.match"}
"""Without these a file is not what was signed."""
_EXPIRED = "signingCredential.expired"
_OF_TRUST = {_EXPIRED, "signingCredential.untrusted"}
"""Failures that say something of the signer, and nothing of the file."""


@dataclass(frozen=True)
class ContentCredentials:
    """What a file's Content Credentials say, and whether they hold.

    Attributes:
        intact: the signature is right and the file is what was signed, bit for bit.
        trusted: and the certificate is in force, and its root one of those that were given.
        expired: the certificate has ended; without a time stamp nobody knows when it signed.
        signer: whom the signing certificate names; empty where it cannot be read.
        failures: codes of C2PA, such as ``assertion.dataHash.mismatch`` for altered bytes.
        origin: what was signed of the picture; ``None`` where another program signed.
    """

    intact: bool
    trusted: bool
    expired: bool
    signer: str
    failures: tuple[str, ...]
    origin: Origin | None


class PictureSigner:
    """Signs files of pictures with one certificate."""

    def __init__(self, certificate: SigningCertificate) -> None:
        """Raises :class:`CertificateError` where c2pa-python is not installed or refuses it."""
        c2pa = _library()
        self._certificate = certificate
        self._context: Context = _context([certificate.anchor])
        try:
            self._signer: Signer = c2pa.Signer.from_callback(
                callback=certificate.sign,
                alg=c2pa.C2paSigningAlg[certificate.algorithm],
                certs=certificate.chain,
                tsa_url=None,
            )
        except c2pa.C2paError as error:
            raise CertificateError(
                f"the certificate {certificate.signer!r} cannot sign pictures: {error}; "
                "docs/governance/provenance.md says what is needed"
            ) from error

    def sign(self, data: bytes, media_type: str, origin: Origin) -> bytes:
        """``data`` with Content Credentials inside; its pixels and its other metadata stay.

        Raises:
            CertificateError: the certificate has ended meanwhile, or cannot sign.
        """
        c2pa = _library()
        if self._certificate.ends_utc < datetime.now(UTC):
            raise CertificateError(
                f"the certificate {self._certificate.signer!r} ended on "
                f"{self._certificate.ends_utc:%Y-%m-%d}; expected one in force; renew it and run "
                "the same again: what is signed stays"
            )
        signed = BytesIO()
        try:
            builder = c2pa.Builder(json.dumps(_manifest(origin)), context=self._context)
            builder.sign(self._signer, media_type, BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise CertificateError(
                f"the picture of job {origin.job_id} could not be signed: {error}; "
                "`catalog-pipeline doctor` looks at the certificate"
            ) from error
        return signed.getvalue()


def read_credentials(
    data: bytes, media_type: str, anchors: Sequence[str] = ()
) -> ContentCredentials | None:
    """The Content Credentials of a file; ``None`` where it has none.

    Args:
        data: the whole file.
        media_type: such as ``image/png``.
        anchors: PEM of the roots that are trusted.

    Raises:
        CertificateError: c2pa-python is not installed.
    """
    c2pa = _library()
    try:
        with c2pa.Reader(media_type, BytesIO(data), context=_context(anchors)) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        return ContentCredentials(False, False, False, "", (str(error),), None)
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = active.get("signature_info") or {}
    names = (signature.get("common_name"), signature.get("issuer"))
    failures = tuple(_codes(store, "failure"))
    return ContentCredentials(
        intact=_codes(store, "success").keys() >= _PROOFS and set(failures) <= _OF_TRUST,
        trusted=store.get("validation_state") == "Trusted",
        expired=_EXPIRED in failures,
        signer=", ".join(dict.fromkeys(str(name) for name in names if name)),
        failures=failures,
        origin=_origin(active),
    )


def _library() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise CertificateError(
            f"Content Credentials need c2pa-python, which is not installed; {INSTALL}"
        ) from error
    return c2pa


def _context(anchors: Sequence[str]) -> Context:
    """How everything is signed and read: no network, no thumbnails, and these roots."""
    roots = {"user_anchors": "\n".join(anchors)} if anchors else {}
    return _library().Context.from_dict(
        {
            "version": 1,
            "verify": {
                "remote_manifest_fetch": False,
                "ocsp_fetch": False,
                "verify_trust": True,
            },
            "trust": {"trust_config": "\n".join(SIGNING_USES)} | roots,
            "builder": {"thumbnail": {"enabled": False}},
        }
    )


def _manifest(origin: Origin) -> dict[str, Any]:
    maker = {"name": PROGRAM} | ({"version": origin.version} if origin.version else {})
    created = {
        "action": _CREATED,
        "digitalSourceType": origin.source_type_uri,
        "softwareAgent": maker,
    }
    job = {
        "job_id": origin.job_id,
        "base_model_hash": origin.base_model_hash,
        "adapter_versions": list(origin.adapter_versions),
    }
    return {
        "claim_generator_info": [{"name": PROGRAM, "version": __version__}],
        "title": origin.job_id,
        "assertions": [
            {"label": _ACTIONS[0], "data": {"actions": [created]}},
            {"label": _JOB, "data": job},
        ],
    }


def _codes(store: Mapping[str, Any], kind: str) -> dict[str, None]:
    """What was found of the newest manifest: codes of ``success`` or ``failure``, in order."""
    results = (store.get("validation_results") or {}).get("activeManifest") or {}
    return dict.fromkeys(str(entry.get("code")) for entry in results.get(kind) or ())


def _origin(manifest: Mapping[str, Any]) -> Origin | None:
    """What a manifest says of a picture of ours; anybody may have put anything under our label."""
    said = {str(a.get("label")): a.get("data") or {} for a in manifest.get("assertions") or []}
    job = said.get(_JOB)
    if not isinstance(job, Mapping):
        return None
    actions = [a for name in _ACTIONS for a in said.get(name, {}).get("actions") or []]
    created = [action for action in actions if action.get("action") == _CREATED]
    made: Mapping[str, Any] = created[0] if created else {}
    maker, versions = made.get("softwareAgent"), job.get("adapter_versions")
    return Origin(
        job_id=str(job.get("job_id", "")),
        source_type=source_type_of(str(made.get("digitalSourceType", ""))),
        base_model_hash=str(job.get("base_model_hash", "")),
        adapter_versions=tuple(map(str, versions)) if isinstance(versions, list) else (),
        version=str(maker.get("version", "")) if isinstance(maker, Mapping) else "",
    )
