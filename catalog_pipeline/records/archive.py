"""What a night has made: rows, and reports of rendering and publishing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from catalog_pipeline.records.generation import RenderJob, Source


@dataclass(frozen=True)
class ArchiveRow:
    """One picture in the manifest; grain: one row per ``image_id``.

    ``image_id`` is the job id; ``sha256`` is of the PNG file; ``scores`` maps a
    score name to its value; ``superseded`` is true once a changed plan no longer
    asks for the picture. ``attempts`` counts the pictures that were made for the job;
    ``seed`` is of the one that was kept. ``verdict`` is ``passed``, ``failed`` (held
    back in quarantine) or ``unscored`` (nobody could judge it, or nobody was asked).

    ``mode`` is how the picture was made (see :class:`RenderJob`), ``mode_reason`` why not as
    asked. ``photos`` maps a SKU to the SHA-256 of the photo that stands in the picture, ``boxes``
    to the pixels that it fills there: left, top, right, bottom, the latter two exclusive.
    ``real_pixels`` is the share of the products' visible pixels that are the photos' own.

    ``plan_hash`` is of the plan that it was made for, ``attention`` the job's
    :class:`AttentionControl` as JSON, ``render_seconds`` its share of its batches' time. ``reason``
    says why a row is superseded or held back. ``concepts`` maps a SKU to the SHA-256 of its part
    ``concept/<sku>``, ``sources`` to what drew it, as in the job.
    ``pixels_sha256`` is of what the picture shows, whatever the file says besides; two files of
    one picture that were signed apart have it in common.
    """

    image_id: str
    path: str
    sha256: str
    day: date
    job_id: str
    prompt: str
    skus: tuple[str, ...]
    layout: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    width: int
    height: int
    base_model_hash: str
    collection: str
    adapter_version: str
    memory_version: str
    scores: Mapping[str, float]
    superseded: bool
    created_utc: datetime
    schema_version: int
    attempts: int = 1
    verdict: str = "unscored"
    mode: str = "learned"
    mode_reason: str = ""
    photos: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    strength: float = 1.0
    real_pixels: float = 0.0
    plan_hash: str = ""
    policy: str = ""
    negative_prompt: str = ""
    attention: str = "{}"
    render_seconds: float = 0.0
    reason: str = ""
    concepts: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    pixels_sha256: str = ""


def sources_of(picture: RenderJob | ArchiveRow) -> dict[str, Source]:
    """Each SKU of a picture, from left to right, with what draws it."""
    own = Source(picture.collection, picture.adapter_version)
    return {sku: picture.sources.get(sku, own) for sku in picture.skus}


def collections_of(picture: RenderJob | ArchiveRow) -> list[str]:
    """The collections that a picture draws from, sorted."""
    return sorted({source.collection for source in sources_of(picture).values()})


@dataclass(frozen=True)
class SkuPassRate:
    """Of a night's judged ``pictures`` of one product, in how many it was found.

    ``found`` is of the pictures kept, ``found_at_once`` of the first attempts at them.
    """

    sku: str
    pictures: int
    found: int
    found_at_once: int

    @property
    def rate(self) -> float:
        """``found`` as a share, 0..1."""
        return self.found / max(1, self.pictures)

    @property
    def first_rate(self) -> float:
        """``found_at_once`` as a share, 0..1."""
        return self.found_at_once / max(1, self.pictures)


@dataclass(frozen=True)
class RenderReport:
    """What one rendering run of a night did; ``rows`` are all rows now staged.

    ``quarantined`` names the night's jobs that are held back, ``pass_rates`` has its
    products, worst first, and ``retake`` those that need other photos.
    """

    day: date
    rows: tuple[ArchiveRow, ...]
    rendered: int
    reused: int
    failed: tuple[str, ...]
    seconds: float
    contact_sheet_png: bytes = b""
    attempts: int = 0
    quarantined: tuple[str, ...] = ()
    pass_rates: tuple[SkuPassRate, ...] = ()
    retake: tuple[str, ...] = ()


@dataclass(frozen=True)
class ManifestReport:
    """What publishing a night's manifest changed; ``quarantined`` pictures are held back now."""

    day: date
    path: str
    rows: int
    added: int
    superseded: int
    changed: bool
    quarantined: int = 0
