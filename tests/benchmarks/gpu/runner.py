"""Builds each model, runs both sides by turns, and keeps what they took."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.errors import BaseModelError
from catalog_pipeline.settings import LearningSettings
from tests.benchmarks.gpu.accelerated import BASE, switch_on
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
from tests.benchmarks.gpu.scripts import SIDES
from tests.benchmarks.gpu.sizes import Size
from tests.benchmarks.gpu.theirs import TheirSide

_log = logging.getLogger(__name__)

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
    losses: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: Mapping[str, int | None] = field(default_factory=dict)

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
    """Measures on one device; everything random comes from ``seed``.

    ``settings`` are those of :func:`.settings_at_hand` to be measured; ``failures`` says what
    could not be.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        peaks: Peaks,
        rounds: Rounds,
        seed: int,
        settings: Sequence[str] = (BASE,),
    ) -> None:
        self._device, self._dtype, self._peaks = device, dtype, peaks
        self._rounds, self._seed, self._settings = rounds, seed, settings
        self.failures: list[str] = []

    def measure(self, size: Size) -> Iterator[Row]:
        """Steps and pictures of each setting, with our layers; steps with the script's layers."""
        for settings, layers in [*((name, "ours") for name in self._settings), (BASE, "script")]:
            try:
                yield from self._measure(size, settings, layers)
            except (RuntimeError, BaseModelError) as error:
                if settings == BASE and not isinstance(error, torch.OutOfMemoryError):
                    raise
                # Other figures are not lost to a small card, or a compiler that does not run here.
                self.failures.append(f"{size.name}, {settings}: {' '.join(str(error).split())}")
                _log.exception("%s, %s", size.name, settings)
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _measure(self, size: Size, settings: str, layers: str) -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as scratch:
            base = build(size, self._device, self._dtype, Path(scratch), self._seed)
        theirs = SIDES[type(base).__name__](base, size)
        learning = LearningSettings(adapter=adapter_settings(layers))
        what = {"settings": settings, "layers": layers}
        ours = OurSide(DiffusionEngine(base, learning.adapter), size, self._seed)
        theirs.add_adapter(ours.factors())
        # Counted before: activations that are computed again are not work that must be done.
        flops, read_bytes = self._work_of_step(ours, theirs)
        picture = self._work_of_picture(size, base, ours, theirs) if layers == "ours" else (0, 0)
        switch_on(settings, base, theirs)
        for batch in size.batches:
            seconds, ways = self._time_steps(batch, learning, ours, theirs)
            losses = {name: ways[name].last_loss for name in seconds}
            peaks = {
                name: self._own_peak(name, {n: ways[n] for n in seconds}, ours, theirs)
                for name in seconds
            }
            done = {"losses": losses, "peak_bytes": peaks, "batch": batch}
            work = batch * flops, read_bytes
            yield self._row(size, seconds, work, task="step", **what, **done)
        if layers == "ours":
            seconds = self._time_pictures(ours, theirs)
            yield self._row(size, seconds, picture, task="picture", batch=1, **what)

    def _work_of_step(self, ours: OurSide, theirs: TheirSide) -> tuple[int, int]:
        """FLOPs of both passes over one photo; bytes of the weights, read once in each."""
        latents = random_latents(ours.engine, 1, self._seed)
        flops = count_flops(lambda: theirs.loss(theirs.draw(latents)).backward())
        for parameter in theirs.parameters:
            parameter.grad = None
        return flops, 2 * bytes_of(theirs.denoiser)

    def _time_steps(
        self, batch: int, settings: LearningSettings, ours: OurSide, theirs: TheirSide
    ) -> tuple[dict[str, list[float]], Mapping[str, _Training]]:
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
        seconds = time_by_turns(self._device, ways, self._rounds.steps, self._rounds.warm_up)
        return seconds, ways

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

    def _work_of_picture(
        self, size: Size, base: BaseModel, ours: OurSide, theirs: TheirSide
    ) -> tuple[int, int]:
        """FLOPs of the pipeline's call; bytes of every network, the denoiser's once a step."""
        noise = ours.noise_of(self._seed)
        one, two = (count_flops(partial(theirs.picture, noise, steps)) for steps in (1, 2))
        networks = [part for part in base.parts.values() if isinstance(part, nn.Module)]
        read_bytes = (size.steps - 1) * bytes_of(theirs.denoiser) + bytes_of(*networks)
        return one + (size.steps - 1) * (two - one), read_bytes

    def _time_pictures(self, ours: OurSide, theirs: TheirSide) -> dict[str, list[float]]:
        set_trained(ours.parameters, False)
        ours.engine.adapter.parameters_changed()
        ways = {
            "ours": partial(ours.picture, self._seed),
            "diffusers": partial(theirs.picture, ours.noise_of(self._seed)),
            "two products": partial(ours.picture_of_two, self._seed),
        }
        return time_by_turns(self._device, ways, self._rounds.pictures, 1)

    def _row(
        self, size: Size, seconds: Mapping[str, list[float]], work: tuple[int, int], **what: Any
    ) -> Row:
        both = "ours" in seconds and "diffusers" in seconds
        row = Row(
            size=size.name,
            side_px=size.side_px,
            seconds={name: Spread.of(values) for name, values in seconds.items()},
            ratio=ratio_of(seconds["ours"], seconds["diffusers"]) if both else None,
            flops=work[0],
            read_bytes=work[1],
            floor_seconds=self._peaks.floor_seconds(*work),
            **what,
        )
        _log.info(
            "%s, %s, %s, layers of %s, batch %d: %s",
            *(row.size, row.task, row.settings, row.layers, row.batch),
            ", ".join(f"{name} {spread.median:.4f} s" for name, spread in row.seconds.items()),
        )
        return row


def _adamw(parameters: Iterable[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """As the trainer makes it (fused) or as the scripts do."""
    return torch.optim.AdamW(parameters, lr=_RATE, **options)
