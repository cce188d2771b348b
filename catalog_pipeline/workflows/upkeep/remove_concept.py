"""Remove a product for good: weights, memory, pictures, rows, pages, key; a tombstone is left.

``retire`` keeps a product out of what is made from now on; this destroys what was made of it. A
record in ``removals/`` is written first and deleted last, after the audit log has taken the
tombstone. Every step finds by itself what is left, so a kill anywhere is mended by the same call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from catalog_pipeline.errors import CatalogError, CatalogPipelineError
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.audit_log import AuditEnd
from catalog_pipeline.stores.concept_removal import ConceptRemoval, HistoryWithout
from catalog_pipeline.stores.keys import IMAGE_PREFIX
from catalog_pipeline.stores.leases import LEASE_SECONDS
from catalog_pipeline.stores.picture_removal import PictureRemoval, ShownPictures
from catalog_pipeline.workflows.catalog.retire import forget_listing, require_no_folders
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.serving import LEASE_WAIT_SECONDS
from catalog_pipeline.workflows.upkeep import removal_traces as traces
from catalog_pipeline.workflows.upkeep.doctor_repair import OLD
from catalog_pipeline.workflows.upkeep.removal_record import RemovalRecord, record_key
from catalog_pipeline.workflows.upkeep.removal_search import Searched, search_home

_DIGITS = 64


@dataclass(frozen=True)
class PlannedRemoval:
    """What a removal would take.

    Attributes:
        histories: collection -> what becomes of its versions, where one of them changes.
        attempts: rows of the learning log.
        known: whether anything of the product is stored at all.
    """

    sku: str
    histories: dict[str, HistoryWithout]
    shown: ShownPictures
    attempts: int
    known: bool

    @property
    def lines(self) -> list[str]:
        """The same in words; never empty."""
        found = []
        for name, history in self.histories.items():
            rewritten = len(history.renamed)
            found.append(
                f"collection {name}: {rewritten} versions are written anew without it, "
                f"{len(history.dropped)} go"
            )
            if history.fallen:
                found.append(
                    f"collection {name}: {', '.join(history.fallen)} fall out, because they share "
                    "a slot that was trained on it; `catalog-pipeline learn` learns them anew"
                )
        if self.shown.pictures or self.shown.rows:
            found.append(
                f"{len(self.shown.pictures)} pictures and {self.shown.rows} rows of "
                f"{len(self.shown.days)} nights, those beside other products too"
            )
        if self.attempts:
            found.append(f"{self.attempts} attempts at learning it")
        return [f"{self.sku}: {line}" for line in found or ["what is left of its traces"]]


@dataclass(frozen=True)
class RemovalOutcome:
    """What became of one SKU.

    Attributes:
        counts: what went, by kind.
        fallen: collection -> other products that are to be learned anew.
        searched: what the proof has read, and where the product's name still stands.
        tombstone: the entry of the audit log.
        reason: why it was not removed; empty where it was.
        notes: what a person should know.
    """

    sku: str
    counts: dict[str, int] = field(default_factory=dict)
    fallen: dict[str, list[str]] = field(default_factory=dict)
    searched: Searched | None = None
    tombstone: AuditEnd | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def plan_removals(
    home: Home, skus: Sequence[str], *, strangers: bool = False
) -> list[PlannedRemoval]:
    """What :func:`remove_concepts` would take of each; reads only.

    ``strangers``: SKUs of which nothing is stored are no error.

    Raises:
        CatalogError: nothing of one of them is stored, one still has its folder, or the
            catalog cannot be listed.
        StoreError: something cannot be read.
    """
    wanted = list(dict.fromkeys(skus))
    planned = [_Removal(home, sku).plan() for sku in wanted]
    unknown = [plan.sku for plan in planned if not (plan.known or strangers)]
    if unknown:
        raise CatalogError(
            f"nothing of {', '.join(unknown)} is stored in {home.where}; expected SKUs that "
            "`catalog-pipeline products` lists; check the names"
        )
    require_no_folders(home, wanted)
    return planned


def remove_concepts(
    home: Home,
    skus: Sequence[str],
    *,
    lease_wait_seconds: float = LEASE_WAIT_SECONDS,
    search_pictures: bool = False,
) -> Iterator[RemovalOutcome]:
    """Destroy all that is stored of ``skus``, each for itself; see docs/governance/removal.md.

    Of each: its slot, tokens, memory and loss curve in every version; checkpoints and refused
    candidates; pictures that show it, alone or beside others, with their rows in manifests,
    their earlier states, quarantine and staging; jobs of plans; pages; index row, learning log,
    what listings have kept; its data key. Versions are written anew without it; those of a shared
    slot that was trained on it are dropped. Other products keep their parts and pictures to the
    bit. Idempotent; safe to kill. A SKU that cannot be removed is yielded with its reason.

    Args:
        home: whose.
        skus: their folders must be gone: a listing would bring them back.
        lease_wait_seconds: how long a running learner is waited for.
        search_pictures: let the proof read the PNG files of all nights, too.

    Raises:
        CatalogError: one of them still has its folder, or the catalog cannot be listed.
    """
    wanted = list(dict.fromkeys(skus))
    require_no_folders(home, wanted)
    for sku in wanted:
        removal = _Removal(home, sku, lease_wait_seconds, search_pictures)
        try:
            yield removal.run()
        except CatalogPipelineError as error:
            yield RemovalOutcome(sku, reason=str(error))


@dataclass
class _Removal:
    home: Home
    sku: str
    lease_wait_seconds: float = LEASE_WAIT_SECONDS
    search_pictures: bool = False

    def plan(self) -> PlannedRemoval:
        """See :func:`plan_removals`."""
        attempts = traces.log_of(self.home, self.sku)
        learned = {attempt.collection for attempt in attempts}
        found = {}
        for name in self.home.collections():
            history = self._concept(self.home.adapters(name), name in learned).find()
            if history.going:
                found[name] = history
        shown = self._pictures.find()
        row = next((row for row in self.home.index.read() if row.sku == self.sku), None)
        begun = self.home.objects.exists(record_key(self.sku))
        known = bool(row or begun or found or attempts or shown.rows or shown.days)
        return PlannedRemoval(self.sku, found, shown, len(attempts), known)

    def run(self) -> RemovalOutcome:
        """All steps; one process at a time."""
        key = f"{record_key(self.sku)[:-5]}.lease.json"
        lease = self.home.objects.lease_object(key, one_of_many=True)
        with lease.hold(self.lease_wait_seconds, LEASE_SECONDS):
            return self._run()

    def _run(self) -> RemovalOutcome:
        home, sku, objects = self.home, self.sku, self.home.objects
        record = RemovalRecord.open(objects, sku)
        record.digests |= {found for found in traces.digests_of(home, sku) if len(found) == _DIGITS}
        row = next((row for row in home.index.read() if row.sku == sku), None)
        record.save(objects)
        traces.retire_row(home, sku)
        for name in home.collections():
            self._clean_collection(name, record, row.collection if row else "")
        if home.keyring is not None:
            record.count(objects, {"keys": int(home.keyring.destroy(sku))})
        record.count(objects, {"jobs": traces.clean_plans(home, sku, record.renamed)})
        self._clean_pictures(record)
        days = {date.fromisoformat(day) for day in record.nights}
        pages = traces.clean_reports(home, sku, days, record.image_ids)
        record.count(objects, {"pages": pages})
        noun = row.class_noun if row else ""
        record.count(objects, {"words": traces.clean_words(home, sku, noun)})
        record.count(objects, {"listing_entries": forget_listing(home, sku)})
        record.count(objects, {"tried_photos": traces.clean_tried(home, sku)})
        record.count(objects, {"attempts": traces.clean_log(home, sku, record.renamed)})
        record.count(objects, {"index_rows": traces.clean_index(home, sku, record.renamed)})
        objects.remove_temporaries(datetime.now(UTC) - OLD)
        traces.clean_folders(home, sku)
        return self._tombstone(record)

    def _clean_collection(self, name: str, record: RemovalRecord, card: str) -> None:
        home, objects, store = self.home, self.home.objects, self.home.adapters(name)
        learned = {attempt.collection for attempt in traces.log_of(home, self.sku)}
        concept = self._concept(store, name in learned)
        concept.mend()
        left = [*concept.staging(), *concept.candidates()]
        concerned = left or name in learned or name == card or name in record.fallen
        if not (concerned or concept.find().going):
            return
        with ExitStack() as held:
            wait = self.lease_wait_seconds
            held.enter_context(store.claim(self.sku, timeout_seconds=wait))
            lease = held.enter_context(store.lease(timeout_seconds=wait))
            left = [*concept.staging(), *concept.candidates()]
            objects.delete_many(left)
            history = concept.find()
            before = store.head()
            record.renamed |= history.renamed
            record.dropped |= set(history.dropped)
            fallen = {*record.fallen.get(name, ()), *history.fallen}
            if fallen:
                record.fallen[name] = sorted(fallen)
            record.save(objects)  # before what it was found from goes
            gone = concept.rewrite(history, lease.fence)
            after = store.head()
            if before and after and before != after:
                facts = {"collection": name, "from": before.version}
                home.audit.append("drop", self.sku, version=after.version, facts=facts)
            record.count(
                objects,
                {
                    "checkpoints_and_candidates": len(left),
                    "versions_written_anew": len(history.renamed),
                    "versions_dropped": len(history.dropped),
                    "pages_and_parts": len(gone) - len(history.going),
                },
            )
        traces.let_learn_anew(home, name, record.fallen.get(name, ()), record.dropped)

    def _clean_pictures(self, record: RemovalRecord) -> None:
        found = self._pictures.find()
        digests = (key.removeprefix(IMAGE_PREFIX).removesuffix(".png") for key in found.pictures)
        record.digests |= set(digests)
        record.nights |= {day.isoformat() for day in found.days}
        record.image_ids |= found.image_ids
        record.save(self.home.objects)
        rows = self._pictures.remove(found)
        counts = {"pictures": len(found.pictures), "rows": rows, "nights": len(found.days)}
        record.count(self.home.objects, counts)

    def _tombstone(self, record: RemovalRecord) -> RemovalOutcome:
        """Search, note, forget the record: in this order, so that a kill notes it rather twice."""
        home, objects = self.home, self.home.objects
        wanted = record.digests | record.image_ids
        searched = search_home(home, self.sku, wanted, pictures=self.search_pictures)
        facts = {
            "removal": record.removal,
            "started_utc": record.started_utc.isoformat(),
            "gone": dict(sorted(record.counts.items())),
            "learned_anew": record.fallen,
            "searched": {"objects": searched.objects, "bytes": searched.bytes},
            "named_in": len(searched.named_in),
            "nights": sorted(record.nights),
        }
        entry = home.audit.append("remove", self.sku, facts=facts)
        objects.delete(record_key(self.sku))
        return RemovalOutcome(
            self.sku,
            dict(record.counts),
            record.fallen,
            searched,
            AuditEnd(entry.number, entry.sha256),
            notes=tuple(self._notes(searched)),
        )

    def _notes(self, searched: Searched) -> Iterator[str]:
        if searched.named_in:
            more = f" and {len(searched.named_in) - 5} more" if len(searched.named_in) > 5 else ""
            yield (
                f"its name, or a digest of it, still stands in {', '.join(searched.named_in[:5])}"
                f"{more}: a plain word of the same letters, another product with the same photos, "
                "or what a run has written meanwhile (then run the same command again)"
            )

    def _concept(self, store: AdapterStore, was_learned: bool) -> ConceptRemoval:
        return ConceptRemoval(self.home.objects, store, self.sku, was_learned=was_learned)

    @property
    def _pictures(self) -> PictureRemoval:
        return PictureRemoval(self.home.objects, self.home.archive, self.sku)
