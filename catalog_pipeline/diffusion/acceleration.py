"""What a base model's denoiser is given to need less memory or time, as base_model.yaml says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from catalog_pipeline.diffusion.regional import RegionalContext
from catalog_pipeline.errors import BaseModelError

_log = logging.getLogger(__name__)


def checkpoint_blocks(denoiser: Any, regions: RegionalContext) -> None:
    """Compute the activations of each block a second time for its gradient.

    That happens in the backward pass, when the routes and regions of the pass are gone; each
    block holds on to them. A pass with an observer is not checkpointed: its maps leave it.
    """

    def run(block: nn.Module, *args: Any) -> Any:
        if regions.observer is not None:
            return block(*args)
        return checkpoint(
            block.__call__,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), regions.hold()),
            preserve_rng_state=False,  # nothing is drawn inside a frozen network
        )

    denoiser.enable_gradient_checkpointing(run)


def repeated_blocks(denoiser: Any) -> Sequence[str]:
    """The class names of the blocks that make up a denoiser, as diffusers lists them.

    Raises:
        BaseModelError: it lists none.
    """
    names = getattr(denoiser, "_repeated_blocks", None)
    if not names:
        raise BaseModelError(
            f"{type(denoiser).__name__} has no list of repeated blocks (_repeated_blocks); set "
            "base_model.yaml: compile: false and quantise: none"
        )
    return list(names)


def compile_blocks(denoiser: Any, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile each repeated block at its first use.

    Raises:
        BaseModelError: the denoiser has none, or its code needs a compiler that is not there.
    """
    repeated_blocks(denoiser)
    _log.warning(
        "base_model.yaml: compile: the blocks of %s are compiled at their first use; the first "
        "batch takes minutes",
        type(denoiser).__name__,
    )
    denoiser.compile_repeated_blocks(backend=backend)


def language_model_blocks(text_encoder: nn.Module) -> list[str]:
    """The class names of the layers of a language model, as transformers lists them."""
    return sorted(getattr(text_encoder, "_no_split_modules", None) or ())
