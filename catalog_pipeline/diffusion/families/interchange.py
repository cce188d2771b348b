"""What differs between families in the files and prompts that other programs read and write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from catalog_pipeline.diffusion.prompts import plain_words


class KohyaPlace(NamedTuple):
    """A layer in a file with kohya's names: ``part`` of the ``parts`` equal ones of a module.

    ``module`` is written behind ``lora_unet_``. A module of several parts has their outputs
    one behind the other, as fused queries, keys and values.
    """

    module: str
    part: int = 0
    parts: int = 1


class Interchange:
    """Names in LoRA files and textual inversions, and the call of diffusers' pipeline."""

    title: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    denoiser_part: ClassVar[str]
    guidance_argument: ClassVar[str] = "guidance_scale"
    """Of the pipeline's call: the weight of classifier-free guidance."""

    def product_words(self, sku: str, tokens: Sequence[str], *, beside_lora: bool) -> str:
        """What a prompt says for a product in plain diffusers, its class noun apart.

        ``beside_lora``: where the file of :meth:`inversion_state_dict` is loaded, else where
        ``tokens`` are in the vocabulary. Without learned rows it is the product's word.
        """
        del sku, beside_lora
        return plain_words(" ".join(tokens))

    @property
    def noise_code(self) -> str:
        """The argument with which the pipeline starts from the noise that a seed has here."""
        return "generator=torch.Generator().manual_seed(seed)"

    def prompt_code(self, prompt: str) -> str:
        """The prompt as the call of the pipeline begins with it."""
        return json.dumps(prompt)

    def call_arguments(self, steps: int, guidance: float) -> str:
        """Of the call of the pipeline, as they are written behind the prompt."""
        return f"num_inference_steps={steps}, {self.guidance_argument}={guidance:g}"

    def pipeline_sampler(self, sampler: str) -> str:
        """The one of :attr:`solvers` that the pipeline runs where ``sampler`` is asked for."""
        return sampler

    def kohya_place(self, layer: str) -> KohyaPlace:
        """Where a file with kohya's names holds a layer of :meth:`delta_layers`.

        Raises:
            ValueError: no tool reads such a file of this family.
        """
        raise ValueError(
            f"{self.title} has no kohya names that other tools read; expected --format lora or "
            "pipeline"
        )

    @property
    def kohya_base_version(self) -> str | None:
        """``ss_base_model_version`` of such files; ``None`` where trainers have no name for it."""
        return None

    def read_lora(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` of a LoRA file in the pipeline's own names, by diffusers' converters.

        Scales (``.alpha``) must be multiplied in. Names that no converter knows are kept.
        """
        import diffusers

        pipeline = getattr(diffusers, self.pipelines[0])
        named = {
            re.sub(r"^base_model\.model\.", self.peft_prefix, name): value
            for name, value in tensors.items()
        }
        found = pipeline.lora_state_dict(named, **self.lora_options)
        return dict(found[0] if isinstance(found, tuple) else found)

    @property
    def peft_prefix(self) -> str:
        """What the converters know for ``base_model.model.``, PEFT's own."""
        return f"{self.denoiser_part}."

    @property
    def lora_options(self) -> Mapping[str, Any]:
        """Further arguments of the pipeline's ``lora_state_dict``."""
        return {}

    def inversion_rows(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """``(tokens, width)`` of a textual inversion's file; as :meth:`inversion_state_dict`.

        Raises:
            ValueError: not such a file, of another width, or this family learns no rows.
        """
        raise ValueError(f"{self.title} learns no rows, got {', '.join(tensors)}")

    def inversion_state_dict(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        """What ``load_textual_inversion`` reads for ``token``; ``rows`` is ``(tokens, width)``."""
        raise ValueError(f"{self.title} learns no rows for {token}, got {len(rows)}")

    def inversion_code(self, file: str, token: str) -> str:
        """The line of Python that loads ``file`` with ``token`` into ``pipe``."""
        del token  # of use where one file serves several text encoders
        return f'pipe.load_textual_inversion("{file}")'

    def add_tokens(self, rows: Mapping[str, Tensor]) -> None:
        """Add ``token -> row (width,)`` to vocabularies and token tables, in place.

        Raises:
            ValueError: a token is in a vocabulary already, or this family learns no rows.
        """
        if rows:
            raise ValueError(f"{self.title} learns no rows, got those of {', '.join(rows)}")
