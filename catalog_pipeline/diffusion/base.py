"""The door of the frozen base model: embedded, a diffusers folder, or (online) a hub id.

Whatever is not a model of one of the :mod:`~catalog_pipeline.diffusion.families` is refused
here, from its configurations and the headers of its weights, before any weight is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.base_files import (
    describe_file,
    describe_folder,
    find_file_fault,
    find_text_fault,
)
from catalog_pipeline.diffusion.base_parts import find_part_fault, hash_file
from catalog_pipeline.diffusion.families import FAMILIES
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings

_COPY_AGAIN = "copy the base model again"
_TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")
"""What a part has beside its weights: configurations, vocabularies, chat templates."""


def load_base_model(settings: BaseModelSettings) -> BaseModel:
    """Open the base model that ``settings.base_model`` names, frozen.

    Raises:
        BaseModelError: as :func:`resolve_base_model`, or a part that its class refuses.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = resolve_base_model(settings)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    # Their bars count files of a folder that opens in a second; ours count real work.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        family, content_hash = find_family(folder), hash_model_folder(folder)
        return family.open(folder, content_hash, device, dtype, settings)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _refused(folder, f"{error}; copy the base model again") from error


def resolve_base_model(settings: BaseModelSettings) -> Path:
    """The local folder of the base model; fetched from the hub only when ``offline`` is false.

    Raises:
        BaseModelError: no such folder, a single file, a model of an unknown family, a part that
            is missing or cannot be opened, or a hub id while ``offline``; in one line.
    """
    folder = Path(settings.base_model)
    try:
        folder = _locate(settings)
        family, configs = _read_family(folder)
        for name, kind in family.part_classes.items():
            rows = _token_rows(configs.get(name.replace("tokenizer", "text_encoder"), {}))
            if (fault := find_part_fault(folder / name, kind, configs[name], rows)) is not None:
                raise _refused(folder, fault)
    except OSError as error:
        raise _refused(folder, f"{error}; see that it can be read, or {_COPY_AGAIN}") from error
    return folder


def _locate(settings: BaseModelSettings) -> Path:
    if settings.base_model == "embedded":
        return EMBEDDED_WEIGHTS
    path = Path(settings.base_model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise _refused(path, describe_file(path, FAMILIES))
    if settings.offline:
        raise BaseModelError(
            f"base_model {settings.base_model!r} is not a folder, and offline is true; expected "
            "'embedded' or a local diffusers folder; set offline: false to fetch a hub id"
        )
    return _fetch(settings.base_model)


def find_family(folder: Path) -> type[BaseModel]:
    """The family of the model in ``folder``, by its configurations.

    ``_class_name`` of ``model_index.json`` decides; a folder without that file is of the
    family whose parts it has.

    Raises:
        BaseModelError: another pipeline class, parts that are missing, configurations that
            cannot be read, or one that this family does not know.
    """
    return _read_family(folder)[0]


def _read_family(folder: Path) -> tuple[type[BaseModel], Mapping[str, Mapping[str, Any]]]:
    """The family of the model in ``folder``, and the configurations of its parts."""
    index = folder / "model_index.json"
    if index.is_file() and (fault := find_file_fault(index)) is not None:
        raise _refused(folder, f"{index.name} {fault}")
    model_index = _read_json(folder, index) if index.is_file() else {}
    if index.is_file():
        found = str(model_index.get("_class_name"))[:80]
        if found not in FAMILIES:
            raise _unsupported(folder, f"model_index.json says {found}")
        family = FAMILIES[found]
    else:
        family = min(
            FAMILIES.values(), key=lambda f: (len(_missing(folder, f)), -len(f.part_classes))
        )
    if missing := _missing(folder, family):
        other = None if index.is_file() else describe_folder(folder, FAMILIES)
        if other is not None:
            raise _refused(folder, other)
        raise _refused(
            folder,
            f"it lacks {', '.join(missing)}; expected a diffusers folder with the sub-folders "
            f"{', '.join(family.part_classes)} ({family.title}); download or {_COPY_AGAIN}",
        )
    configs = {part: _config(folder, part) for part in family.part_classes}
    try:
        misfit = family.find_misfit({**configs, "model_index": model_index})
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        why = f"its configurations are not as those of {family.title} are: {error!r}"
        raise _refused(folder, f"{why}; {_COPY_AGAIN}") from error
    if misfit is not None:
        raise _unsupported(folder, misfit)
    return family, configs


def _missing(folder: Path, family: type[BaseModel]) -> list[str]:
    return [part for part in family.part_classes if not (folder / part).is_dir()]


def _config(folder: Path, part: str) -> Mapping[str, Any]:
    """The configuration of a part; every other JSON of it must be readable too."""
    if (fault := find_text_fault(folder / part)) is not None:
        raise _refused(folder, fault)
    configs = {path.name: _read_json(folder, path) for path in (folder / part).glob("[!.]*.json")}
    if not configs:
        raise _refused(folder, f"{part} has no configuration (*.json); {_COPY_AGAIN}")
    return configs.get("config.json") or configs.get("scheduler_config.json") or {}


def _token_rows(config: Mapping[str, Any]) -> int | None:
    """Rows of a text encoder's token table; of a model that reads images too, of its text."""
    text = config.get("text_config")
    rows = (text if isinstance(text, dict) else config).get("vocab_size")
    return rows if isinstance(rows, int) else None


def _read_json(folder: Path, path: Path) -> dict[str, Any]:
    place = path.relative_to(folder).as_posix()
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise _refused(folder, f"{place} is not readable JSON: {error}; {_COPY_AGAIN}") from error
    if not isinstance(read, dict):
        raise _refused(folder, f"{place} holds no JSON object; {_COPY_AGAIN}")
    return read


def _unsupported(folder: Path, found: str) -> BaseModelError:
    titles: dict[str, list[str]] = {}
    for pipeline, family in FAMILIES.items():
        titles.setdefault(family.title, []).append(pipeline)
    supported = "; ".join(f"{title} ({', '.join(names)})" for title, names in titles.items())
    return _refused(
        folder,
        f"{found}; supported are {supported}; name another folder, or 'embedded', in "
        "base_model.yaml: base_model",
    )


def _refused(path: Path, why: str) -> BaseModelError:
    return BaseModelError(f"{path} cannot be opened as the base model: {' '.join(why.split())}")


def _fetch(hub_id: str) -> Path:
    """The snapshot of a hub id; its family is known before its weights are fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        family = find_family(Path(snapshot_download(hub_id, allow_patterns=[*_TEXTS])))
        # Of the parts alone: many repositories hold the same weights in one file as well.
        weights = [f"{part}/*.safetensors" for part in family.part_classes]
        return Path(snapshot_download(hub_id, allow_patterns=[*_TEXTS, *weights]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = " ".join(str(error).split())
        raise BaseModelError(f"hub model '{hub_id}' cannot be fetched: {why}") from error


def hash_model_folder(folder: Path) -> str:
    """SHA-256 over the sorted relative names and contents of the files of the family's parts.

    Hidden files are none of them: a look at the folder in a file manager may leave some.
    """
    files = sorted(
        path
        for part in find_family(folder).part_classes
        for path in (folder / part).rglob("*")
        if path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # one core hashes about a gigabyte a second
        for path, content in zip(files, pool.map(hash_file, files), strict=True):
            digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0" + content)
    return digest.hexdigest()


def choose_device(name: str) -> torch.device:
    """``auto``: the first CUDA device, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bf16 on a GPU and on CPUs that multiply in it, else fp32."""
    if name != "auto":
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
