"""Builds each model, runs both sides by turns, and keeps what they took."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.settings import LearningSettings
from tests.benchmarks.gpu.floor import Peaks, count_flops
from tests.benchmarks.gpu.models import build, bytes_of
from tests.benchmarks.gpu.ours import (
    OurSide,
    ShippedStep,
    adapter_settings,
    random_latents,
    set_trained,
)
from tests.benchmarks.gpu.pairs import Spread, peak_bytes, ratio_of, time_by_turns
from tests.benchmarks.gpu.sizes import Size
from tests.benchmarks.gpu.theirs import SIDES, TheirSide

_log = logging.getLogger(__name__)

LAYERS = ("ours", "script")
_RATE = 1e-6
"""Of AdamW: small, so that random weights stay where their losses are numbers."""


@dataclass(frozen=True)
class Rounds:
    """How often each way is timed after how many runs that are not."""

    steps: int = 20
    pictures: int = 5
    warm_up: int = 3


@dataclass(frozen=True)
class Row:
    """One line of a table: the same task, done in several ways.

    Attributes:
        task: ``step`` or ``picture``.
        settings: of ``base_model.yaml``; ``base`` for the shipped ones.
        layers: whose default layers take deltas, ours or the script's.
        seconds: way -> its spread; ``ours``, ``diffusers`` and others. One that ran out of
            memory is not there.
        ratio: how many times as fast as diffusers' ours is, pair by pair.
        losses: way -> of its last step, where the task is one.
        peak_bytes: way -> memory on the card.
    """

    size: str
    side_px: int
    task: str
    settings: str
    layers: str
    batch: int
    seconds: Mapping[str, Spread]
    ratio: Spread | None
    flops: int
    read_bytes: int
    floor_seconds: float
    losses: Mapping[str, float]
    peak_bytes: Mapping[str, int | None]

    def to_record(self) -> dict[str, Any]:
        """For the JSON report."""
        return asdict(self)


@dataclass
class _Training:
    """One way to take a step, with an optimiser of its own."""

    loss: Callable[[], Tensor]
    parameters: Sequence[nn.Parameter]
    clipped: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    last_loss: float = float("nan")

    def __call__(self) -> None:
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.clipped, 1.0)
        self.optimizer.step()
        self.last_loss = loss.item()

    def kept_bytes(self) -> int:
        """Of the optimiser's state and the last gradients."""
        states = [t for s in self.optimizer.state.values() for t in s.values()]
        states += [p.grad for p in self.parameters if p.grad is not None]
        return sum(t.nbytes for t in states if isinstance(t, Tensor))


class Bench:
    """Measures on one device; everything random comes from ``seed``."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, peaks: Peaks, rounds: Rounds, seed: int
    ) -> None:
        self._device, self._dtype, self._peaks = device, dtype, peaks
        self._rounds, self._seed = rounds, seed

    def measure(self, size: Size) -> Iterator[Row]:
        """Both choices of layers: learning steps of each; pictures with ours."""
        for layers in LAYERS:
            with tempfile.TemporaryDirectory() as scratch:
                base = build(size, self._device, self._dtype, Path(scratch), self._seed)
                theirs = SIDES[type(base).__name__](base, size)
                settings = LearningSettings(adapter=adapter_settings(layers))
                ours = OurSide(DiffusionEngine(base, settings.adapter), size, self._seed)
                theirs.add_adapter(ours.factors())
                for batch in size.batches:
                    yield self._steps(size, layers, batch, settings, ours, theirs)
                if layers == "ours":
                    yield self._pictures(size, base, ours, theirs)
            del base, ours, theirs
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _steps(
        self,
        size: Size,
        layers: str,
        batch: int,
        settings: LearningSettings,
        ours: OurSide,
        theirs: TheirSide,
    ) -> Row:
        latents = random_latents(ours.engine, batch, self._seed)
        generator = torch.Generator().manual_seed(self._seed)
        set_trained(ours.parameters, True)
        ours.engine.adapter.parameters_changed()
        shipped = ShippedStep(ours, settings, batch, self._seed)
        ways = {
            "ours": _Training(
                lambda: ours.loss(ours.draw(latents, generator)),
                ours.parameters,
                ours.parameters,
                _adamw(ours.parameters, fused=True),
            ),
            "diffusers": _Training(
                lambda: theirs.loss(theirs.draw(latents)),
                theirs.parameters,
                theirs.clipped,
                _adamw(theirs.parameters),
            ),
            "as shipped": _Training(
                shipped.loss,
                [*ours.parameters, *shipped.rows],
                ours.parameters,
                _adamw([*ours.parameters, *shipped.rows], fused=True),
            ),
        }
        flops = count_flops(lambda: theirs.loss(theirs.draw(latents)).backward())
        read_bytes = 2 * bytes_of(theirs.denoiser)  # forward, and backward through the weights
        seconds = time_by_turns(self._device, ways, self._rounds.steps, self._rounds.warm_up)
        row = self._row(
            size,
            task="step",
            layers=layers,
            batch=batch,
            seconds=seconds,
            flops=flops,
            read_bytes=read_bytes,
            losses={name: ways[name].last_loss for name in seconds},
            peak_bytes={
                name: self._own_peak(name, {n: ways[n] for n in seconds}, ours, theirs)
                for name in seconds
            },
        )
        set_trained(ours.parameters, False)
        ours.engine.adapter.parameters_changed()
        return row

    def _own_peak(
        self, name: str, ways: Mapping[str, _Training], ours: OurSide, theirs: TheirSide
    ) -> int | None:
        """Without what the other ways keep on the card meanwhile."""
        peak = peak_bytes(self._device, ways[name])
        if peak is None:
            return None
        others = sum(way.kept_bytes() for other, way in ways.items() if other != name)
        adapter = ours.parameters if name == "diffusers" else theirs.parameters
        twice = theirs.copied_bytes()
        return peak - others - sum(p.nbytes for p in adapter) - twice

    def _pictures(self, size: Size, base: BaseModel, ours: OurSide, theirs: TheirSide) -> Row:
        seed, noise = self._seed, ours.noise_of(self._seed)
        ways = {
            "ours": lambda: ours.picture(seed),
            "diffusers": lambda: theirs.picture(noise),
            "two products": lambda: ours.picture_of_two(seed),
        }
        two, three = (count_flops(lambda n=n: theirs.picture(noise, n)) for n in (2, 3))
        networks = [part for part in base.parts.values() if isinstance(part, nn.Module)]
        read_bytes = (size.steps - 1) * bytes_of(theirs.denoiser) + bytes_of(*networks)
        seconds = time_by_turns(self._device, ways, self._rounds.pictures, 1)
        return self._row(
            size,
            task="picture",
            layers="ours",
            batch=1,
            seconds=seconds,
            flops=two + (size.steps - 2) * (three - two),
            read_bytes=read_bytes,
            losses={},
            peak_bytes={},
        )

    def _row(self, size: Size, *, seconds: Mapping[str, list[float]], **fields: Any) -> Row:
        both = "ours" in seconds and "diffusers" in seconds
        row = Row(
            size=size.name,
            side_px=size.side_px,
            settings="base",
            seconds={name: Spread.of(values) for name, values in seconds.items()},
            ratio=ratio_of(seconds["ours"], seconds["diffusers"]) if both else None,
            floor_seconds=self._peaks.floor_seconds(fields["flops"], fields["read_bytes"]),
            **fields,
        )
        _log.info(
            "%s, %s, layers of %s, batch %d: %s",
            *(row.size, row.task, row.layers, row.batch),
            ", ".join(f"{name} {spread.median:.4f} s" for name, spread in row.seconds.items()),
        )
        return row


def _adamw(parameters: Iterable[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """As the trainer makes it (fused) or as the scripts do."""
    return torch.optim.AdamW(parameters, lr=_RATE, **options)
