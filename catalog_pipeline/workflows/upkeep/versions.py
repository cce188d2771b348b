"""List the learned versions, and serve an earlier one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from catalog_pipeline.errors import ObjectNotFoundError, StoreError
from catalog_pipeline.records import (
    SHARED,
    AdapterVersion,
    Concept,
    IndexRow,
    SkuStatus,
    concept_part,
)
from catalog_pipeline.stores.adapters import Head
from catalog_pipeline.workflows.home import Home

ROLLED_BACK = "rolled back to version"
"""How the reason begins of a product that a rollback took out of what is served."""


@dataclass(frozen=True)
class VersionEntry:
    """A published version, and whether it is the one that is served."""

    version: AdapterVersion
    is_head: bool


def list_versions(home: Home, collection: str | None = None) -> list[VersionEntry]:
    """Every published version of ``collection``, oldest first; ``None`` means of all.

    Raises:
        StoreError: no such collection, or a version's record is corrupted.
    """
    entries = []
    for name in _chosen(home, collection):
        store = home.adapters(name)
        head = store.head()
        entries += [
            VersionEntry(version, head is not None and version.version == head.version)
            for version in store.history()
        ]
    return entries


@dataclass(frozen=True)
class MoveEffect:
    """What serving the version ``after`` in place of ``before`` (empty: none) changes.

    Attributes:
        collection: whose head moves.
        before, after: names of the versions.
        lost: SKUs that only ``before`` knows, sorted.
        regained: SKUs that only ``after`` knows, sorted.
        changed: SKU -> ``other photos``, ``other card`` or ``other weights``, of those that both
            know differently, sorted.
        shared_weights_change: all products of the collection use weights that differ.
    """

    collection: str
    before: str
    after: str
    lost: tuple[str, ...]
    regained: tuple[str, ...]
    changed: Mapping[str, str]
    shared_weights_change: bool = False

    @property
    def lines(self) -> list[str]:
        """The same in words, a line each; never empty."""
        here = f"collection {self.collection}"
        if self.before == self.after:
            return [f"{here}: {self.after} is served already; nothing changes"]
        found = [f"{here}: from {self.before or 'nothing'} to {self.after}"]
        if self.lost:
            found.append(f"fall out, and are drawn no more: {', '.join(self.lost)}")
        if self.regained:
            found.append(f"come back: {', '.join(self.regained)}")
        if self.changed:
            listed = ", ".join(f"{sku} ({how})" for sku, how in self.changed.items())
            found.append(f"change: {listed}")
        if self.shared_weights_change:
            found.append("the weights that all products share change: pictures of all may differ")
        return found if len(found) > 1 else [*found, "every product is the same in both"]


def move_effect(before: AdapterVersion | None, after: AdapterVersion) -> MoveEffect:
    """What changes when the head of a collection moves from ``before`` to ``after``."""
    old = {concept.sku: concept for concept in before.concepts} if before else {}
    new = {concept.sku: concept for concept in after.concepts}
    parts = before.parts if before else {}
    changed = {}
    for sku in sorted(old.keys() & new.keys()):
        part = concept_part(sku)
        if old[sku].photos_hash != new[sku].photos_hash:
            changed[sku] = "other photos"
        elif parts.get(part) != after.parts.get(part):
            changed[sku] = "other weights"
        elif (old[sku].name, old[sku].category) != (new[sku].name, new[sku].category):
            changed[sku] = "other card"
    return MoveEffect(
        collection=after.collection,
        before=before.version if before else "",
        after=after.version,
        lost=tuple(sorted(old.keys() - new.keys())),
        regained=tuple(sorted(new.keys() - old.keys())),
        changed=changed,
        shared_weights_change=before is not None and parts.get(SHARED) != after.parts.get(SHARED),
    )


def rollback_effect(home: Home, version: str, collection: str | None = None) -> MoveEffect:
    """What :func:`rollback` with the same arguments would change now; reads only.

    Raises:
        ObjectNotFoundError: no such version.
        IntegrityError: its record is corrupted.
        StoreError: several versions begin so.
    """
    name, full = _found(home, version, collection)
    store = home.adapters(name)
    return move_effect(store.current(), store.read(full))


def rollback(home: Home, version: str, collection: str | None = None) -> Head:
    """Serve ``version`` again; a unique beginning of its name is enough.

    The parts are read and hashed first, then the head moves in one step; a run that
    is learning meanwhile cannot promote over it. Then the index is brought in line.
    A SKU that ``version`` lacks, or knows by older photos than it was last learned
    from, becomes ``failed``: it is not learned again behind the operator's back, but
    by ``catalog-pipeline learn``. Rolling forward makes it ``learned`` again.
    Idempotent: a rerun after a crash finishes the index, and is noted once more.

    Raises:
        ObjectNotFoundError: no such version, or one of its parts is missing.
        IntegrityError: its record or a part is corrupted.
        StoreError: several versions begin so.
    """
    name, full = _found(home, version, collection)
    store = home.adapters(name)
    before = store.head()
    head = store.rollback(full)
    served = store.read(full)
    history, _ = store.readable_history()
    newest = {concept.sku: concept for old in history for concept in old.concepts}
    home.index.update(lambda rows: [_in_line(row, served, newest.get(row.sku)) for row in rows])
    facts = {"from": before.version if before else ""}
    home.audit.append("rollback", name, version=full, facts=facts)
    return head


def rows_out_of_step(home: Home) -> list[tuple[IndexRow, IndexRow]]:
    """Index rows that say otherwise than the head of their collection: as they are, as they should.

    A row is ``learned`` exactly when the head knows its concept. One whose concept only
    an earlier version knows becomes ``failed``, as after a rollback; one that no version
    knows becomes ``new`` and is learned. Collections whose versions cannot all be read
    are left out.

    Raises:
        StoreError: the index or a head cannot be read.
    """
    # Rows before heads: learning moves the head first, so these heads know every such row.
    of: dict[str, list[IndexRow]] = {}
    for row in home.index.read():
        of.setdefault(row.collection, []).append(row)
    found = []
    for name, rows in sorted(of.items()):
        store = home.adapters(name)
        served = store.current()
        history, broken = store.readable_history()
        if broken:
            continue
        newest = {concept.sku: concept for old in history for concept in old.concepts}
        for row in rows:
            right = _never_learned(row, newest)
            if right is row and served is not None:
                right = _in_line(row, served, newest.get(row.sku))
            if right != row:
                found.append((row, right))
    return found


def _never_learned(row: IndexRow, newest: Mapping[str, Concept]) -> IndexRow:
    """``row`` as new when it claims to be learned and no version ever knew it."""
    if row.status is not SkuStatus.LEARNED or row.sku in newest:
        return row
    return replace(row, status=SkuStatus.NEW, learned_hash="", reason="")


def _chosen(home: Home, collection: str | None) -> list[str]:
    known = home.collections()
    if collection is None:
        return known
    if collection not in known:
        raise ObjectNotFoundError(
            f"no collection {collection!r}; expected one of {', '.join(known) or '(none yet)'}"
        )
    return [collection]


def _found(home: Home, version: str, collection: str | None) -> tuple[str, str]:
    names = _chosen(home, collection)
    known = [(name, full, full) for name in names for full in home.adapters(name).version_names()]
    for name in names:
        renamed = home.adapters(name).renamed.read()
        known += [(name, old, now) for old, now in renamed.items() if now]
    found = [each for each in known if version and each[1].startswith(version)]
    matches = list(dict.fromkeys((name, now) for name, _, now in found))
    exact = list(dict.fromkeys((name, now) for name, full, now in found if full == version))
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        listed = ", ".join(f"{full} ({name})" for name, full in matches)
        raise StoreError(
            f"{version!r} is not one version: {listed}; give more of the name or the collection"
        )
    raise ObjectNotFoundError(
        f"no version {version!r} in {', '.join(names) or 'any collection'}; "
        "`catalog-pipeline versions` lists them"
    )


def _in_line(row: IndexRow, served: AdapterVersion, newest: Concept | None) -> IndexRow:
    """``row`` once ``served`` is the head; ``newest`` is what it was last learned as."""
    if row.collection != served.collection or row.status is SkuStatus.RETIRED or newest is None:
        return row
    concept = served.concept(row.sku)
    if concept is not None and concept.photos_hash == newest.photos_hash:
        if row.status is SkuStatus.FAILED and row.learned_hash == row.content_hash:
            return replace(row, status=SkuStatus.LEARNED, reason="")
        return row
    if row.status is not SkuStatus.LEARNED:
        return row
    missing = "knows older photos" if concept else "does not know it"
    return replace(
        row,
        status=SkuStatus.FAILED,
        reason=f"{ROLLED_BACK} {served.version}, which {missing}; "
        f"run `catalog-pipeline learn {row.sku}` to learn it again",
    )
