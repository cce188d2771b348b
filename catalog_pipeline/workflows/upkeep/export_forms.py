"""The files of an exported concept: a LoRA in two namings, or a whole model; and their README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.generation.prompts import own_prompts
from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.models import prompt_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from catalog_pipeline.diffusion.export import Factors
    from catalog_pipeline.diffusion.families.family import BaseModel


@dataclass(frozen=True)
class Exported:
    """The concepts to export: one change of the denoiser, and the token rows of each.

    ``slot`` names that change among all that may come together in one pipeline; ``rows`` has
    none for a product that a word stands for.
    """

    version: AdapterVersion
    concepts: tuple[Concept, ...]
    base: BaseModel
    slot: str
    factors: Mapping[str, Factors]
    rows: Mapping[str, Sequence[Tensor]]

    def words(self, *, beside_lora: bool) -> dict[str, str]:
        """SKU -> what a prompt says for it, its class noun apart."""
        return {
            c.sku: self.base.product_words(c.sku, c.placeholder_tokens, beside_lora=beside_lora)
            for c in self.concepts
        }


def write_lora(exported: Exported, settings: Settings, folder: Path) -> dict[str, str]:
    """A LoRA file as ``load_lora_weights`` has it, a textual inversion a SKU; the prompts.

    Raises:
        ConfigurationError: a change that fits no LoRA, or SKUs that differ in case only.
    """
    from safetensors.torch import save_file

    from catalog_pipeline.diffusion.export import lora_state_dict

    words = _distinct_words(exported)
    try:
        lora = lora_state_dict(exported.factors, exported.base.denoiser_part)
    except ValueError as error:
        raise ConfigurationError(f"no LoRA of {', '.join(words)}: {error}") from error
    weights = "pytorch_lora_weights.safetensors"
    save_file(lora, folder / weights, metadata={"format": "pt"})
    names = {
        sku: f"learned_embeds{f'-{sku}' if len(words) > 1 else ''}.safetensors" for sku in words
    }
    lines = [*_lora_lines(exported, weights), *_write_rows(exported, words, names, folder)]
    prompts = _prompts(exported, words, settings)
    _write_readme(
        folder, exported, _LORA_OPENING.format(exported.base.pipelines[0]), lines, prompts, settings
    )
    return prompts


def write_kohya(exported: Exported, settings: Settings, folder: Path) -> dict[str, str]:
    """A LoRA file with kohya's names and metadata, a textual inversion a SKU; the prompts.

    Raises:
        ConfigurationError: as :func:`write_lora`, or a family without such names.
    """
    from safetensors.torch import save_file

    from catalog_pipeline.diffusion.export import adapter_name, kohya_state_dict

    base, words = exported.base, _distinct_words(exported)
    try:
        lora = kohya_state_dict(exported.factors, base.kohya_place)
    except ValueError as error:
        raise ConfigurationError(f"no LoRA of {', '.join(words)}: {error}") from error
    prompts = _prompts(exported, words, settings)
    stem = adapter_name(exported.slot)
    save_file(
        lora, folder / f"{stem}.safetensors", metadata=_kohya_metadata(exported, lora, stem, words)
    )
    names = {sku: f"{adapter_name(sku)}-words.safetensors" for sku in words}
    lines = [
        *_lora_lines(exported, f"{stem}.safetensors"),
        *_write_rows(exported, words, names, folder),
    ]
    opening = _KOHYA_OPENING.format(f"{stem}.safetensors", stem)
    for sku in exported.rows if base.learns_rows else ():
        file = names[sku].removesuffix(".safetensors")
        opening += (
            f"{names[sku]} goes to models/embeddings (ComfyUI) or embeddings (A1111): for\n"
            f"{words[sku]} in a prompt write embedding:{file} there, or {file}.\n"
        )
    opening += "\n" + _LORA_OPENING.format(base.pipelines[0])
    _write_readme(folder, exported, opening, lines, prompts, settings)
    return prompts


def write_pipeline(exported: Exported, settings: Settings, folder: Path) -> dict[str, str]:
    """A whole diffusers folder with the change merged into its weights; the prompts.

    Raises:
        ConfigurationError: the base's vocabulary already holds a token.
    """
    from catalog_pipeline.diffusion.export import merge_factors

    base, generation = exported.base, settings.generation
    merge_factors(base.denoiser, exported.factors)
    rows = {
        token: row
        for concept in exported.concepts
        for token, row in zip(
            concept.placeholder_tokens if base.learns_rows else (),
            exported.rows[concept.sku],
            strict=True,
        )
    }
    try:
        base.add_tokens(rows)
    except ValueError as error:
        raise ConfigurationError(f"cannot export {', '.join(exported.rows)}: {error}") from error
    side, sampler = base.sample_size_px, base.pipeline_sampler(generation.sampler)
    base.save_pipeline(base.make_scheduler(sampler, generation.steps, side, side), folder)
    prompts = _prompts(exported, exported.words(beside_lora=False), settings)
    lines = [
        f"from diffusers import {base.pipelines[0]}",
        f'pipe = {base.pipelines[0]}.from_pretrained(".")',
    ]
    opening = "The folder is a complete model; it needs nothing of the program that wrote it."
    _write_readme(folder, exported, opening, lines, prompts, settings)
    return prompts


def _distinct_words(exported: Exported) -> dict[str, str]:
    words = exported.words(beside_lora=True)
    if len(set(words.values())) < len(words):
        raise ConfigurationError(
            f"{', '.join(words)} differ in case only, and diffusers' textual inversions do not "
            "tell case apart; export them one by one"
        )
    return words


def _lora_lines(exported: Exported, weights: str) -> list[str]:
    """A LoRA that is loaded becomes the only active one: those before it are named again."""
    from catalog_pipeline.diffusion.export import adapter_name

    return [
        f'adapter, active = "{adapter_name(exported.slot)}", pipe.get_active_adapters()',
        "if adapter not in active:",
        f'    weights = "{weights}"',
        '    pipe.load_lora_weights(".", weight_name=weights, adapter_name=adapter)',
        "    pipe.set_adapters([*active, adapter])",
    ]


def _write_rows(
    exported: Exported, words: Mapping[str, str], names: Mapping[str, str], folder: Path
) -> list[str]:
    """A textual inversion a SKU that has rows; the lines that load them."""
    from safetensors.torch import save_file
    from torch import stack

    lines = []
    for sku, rows in exported.rows.items():
        if rows:
            inversion = exported.base.inversion_state_dict(words[sku], stack(list(rows)))
            save_file(inversion, folder / names[sku], metadata={"format": "pt"})
            lines.append(exported.base.inversion_code(names[sku], words[sku]))
    return lines


def _kohya_metadata(
    exported: Exported, lora: Mapping[str, Tensor], name: str, words: Mapping[str, str]
) -> dict[str, str]:
    """What tools show of such a file; ranks that differ are ``Dynamic``, as kohya's has it."""
    ranks = {len(value) for key, value in lora.items() if key.endswith(".lora_down.weight")}
    rank = str(*ranks) if len(ranks) == 1 else "Dynamic"
    version = exported.base.kohya_base_version
    return {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        **({"ss_base_model_version": version} if version else {}),
        "ss_output_name": name,
        "catalog_pipeline_skus": json.dumps(list(words)),
        "catalog_pipeline_triggers": json.dumps(list(words.values())),
        "catalog_pipeline_version": exported.version.version,
        "catalog_pipeline_base_sha256": exported.base.content_hash,
    }


def _prompts(exported: Exported, words: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """A prompt a SKU, in the first scene with which the base reads it whole, else in none."""
    reads = prompt_tokenizer(settings.base_model)
    prompts = {}
    for concept in exported.concepts:
        texts = [scene.text for scene in settings.generation.scenes]
        scenes = [text for text in texts if reads.fits(own_prompts([concept], text))]
        named = f"a photo of a {words[concept.sku]} {concept.class_noun}"
        prompts[concept.sku] = f"{named} {scenes[0]}" if scenes else named
    return prompts


_LORA_OPENING = """\
pipe is a {} opened on the base model that the concepts were
learned on (named above). load_lora_weights needs the package peft. What was loaded
before stays active; set_adapters takes adapter_weights to weigh them."""

_KOHYA_OPENING = """\
{} goes to models/loras (ComfyUI) or models/Lora (A1111, there
<lora:{}:1> in the prompt), with the base model named above.
"""

_README = """\
Learned product(s): {skus}
Collection {collection}, version {version}
Base model: {base}, SHA-256 of its files {base_hash}

{opening}

Run from within this folder:

    {code}

Prompts:

    {prompts}

At {unguided} the pictures are those of the program that wrote this folder, given its
solver ({sampler}), steps and size, and {noise}.
Above 1 they differ: that program guides away from the base model as it was before it learned
anything, plain diffusers away from the changed weights.
"""


def _write_readme(
    folder: Path,
    exported: Exported,
    opening: str,
    lines: Sequence[str],
    prompts: Mapping[str, str],
    settings: Settings,
) -> None:
    generation, base = settings.generation, exported.base
    arguments = base.call_arguments(generation.steps, generation.guidance)
    prompt = base.prompt_code(next(iter(prompts.values())))
    call = f"image = pipe({prompt}, {arguments}).images[0]"
    text = _README.format(
        skus=", ".join(prompts),
        collection=exported.version.collection,
        version=exported.version.version,
        base=settings.base_model.base_model,
        base_hash=base.content_hash,
        opening=opening,
        unguided=f"{base.guidance_argument}=1",
        sampler=base.pipeline_sampler(generation.sampler),
        noise=base.noise_code,
        code="\n    ".join([*lines, call]),
        prompts="\n    ".join(prompts.values()),
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")
