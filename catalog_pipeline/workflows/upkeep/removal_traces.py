"""What speaks of a removed product outside its collection and the archive: plans, log, pages.

Each function is idempotent, changes an object by compare-and-swap or deletes it, and says how
many entries went. What speaks of other products stays, without the removed one's name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from catalog_pipeline.errors import ObjectNotFoundError, StoreError
from catalog_pipeline.records import IndexRow, LearningRow, RenderJob, SkuStatus
from catalog_pipeline.stores.concept_removal import owner_of
from catalog_pipeline.stores.keys import PLANS_PREFIX, days_of
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.matches import Matches, MatchStore
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.workflows.catalog.trial import COPIES
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import decode_plan, encode_plan, plan_key
from catalog_pipeline.workflows.report_pages import stores_of_pages
from catalog_pipeline.workflows.upkeep.removal_search import texts_in

_REPORTS = "reports/"
_RENDER_REPORTS = "reports/render/"
_NUMBERS = "reports/nights/figures.json"
"""Of every reported night: numbers and days, no product."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def clean_plans(home: Home, sku: str, renamed: Mapping[str, str]) -> int:
    """Take the jobs that show the product out of every plan; how many went.

    The others keep their ids; versions are named as they are called now. The next plan of such a
    night is made anew, since products differ.
    """
    days = days_of(home.objects.list(PLANS_PREFIX), PLANS_PREFIX)
    return sum(_clean_plan(home, day, sku, renamed) for day in days)


def _clean_plan(home: Home, day: date, sku: str, renamed: Mapping[str, str]) -> int:
    key, naming = plan_key(day), Naming(sku)

    def attempt() -> int:
        try:
            stored = home.objects.read(key)
        except ObjectNotFoundError:
            return 0
        plan, inputs_hash = decode_plan(stored.data, home.objects.uri(key))
        jobs = tuple(_with_versions(job, renamed) for job in plan.jobs if sku not in job.skus)
        notes = tuple(note for note in plan.notes if not naming.stands_in(note.encode()))
        after = replace(plan, jobs=jobs, notes=notes)
        if after != plan:
            home.objects.compare_and_swap(key, encode_plan(after, inputs_hash), stored.version)
        return len(plan.jobs) - len(jobs)

    return until_won(attempt, key)


def _with_versions(job: RenderJob, renamed: Mapping[str, str]) -> RenderJob:
    sources = {
        sku: source._replace(adapter_version=renamed.get(source.adapter_version) or source[1])
        for sku, source in job.sources.items()
    }
    version = renamed.get(job.adapter_version, job.adapter_version)
    return replace(job, adapter_version=version, sources=sources)


def retire_row(home: Home, sku: str) -> None:
    """Keep the product out of plans and learning from now on."""

    def retired(row: IndexRow) -> IndexRow:
        if row.sku != sku:
            return row
        return replace(row, status=SkuStatus.RETIRED, learned_hash="", reason="")

    home.index.update(lambda rows: [retired(row) for row in rows])


def let_learn_anew(
    home: Home, collection: str, fallen: Collection[str], dropped: Collection[str]
) -> None:
    """Mark ``fallen`` as new, as far as what they were learned into is one of ``dropped``."""

    def waiting(row: IndexRow) -> IndexRow:
        if row.sku not in fallen or row.collection != collection:
            return row
        if row.status is not SkuStatus.LEARNED or row.learned_version not in {"", *dropped}:
            return row
        fresh = replace(row, status=SkuStatus.NEW, learned_hash="", learned_version="")
        return replace(fresh, learned_utc=None, reason="")

    home.index.update(lambda rows: [waiting(row) for row in rows])


def clean_index(home: Home, sku: str, renamed: Mapping[str, str]) -> int:
    """Delete the product's row, and its name from what is said of others."""
    naming = Naming(sku)
    before = any(row.sku == sku for row in home.index.read())

    def cleaned(row: IndexRow) -> IndexRow:
        reasons = {photo: naming.struck_from(why) for photo, why in row.left_out.items()}
        version = renamed.get(row.learned_version, row.learned_version)
        reason = naming.struck_from(row.reason)
        return replace(row, reason=reason, left_out=reasons, learned_version=version)

    home.index.update(lambda rows: [cleaned(row) for row in rows if row.sku != sku])
    return int(before)


def log_of(home: Home, sku: str) -> list[LearningRow]:
    """Every attempt at learning the product."""
    log = home.learning_log
    return [row for day in log.days() for row in log.read_day(day) if row.sku == sku]


def clean_log(home: Home, sku: str, renamed: Mapping[str, str]) -> int:
    """Delete the product's attempts, and its name from those of others."""
    naming = Naming(sku)

    def cleaned(row: LearningRow) -> LearningRow:
        photos = tuple(replace(p, reason=naming.struck_from(p.reason)) for p in row.photos)
        row = replace(row, reason=naming.struck_from(row.reason), photos=photos)
        if row.version not in renamed:
            return row
        version = renamed[row.version]
        return replace(row, version=version, attempt_id=f"{row.sku}@{version}")

    gone = 0
    for day in home.learning_log.days():
        before = home.learning_log.rewrite(
            day, lambda rows: [cleaned(row) for row in rows if row.sku != sku]
        )
        gone += sum(row.sku == sku for row in before)
    return gone


def clean_words(home: Home, sku: str, noun: str) -> int:
    """Forget words that were read for the product's card alone; a person's own stay."""
    naming, store = Naming(sku), MatchStore(home.objects)
    shared = any(row.class_noun == noun and row.sku != sku for row in home.index.read())
    before = store.read()

    def stays(part: str, text: str, phrase: str, way: str) -> bool:
        if naming.stands_in(text.encode()):
            return False
        return part != "noun" or shared or way == "set" or not noun or phrase != noun

    def change(old: Matches) -> Matches:
        kept = {
            part: {t: m for t, m in texts.items() if stays(part, t, m.phrase, m.way)}
            for part, texts in old.items()
        }
        return {part: texts for part, texts in kept.items() if texts}

    after = store.update(change) if before and change(before) != before else before
    return sum(map(len, before.values())) - sum(map(len, after.values()))


def clean_reports(home: Home, sku: str, days: Collection[date], image_ids: Collection[str]) -> int:
    """Delete every page that shows or names the product, and every loose picture; how many.

    They can be made again. Of what a rendering run has measured go the product's lines and pictures
    alone.
    """
    gone = _Gone(sku, Naming(sku), frozenset(image_ids))
    return sum(_clean_reports(store, gone, days) for store in stores_of_pages(home))


@dataclass(frozen=True)
class _Gone:
    sku: str
    naming: Naming
    image_ids: frozenset[str]

    def named_by(self, data: bytes, key: str) -> bool:
        """Whether ``data``, stored under ``key``, names the product, or a picture of it."""
        return any(
            self.naming.stands_in(text) or any(i.encode() in text for i in self.image_ids)
            for text in texts_in(data, key)
        )

    def taken_from(self, content: Any) -> Any:
        """JSON without what is of the product or its pictures, and without texts that name it."""
        if isinstance(content, dict):
            kept = {key: value for key, value in content.items() if not self._is(key)}
            return {key: self.taken_from(value) for key, value in kept.items()}
        if isinstance(content, list):
            return [self.taken_from(each) for each in content if not self._is(each)]
        return self.naming.struck_from(content) if isinstance(content, str) else content

    def _is(self, content: Any) -> bool:
        if isinstance(content, dict):
            return content.get("sku") == self.sku
        if not isinstance(content, str):
            return False
        return content == self.sku or any(i in content for i in self.image_ids)


def _clean_reports(store: ObjectStore, gone: _Gone, days: Collection[date]) -> int:
    pages = {f"{_REPORTS}gallery-{day}.html" for day in days}
    pages |= {f"{_REPORTS}nights/dt={day}.html" for day in days}
    count = 0
    for key in store.list(_REPORTS):
        if key == _NUMBERS:
            continue  # one of them may look like a SKU
        if key.startswith(_RENDER_REPORTS):
            count += _clean_render_report(store, key, gone)
        elif key in pages or key.endswith(_PICTURES) or _is_named(store, key, gone):
            store.delete(key)
            count += 1
    return count


def _is_named(store: ObjectStore, key: str, gone: _Gone) -> bool:
    try:
        return gone.named_by(store.read(key).data, key)
    except ObjectNotFoundError:
        return False


def _clean_render_report(store: ObjectStore, key: str, gone: _Gone) -> int:
    def attempt() -> int:
        try:
            stored = store.read(key)
        except ObjectNotFoundError:
            return 0
        if not gone.named_by(stored.data, key):
            return 0
        try:
            content = gone.taken_from(json.loads(stored.data))
        except ValueError:
            store.delete(key)
            return 1
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1)
        store.compare_and_swap(key, text.encode() + b"\n", stored.version)
        return 1

    return until_won(attempt, key)


def clean_tried(home: Home, sku: str) -> int:
    """Delete what a first try has left of photos in the local home; how many files.

    The copies that ``try`` made of a folder of this name, and the contact sheet of the demo.
    """
    local = LocalObjectStore(home.settings.home)
    left = [*local.list(f"{COPIES}/{sku}/"), *local.list("contact-sheet.png")]
    local.delete_many(left)
    return len(left)


def clean_folders(home: Home, sku: str) -> None:
    """Remove empty folders that are named after the product; a bucket has none."""
    root = home.settings.home
    named = [f for f in root.glob("collections/*/quarantine/*") if owner_of(f.name) == sku]
    for folder in (*named, root / COPIES / sku):
        with suppress(OSError):  # it holds something, or is not there
            folder.rmdir()


def digests_of(home: Home, sku: str) -> Iterator[str]:
    """SHA-256 of the product's photos and parts, as far as log, index and versions still say."""
    for attempt in log_of(home, sku):
        yield from (attempt.content_hash, attempt.photos_hash, attempt.concept_sha256)
        yield from (photo.sha256 for photo in attempt.photos)
    for row in home.index.read():
        if row.sku == sku:
            yield from (row.content_hash, row.learned_hash)
    for name in home.collections():
        try:
            versions, _ = home.adapters(name).readable_history()
        except StoreError:
            continue
        for version in versions:
            concept = version.concept(sku)
            if concept is not None:
                yield concept.photos_hash
                yield from (sha for n, sha in version.parts.items() if n.partition("/")[2] == sku)
