"""All methods by the name that they have in the benchmark's table."""

from __future__ import annotations

from collections.abc import Callable

from catalog_pipeline.learning.baselines.c_lora import CLora
from catalog_pipeline.learning.baselines.cidm import Cidm
from catalog_pipeline.learning.baselines.ewc import Ewc
from catalog_pipeline.learning.baselines.finetune import Finetune
from catalog_pipeline.learning.baselines.joint import Joint
from catalog_pipeline.learning.baselines.l2dm import Distillation, L2dm, Replay
from catalog_pipeline.learning.baselines.lwf import Lwf
from catalog_pipeline.learning.baselines.method import LifelongMethod, Workshop
from catalog_pipeline.learning.baselines.ours import Ours

METHODS: dict[str, Callable[[Workshop], LifelongMethod]] = {
    "ours": Ours,
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
