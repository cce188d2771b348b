"""Look over settings, base model, home and everything stored; repair on request.

Every result says what was seen and carries a hint: what to do, or what it means.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from catalog_pipeline.catalog.file_kinds import is_passed_over
from catalog_pipeline.errors import CatalogPipelineError, IntegrityError, KeyringError
from catalog_pipeline.settings import Settings, check_dagster_home, passed_over
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.learn.prompt_lengths import check_scenes
from catalog_pipeline.workflows.models import check_picture_size, prompt_tokenizer
from catalog_pipeline.workflows.night.plan_night import check_texts
from catalog_pipeline.workflows.upkeep.check_results import CheckResult, Level, guarded
from catalog_pipeline.workflows.upkeep.doctor_home import check_home
from catalog_pipeline.workflows.upkeep.doctor_memory import check_memory
from catalog_pipeline.workflows.upkeep.doctor_provenance import check_provenance
from catalog_pipeline.workflows.upkeep.doctor_repair import repair_home
from catalog_pipeline.workflows.upkeep.removal_record import unfinished
from catalog_pipeline.workflows.workers import check_execution

__all__ = ["CheckResult", "run_doctor"]

LEAST_FREE_BYTES = 200_000_000
COMFORTABLE_FREE_BYTES = 2_000_000_000

_OTHER_HOME = "pass another --home DIR, or correct archive.yaml"
_KEYS = "docs/governance/encryption.md says how keys are kept and brought back"


def run_doctor(home: Home, *, repair: bool = False) -> list[CheckResult]:
    """Every result, in a fixed order; a check that breaks is itself an error.

    Writes one small probe object and removes it; changes nothing else unless ``repair``
    is set, which first makes the repairs of
    :func:`~catalog_pipeline.workflows.upkeep.doctor_repair.repair_home`. Reads no weights and
    needs no accelerator.
    """
    settings = home.settings
    results = [
        *guarded("settings", _config_dir, settings),
        *guarded("base model", _base_model, settings),
        *guarded("catalog", _catalog_root, settings),
        *guarded("disk", _free_disk, settings),
        *guarded("dagster", _dagster_home, settings),
        *guarded("workers", _workers, settings),
        *guarded("provenance", check_provenance, home),
    ]
    try:
        _ = home.objects
    except CatalogPipelineError as error:
        hint = _KEYS if isinstance(error, KeyringError | IntegrityError) else _OTHER_HOME
        return [*results, CheckResult("error", f"home: {error}", hint)]
    repairs = guarded("repair", lambda home: iter(repair_home(home)), home) if repair else []
    return repairs + results + guarded("removals", _removals, home) + check_home(home)


def _removals(home: Home) -> Iterator[CheckResult]:
    for sku in unfinished(home.objects):
        yield CheckResult(
            "error",
            f"removals: that of {sku} was begun, and has not ended",
            f"run `catalog-pipeline remove {sku}`, which goes on with it",
        )


def _config_dir(settings: Settings) -> Iterator[CheckResult]:
    files = sorted(path.name for path in settings.config_dir.glob("[!.]*.yaml"))
    if files:
        yield CheckResult("ok", f"settings: {', '.join(files)} in {settings.config_dir}", "")
    else:
        yield CheckResult(
            "warning",
            f"settings: no *.yaml in {settings.config_dir}; every default applies",
            "copy assets_config/ there, or pass --config DIR",
        )
    for name in passed_over(settings.config_dir):
        yield CheckResult(
            "warning",
            f"settings: {name!r} in {settings.config_dir} is not read",
            "move it away; if it is the newer one, let it take the place of the file it copies",
        )


def _base_model(settings: Settings) -> Iterator[CheckResult]:
    from catalog_pipeline.diffusion.base import resolve_base_model

    name, offline = settings.base_model.base_model, settings.base_model.offline
    if name != "embedded" and not offline and not Path(name).expanduser().exists():
        yield CheckResult("ok", f"base model: hub id {name!r}, fetched on first use", "")
        return
    folder = resolve_base_model(settings.base_model)
    yield CheckResult("ok", f"base model: {name} in {folder}", "")
    yield from guarded("prompts", _prompts, settings)
    yield from guarded("pictures", _picture_size, settings)
    yield from guarded("memory", check_memory, settings)


def _prompts(settings: Settings) -> Iterator[CheckResult]:
    prompts = prompt_tokenizer(settings.base_model)
    check_scenes(settings, prompts)
    check_texts(settings, prompts)
    yield CheckResult("ok", f"prompts: no scene is too long for {prompts.length} tokens", "")


def _picture_size(settings: Settings) -> Iterator[CheckResult]:
    step, generation = check_picture_size(settings), settings.generation
    size = f"{generation.width} x {generation.height}"
    yield CheckResult("ok", f"pictures: {size} pixels, by the base's step of {step}", "")


def _catalog_root(settings: Settings) -> Iterator[CheckResult]:
    if settings.catalog.s3 is not None:
        yield CheckResult("ok", f"catalog: bucket {settings.catalog.s3.bucket!r}", "")
        return
    root = settings.catalog_root
    if not root.is_dir():
        yield CheckResult(
            "warning",
            f"catalog: no folder {root}",
            "create it with one folder per product, or correct catalogs.yaml: root",
        )
        return
    count = sum(1 for path in root.iterdir() if path.is_dir() and not is_passed_over(path.name))
    yield CheckResult("ok", f"catalog: {count} product folders in {root}", "")


def _dagster_home(_: Settings) -> Iterator[CheckResult]:
    check_dagster_home()
    yield from ()


def _workers(settings: Settings) -> Iterator[CheckResult]:
    execution = settings.execution
    check_execution(execution)
    if execution.engine == "ray":
        where = f"the cluster at {execution.address}" if execution.address else "a cluster a run"
        yield CheckResult("ok", f"workers: Ray, {where}", "not connected to; a run is")


def _free_disk(settings: Settings) -> Iterator[CheckResult]:
    folder = settings.home
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    level: Level = "ok"
    if free < COMFORTABLE_FREE_BYTES:
        level = "error" if free < LEAST_FREE_BYTES else "warning"
    yield CheckResult(
        level,
        f"disk: {free / 1e9:.1f} GB free at {folder}",
        f"keep {COMFORTABLE_FREE_BYTES / 1e9:.0f} GB free; old nights and checkpoints can move",
    )
