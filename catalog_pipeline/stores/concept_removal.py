"""One product out of everything that a collection stores: versions, parts, checkpoints, candidates.

With slots of their own the other products' parts stay as they are, and every version that held
the product is written anew without it, under the name that its content has then, so that
rollbacks stay possible. Versions of a shared slot that was trained on the product have no such
successor: its photos are in weights that nobody can take apart. They are dropped, and the head
goes back to the newest version of its line whose slot has never seen the product.

The order new versions -> names -> head -> old records -> pages, parts makes a kill harmless:
the next call finds what is left. Old records go children first, so that whatever is left still
tells its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError, StoreError
from catalog_pipeline.records import SHARED, AdapterVersion, concept_part, part_owner
from catalog_pipeline.stores.adapters import AdapterStore, version_hash
from catalog_pipeline.stores.memory import memory_version
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.objects import ObjectStore

_SHARED_CANDIDATE = f"{SHARED}.safetensors"


@dataclass(frozen=True)
class HistoryWithout:
    """What becomes of a collection's versions.

    Attributes:
        successors: version -> what takes its place: itself, another one, or ``None`` where nothing
            does. Parents first.
        written: versions that are to be written, by name, parents first.
        head: name of the version to serve; ``None`` where none is served, now or then.
        fallen: SKUs that the present head knows, and the next one not, or by other weights.
    """

    successors: Mapping[str, str | None]
    written: Mapping[str, AdapterVersion]
    head: str | None
    fallen: tuple[str, ...]

    @property
    def renamed(self) -> dict[str, str]:
        """Old name -> new name."""
        return {old: new for old, new in self.successors.items() if new and new != old}

    @property
    def going(self) -> list[str]:
        """Versions that are to be deleted, children first."""
        return [old for old, new in self.successors.items() if new != old][::-1]

    @property
    def dropped(self) -> list[str]:
        """Those of :attr:`going` that nothing takes the place of."""
        return [old for old, new in self.successors.items() if new is None]


class ConceptRemoval:
    """Takes ``sku`` out of the collection of ``store``.

    Args:
        was_learned: whether the product is known to have been learned here. It matters for shared
            slots whose earlier versions are gone: they may have been trained on it.
    """

    def __init__(
        self, objects: ObjectStore, store: AdapterStore, sku: str, *, was_learned: bool = False
    ) -> None:
        self._objects, self._store, self._sku = objects, store, sku
        self._was_learned = was_learned

    def find(self) -> HistoryWithout:
        """What :meth:`rewrite` would do now; reads only.

        Raises:
            IntegrityError: a version cannot be read, so nobody knows what it holds.
        """
        versions, broken = self._store.readable_history()
        if broken:
            raise IntegrityError(
                f"version record(s) {', '.join(broken)} of {self._store.collection} cannot be "
                f"read, so nobody knows whether they hold {self._sku}; restore them from a backup, "
                "or delete them, then run the same command again"
            )
        head = self._store.head()
        line = _Line(versions, self._sku, self._was_learned)
        return line.without(head.version if head else None)

    def rewrite(self, found: HistoryWithout, fence: int) -> list[str]:
        """Do what ``found`` says, under the claim of the SKU and the lease of ``fence``.

        Nobody else writes versions, pages or parts of the collection meanwhile: these are
        written under its lease. A rollback needs none, and is followed.

        Returns:
            The keys that went: records, pages and parts that no version names any more.

        Raises:
            StoreError: something could not be written or removed; run it again.
        """
        for version in found.written.values():
            self._store.publish(version)
        if found.going:
            self._store.renamed.add(found.renamed | dict.fromkeys(found.dropped, ""))
        self._move_head(found, fence)
        gone = [self._store.version_key(name) for name in found.going]
        for key in gone:
            self._objects.delete(key)
        self._follow_rollback(found)
        return [*gone, *self._sweep()]

    def staging(self) -> list[str]:
        """Keys of checkpoints and notes of the SKU; with a shared slot, of every SKU."""
        prefix = f"{self._store.folder}staging/"
        naming, found = Naming(self._sku), []
        for name in self._store.staging_names():
            own = owner_of(name) == self._sku
            note = name.endswith(".refused.json")
            if own or self._trained_slot or (note and self._names(naming, name)):
                found.append(prefix + name)
        return found

    def candidates(self) -> list[str]:
        """Keys of refused candidates: the SKU's own, and those of others that show or know it."""
        prefix = f"{self._store.folder}quarantine/"
        folders: dict[str, list[str]] = {}
        for key in self._objects.list(prefix):
            folders.setdefault(key.removeprefix(prefix).partition("/")[0], []).append(key)
        found: list[str] = []
        for folder, keys in folders.items():
            if owner_of(folder) == self._sku or self._may_show(keys):
                found += keys
        return found

    def _may_show(self, keys: Sequence[str]) -> bool:
        """Whether a candidate of another SKU was compared with this one, or trained on it."""
        if self._trained_slot and any(key.endswith(f"/{_SHARED_CANDIDATE}") for key in keys):
            return True
        naming = Naming(self._sku)
        reports = [key for key in keys if key.endswith("/report.json")]
        if not reports:
            return True  # a kill came before it, which is written last
        try:
            return any(naming.stands_in(self._objects.read(key).data) for key in reports)
        except StoreError:
            return True  # it cannot be read; nothing reads it back either

    def _names(self, naming: Naming, name: str) -> bool:
        return naming.stands_in(self._store.read_staging(name) or b"")

    @cached_property
    def _trained_slot(self) -> bool:
        """Whether what others have left may go on from shared weights that saw the SKU."""
        versions, _ = self._store.readable_history()
        known = self._was_learned or any(v.concept(self._sku) is not None for v in versions)
        return known and any(SHARED in version.parts for version in versions)

    def _move_head(self, found: HistoryWithout, fence: int) -> None:
        head = self._store.head()
        if found.head is None or head is None or head.version == found.head:
            return
        self._store.promote(found.head, expected=head.version, fence=fence)

    def _follow_rollback(self, found: HistoryWithout) -> None:
        """Where a rollback has served a version that just went, serve what took its place."""
        head = self._store.head()
        if head is not None and found.successors.get(head.version, "") != head.version:
            target = found.successors.get(head.version) or found.head
            if target is not None and target != head.version:
                self._store.rollback(target)

    def _sweep(self) -> list[str]:
        """Remove pages and parts that no version names; the lease is held, so nobody is about to.

        Whatever is left of the product in a part that was never published goes with them.
        """
        live = self._store.references(self._store.version_names())
        folder = self._store.folder
        stored = [k for name in ("pages/", "parts/") for k in self._objects.list(folder + name)]
        dead = [key for key in stored if key not in live]
        self._objects.delete_many(dead)
        return dead

    def mend(self) -> None:
        """Serve again what was renamed, where a call that died left the head without a record."""
        head = self._store.head()
        if head is None:
            return
        try:
            self._store.current()
        except ObjectNotFoundError:
            now = self._store.renamed.read().get(head.version)
            if not now:
                raise
            self._store.rollback(now)


class _Line:
    """The versions of a collection, parents first, and what of them stays."""

    def __init__(self, versions: Iterable[AdapterVersion], sku: str, was_learned: bool) -> None:
        self._by_name = {version.version: version for version in versions}
        self._sku = sku
        self._was_learned = was_learned
        self._ordered = _parents_first(self._by_name)
        self._may_be_parents = set(self._by_name)  # stored, or written before their children
        self._touched = self._find_touched()

    def without(self, head: str | None) -> HistoryWithout:
        """See :class:`HistoryWithout`."""
        successors: dict[str, str | None] = {}
        made: dict[str, AdapterVersion] = {}
        for name in self._ordered:
            version = self._by_name[name]
            if not self._is_clean(version):
                successors[name] = None
                continue
            parent = self._parent_after(version, successors)
            after = self._rewritten(version, parent)
            base = made.get(parent) or self._by_name.get(parent) if parent else None
            if after is not version and _same_content(after, base):
                successors[name] = parent  # what it had learned is gone: its parent is left
            else:
                successors[name] = after.version
                if after is not version:
                    made[after.version] = after
        target = self._head_after(head, successors)
        if head is not None and target is None and head in self._by_name:
            empty = self._empty(self._by_name[head])
            made[empty.version] = empty
            target = empty.version
        return HistoryWithout(successors, made, target, self._fallen(head, target, made))

    def _find_touched(self) -> set[str]:
        """Versions that hold the SKU, or descend from one that did, as far as is known."""
        touched: set[str] = set()
        for name in self._ordered:
            version = self._by_name[name]
            lost_line = version.parent is not None and version.parent not in self._by_name
            if (
                version.concept(self._sku) is not None
                or version.parent in touched
                or (lost_line and self._was_learned)
            ):
                touched.add(name)
        return touched

    @cached_property
    def _clean_slots(self) -> set[str]:
        """Shared parts of versions of whose line none has held the SKU."""
        return {
            version.parts[SHARED]
            for name, version in self._by_name.items()
            if SHARED in version.parts and name not in self._touched
        }

    def _is_clean(self, version: AdapterVersion) -> bool:
        return version.parts.get(SHARED, "") in {"", *self._clean_slots}

    def _parent_after(
        self, version: AdapterVersion, successors: Mapping[str, str | None]
    ) -> str | None:
        """The parent's successor; of one that has none, its parent's, and so on."""
        parent = version.parent
        while parent is not None and parent in self._by_name:
            if successors[parent] is not None:
                return successors[parent]
            parent = self._by_name[parent].parent
        return None if parent != version.parent else parent

    def _rewritten(self, version: AdapterVersion, parent: str | None) -> AdapterVersion:
        """``version`` without the SKU, behind ``parent``; itself where that changes nothing."""
        held = version.concept(self._sku) is not None
        if not held and parent == version.parent:
            return version
        draft = replace(
            version, version="", parent=parent if parent in self._may_be_parents else None
        )
        if held:
            kept = tuple(c for c in version.concepts if c.sku != self._sku)
            parts = {n: sha for n, sha in version.parts.items() if part_owner(n) != self._sku}
            metrics = dict(kept[-1].metrics) if kept else {}
            draft = replace(draft, concepts=kept, parts=parts, metrics=metrics)
            draft = replace(draft, memory_version=memory_version(parts))
        draft = replace(draft, version=version_hash(draft))
        self._may_be_parents.add(draft.version)
        return draft

    def _head_after(self, head: str | None, successors: Mapping[str, str | None]) -> str | None:
        while head is not None and head in self._by_name:
            if successors[head] is not None:
                return successors[head]
            head = self._by_name[head].parent
        return None

    def _empty(self, head: AdapterVersion) -> AdapterVersion:
        """A version that knows nothing, to be served where nothing else is left."""
        draft = replace(head, version="", parent=None, concepts=(), parts={}, metrics={})
        draft = replace(draft, memory_version=memory_version({}))
        return replace(draft, version=version_hash(draft))

    def _fallen(
        self, head: str | None, target: str | None, made: Mapping[str, AdapterVersion]
    ) -> tuple[str, ...]:
        before = self._by_name.get(head or "")
        after = made.get(target or "") or self._by_name.get(target or "")
        if before is None:
            return ()
        kept = after.parts if after is not None else {}
        return tuple(
            sorted(
                c.sku
                for c in before.concepts
                if c.sku != self._sku
                and before.parts.get(concept_part(c.sku)) != kept.get(concept_part(c.sku), "")
            )
        )


def owner_of(name: str) -> str:
    """The SKU of a checkpoint or a candidate: ``<sku>-<fingerprint>`` and what follows."""
    return name.rpartition("/")[2].rpartition("-")[0]


def _same_content(version: AdapterVersion, other: AdapterVersion | None) -> bool:
    """Whether two versions draw the same; a first one that knows nothing is like none at all."""
    if other is None:
        return not version.concepts and not version.parts and version.parent is None
    return (version.concepts, version.parts) == (other.concepts, other.parts)


def _parents_first(by_name: Mapping[str, AdapterVersion]) -> list[str]:
    ordered: list[str] = []
    seen: set[str] = set()
    for start in sorted(by_name):
        line: list[str] = []
        name: str | None = start
        while name is not None and name in by_name and name not in seen:
            seen.add(name)
            line.append(name)
            name = by_name[name].parent
        ordered += reversed(line)
    return ordered
