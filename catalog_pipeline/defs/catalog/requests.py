"""Which SKUs the watcher asks to learn, in which runs, under which run keys: pure functions.

A run costs seconds before it does any work, so neighbours in the partition order
share one *range run*. Nothing here reads a clock, so the same index and the same
runs always give the same requests.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from catalog_pipeline.records import IndexRow, SkuStatus
from catalog_pipeline.settings import CatalogSettings

MAX_SKUS_PER_RUN = 25
MAX_ATTEMPTS = 3
MAX_NIGHTLY_RETRIES = 3
HASH_CHARS = 12

CURSOR_VERSION = 2
"""Version 2 added ``number``; a version 1 counted earlier successes as failed attempts."""

RunState = Literal["none", "unfinished", "finished"]


@dataclass(frozen=True)
class LearnRequest:
    """One range run: neighbours in the partition order, each with its content hash.

    ``attempt`` counts the runs since these contents began to wait, ``number`` those that
    they ever had: content that returns is asked for under a key of its own. ``run_key``
    names SKUs, contents and number, so Dagster starts it once.
    """

    skus: Mapping[str, str]
    attempt: int = 1
    number: int = 1

    @property
    def run_key(self) -> str:
        """``<first>..<last>:<digest>:<number>``, or ``<sku>:<hash>:<number>`` of a single."""
        names = list(self.skus)
        if len(names) == 1:
            return f"{names[0]}:{self.skus[names[0]]}:{self.number}"
        listed = json.dumps(dict(self.skus)).encode()
        digest = hashlib.sha256(listed).hexdigest()[:HASH_CHARS]
        return f"{names[0]}..{names[-1]}:{digest}:{self.number}"

    @property
    def first(self) -> str:
        """Start of the partition range."""
        return next(iter(self.skus))

    @property
    def last(self) -> str:
        """End of the partition range, inclusive."""
        return next(reversed(list(self.skus)))


@dataclass(frozen=True)
class WatchState:
    """The watcher's cursor: data only, never a time.

    ``requests`` are those not yet seen resolved; ``exhausted`` maps a SKU to the
    content whose runs died :data:`MAX_ATTEMPTS` times without a verdict.
    """

    requests: tuple[LearnRequest, ...] = ()
    exhausted: Mapping[str, str] = field(default_factory=dict)

    def to_cursor(self) -> str:
        """The state as deterministic JSON."""
        return json.dumps(
            {
                "version": CURSOR_VERSION,
                "requests": [
                    {
                        "skus": dict(request.skus),
                        "attempt": request.attempt,
                        "number": request.number,
                    }
                    for request in self.requests
                ],
                "exhausted": dict(sorted(self.exhausted.items())),
            }
        )

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "WatchState":
        """The state of ``cursor``; a missing one is an empty state, which loses nothing.

        In version 1 keys ended in the attempt, and what it calls exhausted may have been
        learned every time: it is asked for again.
        """
        if not cursor:
            return cls()
        content = json.loads(cursor)
        return cls(
            requests=tuple(
                LearnRequest(
                    skus=dict(item["skus"]),
                    attempt=int(item["attempt"]),
                    number=int(item.get("number", item["attempt"])),
                )
                for item in content["requests"]
            ),
            exhausted=dict(content["exhausted"]) if "version" in content else {},
        )


def usable_rows(rows: Sequence[IndexRow], settings: CatalogSettings) -> list[IndexRow]:
    """Live rows with enough photos; a row is in the index only once its set has settled."""
    return [
        row
        for row in rows
        if row.status is not SkuStatus.RETIRED and row.photo_count >= settings.min_photos
    ]


def waiting_to_learn(usable: Sequence[IndexRow]) -> dict[str, str]:
    """SKU -> short content hash of every usable row that is new or changed.

    A ``failed`` row waits for other photos, for a person, or for :func:`failed_to_retry`:
    the same photos would most likely fail again.
    """
    return {
        row.sku: row.content_hash[:HASH_CHARS]
        for row in usable
        if row.status in (SkuStatus.NEW, SkuStatus.CHANGED)
    }


def failed_to_retry(
    usable: Sequence[IndexRow], retried: Mapping[str, int], *, max_requests: int
) -> list[str]:
    """``<sku>:<short hash>`` of the failed rows to learn once more, those retried least first.

    A failure may have passed: a full disk, a server that was away, a photo replaced under
    the reader. ``retried`` counts the earlier retries by the same names, see
    :func:`count_retries`; after :data:`MAX_NIGHTLY_RETRIES` of one content a person is
    needed. A row that was learned from this very content failed because a person rolled it
    back, and is left alone.
    """
    names = {
        f"{row.sku}:{row.content_hash[:HASH_CHARS]}"
        for row in usable
        if row.status is SkuStatus.FAILED and row.learned_hash != row.content_hash
    }
    due = [name for name in names if retried.get(name, 0) < MAX_NIGHTLY_RETRIES]
    return sorted(due, key=lambda name: (retried.get(name, 0), name))[:max_requests]


def count_retries(runs: Iterable[tuple[Sequence[str], str]]) -> Counter[str]:
    """How often each ``<sku>:<short hash>`` was retried since its SKU was last asked for.

    ``runs`` are learning runs, newest first: the SKUs of each, and the name that it
    retried, empty for a run of the watcher. The watcher asks whenever content has come or
    come back, so what lies before its run was about an earlier occasion.
    """
    counts: Counter[str] = Counter()
    asked: set[str] = set()
    for skus, name in runs:
        if not name:
            asked.update(skus)
        elif asked.isdisjoint(skus):
            counts[name] += 1
    return counts


def plan_requests(
    state: WatchState,
    *,
    partitions: Sequence[str],
    waiting: Mapping[str, str],
    run_state: Callable[[str], RunState],
    max_requests: int,
    under_way: Collection[str] = (),
) -> WatchState:
    """The requests of this tick, as the next state.

    Args:
        state: the state after the last tick.
        partitions: every SKU partition in insertion order, new ones included.
        waiting: SKUs to learn and their short content hashes.
        run_state: what became of the run with a given key.
        max_requests: bound on the requests of one tick.
        under_way: SKUs of runs that have not ended, whoever asked for them; what such a
            run leaves waiting is asked for afterwards.

    A request is repeated under its old key until its run has ended, so a tick that
    was lost loses nothing; what a finished run left waiting (it was killed) is
    asked again as the next attempt. A new request takes the first key of which no run
    has ended: content that waits again, learned before or not, starts at attempt 1 under
    a fresh key.
    """
    open_requests: list[LearnRequest] = []
    attempts: dict[str, int] = {}
    for request in state.requests:
        left = [sku for sku, content in request.skus.items() if waiting.get(sku) == content]
        if not left:
            continue
        if run_state(request.run_key) == "finished":
            attempts.update(dict.fromkeys(left, request.attempt + 1))
        else:
            open_requests.append(request)
    asked = {(sku, content) for request in open_requests for sku, content in request.skus.items()}
    exhausted = {
        sku: content for sku, content in state.exhausted.items() if waiting.get(sku) == content
    }
    exhausted |= {sku: waiting[sku] for sku, attempt in attempts.items() if attempt > MAX_ATTEMPTS}
    fresh = {
        sku: attempts.get(sku, 1)
        for sku, content in waiting.items()
        if (sku, content) not in asked and sku not in exhausted and sku not in under_way
    }
    room = max(0, max_requests - len(open_requests))
    asked_now = [
        _numbered({sku: waiting[sku] for sku in group}, fresh[group[0]], run_state)
        for group in _neighbours(partitions, fresh)[:room]
    ]
    return WatchState((*open_requests, *asked_now)[:max_requests], exhausted)


def _numbered(
    skus: Mapping[str, str], attempt: int, run_state: Callable[[str], RunState]
) -> LearnRequest:
    request = LearnRequest(skus, attempt, number=attempt)
    while run_state(request.run_key) == "finished":
        request = replace(request, number=request.number + 1)
    return request


def _neighbours(partitions: Sequence[str], attempts: Mapping[str, int]) -> list[list[str]]:
    """Runs of adjacent partitions with the same attempt, cut at ``MAX_SKUS_PER_RUN``."""
    groups: list[list[str]] = []
    previous: str | None = None
    for sku in partitions:
        if sku in attempts:
            joins = (
                previous is not None
                and attempts.get(previous) == attempts[sku]
                and len(groups[-1]) < MAX_SKUS_PER_RUN
            )
            if joins:
                groups[-1].append(sku)
            else:
                groups.append([sku])
        previous = sku if sku in attempts else None
    return groups
