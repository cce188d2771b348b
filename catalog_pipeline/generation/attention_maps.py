"""Attention maps of the concepts of a scene, recorded from the cross-attention of one pass.

Per image there are ``concepts`` products; of each, two groups of tokens: the words
that make it this one (placeholder tokens, or an adjective; *attribute*) and its class
noun. A map says how much of a pixel's attention goes to a group. With region prompts
the map of concept ``i`` is read in prompt ``i``, at every pixel of the image, also
where the blended output would take another prompt: what lies outside the region and
answers to the product's words there is exactly what is to be kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.regional import layer_grid
from catalog_pipeline.diffusion.text import TextConditioner

ATTRIBUTE, NOUN = 0, 1
"""Places of the two groups of tokens along axis ``groups``."""


@dataclass(frozen=True)
class NamedConcept:
    """A concept as a prompt says it: ``attribute`` (may be empty) directly before ``noun``."""

    attribute: str
    noun: str

    @property
    def phrase(self) -> str:
        """Both, as they stand in the prompt."""
        return f"{self.attribute} {self.noun}".strip()


def select_tokens(
    text: TextConditioner,
    prompts: Sequence[Sequence[str]],
    concepts: Sequence[Sequence[NamedConcept]],
) -> Tensor:
    """``(batch, concepts, groups, tokens)``: weights that average the tokens of each group.

    Args:
        text: counts tokens as the encoder sees them.
        prompts: of each image, a prompt for each concept (region prompts), or one for all.
        concepts: of each image, as many everywhere. A concept without an attribute
            has its noun in both groups.

    Raises:
        ValueError: a concept is not in its prompt.
    """
    length = text.length
    weights = torch.zeros(len(prompts), len(concepts[0]), 2, length)
    for image, (texts, named) in enumerate(zip(prompts, concepts, strict=True)):
        for index, concept in enumerate(named):
            prompt = texts[index] if len(texts) > 1 else texts[0]
            places = text.positions(prompt, concept.phrase)
            nouns = len(text.positions(f"a {concept.noun}", concept.noun))
            groups = (places[:-nouns] or places, places[-nouns:])
            for group, tokens in enumerate(groups):
                weights[image, index, group, list(tokens)] = 1.0 / len(tokens)
    return weights


class MapRecorder:
    """An attention observer that keeps the maps of the concepts, a sum over layers.

    Attributes:
        selection: ``(batch, concepts, groups, tokens)`` of :func:`select_tokens`.
        max_pixels: layers with more pixels are not watched: fine maps follow edges,
            coarse ones follow objects (Attend-and-Excite uses 16 x 16, arXiv:2301.13826).
    """

    def __init__(self, selection: Tensor, max_pixels: int) -> None:
        self._selection = selection
        self._max_pixels = max_pixels
        self._sums: dict[int, tuple[Tensor, int]] = {}

    def wants(self, pixels: int) -> bool:
        """Every layer up to ``max_pixels``."""
        return pixels <= self._max_pixels

    def bias(self, pixels: int) -> None:
        """It only watches."""
        del pixels

    def observe(self, probs: Tensor) -> None:
        """Add one layer's ``(batch, regions, pixels, tokens)``."""
        concepts = self._selection.shape[1]
        if probs.shape[1] == 1:
            probs = probs.expand(-1, concepts, -1, -1)  # one prompt names them all
        probs = probs[:, :concepts]  # a region of the background comes after the concepts'
        maps = torch.einsum("bcpt,bcgt->bcgp", probs, self._selection.to(probs))
        before, layers = self._sums.get(maps.shape[-1], (torch.zeros_like(maps), 0))
        self._sums[maps.shape[-1]] = (before + maps, layers + 1)

    def maps(self, height: int = 1, width: int = 1) -> Tensor:
        """``(batch, concepts, groups, h, w)``, in [0, 1]: the mean over resolutions, at the finest.

        ``height`` and ``width`` are of the latents.

        Raises:
            ValueError: no layer was seen.
        """
        if not self._sums:
            raise ValueError(
                f"no cross-attention of at most {self._max_pixels} pixels was seen, as "
                "this base has finer ones only; set generation.yaml: attention.method to reweight "
                "or none"
            )
        finest = max(self._sums)
        grid = layer_grid(finest, height, width)
        total: Tensor | float = 0.0
        for pixels, (summed, layers) in self._sums.items():
            maps = (summed / layers).unflatten(-1, layer_grid(pixels, height, width))
            if pixels != finest:
                flat = nn.functional.interpolate(
                    maps.flatten(1, 2), grid, mode="bilinear", align_corners=False
                )
                maps = flat.unflatten(1, maps.shape[1:3])
            total = total + maps / len(self._sums)
        assert isinstance(total, Tensor)
        return total


def smooth(maps: Tensor) -> Tensor:
    """Gaussian, sigma 0.5 and kernel 3, reflecting borders (Attend-and-Excite): same shape.

    ``maps`` is ``(..., h, w)``. A single hot pixel is no object; its neighbours count.
    """
    taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * 0.5**2)).to(maps)
    taps = taps / taps.sum()
    flat = nn.functional.pad(maps.flatten(0, -3)[:, None], (1, 1, 1, 1), mode="replicate")
    flat = nn.functional.conv2d(flat, (taps[:, None] * taps[None, :])[None, None])
    return flat[:, 0].view(maps.shape)


def found_regions(maps: Tensor, sharpness: float = 10.0) -> Tensor:
    """Regions that the maps themselves suggest, where a plan gives none. **Our reconstruction.**

    With ``a_i`` the smoothed noun map of concept ``i`` over its maximum::

        m_i(p) = softmax_i(sharpness * a_i(p))

    Returns ``(batch, concepts, h, w)``, summing to 1 at each pixel, without gradient.
    """
    noun = smooth(maps.detach().mean(2))  # (batch, concepts, h, w)
    relative = noun / noun.amax((-2, -1), keepdim=True).clamp(min=1e-12)
    return (sharpness * relative).softmax(1)


def fit_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """``(batch, regions, H, W)`` -> ``(batch, regions, height, width)``, area-averaged."""
    return nn.functional.interpolate(masks, (height, width), mode="area")
