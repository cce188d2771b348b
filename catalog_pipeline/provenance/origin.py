"""How a picture was made, as far as a file that travels may say it."""

from __future__ import annotations

from dataclasses import dataclass

from catalog_pipeline.records import ArchiveRow, sources_of

PROGRAM = "catalog-pipeline"

GENERATED = "trainedAlgorithmicMedia"
"""Every pixel comes out of a trained model."""
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
"""Pixels of real photos stand in it, too."""

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True)
class Origin:
    """What the file of a picture says of itself.

    There is no SKU, no name and no prompt in it: pictures of designs that are not on sale yet
    travel, and the manifest of the archive, which does not, has all of that under ``job_id``.

    Attributes:
        job_id: of the row, by which the archive's owner finds everything else.
        source_type: :data:`GENERATED` or :data:`COMPOSITE`, terms of IPTC's vocabulary
            ``digitalsourcetype``.
        base_model_hash: SHA-256 of the frozen base.
        adapter_versions: every version that drew a product, sorted.
        version: of the program that made it; empty where nobody knows any more.
    """

    job_id: str
    source_type: str
    base_model_hash: str
    adapter_versions: tuple[str, ...]
    version: str = ""

    @property
    def source_type_uri(self) -> str:
        """``source_type`` as metadata names it."""
        return _SOURCE_TYPES + self.source_type


def origin_of(row: ArchiveRow, version: str = "") -> Origin:
    """The origin of the picture of ``row``; its path, digests and time have no part in it."""
    return Origin(
        job_id=row.job_id,
        source_type=COMPOSITE if row.mode == "exact" or row.real_pixels > 0 else GENERATED,
        base_model_hash=row.base_model_hash,
        adapter_versions=tuple(sorted({s.adapter_version for s in sources_of(row).values()})),
        version=version,
    )


def source_type_of(uri: str) -> str:
    """The term of an IPTC address; empty for another address."""
    return uri.removeprefix(_SOURCE_TYPES) if uri.startswith(_SOURCE_TYPES) else ""
