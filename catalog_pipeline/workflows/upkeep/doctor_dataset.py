"""What ``doctor`` says of the nights as other tools read them: as a folder of Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from catalog_pipeline.errors import StoreError
from catalog_pipeline.stores.keys import MANIFEST_PREFIX, QUARANTINE_PREFIX
from catalog_pipeline.stores.local import TEMPORARY_PREFIX
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.check_results import CheckResult

_NIGHT = re.compile(r"[a-z]+/dt=\d{4}-\d\d-\d\d/part-0\.parquet")


def check_dataset(home: Home) -> Iterator[CheckResult]:
    """Nights of an earlier schema version, and files that are no night."""
    outdated = []
    for day in home.archive.days():
        with suppress(StoreError):  # reported as damaged
            if home.archive.is_outdated(day):
                outdated.append(day)
    if outdated:
        yield CheckResult(
            "warning",
            f"archive: {len(outdated)} nights such as {outdated[0]} are of an earlier schema "
            "version; tools that read them beside newer ones drop columns or stop",
            "run `catalog-pipeline doctor --repair`, which writes them anew, every value kept",
        )
    for prefix in (MANIFEST_PREFIX, QUARANTINE_PREFIX):
        folder = prefix.partition("/")[0]
        found = strays(home.objects, folder)
        if found:
            yield CheckResult(
                "warning",
                f"archive: {len(found)} files in {folder}/ are no night, such as {found[0]}; "
                "tools that read the folder may stumble over them",
                "move them out of the folder",
            )


def strays(objects: ObjectStore, folder: str) -> list[str]:
    """What lies under ``folder`` and is no night, hidden files included, by the path in the home.

    Not named are those that :meth:`ObjectStore.temporaries` names: a bucket has only what
    was copied there together with a folder.
    """
    top = objects.path(folder)
    if top is None:
        names = objects.list(f"{folder}/")
    else:
        files = (path for path in top.rglob("*") if path.is_file())
        names = [
            f"{folder}/{path.relative_to(top).as_posix()}"
            for path in files
            if not path.name.startswith(TEMPORARY_PREFIX)
        ]
    return sorted(name for name in names if not _NIGHT.fullmatch(name))
