"""Write learned concepts to a folder that plain diffusers loads.

The folder is there complete, or not at all
(:mod:`~catalog_pipeline.workflows.upkeep.destinations`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catalog_pipeline.errors import ConfigurationError, StoreError
from catalog_pipeline.records import SHARED, AdapterVersion, concept_part
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import (
    check_base_model,
    check_same_base,
    read_named_part,
)
from catalog_pipeline.workflows.upkeep.destinations import check_destination, new_folder
from catalog_pipeline.workflows.upkeep.export_forms import (
    Exported,
    write_kohya,
    write_lora,
    write_pipeline,
)

ExportFormat = Literal["lora", "kohya", "pipeline"]


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


_FORMS = {"lora": write_lora, "kohya": write_kohya, "pipeline": write_pipeline}


def export_concept(
    home: Home,
    skus: Sequence[str],
    out: Path,
    *,
    collection: str | None = None,
    form: ExportFormat = "lora",
) -> ExportReport:
    """Export learned SKUs of the current version of a collection to the folder ``out``.

    ``lora`` writes a LoRA file, a textual inversion a SKU (none where a word stands for it)
    and a README; ``kohya`` the same with the names that ComfyUI, A1111 and sd-scripts read;
    ``pipeline`` a whole diffusers folder in fp32 with the change merged into the weights.
    Several SKUs go together only where they share their deltas (``slots: shared``).

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
        prompts = _FORMS[form](learned, settings, staging)
        facts = {"collection": version.collection, "skus": wanted, "form": form}
        home.audit.append("export", str(out), version=version.version, facts=facts)
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
) -> Exported:
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
        rows = {
            c.sku: stored_tokens(parts[c.sku], len(c.placeholder_tokens) if base.learns_rows else 0)
            for c in concepts
        }
    except ValueError as error:
        raise StoreError(f"version {version.version} cannot be exported: {error}") from error
    return Exported(version, concepts, base, name, factors, rows)
