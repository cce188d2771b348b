"""Opening the frozen base model: embedded, a diffusers folder, or (online) a hub id."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import BaseModelSettings

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class BaseModel:
    """A Stable-Diffusion-family model, frozen, on ``device``.

    UNet and VAE are in ``dtype`` and channels-last; the text encoder stays fp32,
    since the gradient of new tokens runs through it. ``content_hash`` is the
    SHA-256 over the names and bytes of the model's files: it changes when any
    weight or config changes, wherever the folder lies.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: Any
    content_hash: str
    device: torch.device
    dtype: torch.dtype

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``."""
        return str(self.scheduler_config["prediction_type"])

    @property
    def latent_factor(self) -> int:
        """Image pixels per latent pixel along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def sample_size_px(self) -> int:
        """The side in pixels that the UNet was trained at."""
        return int(self.unet.config.sample_size) * self.latent_factor


def load_base_model(settings: BaseModelSettings) -> BaseModel:
    """Open the base model that ``settings.base_model`` names.

    Raises:
        BaseModelError: no such folder, a folder without the five parts of a
            Stable Diffusion pipeline, or a hub id while ``offline`` is true.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = resolve_base_model(settings)
    # Their bars count files of a folder that opens in a second; ours count real work.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        unet, vae, text_encoder, tokenizer, scheduler = _open_parts(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BaseModelError(
            f"the base model at {folder} cannot be opened: {error}; expected a diffusers "
            "StableDiffusionPipeline folder with safetensors weights"
        ) from error
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu")
        if settings.device == "auto"
        else settings.device
    )
    dtype = choose_dtype(settings.dtype, device)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False).eval().to(device)
    for part in (unet, vae):
        # torch's own method: diffusers' wrapper warns about a list that is empty here.
        nn.Module.to(part, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return BaseModel(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler_config=scheduler.config,
        content_hash=hash_model_folder(folder),
        device=device,
        dtype=dtype,
    )


def _open_parts(folder: Path) -> tuple[Any, Any, Any, Any, Any]:
    """UNet, VAE, text encoder, tokenizer and scheduler, in fp32, from local files only."""
    opened = []
    kinds: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    for name, kind in kinds.items():
        opened.append(
            kind.from_pretrained(
                folder, subfolder=name, local_files_only=True, torch_dtype=torch.float32
            )
        )
    text_encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", local_files_only=True, dtype=torch.float32
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    return opened[0], opened[1], text_encoder, tokenizer, scheduler


def resolve_base_model(settings: BaseModelSettings) -> Path:
    """The local folder of the base model; fetched from the hub only when ``offline`` is false."""
    if settings.base_model == "embedded":
        return EMBEDDED_WEIGHTS
    folder = Path(settings.base_model).expanduser()
    if folder.is_dir():
        missing = [part for part in _PARTS if not (folder / part).is_dir()]
        if missing:
            raise BaseModelError(
                f"{folder} lacks {', '.join(missing)}; expected a diffusers folder with the "
                f"sub-folders {', '.join(_PARTS)}"
            )
        return folder
    if settings.offline:
        raise BaseModelError(
            f"base_model '{settings.base_model}' is not a folder, and offline is true; expected "
            "'embedded' or a local Stable-Diffusion folder; set offline: false to fetch a hub id"
        )
    return _fetch(settings.base_model)


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(f"hub model '{hub_id}' cannot be fetched: {error}") from error


def hash_model_folder(folder: Path) -> str:
    """SHA-256 over the sorted relative names and contents of the five parts' files."""
    digest = hashlib.sha256()
    files = sorted(p for part in _PARTS for p in (folder / part).rglob("*") if p.is_file())
    for path in files:
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bf16 on a GPU and on CPUs that multiply in it, else fp32."""
    if name != "auto":
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
