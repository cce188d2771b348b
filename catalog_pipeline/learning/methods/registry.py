"""All methods by the name that they have in the benchmark's table, and which of them ships."""

from __future__ import annotations

from collections.abc import Callable

from catalog_pipeline.learning.methods.c_lora import CLora
from catalog_pipeline.learning.methods.cidm import Cidm
from catalog_pipeline.learning.methods.consolidated import Consolidated
from catalog_pipeline.learning.methods.ewc import Ewc
from catalog_pipeline.learning.methods.joint import Joint
from catalog_pipeline.learning.methods.l2dm import Distillation, L2dm, Replay
from catalog_pipeline.learning.methods.lwf import Lwf
from catalog_pipeline.learning.methods.method import LearningContext, LifelongMethod
from catalog_pipeline.learning.methods.own_slots import OwnSlots
from catalog_pipeline.learning.methods.shared_slot import Finetune

METHODS: dict[str, Callable[[LearningContext], LifelongMethod]] = {
    "ours": OwnSlots,
    "consolidated": Consolidated,
    "l2dm": L2dm,
    "finetune": Finetune,
    "ewc": Ewc,
    "lwf": Lwf,
    "c_lora": CLora,
    "cidm": Cidm,
    "replay": Replay,
    "distillation": Distillation,
    "joint": Joint,
}
_SHIPPED: dict[str, Callable[[LearningContext], LifelongMethod]] = {
    "per_concept": OwnSlots,
    "shared": L2dm,
    "consolidated": Consolidated,
}
"""By ``learning.yaml: adapter.slots``."""


def shipped_method(context: LearningContext) -> LifelongMethod:
    """The method that the settings ask for."""
    return _SHIPPED[context.settings.adapter.slots](context)
