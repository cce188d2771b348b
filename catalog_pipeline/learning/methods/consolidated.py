"""One slot for the collection, into which each task's deltas are added where they disturb least."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from safetensors.torch import load
from torch import Tensor, nn

from catalog_pipeline.diffusion.parts import encode_part, slot_part
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.shared_slot import SharedSlot
from catalog_pipeline.learning.pool import training_pool
from catalog_pipeline.learning.regulariser import Regulariser, StepContext
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import SHARED, Concept

_TASK = "shared@task"
"""The slot of a task's own deltas."""
_SUM = "shared@sum"
"""The shared slot and the task's own deltas: what a concept passes through while it is learned."""
_MOMENTS = "moments/"
_MOMENT_VIEWS = 24
"""About how many noised views of a concept its moments are taken on."""
_LEAST_OUTPUT = 1e-12


class DriftPenalty:
    """How far a task moves what earlier concepts make of their inputs, a mean over layers::

        weight / layers * sum_l tr(D_l A_l D_l^T) / tr(W_l A_l W_l^T)

    ``D`` is the task's change of a layer, ``W`` the shared one before it, and ``A`` the sum of
    ``E[x x^T]`` over earlier concepts, so that ``tr(D A D^T) = sum_k E ||D x_k||^2``: the squared
    change of the layer's output, and the penalty of Kronecker-factored Laplace approximations
    (arXiv:1805.07810, Eq. 11) with the identity for the curvature at the output.
    **Differs from the paper:** a layer counts by the share of its output that changes.

    Args:
        slot: of ``D``.
        moments: ``A`` ``(in, in)`` by layer.
        outputs: ``tr(W A W^T)`` by layer.
    """

    def __init__(
        self,
        slot: str,
        moments: Mapping[str, Tensor],
        outputs: Mapping[str, float],
        weight: float,
    ) -> None:
        self._slot = slot
        self._moments = dict(moments)
        self._outputs = dict(outputs)
        self.weight = weight

    def loss(self, context: StepContext) -> Tensor:
        """``(1,)``."""
        adapter = context.engine.adapter
        shares = []
        for name, layer in adapter.layers_of(self._slot).items():
            if name in self._moments:
                down, up = adapter.factors(layer, self._slot)
                shares.append(_output(down, up, self._moments[name]) / self._outputs[name])
        return torch.stack(shares).mean()[None]


class Consolidated(SharedSlot):
    """The shared slot, mended: ``learning.yaml: adapter.slots: consolidated``.

    A task trains fresh deltas on top of the frozen shared slot, and :class:`DriftPenalty` keeps
    them out of the inputs of earlier concepts, of which no photo, picture or latent is needed: the
    sums ``A`` are all that is remembered. The deltas are then added to the slot, and the sum is cut
    to ``adapter.consolidated_rank``, so that its bytes do not grow. A base-only prompt passes
    through no slot. Token rows of earlier concepts are frozen.
    """

    name = "consolidated"

    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """The task's own deltas, seen through their sum with the shared slot."""
        adapter = self.engine.adapter
        # The sum must name the new slot before the task starts.
        adapter.add_slot(_TASK, torch.Generator().manual_seed(self.seed(news[0].concept.sku)))
        adapter.compose(_SUM, dict.fromkeys([*({SHARED} & adapter.slots), _TASK], 1.0))
        return tuple(
            Subject(new.concept, new.photos, _TASK, fresh_slot=False, routed_slot=_SUM)
            for new in news
        )

    def slot_of(self, prompt: str, concept: Concept | None) -> str | None:
        """The shared one; none for a base-only prompt."""
        return super().slot_of(prompt, concept) if concept is not None else None

    def regularisers(self, news: Sequence[NewConcept]) -> tuple[Regulariser, ...]:
        """The drift of what earlier concepts make of their inputs, from the second task on."""
        if not self.learned or not self.losses.drift_weight:
            return ()
        adapter, moments = self.engine.adapter, self._moments()
        outputs = {
            name: max(_LEAST_OUTPUT, float(_output(*adapter.factors(layer, SHARED), moments[name])))
            for name, layer in adapter.layers_of(SHARED).items()
        }
        return (DriftPenalty(_TASK, moments, outputs, self.losses.drift_weight),)

    def require_same_kind(self, data: bytes) -> None:
        """Of any rank, with the moments of what it holds."""
        if not _decode(data, self.engine.base.device):
            raise LearningError(
                "the shared slot was learned without moments of its concepts, as with "
                "learning.yaml: adapter.slots: shared; expected consolidated; set adapter.slots "
                "back, or learn the collection anew under another home"
            )

    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """``shared``: the slot with the task's deltas, cut, in half precision, and the moments.

        Leaves the slot installed as it is stored, and the task's own deltas dropped.
        """
        adapter = self.engine.adapter
        rank, moments = self.settings.adapter.consolidated_rank, self._moments()
        for subject in task.subjects:
            for name, moment in input_moments(self, task, subject).items():
                moments[name] = moments[name] + moment if name in moments else moment
        slot: dict[str, Tensor] = {}
        for name, layer in adapter.layers_of(_SUM).items():
            factors = _cut(*adapter.factors(layer, _SUM), moments[name], rank)
            slot |= {f"{name}.{key}": value.half() for key, value in factors.items()}
        adapter.drop_slot(_SUM)
        adapter.drop_slot(_TASK)
        adapter.load_slot(SHARED, slot)
        shared = slot_part(self.engine, SHARED, torch.half) | _encode(moments)
        return self.token_parts(task) | {SHARED: encode_part(shared)}

    def _moments(self) -> dict[str, Tensor]:
        data = self.collection.part(SHARED)
        return {} if data is None else _decode(data, self.engine.base.device)


@torch.no_grad()
def input_moments(method: Consolidated, task: LearningTask, subject: Subject) -> dict[str, Tensor]:
    """``E[x x^T]`` ``(in, in)`` by layer, on noised whole-image views of ``subject``."""
    engine, settings = method.engine, method.settings
    pool = training_pool(
        engine,
        subject.photos,
        task.backdrops,
        task.seed,
        math.ceil(_MOMENT_VIEWS / len(subject.photos)),
        oblong=settings.aspect_buckets,
    )
    step = TrainingStep(engine, settings, task, (pool,))
    generator = torch.Generator().manual_seed(method.seed(subject.concept.sku, purpose=1))
    sums: dict[str, Tensor] = {}
    rows_seen: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(_: nn.Module, args: tuple[Tensor]) -> None:
            rows = args[0].flatten(0, -2).float()
            moment = rows.T @ rows
            sums[name] = sums[name] + moment if name in sums else moment
            rows_seen[name] = rows_seen.get(name, 0) + len(rows)

        return add

    layers = engine.adapter.layers_of(subject.slot)
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        for views in pool.sizes:
            whole = views.whole if len(views.whole) else views.split
            for rows in whole.split(settings.batch_size):
                noise, timesteps = step.draw(views.latents[rows], generator)
                step.loss_of_views(subject, views, rows, noise, timesteps)
    finally:
        for handle in handles:
            handle.remove()
    return {name: moment / rows_seen[name] for name, moment in sums.items()}


def _output(down: Tensor, up: Tensor, moments: Tensor) -> Tensor:
    """``tr(W A W^T)``, a scalar, of ``W = up down``; shapes as in :func:`_cut`."""
    return ((up.T @ up) * (down @ moments @ down.T)).sum()


@torch.no_grad()
def _cut(down: Tensor, up: Tensor, moments: Tensor, rank: int) -> dict[str, Tensor]:
    """``W = up down`` at most of ``rank``: on the principal directions of its outputs, ``W A W^T``.

    Args:
        down: ``(r, in)``; ``up``: ``(out, r)``.
        moments: ``A``, ``(in, in)``.
        rank: most that is kept, of the largest eigenvalues.

    Returns:
        ``down`` ``(kept, in)`` and ``up`` ``(out, kept)``, whose columns are orthonormal.
    """
    basis, triangle = torch.linalg.qr(up)
    _, directions = torch.linalg.eigh(triangle @ (down @ moments @ down.T) @ triangle.T)
    kept = directions[:, -rank:]
    return {
        "down": (kept.T @ triangle @ down).contiguous(),
        "up": (basis @ kept).contiguous(),
    }


def _encode(moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers that read the same rows (all keys and values of the text) share what is stored.

    In half the bits: a penalty needs no more than three digits.
    """
    alike: list[tuple[list[str], Tensor]] = []
    for name, moment in sorted(moments.items()):
        names = next((names for names, m in alike if torch.equal(m, moment)), None)
        if names is None:
            alike.append(([name], moment))
        else:
            names.append(name)
    return {f"{_MOMENTS}{'|'.join(names)}": m.to(torch.bfloat16) for names, m in alike}


def _decode(data: bytes, device: torch.device) -> dict[str, Tensor]:
    found = {}
    for key, moment in load(data).items():
        if key.startswith(_MOMENTS):
            for name in key.removeprefix(_MOMENTS).split("|"):
                found[name] = moment.float().to(device)
    return found
