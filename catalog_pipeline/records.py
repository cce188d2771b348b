"""The records that cross rooms: frozen, plain, free of torch, pyarrow and Dagster.

A room takes and gives these; nothing else is shared between ``catalog``,
``learning``, ``generation``, ``evaluation`` and ``stores``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""An RGB picture, ``(height, width, 3)``, 0..255."""

Features = npt.NDArray[np.float32]
"""Image features, ``(images, features)``, L2-normalised."""

Palette = npt.NDArray[np.float32]
"""Shares of the colours of a product, ``(colours,)``, summing to 1."""


class SkuStatus(StrEnum):
    """Where a SKU stands in the index."""

    NEW = "new"
    CHANGED = "changed"
    LEARNED = "learned"
    FAILED = "failed"
    RETIRED = "retired"


# --- catalog -----------------------------------------------------------------


@dataclass(frozen=True)
class Sku:
    """A product card: ``sku.yaml`` with every gap filled.

    ``names`` maps a language code (``en``, ``ja``) to the product's name in it. Sizes are
    the real product's, 0 where the card has none. ``mode`` is how scenes of it are made,
    empty where the settings decide; ``anchor_photos`` names the photo files that may stand
    in scenes (:func:`names_photo`): ``None`` for all, none where the card says ``false``.
    ``typed_noun`` is the class noun as the card has it, in any language; empty without one.
    ``use_photos`` names those that are learned from whatever is found wrong with them,
    ``leave_out`` those that are not used at all.
    """

    sku: str
    name: str
    class_noun: str
    names: Mapping[str, str] = field(default_factory=dict)
    category: str = ""
    collection: str = "default"
    tags: tuple[str, ...] = ()
    height_cm: float = 0.0
    width_cm: float = 0.0
    depth_cm: float = 0.0
    mode: str = ""
    anchor_photos: tuple[str, ...] | None = None
    typed_noun: str = ""
    use_photos: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


def names_photo(name: str, key: str) -> bool:
    """Whether a card means the photo ``key`` by ``name``, with its ending or without.

    File systems compose letters or not as they please, so both sides are composed (NFC).
    """
    path = PurePosixPath(unicodedata.normalize("NFC", key))
    return unicodedata.normalize("NFC", name) in (path.name, path.stem)


@dataclass(frozen=True)
class PhotoRef:
    """A file seen by a listing; ``key`` is relative to the catalog root."""

    key: str
    size_bytes: int
    modified_utc: datetime
    etag: str


@dataclass(frozen=True)
class RefusedFile:
    """A file that was left out, and why, in words for the photographer."""

    key: str
    reason: str


@dataclass(frozen=True)
class PhotoUse:
    """One photo in one attempt at learning: used when ``reason`` is empty, else why not.

    ``sha256`` is of the file; empty for one that was not read.
    """

    key: str
    sha256: str
    reason: str = ""


@dataclass(frozen=True)
class SkuListing:
    """One SKU folder as listed: nothing decoded yet.

    ``content_hash`` changes when any photo or the card changes, and only then; it is empty
    where no file was read. ``refused`` is what the folder holds besides and is not read.
    """

    sku: str
    photos: tuple[PhotoRef, ...]
    card_key: str | None
    content_hash: str
    newest_modified_utc: datetime
    refused: tuple[RefusedFile, ...] = ()


@dataclass(frozen=True)
class Photo:
    """A decoded, upright, RGB photo.

    ``mask`` is the product's opacity when the file itself carried one (a cut-out
    PNG), ``(height, width)`` 0..255; ``None`` when it must be estimated.
    """

    key: str
    sha256: str
    pixels: Pixels
    mask: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class PhotoSet:
    """The usable photos of one SKU, sorted by key, and what was refused.

    ``spare`` are usable ones beyond ``max_photos``, in ``refused`` as well, where they were
    asked for: others to choose from. ``warnings`` say what a person should know of the set.
    """

    sku: Sku
    content_hash: str
    photos: tuple[Photo, ...]
    refused: tuple[RefusedFile, ...] = ()
    spare: tuple[Photo, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def uses(self) -> tuple[PhotoUse, ...]:
        """Every file of the set by key, and whether it is used."""
        used = [PhotoUse(photo.key, photo.sha256) for photo in self.photos]
        left = [PhotoUse(file.key, "", file.reason) for file in self.refused]
        return tuple(sorted((*used, *left), key=lambda use: (use.key, use.reason)))


@dataclass(frozen=True, eq=False)
class Cutout:
    """A product without its room: ``(h, w, 4)`` RGBA cropped to the product.

    ``room`` is what lay behind it, ``(h, w, 3)``, as far as is known: what must not be seen
    at its edge.
    """

    rgba: npt.NDArray[np.uint8]
    room: Pixels | None = None


@dataclass(frozen=True)
class JudgedPhoto:
    """Whether a photo can stand in scenes, in figures alone: no pixel of it is kept.

    Attributes:
        key: relative to the catalog root.
        sha256: of the file.
        reason: why it cannot, in words for the photographer; empty when it can.
        aspect: width of the product's cut-out over its height.
        height_px: of the cut-out, in the photo at the catalog's working size.
        light: mean CIE L*, a*, b* of the photo outside the product: the light it was taken in.
        seen: the box of the product in the photo, in fractions of it.
    """

    key: str
    sha256: str
    reason: str = ""
    aspect: float = 1.0
    height_px: int = 0
    light: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seen: Region | None = None

    @property
    def usable(self) -> bool:
        """The product stands in it alone, whole and sharp, and its mask is sure."""
        return not self.reason


@dataclass(frozen=True)
class ProductPhotos:
    """What a plan knows of a product on sale: its true size, its card's wishes, usable photos.

    ``reason`` says why there is none, in words. Sizes are 0 where the card has none.
    """

    sku: str
    photos: tuple[JudgedPhoto, ...] = ()
    mode: str = ""
    height_cm: float = 0.0
    width_cm: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class IndexRow:
    """One SKU in ``catalog/index.parquet``; grain: one row per SKU ever seen.

    ``photos_used`` and ``left_out`` (photo -> reason) are of the last attempt at learning it.
    """

    sku: str
    collection: str
    name: str
    class_noun: str
    category: str
    content_hash: str
    learned_hash: str
    photo_count: int
    bytes: int
    first_seen_utc: datetime
    newest_modified_utc: datetime
    status: SkuStatus
    reason: str = ""
    learned_version: str = ""
    learned_utc: datetime | None = None
    photos_used: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexReport:
    """What one refresh of the index found.

    ``renamed`` maps an added SKU to one that is gone and had the same photos and card.
    ``settled_utc`` is when the last of ``unsettled`` will have been still for long enough.
    """

    rows: tuple[IndexRow, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    retired: tuple[str, ...]
    refused: tuple[RefusedFile, ...]
    unsettled: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    settled_utc: datetime | None = None


# --- learning ----------------------------------------------------------------

SHARED = "shared"
"""The part, and the adapter slot, of a whole collection (``adapter.slots: shared``)."""

COLOR_SPREAD = "color_spread"
"""A metric of a concept: how far the colours of its photos are from each other, CIELAB units."""


def concept_part(sku: str) -> str:
    """The part that holds the token rows of ``sku``, and its own slot where it has one."""
    return f"concept/{sku}"


def memory_part(sku: str) -> str:
    """The part that holds what is remembered of the photos of ``sku``."""
    return f"memory/{sku}"


def curve_part(sku: str) -> str:
    """The part that holds the training loss of ``sku`` over steps."""
    return f"curve/{sku}"


def part_owner(name: str) -> str:
    """The SKU that the part ``name`` belongs to; empty for the collection's own."""
    return name.partition("/")[2]


@dataclass(frozen=True)
class Concept:
    """A learned SKU inside an adapter version.

    ``placeholder_tokens`` are the new vocabulary entries in prompt order;
    ``identifier`` is what a prompt says: the tokens followed by the class noun.
    ``photos_hash`` and ``config_hash`` are what the concept was learned from: the
    same two again mean that there is nothing to do. ``imported_from`` is the SHA-256 of the
    LoRA file that its weights come from; empty where they were learned here.
    """

    sku: str
    name: str
    class_noun: str
    category: str
    placeholder_tokens: tuple[str, ...]
    photos_hash: str
    task: int
    config_hash: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    imported_from: str = ""

    @property
    def identifier(self) -> str:
        """``<sku:0> <sku:1> mug``: the words that name this product in a prompt."""
        return " ".join((*self.placeholder_tokens, self.class_noun))


@dataclass(frozen=True)
class AdapterVersion:
    """One immutable state of a collection; ``version`` hashes everything below it.

    ``parts`` maps a part's name to the SHA-256 of its immutable safetensors blob:
    :data:`SHARED`, :func:`concept_part`, :func:`memory_part` and :func:`curve_part` name
    them. Parts that a task did not touch keep their hash, so disk and upload grow by
    one SKU a task, not by all.
    """

    version: str
    collection: str
    parent: str | None
    concepts: tuple[Concept, ...]
    base_model_hash: str
    config_hash: str
    parts: Mapping[str, str]
    memory_version: str
    code_version: str
    seed: int
    created_utc: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)

    def concept(self, sku: str) -> Concept | None:
        """The concept of ``sku``, or ``None`` when this version has not learned it."""
        return self._by_sku.get(sku)

    @cached_property
    def _by_sku(self) -> Mapping[str, Concept]:
        return {concept.sku: concept for concept in reversed(self.concepts)}


@dataclass(frozen=True)
class LearnOutcome:
    """What became of one SKU in one learning run.

    ``status`` is ``learned``, ``unchanged`` or ``failed``; ``loss_curve`` holds
    ``(step, loss)``; ``contact_sheet_png`` shows photos above, samples below, or why
    the quality gate refused a failed SKU (``metrics`` are then the gate's figures).
    """

    sku: str
    status: str
    version: str = ""
    reason: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss_curve: tuple[tuple[int, float], ...] = ()
    contact_sheet_png: bytes = b""


@dataclass(frozen=True)
class LearningRow:
    """One attempt at learning a SKU; grain of the learning log: one row per ``attempt_id``.

    ``status`` is ``learned`` or ``failed``. ``concept_sha256`` is of the part
    ``concept/<sku>``, by which a picture's row names what it was rendered from.
    ``settings`` is ``learning.yaml`` as JSON.
    """

    attempt_id: str
    sku: str
    collection: str
    status: str
    reason: str
    version: str
    concept_sha256: str
    ended_utc: datetime
    seconds: float
    name: str
    class_noun: str
    content_hash: str
    photos_hash: str
    config_hash: str
    base_model_hash: str
    code_version: str
    settings: str
    photos: tuple[PhotoUse, ...]
    metrics: Mapping[str, float]
    imported_from: str = ""


# --- generation --------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """An axis-aligned box in fractions of the image, ``0 <= left < right <= 1``."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class AttentionControl:
    """How sampling sees to it that no named product goes missing; the default does nothing.

    Shares are of the denoising steps, the first ones, in [0, 1].

    Attributes:
        silent_share: slots are silent; the base, which composes well, places things.
        apart_share: a strip of bare background keeps the regions apart.
        gap: width of that strip as a share of the picture.
        method: ``gradient`` of the losses, ``reweight`` in the processor, or ``none``.
        guided_share: the method acts.
        step_size: of the gradient, in units of noise; of ``reweight``, added to logits.
        refinements: most extra gradient steps at one denoising step.
        threshold: images of a smaller loss are left alone.
        attend_floor: attention that a present concept has at least, in [0, 1].
        unmix_weight, attend_weight: of the concept attention artist's two losses.
        orthogonal_weight, binding_weight: of orthogonal attention's two losses.
    """

    silent_share: float = 0.0
    apart_share: float = 0.0
    gap: float = 0.0
    method: str = "none"
    guided_share: float = 0.0
    step_size: float = 0.0
    refinements: int = 0
    threshold: float = 0.0
    attend_floor: float = 0.0
    unmix_weight: float = 0.0
    attend_weight: float = 0.0
    orthogonal_weight: float = 0.0
    binding_weight: float = 0.0


@dataclass(frozen=True)
class Anchor:
    """The photo from which a product of a picture comes, and the box that it fills there.

    ``seen`` is where the product was seen in the photo, so that half of the looks find it again.
    """

    sku: str
    key: str
    sha256: str
    box: Region
    seen: Region | None = None


class Source(NamedTuple):
    """The version of a collection that draws a product."""

    collection: str
    adapter_version: str


@dataclass(frozen=True)
class RenderJob:
    """One picture to make.

    ``prompt`` is for people (product names); ``scene`` is the rest of the
    sentence (``"on a sandy beach"``), from which the sampler builds the text the
    model reads. ``regions[i]`` is where ``skus[i]`` stands. ``policy`` is the one that
    asked for the picture (``pairs``, ``cross_sell/<list>``). ``job_id`` hashes every
    field that changes the picture, ``versions`` included.

    ``mode`` is ``learned`` (drawn from noise), ``anchored`` (drawn from a picture into which
    the photos of ``anchors`` were placed, noised to ``strength``) or ``exact`` (anchored, then
    the photos' own pixels back); ``anchors[i]`` is of ``skus[i]``, and ``spare_anchors`` has
    other photos of the same products, for further attempts. The empty scene takes
    ``backdrop_steps``; an exact picture has ``output_scale`` times ``width`` and ``height``.
    ``mode_reason`` says why it is ``learned`` where photos were asked for.

    ``sources`` has every SKU of a picture across collections, and is empty where ``collection``
    and ``adapter_version`` draw them all; those of a picture across collections are of its
    leftmost product. :func:`sources_of` has every SKU of both.
    """

    job_id: str
    day: date
    template: str
    prompt: str
    scene: str
    skus: tuple[str, ...]
    regions: tuple[Region, ...]
    layout: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    width: int
    height: int
    negative_prompt: str
    collection: str
    adapter_version: str
    attention: AttentionControl = AttentionControl()
    policy: str = ""
    mode: str = "learned"
    anchors: tuple[Anchor, ...] = ()
    spare_anchors: tuple[tuple[Anchor, ...], ...] = ()
    strength: float = 1.0
    backdrop_steps: int = 0
    output_scale: int = 1
    mode_reason: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class NightPlan:
    """The jobs of one night, and what the plan was made from."""

    day: date
    plan_hash: str
    jobs: tuple[RenderJob, ...]
    notes: tuple[str, ...] = ()


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
