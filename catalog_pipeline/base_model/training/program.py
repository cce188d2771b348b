"""The stages in order, each from where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from catalog_pipeline.base_model.training import architectures
from catalog_pipeline.base_model.training.autoencoder import (
    draw_mixed,
    encode_decode,
    train_autoencoder,
)
from catalog_pipeline.base_model.training.corpus import Corpus, build_corpus
from catalog_pipeline.base_model.training.diffusion import train_diffusion
from catalog_pipeline.base_model.training.export import assemble_pipeline, export_pipeline
from catalog_pipeline.base_model.training.latent_bank import read_latent_bank, write_latent_bank
from catalog_pipeline.base_model.training.presets import Preset
from catalog_pipeline.base_model.training.preview import sample_sheet
from catalog_pipeline.base_model.training.tokenizer import tokenize, train_tokenizer
from catalog_pipeline.base_model.training.training_log import Deadline, TrainingLog
from catalog_pipeline.base_model.training.training_loop import seed_of
from catalog_pipeline.errors import ConfigurationError

_SHOWN = 8


@dataclass(frozen=True)
class TrainingOptions:
    """One run. ``minutes`` bounds the wall clock; what is left is done with ``resume``."""

    out: Path
    preset: Preset
    emoji_dir: Path | None = None
    photo_dirs: tuple[Path, ...] = ()
    resume: bool = False
    minutes: float | None = None
    seed: int = 0
    device: str = "auto"
    workers: int = 0
    compiled: bool = False


def train_base_model(options: TrainingOptions, log: TrainingLog | None = None) -> Path | None:
    """Train from nothing, or on from where ``options.out`` stands.

    Everything is below ``options.out``: ``export/`` is the finished model,
    ``preview.png`` its samples, ``log.jsonl`` every recorded figure, the rest is
    what ``resume`` needs. Killing the process loses at most the steps since the
    last checkpoint, and changes nothing in the final weights.

    Returns:
        The exported folder, or ``None`` when the minutes ran out first.

    Raises:
        ConfigurationError: the folder is in use by another recipe, or not empty and
            ``resume`` not given; a corpus folder that cannot be used.
        BaseModelError: a loss that is not finite.
    """
    _claim_folder(options)
    log = log or TrainingLog(options.out / "log.jsonl")
    return _Run(options, log, Deadline(options.minutes)).finish()


def _claim_folder(options: TrainingOptions) -> None:
    recipe = {
        "preset": options.preset.as_json(),
        "seed": options.seed,
        "emoji": str(options.emoji_dir or ""),
        "photos": [str(folder) for folder in options.photo_dirs],
    }
    path = options.out / "recipe.json"
    if path.exists():
        if not options.resume:
            raise ConfigurationError(
                f"{options.out} holds a training run; pass --resume to go on with it, or give "
                "--out another folder"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != recipe:
            differing = ", ".join(key for key in recipe if found.get(key) != recipe[key])
            raise ConfigurationError(
                f"{options.out} was begun with another {differing}; expected the same options as "
                "then; give --out another folder to train anew"
            )
    elif options.out.exists() and any(options.out.iterdir()):
        raise ConfigurationError(
            f"{options.out} is not empty and holds no training run; give --out a new folder"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")


class _Run:
    """The state that the stages of one run share."""

    def __init__(self, options: TrainingOptions, log: TrainingLog, deadline: Deadline) -> None:
        self.options, self.log, self.deadline = options, log, deadline
        self.preset, self.out = options.preset, options.out
        self.device = _pick_device(options.device)

    def finish(self) -> Path | None:
        """Every stage in order; ``None`` where the time runs out."""
        corpus = self._corpus()
        vae = self._seeded(lambda: architectures.vae(self.preset.architecture), "vae")
        if not train_autoencoder(
            vae,
            corpus,
            self.preset,
            folder=self.out,
            seed=self.options.seed,
            log=self.log,
            deadline=self.deadline,
        ):
            self._say_paused()
            return None
        vae.eval().requires_grad_(False)
        architectures.fix_posterior_std(vae)
        self._show_reconstructions(vae, corpus)
        tokenizer = self._tokenizer(corpus)
        if not write_latent_bank(
            vae,
            tokenizer,
            corpus,
            self.preset,
            folder=self.out / "bank",
            seed=self.options.seed,
            log=self.log,
            deadline=self.deadline,
        ):
            self._say_paused()
            return None
        del corpus
        return self._diffusion(vae, tokenizer)

    def _corpus(self) -> Corpus:
        return build_corpus(
            self.preset.corpus,
            self.preset.architecture.image_px,
            cache=self.out / "corpus",
            emoji_dir=self.options.emoji_dir,
            photo_dirs=self.options.photo_dirs,
            workers=self.options.workers,
            log=self.log,
        ).to(self.device)

    def _tokenizer(self, corpus: Corpus) -> Any:
        folder = self.out / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            rng = np.random.default_rng(seed_of(self.options.seed, "tokenizer"))
            captions = corpus.captions(self.preset.tokenizer_captions, rng)
            train_tokenizer(captions, self.preset.vocabulary_limit).save_pretrained(folder)
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def _diffusion(self, vae: Any, tokenizer: Any) -> Path | None:
        unet = self._seeded(lambda: architectures.unet(self.preset.architecture), "unet")
        text_encoder = self._seeded(
            lambda: architectures.text_encoder(
                len(tokenizer),
                tokenizer.bos_token_id,
                tokenizer.eos_token_id,
                self.preset.architecture,
            ),
            "text encoder",
        )
        bank = read_latent_bank(self.out / "bank").to(self.device)
        scheduler = architectures.scheduler()
        pipeline = assemble_pipeline(
            vae, text_encoder, tokenizer, unet, scheduler, bank.scaling_factor
        )

        def preview(steps_done: int) -> None:
            folder = self.out / "previews"
            folder.mkdir(exist_ok=True)
            sheet = sample_sheet(pipeline, steps=self.preset.preview_steps)
            sheet.save(folder / f"step-{steps_done:06d}.png")

        if not train_diffusion(
            unet,
            text_encoder,
            architectures.scheduler(),
            bank,
            tokenize(tokenizer, [""]),
            self.preset.diffusion,
            folder=self.out,
            seed=self.options.seed,
            log=self.log,
            deadline=self.deadline,
            compiled=self.options.compiled,
            preview=preview,
        ):
            self._say_paused()
            return None
        export_pipeline(pipeline, self.out / "export")
        sheet = sample_sheet(pipeline, steps=self.preset.preview_steps)
        sheet.save(self.out / "preview.png")
        self.log.say(f"finished: {self.out / 'export'}; see {self.out / 'preview.png'}")
        return self.out / "export"

    def _seeded(self, make: Callable[[], Any], name: str) -> Any:
        """A network whose random start depends on the run's seed and its name alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.options.seed, name))
            return make().to(self.device)

    @torch.no_grad()
    def _show_reconstructions(self, vae: Any, corpus: Corpus) -> None:
        seed = seed_of(self.options.seed, "reconstructions")
        generator = torch.Generator(self.device).manual_seed(seed)
        pictures = draw_mixed(corpus, _SHOWN, self.preset, generator, seed)
        decoded, _ = encode_decode(vae, pictures, generator)
        rows = torch.cat([_row(pictures), _row(decoded)], 0)  # (2 * px, 8 * px, 3)
        Image.fromarray(rows.numpy()).save(self.out / "reconstructions.png")

    def _say_paused(self) -> None:
        self.log.say(f"the minutes are up; go on with --resume --out {self.out}")


def _row(pictures: Tensor) -> Tensor:
    """``(b, 3, px, px)`` in -1..1 to bytes side by side, ``(px, b * px, 3)``."""
    picture_bytes = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return torch.cat(list(picture_bytes.permute(0, 2, 3, 1)), 1)


def _pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"device '{name}' asked for, but torch {torch.__version__} finds no CUDA device; "
            "pass --device cpu, or install a CUDA build of torch"
        )
    return torch.device(name)
