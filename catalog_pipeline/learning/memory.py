"""Task-aware memory enhancement: what the learner remembers of earlier products.

The *long-term bank* keeps, per photo, an image feature and a prompt, and no
pixels. Before a task the current student renders candidates for the stored
prompts; the best of them are the task's *short-term bank* (section 3.2,
arXiv:2309.04430). Prior images come from the bare base and hold the classes
and the scenes in place (Eq. 3).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.records import Concept, Features, Pixels
from catalog_pipeline.safetensors_header import read_metadata

Encode = Callable[[Sequence[Pixels]], Features]
"""Pictures -> L2-normalised features ``(images, width)``; the caller supplies it."""

MEMORY_PROMPTS = ("a photo of a {concept}", "a picture of a {concept}")


@dataclass(frozen=True)
class RememberedConcept:
    """One concept of the long-term bank: features ``(photos, width)`` and prompts, no pixels."""

    concept: Concept
    prompts: tuple[str, ...]
    features: Features


@dataclass(frozen=True)
class LatentBank:
    """Rendered latents ``(images, channels, h, w)`` with the prompt and SKU (if any) of each."""

    latents: Tensor
    prompts: tuple[str, ...]
    concepts: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.prompts)


def exemplar_scores(
    generated: Features, real: Features, others: Features, fidelity_weight: float = 1.0
) -> np.ndarray:
    """Selection score of each candidate for each real feature: Eq. (5), arXiv:2309.04430.

    ``score[i, j] = -mean_o cos(g_i, o) + beta * cos(g_i, r_j)``: unlike the other
    concepts' generated images, like the real photo. **Our reconstruction:** the
    diversity term is the negative mean cosine to the others' features.

    Args:
        generated: ``(candidates, width)``, unit rows; ``real``: ``(photos, width)``;
            ``others``: ``(any, width)``, may be empty.

    Returns:
        ``(candidates, photos)``.
    """
    diversity = -(generated @ others.T).mean(1) if len(others) else np.zeros(len(generated))
    return np.asarray(diversity[:, None] + fidelity_weight * (generated @ real.T))


def select_exemplars(scores: np.ndarray, count: int) -> list[int]:
    """For each photo in turn its best candidate not yet taken, until ``count`` are chosen."""
    chosen: list[int] = []
    photos = scores.shape[1]
    for turn in range(min(count, len(scores))):
        order = np.argsort(-scores[:, turn % photos], kind="stable")
        chosen.append(next(int(i) for i in order if int(i) not in chosen))
    return chosen


def recall_exemplars(
    engine: DiffusionEngine,
    remembered: Sequence[RememberedConcept],
    encode: Encode,
    *,
    slot: str,
    candidates: int,
    exemplars: int,
    plan: SamplingPlan,
    seed: int,
    selection: Literal["rainbow", "random"] = "rainbow",
) -> LatentBank:
    """The short-term bank: ``exemplars`` latents of every concept, rendered by the current student.

    All pass through ``slot``. ``rainbow`` renders ``candidates`` images a concept
    and keeps the best by Eq. (5); ``random`` renders the exemplars alone and keeps
    them all, which is a uniform choice among candidates without their cost.
    Deterministic in ``seed`` and the student.
    """
    if selection == "random":
        candidates = exemplars
    rendered = []
    for item in remembered:
        prompts = [
            item.prompts[i % len(item.prompts)].format(concept=item.concept.identifier)
            for i in range(candidates)
        ]
        seeds = [derive_seed(seed, item.concept.sku, i) for i in range(candidates)]
        batch = [RegionalPrompt((prompt,), (slot,)) for prompt in prompts]
        latents = engine.sample(batch, seeds, plan)
        features = encode(engine.decode(latents)) if selection == "rainbow" else item.features
        rendered.append((item, prompts, latents, features))
    kept_latents, kept_prompts, kept_skus = [], [], []
    for item, prompts, latents, features in rendered:
        chosen = list(range(exemplars))
        if selection == "rainbow":
            others = [f for other, _, _, f in rendered if other is not item]
            empty = np.zeros((0, features.shape[1]), np.float32)
            pool = np.concatenate(others) if others else empty
            chosen = select_exemplars(exemplar_scores(features, item.features, pool), exemplars)
        for index in chosen:
            kept_latents.append(latents[index])
            kept_prompts.append(prompts[index])
            kept_skus.append(item.concept.sku)
    if not kept_latents:
        raise ValueError("no remembered concept to recall; skip replay in the first task")
    return LatentBank(torch.stack(kept_latents), tuple(kept_prompts), tuple(kept_skus))


def refreshed(concepts: Sequence[Concept], count: int, learned: int) -> list[Concept]:
    """At most ``count`` of ``concepts``, in turn: all are taken within ``n / count`` tasks.

    A queue. Each of the ``learned`` tasks so far took the first ``count`` and put them
    behind the others; then its own concept joined the end.

    Args:
        concepts: in order of learning.
        count: how many a task takes.
        learned: how many tasks there have been, concepts learned anew counted again.
    """
    queue: deque[Concept] = deque()
    newcomers = iter(concepts)
    for _ in range(learned):
        queue.rotate(-min(count, len(queue)))
        queue.extend(islice(newcomers, 1))
    queue.extend(newcomers)
    return list(islice(queue, count))


def prior_prompts(scenes: Sequence[str], class_noun: str, count: int) -> list[str]:
    """``count`` prompts over ``scenes`` in turn; every other one names the class."""
    prompts = []
    for index in range(count):
        scene = scenes[index % len(scenes)]
        prompts.append(f"a photo of a {class_noun} {scene}" if index % 2 else f"a photo {scene}")
    return prompts


def render_prior(
    engine: DiffusionEngine, prompts: Sequence[str], plan: SamplingPlan, seed: int, batch: int = 8
) -> LatentBank:
    """Latents of the bare base for ``prompts``: the images of ``L_PR`` in Eqs. (3) and (4)."""
    latents = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        seeds = [derive_seed(seed, "prior", start + i) for i in range(len(part))]
        latents.append(engine.sample([RegionalPrompt((p,), (None,)) for p in part], seeds, plan))
    return LatentBank(torch.cat(latents), tuple(prompts), (None,) * len(prompts))


def render_backdrops(
    engine: DiffusionEngine, phrases: Sequence[str], plan: SamplingPlan, seed: int
) -> tuple[Backdrop, ...]:
    """One empty scene for each phrase, rendered by the bare base."""
    bank = render_prior(engine, [f"an empty scene {p}" for p in phrases], plan, seed)
    pictures = [p for part in bank.latents.split(8) for p in engine.decode(part)]
    return tuple(Backdrop(pixels, phrase) for pixels, phrase in zip(pictures, phrases, strict=True))


def encode_backdrops(backdrops: Sequence[Backdrop]) -> bytes:
    """Safetensors bytes of ``backdrops``, for a cache."""
    pixels = torch.from_numpy(np.stack([backdrop.pixels for backdrop in backdrops]))
    phrases = json.dumps([backdrop.phrase for backdrop in backdrops])
    return save({"pixels": pixels.contiguous()}, metadata={"phrases": phrases})


def decode_backdrops(data: bytes) -> tuple[Backdrop, ...]:
    """The inverse of :func:`encode_backdrops`."""
    pixels = load(data)["pixels"].numpy()
    phrases = json.loads(read_metadata(data)["phrases"])
    return tuple(Backdrop(p, str(phrase)) for p, phrase in zip(pixels, phrases, strict=True))


def derive_seed(seed: int, name: str, index: int) -> int:
    """A 31-bit seed from a name: independent of batch order and of Python's hash salt."""
    digest = hashlib.sha256(f"{seed}|{name}|{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
