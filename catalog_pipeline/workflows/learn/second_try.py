"""Once more with stronger memory: what a task tries after its candidate forgot too much.

Both tries train the same task from the parent's state. The first one's refusal is kept
as a note in staging until the task ends, so that a killed task goes on with the second.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.settings import LossSettings
from catalog_pipeline.stores.adapters import AdapterStore

if TYPE_CHECKING:
    from catalog_pipeline.learning.task import LearningTask
    from catalog_pipeline.workflows.learn.forgetting_report import ForgettingReport


@dataclass(frozen=True)
class Try:
    """One training of a task, and the figures of the tries refused before it."""

    sku: str
    task: LearningTask
    refused: tuple[dict[str, Any], ...] = field(default=())

    @property
    def number(self) -> int:
        """1 or 2."""
        return len(self.refused) + 1

    @property
    def checkpoint_name(self) -> str:
        """Where its state is staged; every try has its own, as it has its own fingerprint."""
        return f"{self.sku}-{self.task.fingerprint[:16]}.safetensors"

    def figures(self, report: ForgettingReport | None) -> dict[str, Any]:
        """What this try trained with and what the gate measured of it, ready for JSON."""
        measured = {} if report is None else report.figures()
        return {"try": self.number, "losses": self.task.losses.model_dump(), **measured}


def second_try(refused: Try, report: ForgettingReport, factor: float) -> Try | None:
    """The task again, with what holds the fallen things weighed more.

    Replay (alpha) and distillation (gamma) are multiplied by ``factor``, and
    the prior (lambda) where base-only pictures drifted. ``None`` where that would train
    the same again: no such term acts, or the factor is 0 or 1, or it was the second.
    """
    if refused.number > 1 or report.exact:
        return None
    task, losses, factor = refused.task, refused.task.losses, factor or 1.0
    changes = {}
    if task.exemplars is not None:
        changes["replay_weight"] = losses.replay_weight * factor
        changes["distillation_weight"] = losses.distillation_weight * factor
    if task.prior is not None and report.prior_fell:
        changes["prior_weight"] = losses.prior_weight * factor
    raised = losses.model_copy(update=changes)
    return None if raised == losses else _with_losses(refused, raised, report.figures())


def _with_losses(first: Try, losses: LossSettings, measured: dict[str, Any]) -> Try:
    weights = losses.model_dump()
    fingerprint = canonical_sha256({"first": first.task.fingerprint, "losses": weights})
    return Try(
        first.sku,
        replace(first.task, fingerprint=fingerprint, losses=losses),
        (first.figures(None) | measured,),
    )


@dataclass(frozen=True)
class RefusalNote:
    """Remembers in staging that the first try of a task was refused, and by what gate.

    ``gate`` hashes everything that the report depends on besides the candidate: a
    note of another gate is not read.
    """

    store: AdapterStore
    first: Try
    gate: str

    @property
    def name(self) -> str:
        """Of the staged object."""
        return f"{self.first.sku}-{self.first.task.fingerprint[:16]}.refused.json"

    def write(self, following: Try) -> None:
        """Note that ``following`` is to be trained; the first try's checkpoint is dropped."""
        (measured,) = following.refused
        losses = following.task.losses.model_dump()
        content = {"gate": self.gate, "losses": losses, "measured": measured}
        data = json.dumps(content, sort_keys=True).encode()
        self.store.write_staging(self.name, data, self.first.sku)
        self.store.delete_staging(self.first.checkpoint_name)

    def read(self) -> Try | None:
        """The second try, when the first was refused before this process began."""
        data = self.store.read_staging(self.name)
        content = {} if data is None else json.loads(data)
        if content.get("gate") != self.gate:
            return None
        losses = LossSettings.model_validate(content["losses"])
        return _with_losses(self.first, losses, content["measured"])
