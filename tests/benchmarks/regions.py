"""What crosses the border of two regions: a text's change and a slot's, next door and at home.

Tiny models of every family with random weights, of 2, 4 and 8 layers, and the embedded base
with its trained ones. Writes ``regions.md`` and ``regions.json``.

    python -m tests.benchmarks.regions [--seeds 5] [--out docs/benchmarks]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.diffusion.adapter import Route
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from tests.benchmarks.harness.home import DOCS
from tests.benchmarks.harness.report import machine, today, write_json, write_page
from tests.tiny_families import (
    write_tiny_klein,
    write_tiny_qwen_image,
    write_tiny_stable_diffusion_3,
)
from tests.tiny_model import fill_slot, open_tiny_engine, write_tiny_model, write_tiny_xl

COMMAND = "python -m tests.benchmarks.regions"
LEFT, RIGHT, OTHER = "a photo of a red mug", "a photo of a blue clock", "a photo of a green lamp"
SIDE = 16
"""Latents along a side of the tiny models."""
STEPS = 8
SCALE = 0.1
"""Deviation of a slot's random numbers."""
CHANGES = ("text", "slot", "slot_without_keys_and_values")
_KEYS_AND_VALUES = ("to_k", "to_v", "to_qkv_mlp_proj")

Write = Callable[[Path], Path]


@dataclass(frozen=True)
class Base:
    """One to measure: ``layers`` is ``None`` for a UNet, which has a fixed number."""

    name: str
    layers: int | None
    write: Write
    pooled: bool = False


@dataclass(frozen=True)
class Leak:
    """Of one change at the right: the change at the left over that at the right, by seeds.

    Each is a root mean square over the pixels of a half; ``step`` is of one prediction at half
    the noise, ``picture`` of the latents after all steps.
    """

    base: str
    layers: int | None
    change: str
    step: list[float]
    picture: list[float]

    def __str__(self) -> str:
        """``0.4 / 1.2 %``: medians of one step and of a picture."""
        return f"{percents(self.step)} / {percents(self.picture)}"


def percents(shares: Sequence[float]) -> str:
    """Their median in percent, two figures."""
    median = 100 * statistics.median(shares)
    return f"{median:.1f}" if median < 10 else f"{median:.0f}"


def bases() -> Iterator[Base]:
    for layers in (2, 4, 8):
        half = layers // 2
        yield Base("FLUX.2-klein", layers, partial(write_tiny_klein, blocks=half, singles=half))
    for layers in (2, 4, 8):
        yield Base("Qwen-Image", layers, partial(write_tiny_qwen_image, blocks=layers))
    for layers in (2, 4, 8):
        write = partial(write_tiny_stable_diffusion_3, blocks=layers, dual=layers // 2)
        yield Base("Stable Diffusion 3.5", layers, write, pooled=True)
    yield Base("Stable Diffusion XL", None, write_tiny_xl, pooled=True)
    yield Base("Stable Diffusion", None, write_tiny_model)
    yield Base("Stable Diffusion, embedded and trained", None, lambda _: EMBEDDED_WEIGHTS)


def measure(base: Base, seeds: Sequence[int], scratch: Path) -> list[Leak]:
    """Every change of :data:`CHANGES`; ``text`` with and without a pooled one."""
    folder = base.write(scratch)
    engine = open_tiny_engine(folder)
    side = SIDE * engine.base.vae_scale_factor
    if folder == EMBEDDED_WEIGHTS:
        side = engine.base.sample_size_px
    found: dict[str, Leak] = {}
    for seed in seeds:
        fill_slots(engine, seed)
        for pooled in (True, False) if base.pooled else (True,):
            for change, step, picture in leaks(engine, seed, side, pooled):
                if not pooled and change != "text":
                    continue
                name = change if pooled else "text_but_not_pooled"
                leak = found.setdefault(name, Leak(base.name, base.layers, name, [], []))
                leak.step.append(step)
                leak.picture.append(picture)
    return list(found.values())


def fill_slots(engine: DiffusionEngine, seed: int) -> None:
    """``a`` of the left region, ``b`` of the right one, and what ``b`` is without some layers."""
    for slot, number in (("a", 2 * seed), ("b", 2 * seed + 1)):
        if slot in engine.adapter.slots:
            engine.adapter.drop_slot(slot)
        fill_slot(engine, slot, number, SCALE)
    of_image = {
        name
        for name, layer in engine.adapter.layers.items()
        if layer.rows in ("image", "joint") and name.endswith(_KEYS_AND_VALUES)
    }
    tensors = engine.adapter.slot_tensors("b")
    rest = {key: x for key, x in tensors.items() if key.rpartition(".")[0] not in of_image}
    engine.adapter.load_slot("rest of b", rest)


def leaks(
    engine: DiffusionEngine, seed: int, side: int, pooled: bool
) -> list[tuple[str, float, float]]:
    """``(change, in one step, in the picture)``; one batch holds the picture and its changes."""
    left = torch.zeros(2 * SIDE, 2 * SIDE)
    left[:, :SIDE] = 1
    masks = torch.stack([left, 1 - left])
    rights = [(RIGHT, None), (OTHER, None), (RIGHT, "b"), (RIGHT, "rest of b")]
    items = [RegionalPrompt((LEFT, text), ("a", slot), masks) for text, slot in rights]
    encode = engine.encode_prompts
    if not pooled:
        engine.encode_prompts = partial(_without_pooled, encode)  # type: ignore[method-assign]
    try:
        sampler = next(name for name in ("euler", "dpmsolver++") if name in engine.base.solvers)
        plan = SamplingPlan(STEPS, 1.0, side, side, sampler)
        picture = shares(engine.sample(items, [seed] * len(items), plan))
        noise = engine.initial_noise([seed] * len(items), plan)
        timesteps = engine.base.timesteps_at(torch.full((len(items),), 0.5))
        batch_masks = torch.stack([masks] * len(items))
        route = Route(tuple(item.slots for item in items), batch_masks)
        with torch.no_grad():
            step = shares(
                engine.predict(noise, timesteps, engine.encode_prompts(items), batch_masks, route)
            )
    finally:
        engine.encode_prompts = encode  # type: ignore[method-assign]
    return list(zip(CHANGES, step, picture, strict=True))


def _without_pooled(
    encode: Callable[[Sequence[RegionalPrompt]], Tensor], items: Sequence[RegionalPrompt]
) -> Tensor:
    """Texts whose last row, the pooled one, is zero."""
    with torch.no_grad():
        texts = encode(items)
        texts[:, :, -1] = 0
    return texts


def shares(pictures: Tensor) -> list[float]:
    """The change of every picture but the first against it: of the left half over the right."""
    left, right = (
        (half[1:] - half[:1]).square().mean((1, 2, 3)).sqrt() for half in pictures.chunk(2, -1)
    )
    return (left / right).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Leak] = []
    rows: list[tuple[Base, dict[str, str]]] = []
    for base in bases():
        with tempfile.TemporaryDirectory() as scratch:
            found += measure(base, range(options.seeds), Path(scratch) / "model")
        own = [leak for leak in found if (leak.base, leak.layers) == (base.name, base.layers)]
        rows.append((base, {leak.change: str(leak) for leak in own}))
        print(base.name, base.layers, rows[-1][1], flush=True)
    facts = {"date": today(), "machine": machine(), "seeds": list(range(options.seeds))}
    write_json(
        options.out / "regions.json", {**facts, "leaks": [asdict(x) for x in found]}, digits=5
    )
    template = Path(__file__).with_name("regions.md.j2")
    write_page(options.out, template, command=COMMAND, steps=STEPS, scale=SCALE, rows=rows, **facts)


if __name__ == "__main__":
    main()
