"""The shipped definitions, in processes that die or wait at a chosen point.

``<home>/fault.txt`` holds ``<action> <point>``, for instance ``kill promotion``. The process
that reaches the point removes the file first, so that the next process passes. ``wait`` holds
the process until ``<home>/go_on.txt`` exists. Importing this module arms the process, so
only a code server and its workers do.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalog_pipeline.definitions import defs
from catalog_pipeline.settings import HOME_ENV
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.archive import ImageArchive
from catalog_pipeline.stores.head import HeadObject
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from tests.faults.fault_files import FAULT_FILE, GO_ON_FILE, REACHED_FILE

__all__ = ["defs"]

_LONGEST_WAIT_SECONDS = 300.0


def _reach(point: str) -> None:
    """Do what ``fault.txt`` says about this point, once."""
    home = Path(os.environ[HOME_ENV])
    fault = home / FAULT_FILE
    if not fault.exists() or fault.read_text(encoding="utf-8").split()[1:] != [point]:
        return
    action = fault.read_text(encoding="utf-8").split()[0]
    (home / REACHED_FILE).write_text(str(os.getpid()), encoding="utf-8")
    fault.unlink()
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + _LONGEST_WAIT_SECONDS
    while not (home / GO_ON_FILE).exists() and time.monotonic() < end:
        time.sleep(0.05)


def _arm(
    owner: type,
    method: str,
    point: str,
    *,
    call: int = 1,
    after: bool = False,
    key: str = "",
) -> None:
    """Reach ``point`` at the given call of ``owner.method`` whose key begins with ``key``."""
    original: Callable[..., Any] = getattr(owner, method)
    calls = 0

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        counts = not key or str(arguments[0]).startswith(key)
        calls += counts
        now = counts and calls == call
        if now and not after:
            _reach(point)
        result = original(self, *arguments, **options)
        if now and after:
            _reach(point)
        return result

    setattr(owner, method, watched)


_arm(AdapterStore, "write_staging", "learning", after=True)
_arm(HeadObject, "promote", "promotion")
_arm(ImageArchive, "put_image", "images", call=2)
for _store in (LocalObjectStore, S3ObjectStore):
    _arm(_store, "compare_and_swap", "manifest", key="manifest/")
