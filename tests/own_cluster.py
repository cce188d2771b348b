"""A run with a Ray cluster of its own, in a process of its own: ``HOME [before]``.

``before`` imports Ray first, as other code might have done. Prints where the cluster listens, and
whether drivers with and without its token are let in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import ExecutionSettings, Settings
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.workers import Crew
from tests.ray_cluster import descendants, listening_addresses

_DRIVER = """
import ray
try:
    ray.init(address={address!r}, logging_level="critical")
    print("let in")
except ConnectionError:
    print("refused")
"""


class Double:
    """Work that needs no models."""

    def __init__(self, settings: Settings) -> None:
        """Takes settings as every work does."""

    def do(self, item: int, progress: ProgressSink) -> int:
        return 2 * item


def main(home: Path) -> None:
    """Give two items to one worker, and look around between them."""
    execution = ExecutionSettings(engine="ray")
    settings = Settings.model_validate({"home": home, "config_dir": home, "execution": execution})
    size = execution.images.model_copy(update={"at_once": 1})
    crew: Crew[int, int] = Crew(
        settings, size, Double, SilentProgress(), again=lambda item: item, lost=lambda item, _: item
    )
    results = crew.results([1, 2])
    first = next(results)
    import ray

    address = ray.get_runtime_context().gcs_address
    found = {
        "listens": sorted(listening_addresses(descendants())),
        "with its token": driver(address, os.environ),
        "without": driver(address, {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}),
        "results": [first, *results],
    }
    print(json.dumps(found))


def driver(address: str, environment: Mapping[str, str]) -> str:
    """What another process is told that asks the cluster in."""
    script = _DRIVER.format(address=address)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**environment, "RAY_NUM_REDIS_GET_RETRIES": "1"},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr


if __name__ == "__main__":
    if sys.argv[2:] == ["before"]:
        import ray  # noqa: F401
    try:
        main(Path(sys.argv[1]))
    except ConfigurationError as error:
        sys.exit(str(error))
