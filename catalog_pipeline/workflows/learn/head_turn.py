"""When a task may move its collection's head, and what it moves it from.

With a slot of its own a concept depends on no other one, so tasks of one collection train side
by side: each holds the claim of its SKU, and takes the collection's lease for the last step
alone. There the head is read again, and what was trained is put on top of whatever the others
have published. A shared slot is trained on from where the last task left it, so the lease spans
the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from catalog_pipeline.errors import ConflictError
from catalog_pipeline.records import AdapterVersion, Concept
from catalog_pipeline.stores.adapters import AdapterStore, Lease
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import base_model_hash, check_same_base

LEASE_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class HeadTurn:
    """A task's way to the head of ``store``; ``seen`` is the version that it begins with."""

    home: Home
    store: AdapterStore
    sku: str
    seen: AdapterVersion | None
    rollbacks: int
    lease: Lease | None

    @property
    def known(self) -> Concept | None:
        """What ``seen`` knows of the SKU."""
        return self.seen.concept(self.sku) if self.seen else None

    @contextmanager
    def take(self) -> Iterator[tuple[AdapterVersion | None, int]]:
        """The present head and the fence to move it with; nobody else moves it meanwhile.

        Raises:
            ConflictError: since the task began, a person has rolled the collection back, or
                another process has published the SKU.
            LearningError: the first task of the collection was of another base model.
            LockTimeoutError: others publish for an hour.
        """
        if self.lease is not None:
            yield self.seen, self.lease.fence
            return
        with self.store.lease(timeout_seconds=LEASE_WAIT_SECONDS) as lease:
            present = _read(self.home, self.store, self.sku, lease)
            if present.rollbacks != self.rollbacks:
                raise ConflictError(
                    f"collection {self.store.collection} was rolled back while {self.sku} was "
                    "learned; nothing was published; learn it again from the present head"
                )
            if present.known != self.known:
                raise ConflictError(
                    f"another process has published {self.sku} in the meantime; nothing was "
                    "published here; learn it again, which is no work if it is the same"
                )
            yield present.seen, lease.fence


@contextmanager
def head_turn(home: Home, collection: str, sku: str, *, side_by_side: bool) -> Iterator[HeadTurn]:
    """Claim ``sku`` for one task; ``side_by_side`` leaves the head to others until it is taken.

    Raises:
        LearningError: the collection is of another base model.
        LockTimeoutError: another process is at the SKU, or at a shared slot, for an hour.
    """
    store = home.adapters(collection)
    with ExitStack() as held:
        held.enter_context(store.claim(sku, timeout_seconds=LEASE_WAIT_SECONDS))
        lease = None
        if not side_by_side:
            lease = held.enter_context(store.lease(timeout_seconds=LEASE_WAIT_SECONDS))
        yield _read(home, store, sku, lease)


def _read(home: Home, store: AdapterStore, sku: str, lease: Lease | None) -> HeadTurn:
    head = store.head()
    seen = store.read(head.version) if head else None
    if seen is not None:
        check_same_base(seen, base_model_hash(home.settings.base_model))
    return HeadTurn(home, store, sku, seen, head.rollbacks if head else 0, lease)
