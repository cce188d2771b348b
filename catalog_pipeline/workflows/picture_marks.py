"""What a deployment lets its pictures say of themselves: the settings of provenance at work.

The order is watermark, XMP, the digest of the pixels, Content Credentials: each layer covers
those before it. Without a certificate the same picture of the same job has the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline import __version__
from catalog_pipeline.records import ArchiveRow, Pixels
from catalog_pipeline.settings import Settings

if TYPE_CHECKING:
    from catalog_pipeline.provenance.certificates import SigningCertificate
    from catalog_pipeline.provenance.content_credentials import PictureSigner
    from catalog_pipeline.provenance.origin import Origin


@dataclass(frozen=True)
class MarkedPicture:
    """The file of a picture as it is to be stored, and the digest of what it shows."""

    png: bytes
    pixels_sha256: str


class PictureMarks:
    """Marks pictures as ``governance.yaml: provenance`` says.

    Nothing is read before it is needed; :meth:`check` reads everything, so that a night is
    refused before its first picture.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.governance.provenance
        self._folder = settings.config_dir

    def check(self) -> None:
        """See that pictures can be marked as the settings ask.

        Raises:
            ConfigurationError: the watermark's key cannot be read.
            CertificateError: certificate or key is missing, wrong, expired or of another pair,
                or the extra ``provenance`` is not installed.
        """
        _ = self._signer
        if self._settings.watermark:
            _ = self.watermark_key

    def mark(self, pixels: Pixels, row: ArchiveRow) -> MarkedPicture:
        """The picture that was just made of ``row``, as a PNG that says what it is.

        Of ``row`` neither path nor digests are looked at.

        Raises:
            ConfigurationError: as :meth:`check`.
        """
        from catalog_pipeline.evaluation.contact_sheet import encode_png
        from catalog_pipeline.provenance.origin import origin_of
        from catalog_pipeline.provenance.picture_files import pixel_digest
        from catalog_pipeline.provenance.watermark import embed, payload_of

        if self._settings.watermark and self.watermark_key is not None:
            payload = payload_of(row.job_id, self.watermark_key)
            pixels = embed(pixels, payload, self.watermark_key)
        png = self._finished(encode_png(pixels), origin_of(row, __version__))
        return MarkedPicture(png, pixel_digest(pixels))

    def completed(self, png: bytes, row: ArchiveRow) -> bytes:
        """``png``, the stored picture of ``row``, with what it lacks of XMP and credentials.

        The pixels stay, and so does a file that has what the settings ask for. One that is
        signed is never signed again, and keeps its metadata: a new chunk would break the
        signature.

        Raises:
            ConfigurationError: as :meth:`check`.
            IntegrityError: it is no PNG.
        """
        from catalog_pipeline.provenance.picture_files import has_credentials

        return png if has_credentials(png) else self._finished(png, _told(png, row))

    def packet(self, png: bytes, row: ArchiveRow) -> bytes:
        """The XMP packet of ``png``, the stored picture of ``row``, or the one that it lacks.

        Empty where settings want none.
        """
        from catalog_pipeline.provenance.picture_files import xmp_of
        from catalog_pipeline.provenance.xmp import xmp_packet

        return (xmp_of(png) or xmp_packet(_told(png, row))) if self._settings.metadata else b""

    def certificate(self, now: datetime | None = None) -> SigningCertificate | None:
        """What pictures are signed with; ``None`` where they are not.

        Raises:
            CertificateError: it cannot be used at ``now``, by default the present.
        """
        from catalog_pipeline.provenance.certificates import load_certificate

        certificate, key = self._settings.certificate, self._settings.private_key
        if certificate is None or key is None:
            return None
        return load_certificate(self._path(certificate), self._path(key), now)

    @property
    def anchors(self) -> list[str]:
        """PEM of what the settings' own chain ends in: whom this deployment trusts."""
        from catalog_pipeline.provenance.certificates import read_anchors

        certificate = self._settings.certificate
        return [] if certificate is None else [read_anchors(self._path(certificate))]

    @cached_property
    def watermark_key(self) -> bytes | None:
        """The secret of the watermark; ``None`` where settings name none.

        Raises:
            ConfigurationError: its file cannot be read, or is no key.
        """
        from catalog_pipeline.provenance.own_certificate import read_watermark_key

        file = self._settings.watermark_key
        return None if file is None else read_watermark_key(self._path(file))

    @cached_property
    def _signer(self) -> PictureSigner | None:
        from catalog_pipeline.provenance.content_credentials import PictureSigner

        certificate = self.certificate()
        return None if certificate is None else PictureSigner(certificate)

    def _finished(self, png: bytes, origin: Origin) -> bytes:
        """``png`` with XMP, where it has none, and signed, as the settings ask."""
        from catalog_pipeline.provenance.picture_files import PNG, with_xmp, xmp_of
        from catalog_pipeline.provenance.xmp import xmp_packet

        if self._settings.metadata and not xmp_of(png):
            png = with_xmp(png, xmp_packet(origin))
        return png if self._signer is None else self._signer.sign(png, PNG, origin)

    def _path(self, path: Path) -> Path:
        """A path of the settings; a relative one is in their folder."""
        return self._folder / path.expanduser()


def _told(png: bytes, row: ArchiveRow) -> Origin:
    """What a stored picture says of itself; of one that says nothing, what its row knows."""
    from catalog_pipeline.provenance.origin import origin_of
    from catalog_pipeline.provenance.picture_files import xmp_of
    from catalog_pipeline.provenance.xmp import read_origin

    said = read_origin(xmp_of(png))
    return said if said is not None and said.job_id == row.job_id else origin_of(row)
