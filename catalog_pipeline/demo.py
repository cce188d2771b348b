"""``make demo``: the whole line on scratch folders, from photos to a query over the manifest.

Three products are learned and a night of scenes is rendered; then a fourth product is
dropped into the watched folder, found by the sensor, learned alone, and rendered beside
the first three. Learning and rendering are Dagster runs on a real instance under the
demo's home, so ``make dev`` shows them afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import yaml

from catalog_pipeline.errors import CatalogPipelineError, ConfigurationError
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, Settings, load_settings

if TYPE_CHECKING:
    import dagster as dg

    from catalog_pipeline.records import ArchiveRow, Pixels

FIRST_PRODUCTS = ("MUG-ZIGZAG-01", "BACKPACK-STAR-01", "VASE-DIAGONAL-01")
NEXT_PRODUCT = "MUG-HEARTS-01"

OVERRIDES: dict[str, dict[str, Any]] = {
    # The photos are written by the demo itself: there is no upload to wait for.
    "catalogs": {"root": "products", "settle_seconds": 0},
    "generation": {"policies": {"singles_per_sku": 2, "pairs": 6, "triples": 0}},
}
"""What the demo changes in the shipped settings."""

QUERY = (
    "select sku, count(*) as images, count(*) filter (len(skus) > 1) as shared, "
    "round(avg(scores['fidelity/' || sku]), 3) as fidelity "
    "from (select *, unnest(skus) as sku from '{glob}' where not superseded) "
    "group by sku order by sku"
)
"""Pictures and mean similarity to the photos, by product."""

# A logger is used only by a run whose configuration names it.
_QUIET: dict[str, Any] = {"loggers": {"console": {}}}
_MARK = ".catalog-pipeline-demo"
_REPOSITORY = Path(__file__).resolve().parents[1]
_SHEET_CELL_PX = 128
_SHEET_PHOTOS = 3


@dataclass
class Stages:
    """Numbered stage lines with their times; the numbers are known before the first."""

    titles: Sequence[str]
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def next(self) -> Iterator[None]:
        """Announce the next stage and, when it has succeeded, how long it took."""
        number = len(self.seconds) + 1
        print(f"\n[{number}/{len(self.titles)}] {self.titles[number - 1]}", flush=True)
        started = time.monotonic()
        yield
        self.seconds.append(time.monotonic() - started)
        print(f"      done in {self.seconds[-1]:.1f} s", flush=True)

    def summary(self) -> str:
        """One line a stage, and the sum."""
        lines = [f"  {s:6.1f} s  {t}" for t, s in zip(self.titles, self.seconds, strict=False)]
        return "\n".join([*lines, f"  {sum(self.seconds):6.1f} s  together"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 only if every product was learned and rendered."""
    parser = argparse.ArgumentParser(prog="python -m catalog_pipeline.demo", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument(
        "--keep", action="store_true", help="go on in an existing home instead of starting afresh"
    )
    options = parser.parse_args(arguments)
    try:
        run_demo(options.home.resolve(), keep=options.keep)
    except CatalogPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `make demo` starts afresh", file=sys.stderr)
        return 130
    return 0


def run_demo(home: Path, *, keep: bool = False) -> None:
    """Every stage in order.

    Raises:
        CatalogPipelineError: a stage failed; the message says which and why.
    """
    stages = Stages(
        (
            "settings, a Dagster instance and three products in a scratch home",
            f"index, then learn {', '.join(FIRST_PRODUCTS)}",
            "a night: plan, render and publish singles and pairs",
            f"a new product folder appears: {NEXT_PRODUCT}",
            "the sensor finds it; learn only that one",
            "the same night again: what is right stays, the new product joins",
            "contact sheet, gallery and a query over the manifest",
        )
    )
    with stages.next():
        settings = prepare_home(home, keep=keep)
        line = Line(settings)
        _write_products(settings, FIRST_PRODUCTS)
    with stages.next():
        line.run("refresh_catalog")
        _expect(line.tick(), set(FIRST_PRODUCTS), settings)
    with stages.next():
        line.run("nightly_generation", partition_key=line.night.isoformat())
    with stages.next():
        _write_products(settings, (NEXT_PRODUCT,))
    with stages.next():
        _expect(line.tick(), {NEXT_PRODUCT}, settings)
    with stages.next():
        line.run("nightly_generation", partition_key=line.night.isoformat())
    with stages.next():
        _show_results(settings, line.night)
    print(f"\n{stages.summary()}")


# --- home --------------------------------------------------------------------


def prepare_home(home: Path, *, keep: bool) -> Settings:
    """Make ``home`` with its settings and its Dagster home, and point the environment at them.

    A home that an earlier demo left is removed first, unless ``keep``.

    Raises:
        ConfigurationError: the folder holds something that no demo has left there.
    """
    if home.exists() and any(home.iterdir()):
        if not (home / _MARK).exists():
            raise ConfigurationError(
                f"{home} exists and was not made by the demo; expected a new or empty folder; "
                "choose another with --home DIR (make demo DEMO=DIR)"
            )
        if not keep:
            shutil.rmtree(home)
    config, dagster_home = home / "config", home / "dagster_home"
    for folder in (config, dagster_home):
        folder.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()
    for shipped in sorted((_REPOSITORY / "assets_config").glob("*.yaml")):
        _copy_settings(shipped, config / shipped.name)
    shutil.copy(_REPOSITORY / "dagster_home" / "dagster.yaml", dagster_home)
    os.environ.update(
        {
            CONFIG_ENV: str(config),
            HOME_ENV: str(home),
            "DAGSTER_HOME": str(dagster_home),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
    )
    return load_settings()


def _copy_settings(shipped: Path, target: Path) -> None:
    changes = OVERRIDES.get(shipped.stem)
    if changes is None:
        shutil.copy(shipped, target)
        return
    content = {**(yaml.safe_load(shipped.read_text("utf-8")) or {}), **changes}
    header = f"# assets_config/{shipped.name} with these keys changed: {', '.join(changes)}.\n"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    target.write_text(header + text, encoding="utf-8")


def _write_products(settings: Settings, skus: Sequence[str]) -> None:
    from catalog_pipeline.workflows.sample_catalog import write_sample_catalog

    written = write_sample_catalog(settings.catalog_root, skus)
    _say(f"{', '.join(written)} in {_short(settings.catalog_root)}")


# --- Dagster -----------------------------------------------------------------


class Line:
    """The project's definitions on the demo's own Dagster instance, run in this process."""

    def __init__(self, settings: Settings) -> None:
        import dagster as dg

        from catalog_pipeline.definitions import defs
        from catalog_pipeline.defs.partitions import schedule_timezone

        # Dagster's announcements about its own parameters say nothing to who runs a demo.
        warnings.filterwarnings("ignore", module="dagster")
        self._settings = settings
        self._instance = dg.DagsterInstance.get()
        self._defs = dg.Definitions.merge(defs, dg.Definitions(loggers={"console": _quiet_log()}))
        self.night: date = datetime.now(ZoneInfo(schedule_timezone())).date()

    def run(self, job: str, *, partition_key: str | None = None) -> None:
        """Run ``job`` to its end.

        Raises:
            CatalogPipelineError: the run failed.
        """
        result = self._defs.resolve_job_def(job).execute_in_process(
            instance=self._instance,
            run_config=_QUIET,
            partition_key=partition_key,
            raise_on_error=False,
        )
        if not result.success:
            raise CatalogPipelineError(self._reason(job, result.run_id))

    def tick(self) -> set[str]:
        """Let the sensor look once and run what it asks for; the SKUs that it asked for.

        Raises:
            CatalogPipelineError: a run failed.
        """
        from catalog_pipeline.defs.ops.tick import tick_sensor_and_run

        asked: set[str] = set()
        for run in tick_sensor_and_run(self._instance, self._defs, run_config=_QUIET):
            if not run.is_success:
                raise CatalogPipelineError(self._reason(run.job_name, run.run_id))
            asked.update(run.tags["sku"].split(","))
        return asked

    def _reason(self, job: str, run_id: str) -> str:
        import dagster as dg

        reasons = []
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            event = entry.dagster_event
            if event is None:
                continue
            failure = event.step_failure_data
            told = failure.user_failure_data.description if failure.user_failure_data else None
            reasons.append(told or (failure.error.message.strip() if failure.error else "unknown"))
        return f"the Dagster run {run_id} of {job} failed: {'; '.join(reasons) or 'see its log'}"


def _quiet_log() -> dg.LoggerDefinition:
    """Dagster's console log reduced to what steps say, one short line each, on stdout."""
    import logging

    import dagster as dg

    def console(_: dg.InitLoggerContext) -> logging.Logger:
        log = logging.Logger("demo", level=logging.INFO)
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("      {dagster_meta[orig_message]}", style="{"))
        log.addHandler(handler)
        return log

    return dg.LoggerDefinition(console, description="What steps say, one short line each.")


def _expect(asked: set[str], expected: set[str], settings: Settings) -> None:
    """The sensor asked for exactly these SKUs (or, in a kept home, had learned them before)."""
    from catalog_pipeline.records import SkuStatus
    from catalog_pipeline.workflows.home import open_home

    rows = {row.sku: row for row in open_home(settings).index.read()}
    learned = {sku for sku, row in rows.items() if row.status is SkuStatus.LEARNED}
    if not asked <= expected or not expected <= learned:
        raise CatalogPipelineError(
            f"the sensor asked for {sorted(asked)} and {sorted(learned)} are learned; "
            f"expected exactly {sorted(expected)} to be asked for and learned"
        )


# --- results -----------------------------------------------------------------


def _show_results(settings: Settings, night: date) -> None:
    import duckdb

    from catalog_pipeline.workflows.gallery import write_gallery
    from catalog_pipeline.workflows.home import open_home

    archive = open_home(settings).archive
    rows = [row for row in archive.read_day(night) if not row.superseded]
    if {sku for row in rows for sku in row.skus} != {*FIRST_PRODUCTS, NEXT_PRODUCT}:
        raise CatalogPipelineError(f"the manifest of {night} does not show all four products")
    sheet = write_contact_sheet(settings, rows, settings.home / "contact-sheet.png")
    gallery = write_gallery(settings, night)
    manifest = settings.home / "manifest" / f"dt={night.isoformat()}" / "part-0.parquet"
    _say(f"contact sheet  {_short(sheet)}")
    _say(f"gallery        {_short(gallery)}")
    _say(f"manifest       {_short(manifest)}  ({len(rows)} images)")
    query = QUERY.format(glob=f"{_short(settings.home)}/manifest/*/*.parquet")
    _say("query          (paste it: it reads nothing but the Parquet files)\n")
    print(f'{_short(Path(sys.executable))} -c "import duckdb; print(duckdb.sql(\\"{query}\\"))"')
    print(duckdb.sql(query))
    _say("`make dev` opens the ops UI on this home")


def write_contact_sheet(settings: Settings, rows: Sequence[ArchiveRow], target: Path) -> Path:
    """A row a product: photos, then its scenes alone; below them the scenes of two.

    Args:
        settings: of the home that holds the photos and the archive.
        rows: the manifest rows to show.
        target: the PNG to write.

    Returns:
        ``target``.
    """
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, decode_png, encode_png
    from catalog_pipeline.workflows.home import open_home
    from catalog_pipeline.workflows.photo_sets import validate_photo_set

    archive = open_home(settings).archive

    def picture(row: ArchiveRow) -> Pixels:
        return decode_png(archive.read_image(row.path))

    cells: list[list[Pixels]] = []
    captions: list[str] = []
    for sku in (*FIRST_PRODUCTS, NEXT_PRODUCT):
        photo_set = validate_photo_set(settings, sku)
        photos = photo_set.photos[:_SHEET_PHOTOS]
        alone = [picture(row) for row in rows if row.skus == (sku,)]
        cells.append([*(photo.pixels for photo in photos), *alone])
        captions.append(f"{photo_set.sku.name}: {len(photos)} photos, then rendered alone")
    together = [picture(row) for row in rows if len(row.skus) > 1]
    width = max(len(row) for row in cells)
    for start in range(0, len(together), width):
        cells.append(together[start : start + width])
        captions.append("rendered together" if start == 0 else "")
    sheet = contact_sheet(cells, captions=captions, cell_px=_SHEET_CELL_PX)
    target.write_bytes(encode_png(sheet))
    return target


def _say(line: str) -> None:
    print(f"      {line}", flush=True)


def _short(path: Path) -> str:
    """``path`` as a person in the working folder would type it."""
    working = Path.cwd()
    return str(path.relative_to(working)) if path.is_relative_to(working) else str(path)


if __name__ == "__main__":
    sys.exit(main())
