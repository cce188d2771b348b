"""``execution.yaml``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from catalog_pipeline.settings.values import NotBlank, SecretValueError, Strict


def _address(text: str) -> str:
    if not re.fullmatch(r"(?:ray://)?(?:\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}", text):
        words = "expected a host and a port, such as 10.0.0.5:6379 or ray://head:10001"
        raise (SecretValueError if "@" in text else ValueError)(words)
    return text


ClusterAddress = Annotated[NotBlank, AfterValidator(_address)]


class WorkerSettings(Strict):
    """What a worker needs, and how many there are."""

    at_once: int = Field(2, ge=1, le=1000, description="workers, each with the models loaded once")
    num_cpus: float = Field(1, ge=0, le=1024, description="processors a worker")
    num_gpus: float = Field(0, ge=0, le=64, description="GPUs a worker; 0.5 puts two on a GPU")
    memory_gb: float = Field(
        0, ge=0, le=4096, description="memory that a worker asks its node for; 0 = none asked for"
    )


class ExecutionSettings(Strict):
    """Where learning and rendering run; what they make does not depend on it."""

    engine: Literal["local", "ray"] = Field(
        "local",
        description="local: in the process of the run; ray: in workers of a Ray cluster",
    )
    address: ClusterAddress | None = Field(
        None,
        description="of a running Ray cluster, such as 10.0.0.5:6379 or ray://head:10001; null "
        "starts one on this machine for the run, and ends it with it",
    )
    attempts: int = Field(
        3, ge=1, le=100, description="workers that one SKU or share of pictures may cost at most"
    )
    learning: WorkerSettings = Field(
        WorkerSettings(), description="of learning/concept; a shared slot has one worker"
    )
    images: WorkerSettings = Field(WorkerSettings(), description="of generation/images")
    batches_per_share: int = Field(
        4, ge=1, le=1000, description="batches of pictures that a worker is given at a time"
    )
