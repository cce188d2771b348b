"""The bank: latents of scenes and photos with their tokenised captions, encoded once.

The UNet sees a picture many times; encoding is paid once. The bank lies in
shards, each a function of its number alone, so an interrupted bank is
continued by writing the shards that are missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catalog_pipeline.base_model.training.checkpoint import load_tensors, save_tensors
from catalog_pipeline.base_model.training.compose import draw_photos, draw_scenes, plan_scenes
from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.presets import Preset
from catalog_pipeline.base_model.training.tokenizer import tokenize
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.base_model.training.training_loop import seed_of

STAGE = "latent bank"
_SCALE_SAMPLE = 50_000


@dataclass(frozen=True)
class LatentBank:
    """What the UNet learns from.

    latents         ``(n, 4, s/4, s/4)`` fp16, raw (not yet scaled)
    tokens          ``(n, MAX_TOKENS)`` int16
    scaling_factor  brings the latents' standard deviation to 1
    """

    latents: Tensor
    tokens: Tensor
    scaling_factor: float

    def to(self, device: torch.device) -> LatentBank:
        """The same bank on ``device``."""
        return LatentBank(self.latents.to(device), self.tokens.to(device), self.scaling_factor)


def write_latent_bank(
    vae: Any,
    tokenizer: Any,
    corpus: Corpus,
    preset: Preset,
    *,
    folder: Path,
    seed: int,
    log: TrainingLog,
    deadline: Deadline,
) -> bool:
    """Write every shard that ``folder`` lacks; whether all are there."""
    settings = preset.bank
    shards = math.ceil(settings.pictures / settings.shard_pictures)
    with log.stage(STAGE, shards) as progress:
        for shard in range(shards):
            path = _shard_path(folder, shard)
            if not path.exists():
                if deadline.passed():
                    return False
                first = shard * settings.shard_pictures
                count = min(settings.shard_pictures, settings.pictures - first)
                latents, tokens = _encode_shard(
                    vae, tokenizer, corpus, preset, count, seed_of(seed, STAGE, shard)
                )
                save_tensors(path, {"latents": latents, "tokens": tokens}, {"shard": shard})
            progress.reach(shard + 1)
    return True


def _shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.safetensors"


@torch.no_grad()
def _encode_shard(
    vae: Any, tokenizer: Any, corpus: Corpus, preset: Preset, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    generator = torch.Generator(corpus.device).manual_seed(seed)
    photos = round(count * preset.bank.photo_share) if len(corpus.photos) else 0
    latents, tokens = [], []
    for first in range(0, count, preset.bank.batch_size):
        size = min(preset.bank.batch_size, count - first)
        photo_size = min(size, max(0, photos - first))
        pictures, captions = [], []
        if photo_size:
            chosen = rng.integers(len(corpus.photos), size=photo_size)
            pictures.append(draw_photos(chosen, corpus, generator))
            captions += [corpus.photo_caption(int(photo), rng) for photo in chosen]
        if size > photo_size:
            plan = plan_scenes(corpus, size - photo_size, preset.corpus, rng)
            pictures.append(draw_scenes(plan, corpus, generator))
            captions += plan.captions
        batch = torch.cat(pictures)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.is_cuda):
            means = vae.encode(batch).latent_dist.mean
        latents.append(means.half().cpu())
        tokens.append(tokenize(tokenizer, captions).to(torch.int16))
    return torch.cat(latents), torch.cat(tokens)


def read_latent_bank(folder: Path) -> LatentBank:
    """Every shard of ``folder``, in order, on the CPU."""
    shards = [load_tensors(path)[0] for path in sorted(folder.glob("shard-*.safetensors"))]
    latents = torch.cat([shard["latents"] for shard in shards])
    tokens = torch.cat([shard["tokens"] for shard in shards])
    deviation = float(latents[:_SCALE_SAMPLE].float().std())
    return LatentBank(latents, tokens, 1.0 / deviation)
