"""The door of the frozen base model: embedded, a diffusers folder, or (online) a hub id.

Whatever is not a model of one of the :mod:`~catalog_pipeline.diffusion.families` is refused
here, from its configurations and the headers of its weights, before any weight is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.families import FAMILIES
from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings

_PICKLED = (".bin", ".ckpt", ".pt", ".pth")


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
        BaseModelError: no such folder, a single file, a model of an unknown family, parts or
            weights that are missing, cut off or pickled, or a hub id while ``offline``.
    """
    folder = _locate(settings)
    for name, kind in find_family(folder).part_classes.items():
        if issubclass(kind, nn.Module):
            _check_weights(folder, folder / name, kind)
    return folder


def _locate(settings: BaseModelSettings) -> Path:
    if settings.base_model == "embedded":
        return EMBEDDED_WEIGHTS
    path = Path(settings.base_model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise _refused(
            path,
            "it is a single file; expected a diffusers folder; write one with "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)",
        )
    if settings.offline:
        raise BaseModelError(
            f"base_model '{settings.base_model}' is not a folder, and offline is true; expected "
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
    index = folder / "model_index.json"
    model_index = _read_json(folder, index) if index.is_file() else {}
    if model_index:
        found = str(model_index.get("_class_name"))
        if found not in FAMILIES:
            raise _unsupported(folder, f"model_index.json says {found}")
        family = FAMILIES[found]
    else:
        family = min(
            FAMILIES.values(), key=lambda f: (len(_missing(folder, f)), -len(f.part_classes))
        )
    if missing := _missing(folder, family):
        raise _refused(
            folder,
            f"it lacks {', '.join(missing)}; expected a diffusers folder with the sub-folders "
            f"{', '.join(family.part_classes)} ({family.title}); copy the base model again",
        )
    configs = {part: _config(folder, part) for part in family.part_classes}
    misfit = family.find_misfit({**configs, "model_index": model_index})
    if misfit is not None:
        raise _unsupported(folder, misfit)
    return family


def _missing(folder: Path, family: type[BaseModel]) -> list[str]:
    return [part for part in family.part_classes if not (folder / part).is_dir()]


def _config(folder: Path, part: str) -> Mapping[str, Any]:
    """The configuration of a part; every other JSON of it must be readable too."""
    configs = {path.name: _read_json(folder, path) for path in (folder / part).glob("[!.]*.json")}
    if not configs:
        raise _refused(folder, f"{part} has no configuration (*.json); copy the base model again")
    return configs.get("config.json") or configs.get("scheduler_config.json") or {}


def _read_json(folder: Path, path: Path) -> dict[str, Any]:
    place = path.relative_to(folder).as_posix()
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _refused(
            folder, f"{place} is not readable JSON: {error}; copy the base model again"
        ) from error
    if not isinstance(read, dict):
        raise _refused(folder, f"{place} holds no JSON object; copy the base model again")
    return read


def _check_weights(folder: Path, part: Path, kind: type) -> None:
    """Refuse a part whose safetensors files are not there whole; reads their headers only."""
    whole = SAFETENSORS_WEIGHTS_NAME if issubclass(kind, ModelMixin) else SAFE_WEIGHTS_NAME
    index = part / f"{whole}.index.json"
    names = [whole]
    if index.is_file():
        names = sorted(set(_read_json(folder, index).get("weight_map", {}).values()))
    if not names or not all((part / name).is_file() for name in names):
        missing = [name for name in names if not (part / name).is_file()]
        present = sorted(path.name for path in part.iterdir() if path.suffix != ".json")
        advice = "download or copy the base model again"
        if any(name.endswith(_PICKLED) for name in present):
            advice = (
                "pickled weights are never opened; write safetensors with "
                "save_pretrained(FOLDER, safe_serialization=True)"
            )
        raise _refused(
            folder,
            f"{part.name} lacks the weights {', '.join(missing) or whole} and holds "
            f"{', '.join(present) or 'none'}; {advice}",
        )
    for name in names:
        try:
            with safe_open(part / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise _refused(
                folder,
                f"{part.name}/{name} is not a whole safetensors file ({error}); download or copy "
                "the base model again",
            ) from error


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
        find_family(Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt"])))
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(f"hub model '{hub_id}' cannot be fetched: {error}") from error


def hash_model_folder(folder: Path) -> str:
    """SHA-256 over the sorted relative names and contents of the files of the family's parts.

    Hidden files are none of them: a look at the folder in a file manager may leave some.
    """
    digest = hashlib.sha256()
    parts = find_family(folder).part_classes
    files = sorted(p for part in parts for p in (folder / part).rglob("*") if p.is_file())
    for path in files:
        if any(name.startswith(".") for name in path.relative_to(folder).parts):
            continue
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
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
