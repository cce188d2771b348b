"""Take a LoRA that was trained elsewhere into a collection, as if a task had learned it."""

from __future__ import annotations

import hashlib
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.errors import ConfigurationError, QualityGateError
from catalog_pipeline.records import AdapterVersion, Concept, LearnOutcome, PhotoSet
from catalog_pipeline.settings import AdapterSettings, Settings
from catalog_pipeline.stores.memory import ENCODER
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.attempts import (
    has_learned,
    log_learned,
    note_learned,
    note_refusal,
)
from catalog_pipeline.workflows.learn.commit import (
    base_identity,
    commit_learned,
    dropped_elsewhere,
    learned_outcome,
    note_promotion,
)
from catalog_pipeline.workflows.learn.head_turn import head_turn
from catalog_pipeline.workflows.learn.learn_concepts import choose_rows
from catalog_pipeline.workflows.learn.learning_inputs import (
    LearningTools,
    draft_concept,
    open_method,
    open_tools,
    photos_hash,
)
from catalog_pipeline.workflows.learn.prompt_lengths import check_class_noun, check_scenes
from catalog_pipeline.workflows.models import (
    check_base_model,
    prompt_tokenizer,
)
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.scene_words import require_read

if TYPE_CHECKING:
    from torch import Tensor

    from catalog_pipeline.diffusion.lora_files import ForeignLora
    from catalog_pipeline.workflows.learn.task_runner import GivenWeights


@dataclass(frozen=True)
class LoraSource:
    """A LoRA file, and how its product is named.

    Attributes:
        file: safetensors with the names of diffusers, PEFT or kohya.
        embeddings: a textual inversion of the product, for bases whose token rows are learned.
        trigger: the words that named the product in training, without the class noun.
        skip_text_encoder: leave out what it changes in text encoders.
        skip_other_layers: leave out the layers that the adapter does not have.
    """

    file: Path
    embeddings: Path | None = None
    trigger: str = ""
    skip_text_encoder: bool = False
    skip_other_layers: bool = False


def import_lora(
    home: Home, sku: str, source: LoraSource, *, progress: ProgressSink | None = None
) -> LearnOutcome:
    """Serve ``sku`` with the weights of ``source``, once they pass the gates of learning.

    The photos of the SKU are what the gates compare with. The version is as of a learning
    task, its concept marked by ``imported_from``: it is current until the photos change, and
    ``learn`` trains nothing over it before. Idempotent: the same file for the same photos is
    no work. Safe to kill: nothing is served before it is whole. A refused LoRA leaves the
    index as it is.

    Raises:
        CatalogError: the index does not know ``sku``, or its photos cannot be used.
        ConfigurationError: the file cannot be imported, or not under these settings.
        BaseModelError: the base model cannot be opened.
        LearningError: the collection is of another base, or prompts would be cut.
        QualityGateError: it does not look like the photos; it is in quarantine.
    """
    started = time.monotonic()
    settings = home.settings
    _check_settings(settings.learning.adapter)
    _check_files(source)
    (row,) = choose_rows(home.index.read(), [sku])
    check_base_model(settings)
    require_read(home.written, home.words, learning=True)
    check_scenes(settings, prompt_tokenizer(settings.base_model))
    photo_set = validate_photo_set(home, row.sku)
    home.words.keep()
    try:
        outcome, version = _commit(home, photo_set, source, progress or SilentProgress())
    except QualityGateError:
        note_refusal(home, row.sku, photo_set.sku.collection)
        raise
    outcome = dropped_elsewhere(home, photo_set, outcome)
    seconds = time.monotonic() - started
    if version is not None:
        if outcome.status == "unchanged" and row.learned_hash != photo_set.content_hash:
            note_promotion(
                home, version, row.sku
            )  # a crash, or the audit log's store, came between
        log_learned(home, photo_set, version, reason=outcome.reason, seconds=seconds)
    note_learned(home, row, photo_set, version)
    return replace(outcome, seconds=seconds)


def _check_settings(adapter: AdapterSettings) -> None:
    if adapter.one_for_all:
        raise ConfigurationError(
            f"learning.yaml: adapter.slots is {adapter.slots}, and a LoRA of one product cannot "
            "be mixed into the slot of all; expected per_concept"
        )
    if adapter.parametrisation != "low_rank":
        raise ConfigurationError(
            f"learning.yaml: adapter.parametrisation is {adapter.parametrisation}; a LoRA is "
            "low_rank; set it so, or learn the product from its photos"
        )


def _check_files(source: LoraSource) -> None:
    from catalog_pipeline.diffusion.lora_files import check_lora_file

    if source.trigger and source.embeddings is not None:
        raise ConfigurationError(
            "got --trigger and --embeddings, and both say how the product is named; expected one"
        )
    for path in filter(None, (source.file, source.embeddings)):
        if not path.is_file():
            raise ConfigurationError(f"{path} is not a file; expected a .safetensors file")
    try:
        check_lora_file(source.file)
    except ValueError as error:
        raise ConfigurationError(f"{source.file} cannot be imported: {error}") from error


def _commit(
    home: Home, photo_set: PhotoSet, source: LoraSource, progress: ProgressSink
) -> tuple[LearnOutcome, AdapterVersion | None]:
    """Judge under the SKU's claim and move the collection's head by compare-and-swap.

    The version is the one that imported it, as far as log and index do not know it yet.
    """
    from catalog_pipeline.workflows.learn.task_runner import TaskRunner

    settings, sku = home.settings, photo_set.sku.sku
    digest, config = _hashes(source, settings)
    with head_turn(home, photo_set.sku.collection, sku, side_by_side=True) as turn:
        store, seen, known = turn.store, turn.seen, turn.known
        photos = photos_hash(photo_set)
        if seen and known and (known.photos_hash, known.config_hash) == (photos, config):
            reason = "already imported for these photos"
            outcome = LearnOutcome(sku, "unchanged", seen.version, reason, metrics=known.metrics)
            return outcome, seen if has_learned(store, seen, sku) else None
        tools = open_tools(settings)
        given, tokens = _read(source, tools, sku, settings)
        check_class_noun(photo_set.sku, settings, prompt_tokenizer(settings.base_model), tokens)
        concept = _draft(seen, photo_set, tokens, config, digest)
        method = open_method(tools, settings.learning, home.objects)
        runner = TaskRunner(settings, home.objects, store, tools, method, progress, given)
        learned = runner.run(seen, photo_set, concept)
        with turn.take() as (parent, fence):
            version = commit_learned(home, store, parent, learned, fence)
    return learned_outcome(learned, version, f"imported from {source.file.name}"), version


def _hashes(source: LoraSource, settings: Settings) -> tuple[str, str]:
    """Of the LoRA file, and of all that the concept depends on besides its photos."""
    digest, rows = _sha256(source.file), source.embeddings
    config = canonical_sha256(
        {
            "lora": digest,
            "embeddings": _sha256(rows) if rows else "",
            "trigger": source.trigger,
            "tokens": settings.learning.adapter.tokens_per_concept,
            "skipped": [source.skip_text_encoder, source.skip_other_layers],
            "base": base_identity(settings.base_model),
            "encoder": ENCODER,
        }
    )
    return digest, config


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _draft(
    parent: AdapterVersion | None,
    photo_set: PhotoSet,
    tokens: tuple[str, ...],
    config: str,
    digest: str,
) -> Concept:
    draft = draft_concept(parent, photo_set.sku, len(tokens), photos_hash(photo_set), config)
    return replace(draft, placeholder_tokens=tokens, imported_from=digest)


def _read(
    source: LoraSource, tools: LearningTools, sku: str, settings: Settings
) -> tuple[GivenWeights, tuple[str, ...]]:
    """The weights for the adapter, and the placeholder tokens that name the product."""
    from catalog_pipeline.diffusion.lora_files import read_embeddings, read_lora_file
    from catalog_pipeline.diffusion.text import placeholder_tokens
    from catalog_pipeline.workflows.learn.task_runner import GivenWeights

    engine = tools.engine
    rows: list[Tensor] | None = None
    try:
        lora = read_lora_file(source.file, engine.base, engine.adapter.layers)
    except ValueError as error:
        raise ConfigurationError(f"{source.file} cannot be imported: {error}") from error
    _check_whole(lora, source, tools, settings.learning.adapter)
    count = settings.learning.adapter.tokens_per_concept
    if source.embeddings is not None:
        try:
            rows = list(read_embeddings(source.embeddings, engine.base))
        except ValueError as error:
            raise ConfigurationError(f"{source.embeddings} cannot be imported: {error}") from error
    elif source.trigger:
        rows = engine.text.rows_of_words(source.trigger) or None
    tokens = placeholder_tokens(sku, len(rows) if rows else count)
    if source.trigger and not engine.base.learns_rows:
        tokens = (source.trigger,)
    command = f"import-lora {shlex.quote(str(source.file))} --sku {sku}"
    return GivenWeights(lora.slot(), rows, command), tokens


def _check_whole(
    lora: ForeignLora, source: LoraSource, tools: LearningTools, adapter: AdapterSettings
) -> None:
    """Refuse what would look otherwise than in the program that it was trained for."""
    if lora.text_encoder and not source.skip_text_encoder:
        raise ConfigurationError(
            f"{source.file} changes {len(lora.text_encoder)} layers of text encoders, which are "
            "frozen here; expected a LoRA of the denoiser alone; --skip-text-encoder imports it "
            "without them"
        )
    if lora.others and not source.skip_other_layers:
        wide = adapter.model_copy(
            update={
                "targets": AdapterSettings().targets,
                "attentions": AdapterSettings().attentions,
                "feed_forward": True,
            }
        )
        some = set(lora.others) & set(tools.engine.base.delta_layers(wide))
        hint = f"learning.yaml: adapter could have {len(some)} of them; " if some else ""
        raise ConfigurationError(
            f"{source.file} changes {len(lora.others)} layers besides the {len(lora.factors)} that "
            f"the adapter has, such as {lora.others[0]}; {hint}--skip-other-layers imports it "
            "without them"
        )
