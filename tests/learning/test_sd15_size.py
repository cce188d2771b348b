"""A model of Stable Diffusion 1.5's size, random weights: it opens, learns a step and samples.

The configs are those of the published model. What is shown is that sizes, dtypes and
memory work out, and what a step costs; random weights learn nothing worth seeing.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.parts import encode_part, slot_part
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.trainer import ConceptTrainer
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings, LearningSettings
from tests.builders import make_concept, make_photos

NEEDED_BYTES = 12e9
SIDE = 256
UNET = {
    "sample_size": SIDE // 8,  # the published one says 64, for 512 px
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "bos_token_id": 2780,  # of the embedded tokenizer, which stands in for CLIP's
    "eos_token_id": 2781,
    "pad_token_id": 2781,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def available_bytes() -> float:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextmanager
def bf16_weights() -> Iterator[None]:
    """New modules are made in bf16, half the memory of fp32."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def write_model(folder: Path) -> int:
    """A diffusers folder of about 2 GB; returns the number of weights of its UNet."""
    torch.manual_seed(0)
    with bf16_weights():
        unet = UNet2DConditionModel(**UNET)
        parameters = sum(p.numel() for p in unet.parameters())
        unet.save_pretrained(folder / "unet")
        del unet
        AutoencoderKL(**VAE).save_pretrained(folder / "vae")
        CLIPTextModel(CLIPTextConfig(**TEXT)).save_pretrained(folder / "text_encoder")
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    shutil.copytree(EMBEDDED_WEIGHTS / "tokenizer", folder / "tokenizer")
    return parameters


def digest(module: nn.Module) -> str:
    """SHA-256 over the frozen weights: all but those of slots and placeholder tokens."""
    found = hashlib.sha256()
    for name, value in module.named_parameters():
        if ".slots." not in name and ".rows." not in name:
            found.update(name.encode())
            found.update(value.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def a_task() -> LearningTask:
    concept = make_concept("A", 1, placeholder_tokens=("<A:0>", "<A:1>"))
    subject = Subject(concept, make_photos(3, (320, 280)), "A")
    return LearningTask((subject,), (), "f", 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_model_of_that_size_opens_learns_and_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if available_bytes() < NEEDED_BYTES:
        pytest.skip(
            f"{available_bytes() / 1e9:.1f} GB of memory are available, expected "
            f"{NEEDED_BYTES / 1e9:.0f}; end other programs and run it again"
        )
    figures = {"UNet weights": write_model(tmp_path / "model") / 1e6, "peak to write": peak_gb()}
    started = time.process_time()
    base = load_base_model(
        BaseModelSettings(base_model=str(tmp_path / "model"), dtype="bfloat16", device="cpu")
    )
    engine = DiffusionEngine(base, AdapterSettings())
    figures |= {"seconds to open": time.process_time() - started, "peak to open": peak_gb()}
    shutil.rmtree(tmp_path / "model")  # all of it is in memory; pytest would keep 2 GB
    assert base.sample_size_px == SIDE
    before = digest(base.unet), digest(base.text_encoder)

    # A slot as training starts it, for comparison with what training makes of it.
    engine.adapter.add_slot("A", torch.Generator().manual_seed(0))
    fresh = slot_part(engine, "A")
    engine.adapter.drop_slot("A")
    ends, losses = [time.process_time()], []

    class Nowhere:
        def read(self) -> bytes | None:
            return None

        def write(self, data: bytes) -> None:
            raise AssertionError("two steps need no checkpoint")

    def on_step(step: int, loss: float) -> None:
        ends.append(time.process_time())
        losses.append(loss)

    settings = LearningSettings(steps=2, batch_size=1, latent_views=1)
    ConceptTrainer(engine, settings).train(a_task(), Nowhere(), on_step)
    figures |= {"seconds a step": ends[2] - ends[1], "peak to learn": peak_gb()}
    assert all(np.isfinite(losses))
    learned = slot_part(engine, "A")
    ups = [name for name in learned if name.endswith(".up")]
    assert len(ups) == 10 * 10, "of 10 blocks: q, k, v, out of two attentions, two feed-forward"
    assert all(bool(learned[name].any()) for name in ups)
    assert all(not torch.equal(learned[name], fresh[name]) for name in fresh)
    assert (digest(base.unet), digest(base.text_encoder)) == before
    figures["part, MB"] = len(encode_part(slot_part(engine, "A", torch.float16))) / 1e6

    started = time.process_time()
    plan = SamplingPlan(steps=1, guidance=3.0, width=SIDE, height=SIDE)
    latents = engine.sample([RegionalPrompt(("a photo of a <A:0> <A:1> mug",), ("A",))], [0], plan)
    figures["seconds a sampling step, both halves"] = time.process_time() - started
    assert latents.shape == (1, 4, SIDE // 8, SIDE // 8)
    assert bool(latents.isfinite().all())
    started = time.process_time()
    assert engine.decode(latents)[0].shape == (SIDE, SIDE, 3)
    figures |= {"seconds to decode": time.process_time() - started, "peak in all": peak_gb()}
    with capsys.disabled():
        print(
            f"\n{torch.get_num_threads()} thread(s); seconds of CPU time, peaks in GB, weights in M"
        )
        for name, value in figures.items():
            print(f"  {name}: {value:.2f}")
