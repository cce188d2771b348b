"""What a path is that is no diffusers folder, and files that have not arrived whole.

A checkpoint in one file is told by the names in its header, as diffusers' own
``loaders/single_file_utils.py`` does; no weight is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

_LFS_POINTER = b"version https://git-lfs"
_PARTIAL = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download")
_SINGLE_FILES = (".safetensors", ".sft", ".ckpt", ".gguf", ".pt", ".pth", ".bin")
_TEXT_FILES = (".json", ".txt", ".model", ".jinja")
_COMFY_FOLDERS = frozenset(
    {"checkpoints", "diffusion_models", "text_encoders", "clip", "loras", "controlnet"}
)


def list_names(names: Sequence[str], most: int = 4) -> str:
    """``a, b and 3 more``; one line however many there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def find_file_fault(path: Path) -> str | None:
    """Why a file holds nothing yet: it is empty, or stands for one that git-LFS keeps."""
    with path.open("rb") as stream:
        start = stream.read(len(_LFS_POINTER))
    if not start:
        return "is empty; download or copy it again"
    if start == _LFS_POINTER:
        return "is a git-LFS pointer, not the file itself; run git lfs pull in the folder"
    return None


def find_text_fault(part: Path) -> str | None:
    """The first configuration or vocabulary in a folder that holds nothing yet, and why."""
    for path in sorted(part.glob("[!.]*")):
        if path.suffix in _TEXT_FILES and path.is_file() and (fault := find_file_fault(path)):
            return f"{part.name}/{path.name} {fault}"
    return None


def partial_files(part: Path) -> list[str]:
    """What a download left that has not finished, in the folder or in the hub client's beside."""
    beside = part.parent / ".cache" / "huggingface" / "download" / part.name
    return sorted(
        path.relative_to(part.parent).as_posix()
        for folder in (part, beside)
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix in _PARTIAL
    )


# --- a checkpoint in one file ------------------------------------------------

_WHOLE = (
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("conditioner.embedders.0.", "StableDiffusionXLImg2ImgPipeline"),
    ("text_encoders.clip_g.", "StableDiffusion3Pipeline"),
    ("cond_stage_model.", "StableDiffusionPipeline"),
)
"""How names begin that only such a file has which holds text encoders too -> its pipeline."""
_DENOISERS = (
    ("joint_blocks.", "StableDiffusion3Pipeline"),
    ("double_stream_modulation_img.", "Flux2KleinPipeline or Flux2Pipeline"),
    ("double_blocks.", "FluxPipeline"),
    ("txt_norm.", "QwenImagePipeline"),
    ("noise_refiner.", "ZImagePipeline or Lumina2Pipeline"),
    ("label_emb.", "StableDiffusionXLPipeline"),
    ("input_blocks.", "StableDiffusionPipeline"),
)
"""The same of a denoiser alone, its prefix taken off."""
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
_LORA = ("lora_", ".lora_", ".lora.", ".hada_", ".lokr_")


def describe_file(path: Path, pipelines: Collection[str]) -> str:
    """What a single file is, and how to make of it a folder of one of ``pipelines``."""
    if path.name == "model_index.json":
        return f"it is the index of a diffusers folder; name the folder, {path.parent}"
    got = f"{path.name} is a single file; expected a diffusers folder"
    if path.suffix in (".safetensors", ".sft"):
        return f"{got}; {_advise(path, pipelines)}"
    if path.suffix == ".gguf":
        return (
            f"{got}; GGUF holds a quantised denoiser alone, which is not opened; use the model's "
            "folder in bf16, fp16 or fp32"
        )
    if path.suffix in _SINGLE_FILES:
        return (
            f"{got}; it is pickled: of a maker whom you trust, {_from_single_file(path)} writes one"
        )
    return got


def _advise(path: Path, pipelines: Collection[str]) -> str:
    if fault := find_file_fault(path):
        return f"it {fault}"
    try:
        with safe_open(path, "np") as opened:
            names = list(opened.keys())
    except (SafetensorError, OSError) as error:
        return f"nor is it a whole safetensors file ({error})"
    if any(mark in name for name in names for mark in _LORA):
        return "it is a LoRA, not a base; name the folder of the base that it was made for"
    if (pipeline := _first(_WHOLE, names)) is not None:
        if pipeline in pipelines:
            return f"write one with {_from_single_file(path, pipeline)}"
        return f"it is of a {pipeline}; supported are {', '.join(sorted(pipelines))}"
    for prefix in _PREFIXES:
        names += [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if (pipeline := _first(_DENOISERS, names)) is not None:
        return (
            f"it holds the denoiser of a {pipeline} alone, without text encoder and VAE; download "
            "the model's whole diffusers folder"
        )
    if (path.parent / "config.json").is_file():
        return f"it is the weights of one part; name the folder with model_index.json above {path}"
    return f"if it is a whole model, {_from_single_file(path)} writes one"


def _first(table: Iterable[tuple[str, str]], names: Sequence[str]) -> str | None:
    for begins, pipeline in table:
        if any(name.startswith(begins) for name in names):
            return pipeline
    return None


def _from_single_file(path: Path, pipeline: str = "DiffusionPipeline") -> str:
    if pipeline == "DiffusionPipeline":  # it has no from_single_file itself
        pipeline = "StableDiffusionPipeline (or the pipeline class of its model)"
    return f"{pipeline}.from_single_file({str(path)!r}).save_pretrained(FOLDER)"


# --- a folder of another kind ------------------------------------------------


def describe_folder(folder: Path, pipelines: Collection[str]) -> str | None:
    """What a folder without ``model_index.json`` is instead of a diffusers folder, if known."""
    below = ("*", "snapshots/*", "models--*/snapshots/*")
    inner = sorted(found for place in below for found in folder.glob(f"{place}/model_index.json"))
    if inner:
        return f"the diffusers folder is further down; name {inner[-1].parent}"
    for place in (folder, folder / "models"):
        if place.is_dir() and {path.name for path in place.iterdir()} & _COMFY_FOLDERS:
            return (
                "it is laid out for ComfyUI; expected a diffusers folder; of a whole checkpoint in "
                f"it, {_from_single_file(place / 'checkpoints' / 'FILE')} writes one"
            )
    files = sorted(p for p in folder.glob("[!.]*") if p.suffix in _SINGLE_FILES and p.is_file())
    if files:
        return describe_file(files[0], pipelines)
    return None
