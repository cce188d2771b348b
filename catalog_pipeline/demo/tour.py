"""The story, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from catalog_pipeline.demo.line import Line
from catalog_pipeline.demo.results import say, short, show_results
from catalog_pipeline.demo.scratch_home import prepare_home
from catalog_pipeline.errors import CatalogPipelineError
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from catalog_pipeline.workflows.home import Home

FIRST_PRODUCTS = ("MUG-ZIGZAG-01", "BACKPACK-STAR-01", "VASE-DIAGONAL-01")
NEXT_PRODUCT = "MUG-HEARTS-01"


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


def run_demo(folder: Path, *, keep: bool = False) -> None:
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
        home = prepare_home(folder, keep=keep)
        line = Line(home)
        _write_products(home, FIRST_PRODUCTS)
    with stages.next():
        line.run("refresh_catalog")
        _expect(line.tick(), set(FIRST_PRODUCTS), home)
    with stages.next():
        line.render_night()
    with stages.next():
        _write_products(home, (NEXT_PRODUCT,))
    with stages.next():
        _expect(line.tick(), {NEXT_PRODUCT}, home)
    with stages.next():
        line.render_night()
    with stages.next():
        show_results(home, line.night, (*FIRST_PRODUCTS, NEXT_PRODUCT))
    print(f"\n{stages.summary()}")


def _write_products(home: Home, skus: Sequence[str]) -> None:
    root = home.settings.catalog_root
    say(f"{', '.join(write_sample_catalog(root, skus))} in {short(root)}")


def _expect(asked: set[str], expected: set[str], home: Home) -> None:
    """The sensor asked for exactly these SKUs (or, in a kept home, had learned them before)."""
    rows = {row.sku: row for row in home.index.read()}
    learned = {sku for sku, row in rows.items() if row.status is SkuStatus.LEARNED}
    if not asked <= expected or not expected <= learned:
        raise CatalogPipelineError(
            f"the sensor asked for {sorted(asked)} and {sorted(learned)} are learned; "
            f"expected exactly {sorted(expected)} to be asked for and learned"
        )
