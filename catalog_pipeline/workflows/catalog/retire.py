"""Forget products whose folders are gone: out of the head, the checkpoints and the plans.

The listing makes a row ``retired``, which keeps it out of every new plan. What is done
here is the rest. The order is index row, checkpoints and head, plans; each step is
repeated by a rerun until it is done, so a kill anywhere is mended by the next call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from catalog_pipeline.errors import (
    CatalogError,
    CatalogPipelineError,
    GenerationError,
    ObjectNotFoundError,
)
from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.concept_removal import owner_of
from catalog_pipeline.stores.keys import PLANS_PREFIX, anchors_key, days_of
from catalog_pipeline.stores.objects import until_won
from catalog_pipeline.workflows.catalog.first_seen import FIRST_SEEN_KEY
from catalog_pipeline.workflows.catalog.refresh_index import DIGESTS_KEY
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.plan_night import (
    decode_plan,
    plan_key,
    plan_night,
)
from catalog_pipeline.workflows.serving import (
    LEASE_WAIT_SECONDS,
    drop_concept,
    drop_elsewhere,
    served_twice,
)


@dataclass(frozen=True)
class RetireOutcome:
    """What became of one SKU: ``done`` says what went, ``reason`` why it is still there.

    ``serving`` is the collection that goes on serving a product that others have dropped.
    """

    sku: str
    done: tuple[str, ...] = ()
    version: str = ""
    reason: str = ""
    serving: str = ""


def retire_concepts(
    home: Home,
    skus: Sequence[str] | None = None,
    *,
    today: date | None = None,
    lease_wait_seconds: float = LEASE_WAIT_SECONDS,
) -> Iterator[RetireOutcome]:
    """Clean up after ``skus``, or after every retired SKU of which something is left.

    Without ``skus`` a product that two heads know is also dropped by the one that its card no
    longer names.

    For each: the index row forgets what it was learned from, so that photos that come
    back are learned anew; its checkpoints and what is known of its photos go; a version
    without its concept and memory is published and becomes the head by compare-and-swap,
    under the collection's lease and fence; the plans of tonight and later nights are made
    without it. Earlier versions, their parts and the pictures stay. Idempotent; a SKU that
    cannot be retired is yielded with its reason, and the others go on.

    A SKU in ``skus`` that the index does not know as retired is looked for in the
    catalog; when its folder is gone the index says so first.

    Args:
        home: whose index, versions and plans.
        skus: which; default every retired one.
        today: plans of this night and later ones are changed; default today, UTC.
        lease_wait_seconds: how long a running learner is waited for.

    Raises:
        CatalogError: the index does not know one of ``skus``, or the catalog cannot be
            listed.
    """
    run = _Retirement(home, lease_wait_seconds)
    nights = today or datetime.now(UTC).date()
    chosen = run.left_over(nights) if skus is None else run.vanished(skus)
    for row in chosen:
        try:
            yield run.retire(row, nights)
        except CatalogPipelineError as error:
            yield RetireOutcome(row.sku, reason=str(error))
    if skus is None:
        yield from _drop_moved(home, lease_wait_seconds)


def _drop_moved(home: Home, lease_wait_seconds: float) -> Iterator[RetireOutcome]:
    for sku, (serving, _) in served_twice(home).items():
        try:
            done = drop_elsewhere(home, sku, serving, lease_wait_seconds=lease_wait_seconds)
        except CatalogPipelineError as error:
            yield RetireOutcome(sku, reason=str(error), serving=serving)
        else:
            if done:
                yield RetireOutcome(sku, tuple(done), serving=serving)


def require_no_folders(home: Home, skus: Sequence[str]) -> None:
    """CatalogError when one of ``skus`` still has its folder, or the catalog cannot be listed."""
    if not skus:
        return
    source = home.photo_source
    listed = source.list_skus(only=list(skus), read=False)
    there = {found.sku for found in listed.listings}
    there |= {file.key.partition("/")[0] for file in listed.refused}
    if there:
        raise CatalogError(
            f"{', '.join(sorted(there))} still has its folder in {source.where}; a listing "
            "would bring it back; move the folder away first"
        )


def forget_listing(home: Home, sku: str) -> int:
    """Delete what listings have kept of a product besides its row; how many entries went.

    The judged photos, the digests of its files and when its content was first seen. Idempotent.
    """
    objects, key = home.objects, anchors_key(sku)
    gone = int(objects.exists(key))
    objects.delete(key)

    def without(content: dict[str, Any]) -> int:
        own = [name for name in content if name.partition("/")[0] == sku]
        for name in own:
            del content[name]
        return len(own)

    gone += _edit_json(home, DIGESTS_KEY, lambda content: without(content["digests"]))
    return gone + _edit_json(home, FIRST_SEEN_KEY, without)


def _edit_json(home: Home, key: str, change: Callable[[dict[str, Any]], int]) -> int:
    """Change a JSON object by compare-and-swap; a cache that cannot be read is deleted."""

    def attempt() -> int:
        try:
            stored = home.objects.read(key)
        except ObjectNotFoundError:
            return 0
        try:
            content = json.loads(stored.data)
            changed = change(content)
        except (ValueError, KeyError, AttributeError, TypeError):
            home.objects.delete(key)
            return 1
        if changed:
            home.objects.compare_and_swap(key, json.dumps(content).encode(), stored.version)
        return changed

    return until_won(attempt, key)


@dataclass(frozen=True)
class _Retirement:
    home: Home
    lease_wait_seconds: float

    def left_over(self, today: date) -> list[IndexRow]:
        """Retired rows of which a head, a checkpoint or a plan still knows.

        Not yet one whose folder was only renamed: learning takes over what is known of it.
        """
        index = self.home.index.read()
        awaited = {row.content_hash for row in index if row.status is SkuStatus.NEW}
        rows = [
            row
            for row in index
            if row.status is SkuStatus.RETIRED and row.content_hash not in awaited
        ]
        if not rows:
            return []
        known = {sku for key in self._plans(today) for sku in self._planned(key)}
        for name in self.home.collections():
            store = self.home.adapters(name)
            current = store.current()
            known |= {concept.sku for concept in current.concepts} if current else set()
            known |= {owner_of(checkpoint) for checkpoint in store.staging_names()}
        return [row for row in rows if row.sku in known or row.learned_hash]

    def vanished(self, skus: Sequence[str]) -> list[IndexRow]:
        """The rows of ``skus``; CatalogError when one is unknown or has its folder."""
        by_sku = {row.sku: row for row in self.home.index.read()}
        unknown = sorted(set(skus) - by_sku.keys())
        if unknown:
            raise CatalogError(
                f"the index does not know {', '.join(unknown)}; expected SKUs that "
                "`catalog-pipeline status` has seen; check the names"
            )
        chosen = [by_sku[sku] for sku in dict.fromkeys(skus)]
        live = [row.sku for row in chosen if row.status is not SkuStatus.RETIRED]
        require_no_folders(self.home, live)
        return chosen

    def retire(self, row: IndexRow, today: date) -> RetireOutcome:
        """All steps for one SKU."""
        # Only the row that was looked at: photos may have come back since.
        self.home.index.update(lambda rows: [_forgotten(r) if r == row else r for r in rows])
        if not self._is_retired(row.sku):
            return RetireOutcome(row.sku, reason="its photos came back")
        self.home.objects.delete(anchors_key(row.sku))
        done: list[str] = []
        version = ""
        for name in self.home.collections():
            store = self.home.adapters(name)
            current = store.current()
            concept = current.concept(row.sku) if current else None
            if concept is None and not _checkpoints(store, row.sku):
                continue
            wait = self.lease_wait_seconds
            with (
                store.claim(row.sku, timeout_seconds=wait),
                store.lease(timeout_seconds=wait) as lease,
            ):
                for checkpoint in _checkpoints(store, row.sku):
                    store.delete_staging(checkpoint)
                    done.append(f"checkpoint {checkpoint}")
                parent = store.current()
                if self._is_retired(row.sku) and parent and parent.concept(row.sku):
                    version = drop_concept(self.home, parent, row.sku, lease.fence)
                    done.append(f"version {version} of {name} without it")
        done += [text for key in self._plans(today) for text in self._replan(key, row.sku)]
        if done:
            self.home.audit.append("retire", row.sku, version=version)
        return RetireOutcome(row.sku, tuple(done), version)

    def _is_retired(self, sku: str) -> bool:
        """Whether the photos are still gone: a SKU that came back in the meantime stays."""
        rows = (row for row in self.home.index.read() if row.sku == sku)
        return any(row.status is SkuStatus.RETIRED for row in rows)

    def _plans(self, today: date) -> list[date]:
        keys = self.home.objects.list(PLANS_PREFIX)
        return [day for day in days_of(keys, PLANS_PREFIX) if day >= today]

    def _planned(self, day: date) -> set[str]:
        key = plan_key(day)
        plan, _ = decode_plan(self.home.objects.read(key).data, self.home.objects.uri(key))
        return {sku for job in plan.jobs for sku in job.skus}

    def _replan(self, day: date, sku: str) -> Iterator[str]:
        if sku not in self._planned(day):
            return
        try:
            plan = plan_night(self.home, day)
            yield f"plan of {day} now has {len(plan.jobs)} images"
        except GenerationError:
            # Nothing is left to plan. A published night keeps its plan: its rows answer to it.
            archive = self.home.archive
            if not archive.read_day(day) and not archive.quarantine.read_day(day):
                self.home.objects.delete(plan_key(day))
                yield f"plan of {day} dropped, nothing else is learned"


def _forgotten(row: IndexRow) -> IndexRow:
    """``row`` retired, as if it had never been learned."""
    return replace(row, status=SkuStatus.RETIRED, learned_hash="", reason="")


def _checkpoints(store: AdapterStore, sku: str) -> list[str]:
    return [name for name in store.staging_names() if owner_of(name) == sku]
