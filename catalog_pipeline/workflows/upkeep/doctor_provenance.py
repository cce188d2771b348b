"""What pictures are to say of themselves, and whether they can be signed for long enough."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.check_results import CheckResult

RENEW_BEFORE = timedelta(days=30)


def check_provenance(home: Home) -> Iterator[CheckResult]:
    """The layers that are on; a certificate that is about to end is a warning.

    Raises:
        ConfigurationError: pictures could not be marked or signed, so no night would be rendered.
    """
    home.marks.check()
    settings, certificate = home.settings.governance.provenance, home.marks.certificate()
    layers = ["XMP"] if settings.metadata else []
    if settings.watermark:
        layers.append("a watermark")
    if certificate is not None:
        layers.append(f"a signature of {certificate.signer!r}")
    told = ", ".join(layers) or "nothing: every layer is switched off"
    yield CheckResult("ok", f"provenance: new pictures carry {told}", "")
    if certificate is not None and certificate.ends_utc < datetime.now(UTC) + RENEW_BEFORE:
        yield CheckResult(
            "warning",
            f"provenance: the certificate of {certificate.signer!r} ends on "
            f"{certificate.ends_utc:%Y-%m-%d}",
            "renew it before: no night is rendered without one, and signatures that it made can "
            "be verified no longer than it lasts",
        )
