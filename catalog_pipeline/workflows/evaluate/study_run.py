"""A cell of a study, learned and measured update by update."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from catalog_pipeline.records import SHARED, SkuStatus, StudyCell, StudyRow
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.evaluate.study_cell import (
    COLLECTION,
    Cell,
    CellFiles,
    cell_settings,
)
from catalog_pipeline.workflows.evaluate.study_deliveries import Delivery, Update, waited_days
from catalog_pipeline.workflows.evaluate.study_looks import ProductLooks, measure_products
from catalog_pipeline.workflows.evaluate.study_products import (
    Group,
    StudyProduct,
    group,
    groups_by_sku,
)
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import ProgressSink

_DONE = "done.json"


def run_cell(
    base: Settings,
    catalog: Home,
    cell: Cell,
    products: Sequence[StudyProduct],
    files: CellFiles,
    images: int,
    progress: ProgressSink,
) -> StudyCell:
    """Learn and measure ``cell``, or read what an earlier run has found of it.

    Args:
        base: of everything that the cell does not change.
        catalog: whose photos are delivered; it is only read.
        cell: what to learn how.
        products: of the study, photos included.
        files: of the cell.
        images: pictures of each product that are measured.
        progress: advanced at every step of training and every product measured.

    Raises:
        BaseModelError: the base model cannot be opened.
        ConfigurationError: a scene of learning.yaml is too long for the base.
        StoreError: something cannot be read or written.
    """
    found = files.read(_DONE)
    if found is None:
        photos = sum(len(product.photos) for product in products)
        home = open_home(cell_settings(base, cell, files.folder, images, photos))
        found = asdict(_Run(home, catalog, cell, products, files, images, progress).run())
        files.write(_DONE, found)
    rows = tuple(StudyRow(**row) for row in found["rows"])
    return StudyCell(**{**found, "rows": rows})


@dataclass(frozen=True)
class _Run:
    home: Home
    catalog: Home
    cell: Cell
    products: Sequence[StudyProduct]
    files: CellFiles
    images: int
    progress: ProgressSink

    def run(self) -> StudyCell:
        groups = group(self.products, self.cell.granularity)
        learned: dict[str, ProductLooks] = {}
        for number, update in enumerate(self.cell.updates):
            key = f"updates/{number:03d}.json"
            looks = self.files.read(key)
            if looks is None:
                looks = {sku: asdict(each) for sku, each in self._update(groups, update).items()}
                self.files.write(key, looks)
            learned |= {sku: ProductLooks(**each) for sku, each in looks.items()}
        final = self._final(groups, learned)
        return self._cell(groups, learned, final)

    def _update(self, groups: Sequence[Group], update: Update) -> dict[str, ProductLooks]:
        """Deliver, learn what waits, and measure what was delivered."""
        of = groups_by_sku(groups)
        for delivery in update.deliveries:
            self._deliver(of[delivery.sku], delivery)
        refresh_index(self.home)
        for home, waiting in self._homes(groups, update):
            for _ in learn_concepts(home, waiting, progress=self.progress):
                pass
        came = {delivery.sku for delivery in update.deliveries}
        return self._measure(of, [each for each in self.products if each.sku in came])

    def _homes(
        self, groups: Sequence[Group], update: Update
    ) -> Iterator[tuple[Home, list[str] | None]]:
        """The home with the steps that concepts get, and which; ``None``: all that wait."""
        if not self.cell.equal_steps:
            yield self.home, None
            return
        until = self.cell.updates[: self.cell.updates.index(update) + 1]
        here = {delivery.sku for each in until for delivery in each.deliveries}
        came = {delivery.sku for delivery in update.deliveries}
        settings, learned = self.home.written, self.home.written.learning
        minutes = learned.minutes_per_sku
        by_members: defaultdict[int, list[str]] = defaultdict(list)
        for found in groups:
            members = {member.sku for member in found.members} & here
            if members & came:
                by_members[len(members)].append(found.folder)
        for count, folders in sorted(by_members.items()):
            longer = {
                "steps": learned.steps * count,
                "minutes_per_sku": None if minutes is None else minutes * count,
            }
            learning = learned.model_copy(update=longer)
            yield open_home(settings.model_copy(update={"learning": learning})), folders

    def _final(
        self, groups: Sequence[Group], learned: Mapping[str, ProductLooks]
    ) -> dict[str, ProductLooks]:
        """Every product at the end; what is drawn by the same bytes as before looks as before."""
        version = self.home.adapters(COLLECTION).current()
        parts = version.parts if version else {}
        own = SHARED not in parts
        same = {sku for sku, each in learned.items() if own and each.part in parts.values()}
        last = {delivery.sku for delivery in self.cell.updates[-1].deliveries}
        again = [each for each in self.products if each.sku not in same | last]
        return {**learned, **self._measure(groups_by_sku(groups), again)}

    def _measure(
        self, of: Mapping[str, Group], products: Sequence[StudyProduct]
    ) -> dict[str, ProductLooks]:
        from catalog_pipeline.evaluation.contact_sheet import encode_png

        version = self.home.adapters(COLLECTION).current()
        if version is None:
            return {each.sku: ProductLooks(reason="nothing was learned") for each in products}
        asked = [(each, of[each.sku]) for each in products]
        found = {}
        measured = measure_products(self.home, version, asked, self.images, self.progress)
        for sku, looks, picture in measured if asked else ():
            found[sku] = looks
            if picture is not None:
                self.files.write_picture(sku, encode_png(picture))
        return found

    def _deliver(self, to: Group, delivery: Delivery) -> None:
        """Put photos into the folder of a concept; each file appears complete."""
        folder = self.home.settings.catalog_root / to.folder
        folder.mkdir(parents=True, exist_ok=True)
        for key in delivery.photos:
            name = f"{delivery.sku}__{key.rpartition('/')[2]}"
            if not (folder / name).exists():
                _write(folder / name, self.catalog.photo_source.read(key))
        first = to.members[0].card
        alone = len(to.members) == 1
        card = {
            "name": first.name if alone else to.class_noun,
            "class_noun": to.class_noun,
            "category": first.category,
            "collection": COLLECTION,
        }
        if not (folder / "sku.yaml").exists():
            _write(folder / "sku.yaml", yaml.safe_dump(card, allow_unicode=True).encode())

    def _cell(
        self,
        groups: Sequence[Group],
        learned: Mapping[str, ProductLooks],
        final: Mapping[str, ProductLooks],
    ) -> StudyCell:
        home, cell = self.home, self.cell
        log = home.learning_log
        attempts = [row for day in log.days() for row in log.read_day(day)]
        store = home.adapters(COLLECTION)
        version = store.current()
        infos = home.objects.scan(store.folder)
        served = set(version.parts.values()) if version else set()
        reasons = {
            row.sku: row.reason for row in home.index.read() if row.status is SkuStatus.FAILED
        }
        return StudyCell(
            name=cell.name,
            study=cell.study,
            choice=cell.choice,
            slots=cell.slots,
            seed=cell.seed,
            updates=len(cell.updates),
            concepts=len(version.concepts) if version else 0,
            tasks=sum(row.status == "learned" for row in attempts),
            refused=sum(row.status != "learned" for row in attempts),
            seconds=sum(row.seconds for row in attempts),
            stored_bytes=sum(info.size_bytes for info in infos),
            served_bytes=sum(
                info.size_bytes
                for info in infos
                if info.key.rpartition("/")[2].partition(".")[0] in served
            ),
            rows=tuple(self._rows(groups, learned, final, reasons)),
        )

    def _rows(
        self,
        groups: Sequence[Group],
        learned: Mapping[str, ProductLooks],
        final: Mapping[str, ProductLooks],
        reasons: Mapping[str, str],
    ) -> list[StudyRow]:
        cell, of, waits = self.cell, groups_by_sku(groups), waited_days(self.cell.updates)
        rows = []
        for product in self.products:
            before, after = learned[product.sku], final[product.sku]
            both = before.likeness is not None and after.likeness is not None
            folder = of[product.sku].folder
            rows.append(
                StudyRow(
                    row_id=f"{cell.study}/{cell.name}/{product.sku}",
                    study=cell.study,
                    choice=cell.choice,
                    slots=cell.slots,
                    seed=cell.seed,
                    sku=product.sku,
                    name=product.card.name,
                    category=product.category,
                    family=product.family,
                    concept=folder,
                    members=len(of[product.sku].members),
                    likeness_learned=before.likeness,
                    likeness=after.likeness,
                    forgotten=(before.likeness or 0) - (after.likeness or 0) if both else None,
                    color_shift=after.color_shift,
                    waited_days=waits[product.sku],
                    reason=reasons.get(folder, "") or after.reason,
                )
            )
        return rows


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    os.replace(partial, path)
