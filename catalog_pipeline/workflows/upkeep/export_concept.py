"""Write learned concepts to a folder that plain diffusers loads.

The folder is there complete, or not at all
(:mod:`~catalog_pipeline.workflows.upkeep.destinations`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalog_pipeline.errors import ConfigurationError, StoreError
from catalog_pipeline.generation.prompts import own_prompts
from catalog_pipeline.records import SHARED, AdapterVersion, Concept, concept_part
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import (
    check_base_model,
    check_same_base,
    prompt_tokenizer,
    read_named_part,
)
from catalog_pipeline.workflows.upkeep.destinations import check_destination, new_folder

if TYPE_CHECKING:
    from torch import Tensor

    from catalog_pipeline.diffusion.export import Factors
    from catalog_pipeline.diffusion.families.family import BaseModel

ExportFormat = Literal["lora", "pipeline"]


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        prompts: SKU -> a prompt that shows it with the exported files.
        files: names below ``folder``, sorted.
    """

    folder: Path
    form: ExportFormat
    collection: str
    version: str
    prompts: Mapping[str, str]
    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class _Learned:
    """The concepts to export: one change of the denoiser, and the token rows of each.

    ``slot`` names that change among all that may come together in one pipeline.
    """

    version: AdapterVersion
    concepts: tuple[Concept, ...]
    base: BaseModel
    slot: str
    factors: Mapping[str, Factors]
    rows: Mapping[str, Sequence[Tensor]]


def export_concept(
    home: Home,
    skus: Sequence[str],
    out: Path,
    *,
    collection: str | None = None,
    form: ExportFormat = "lora",
) -> ExportReport:
    """Export learned SKUs of the current version of a collection to the folder ``out``.

    ``lora`` writes a LoRA file, a textual inversion a SKU and a README; ``pipeline``
    a whole diffusers folder in fp32 with the change merged into the weights. Several
    SKUs go together only where they share their deltas (``slots: shared``).

    Args:
        home: its settings name the base model; the adapter's settings are read off the parts.
        skus: at least one.
        out: a folder that is absent or empty; it appears complete or not at all.
        collection: default the one that knows all of ``skus``, of several the cards'.
        form: see above.

    Raises:
        ConfigurationError: ``out`` holds files, or lies among the program's own or the
            photos, a SKU is not learned, SKUs that do not share their deltas, or a change
            that fits no LoRA.
        BaseModelError: the base model cannot be opened.
        LearningError: learned on another base model.
        StoreError: a version or a part cannot be read, or ``out`` cannot be written.
    """
    if not skus:
        raise ConfigurationError("no SKU to export; expected at least one that is learned")
    settings, wanted = home.settings, list(dict.fromkeys(skus))
    check_destination(settings, out)
    with new_folder(out) as staging:
        check_base_model(settings)
        store, version = _find(home, wanted, collection)
        learned = _read(settings, store, version, wanted)
        write = _write_lora if form == "lora" else _write_pipeline
        prompts = write(learned, settings, staging)
    target = out.expanduser().resolve()
    files = sorted(path for path in target.rglob("*") if path.is_file())
    return ExportReport(
        folder=target,
        form=form,
        collection=version.collection,
        version=version.version,
        prompts=prompts,
        files=tuple(path.relative_to(target).as_posix() for path in files),
        bytes=sum(path.stat().st_size for path in files),
    )


def _find(
    home: Home, skus: Sequence[str], collection: str | None
) -> tuple[AdapterStore, AdapterVersion]:
    """The store and head of the one collection that knows all of ``skus``, or of the cards'."""
    known = home.collections()
    if collection is not None and collection not in known:
        raise ConfigurationError(
            f"no collection {collection!r}; expected one of {', '.join(known) or '(none yet)'}"
        )
    heads: dict[str, AdapterVersion] = {}
    for name in [collection] if collection is not None else known:
        current = home.adapters(name).current()
        if current is not None:
            heads[name] = current
    fitting = [n for n, head in heads.items() if all(head.concept(sku) for sku in skus)]
    if len(fitting) > 1:
        cards = {row.sku: row.collection for row in home.index.read()}
        fitting = [n for n in fitting if all(cards.get(sku) == n for sku in skus)] or fitting
    if len(fitting) == 1:
        return home.adapters(fitting[0]), heads[fitting[0]]
    if fitting:
        raise ConfigurationError(
            f"{', '.join(skus)} are learned in the collections {', '.join(fitting)}; "
            "pick one with --collection"
        )
    lists = "; ".join(f"{n}: {', '.join(c.sku for c in h.concepts)}" for n, h in heads.items())
    raise ConfigurationError(
        f"no collection has learned {', '.join(skus)} together; learned are {lists or 'none'}; "
        "run `catalog-pipeline learn` first"
    )


def _read(
    settings: Settings, store: AdapterStore, version: AdapterVersion, skus: Sequence[str]
) -> _Learned:
    from catalog_pipeline.diffusion.base import load_base_model
    from catalog_pipeline.diffusion.export import layer_factors
    from catalog_pipeline.diffusion.parts import stored_slot, stored_tokens

    concepts = tuple(found for sku in skus if (found := version.concept(sku)) is not None)
    parts = {c.sku: read_named_part(store, version, concept_part(c.sku)) for c in concepts}
    slots = {sku: stored_slot(data) for sku, data in parts.items()}
    own = [sku for sku, slot in slots.items() if slot]
    if own and len(skus) > 1:
        raise ConfigurationError(
            f"{', '.join(own)} have deltas of their own, and plain diffusers cannot route each to "
            "its own product; expected one SKU, or SKUs learned with slots: shared; "
            "export them one by one, to a folder each"
        )
    plain = {"dtype": "float32", "device": "cpu", "quantise": "none", "offload": "none"}
    base = load_base_model(settings.base_model.model_copy(update={**plain, "compile": False}))
    check_same_base(version, base.content_hash)
    name = skus[0] if own else f"{version.collection}-{version.version[:12]}"
    try:
        slot = slots[skus[0]] or stored_slot(read_named_part(store, version, SHARED))
        factors = layer_factors(slot, base.denoiser)
        tokens = base.text_conditioner()
        rows = {
            c.sku: stored_tokens(parts[c.sku], tokens.rows_of(len(c.placeholder_tokens)))
            for c in concepts
        }
    except ValueError as error:
        raise StoreError(f"version {version.version} cannot be exported: {error}") from error
    return _Learned(version, concepts, base, name, factors, rows)


def _write_lora(learned: _Learned, settings: Settings, folder: Path) -> dict[str, str]:
    from safetensors.torch import save_file
    from torch import stack

    from catalog_pipeline.diffusion.export import adapter_name, inversion_token, lora_state_dict

    base = learned.base
    tokens = {c.sku: inversion_token(c.sku) for c in learned.concepts}
    if len(set(tokens.values())) < len(tokens):
        raise ConfigurationError(
            f"{', '.join(tokens)} differ in case only, and diffusers' textual inversions do not "
            "tell case apart; export them one by one"
        )
    try:
        lora = lora_state_dict(learned.factors, base.denoiser_part)
    except ValueError as error:
        raise ConfigurationError(f"no LoRA of {', '.join(tokens)}: {error}") from error
    save_file(lora, folder / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
    # A LoRA that is loaded becomes the only active one: those before it are named again.
    lines = [
        f'adapter, active = "{adapter_name(learned.slot)}", pipe.get_active_adapters()',
        "if adapter not in active:",
        '    weights = "pytorch_lora_weights.safetensors"',
        '    pipe.load_lora_weights(".", weight_name=weights, adapter_name=adapter)',
        "    pipe.set_adapters([*active, adapter])",
    ]
    for sku, rows in learned.rows.items():
        name = f"learned_embeds{f'-{sku}' if len(tokens) > 1 else ''}.safetensors"
        inversion = base.inversion_state_dict(tokens[sku], stack(list(rows)))
        save_file(inversion, folder / name, metadata={"format": "pt"})
        lines.append(base.inversion_code(name, tokens[sku]))
    prompts = _prompts(learned.concepts, tokens, settings)
    opening = (
        f"pipe is a {base.pipelines[0]} opened on the base model that the concepts were\n"
        "learned on (named above). load_lora_weights needs the package peft. What was loaded\n"
        "before stays active; set_adapters takes adapter_weights to weigh them."
    )
    _write_readme(folder, learned, opening, lines, prompts, settings)
    return prompts


def _write_pipeline(learned: _Learned, settings: Settings, folder: Path) -> dict[str, str]:
    from catalog_pipeline.diffusion.export import merge_factors

    base, generation = learned.base, settings.generation
    merge_factors(base.denoiser, learned.factors)
    rows = {
        token: row
        for concept in learned.concepts
        for token, row in zip(concept.placeholder_tokens, learned.rows[concept.sku], strict=True)
    }
    try:
        base.add_tokens(rows)
    except ValueError as error:
        raise ConfigurationError(f"cannot export {', '.join(learned.rows)}: {error}") from error
    side = base.sample_size_px
    scheduler = base.make_scheduler(generation.sampler, generation.steps, side, side)
    base.save_pipeline(scheduler, folder)
    tokens = {c.sku: " ".join(c.placeholder_tokens) for c in learned.concepts}
    prompts = _prompts(learned.concepts, tokens, settings)
    lines = [
        f"from diffusers import {base.pipelines[0]}",
        f'pipe = {base.pipelines[0]}.from_pretrained(".")',
    ]
    opening = "The folder is a complete model; it needs nothing of the program that wrote it."
    _write_readme(folder, learned, opening, lines, prompts, settings)
    return prompts


def _prompts(
    concepts: Sequence[Concept], tokens: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """A prompt a SKU, in the first scene with which the base reads it whole, else in none."""
    reads = prompt_tokenizer(settings.base_model)
    prompts = {}
    for concept in concepts:
        texts = [scene.text for scene in settings.generation.scenes]
        scenes = [text for text in texts if reads.fits(own_prompts([concept], text))]
        named = f"a photo of a {tokens[concept.sku]} {concept.class_noun}"
        prompts[concept.sku] = f"{named} {scenes[0]}" if scenes else named
    return prompts


_README = """\
Learned product(s): {skus}
Collection {collection}, version {version}
Base model: {base}, SHA-256 of its files {base_hash}

{opening}

Run from within this folder:

    {code}

Prompts:

    {prompts}

At guidance_scale=1 the pictures are those of the program that wrote this folder, given its
solver ({sampler}), steps and size, and generator=torch.Generator().manual_seed(seed). Above 1
they differ: that program guides away from the base model as it was before it learned anything,
plain diffusers away from the changed weights.
"""


def _write_readme(
    folder: Path,
    learned: _Learned,
    opening: str,
    lines: Sequence[str],
    prompts: Mapping[str, str],
    settings: Settings,
) -> None:
    generation, first = settings.generation, next(iter(prompts.values()))
    call = (
        f"image = pipe({json.dumps(first)}, num_inference_steps={generation.steps}, "
        f"guidance_scale={generation.guidance}).images[0]"
    )
    text = _README.format(
        skus=", ".join(prompts),
        collection=learned.version.collection,
        version=learned.version.version,
        base=settings.base_model.base_model,
        base_hash=learned.base.content_hash,
        opening=opening,
        sampler=generation.sampler,
        code="\n    ".join([*lines, call]),
        prompts="\n    ".join(prompts.values()),
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")
