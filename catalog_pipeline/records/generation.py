"""What a night is asked to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple


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
