"""Any object store, with what shows products stored encrypted under ``<key>.sealed``.

Callers see logical keys alone. Of an object that was stored before encryption was switched on the
plain form is read, until it is written again or ``catalog-pipeline encrypt`` seals it. The suffix
keeps backends from comparing the encrypted bytes with the digest in the key; that is compared
after unsealing.

Encrypted are parts, checkpoints and refused candidates of collections, what is known of photos,
staged rows and, where that is set, pictures. The keyring's own ``keys/`` are no one's to list.

Where both forms of an object are there, the one that is written now counts: a kill between the
writing of one and the removal of the other leaves both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    KeyDestroyedError,
    ObjectNotFoundError,
)
from catalog_pipeline.stores import objects as promises
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.keys import SEALED_SUFFIX, check_digest, sha256_hex
from catalog_pipeline.stores.leases import LeaseObject
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore, StoredObject, until_won
from catalog_pipeline.stores.sealing import DataKey, Recipient, recipients_of, seal, unseal
from catalog_pipeline.stores.wrapping_keys import KEYS_PREFIX

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

KINDS = re.compile(
    r"(?:collections/[^/]+/(?:parts|staging|quarantine)/|catalog/anchors/|_staging/).+"
)
PICTURES = re.compile(r"images/.+")


class SealedObjectStore(ObjectStore):
    """``backend`` with the keys of ``keyring`` over what shows products.

    Atomicity is the backend's. What is written belongs to the SKUs of :meth:`for_skus`, to the
    home by default. Sizes are of what is stored: some 100 bytes more than the content.
    """

    def __init__(
        self,
        backend: ObjectStore,
        keyring: Keyring,
        *,
        pictures: bool = False,
        kinds: re.Pattern[str] = KINDS,
        skus: Sequence[str] = (),
    ) -> None:
        """``kinds`` are the keys that are sealed always, ``pictures`` whether those are, too."""
        self.backend = backend
        self.keyring = keyring
        self._pictures = pictures
        self._kinds = kinds
        self._skus = tuple(dict.fromkeys(skus))

    def for_skus(self, *skus: str) -> SealedObjectStore:
        """See :class:`ObjectStore`."""
        return SealedObjectStore(
            self.backend, self.keyring, pictures=self._pictures, kinds=self._kinds, skus=skus
        )

    def is_sealed(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        picture = self._pictures and PICTURES.fullmatch(key)
        return bool(picture or self._kinds.fullmatch(key))

    def read(self, key: str) -> StoredObject:
        """See :class:`ObjectStore`.

        Raises:
            KeyDestroyedError: it is sealed with a data key that was destroyed.
        """
        for form in self._forms(key):
            try:
                stored = self.backend.read(form)
            except ObjectNotFoundError:
                continue
            return StoredObject(self._opened(key, form, stored.data), _token(form, stored.version))
        raise self._absent(key)

    def put(self, key: str, data: bytes) -> str:
        """See :class:`ObjectStore`."""
        form = self._written(key)
        version = self.backend.put(form, self._closed(key, data))
        self._drop_other(key)
        return _token(form, version)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See :class:`ObjectStore`."""
        other = self._other(key)
        if other and self.backend.exists(other):
            return False
        return self.backend.put_if_absent(self._written(key), self._closed(key, data))

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """See :class:`ObjectStore`."""
        form, other = self._written(key), self._other(key)
        held = None  # the version of this form that is replaced
        if expected is not None and expected.startswith(_token(form, "")):
            held = expected.removeprefix(_token(form, ""))
        elif self._token_of(other) != expected:
            raise _conflict(key)
        try:
            # Of several writers that turn the other form into this one, one creates it.
            version = self.backend.compare_and_swap(form, self._closed(key, data), held)
        except ConflictError as error:
            raise _conflict(key) from error
        self._drop_other(key)
        return _token(form, version)

    def put_content(self, key: str, data: bytes) -> None:
        """See :class:`ObjectStore`.

        Bytes that other SKUs have stored already become everybody's: they stay readable while
        the data keys of one owner are there. Bytes that are plain yet stay so: only ``encrypt``
        knows all of their owners.
        """
        if not self.is_sealed(key):
            super().put_content(key, data)
        elif not self.put_if_absent(key, data):
            until_won(lambda: self._share(key, data), key)

    def _share(self, key: str, data: bytes) -> None:
        """Make ``data``, which is there, ours too, and young. ConflictError: somebody wrote it."""
        for form in (self._written(key), self._other(key)):
            try:
                stored = self.backend.read(form)
            except IntegrityError:
                break
            except ObjectNotFoundError:
                continue
            ours, owners = self._recipient(), self._owners_of(form, stored.data, key, data)
            young = self.backend.info(form).modified_utc > _since()
            if not young or ours not in owners:
                others = [owner for owner in owners if owner != ours]
                sealed = seal(data, [*others, ours], key) if form != key else data
                self.backend.compare_and_swap(form, sealed, stored.version)
            return
        self.put(key, data)  # rotten, or taken by a clean-up a moment ago

    def _owners_of(self, form: str, stored: bytes, key: str, data: bytes) -> list[Recipient]:
        """Who can still open ``stored``: nobody where it does not hold ``data``."""
        if form == key:
            return [self._recipient()] if stored == data else []
        where = self.backend.uri(form)
        found: list[Recipient] = []
        try:
            if unseal(stored, self.keyring.find, key, where) != data:
                return []
            recipients = recipients_of(stored, where)
        except (IntegrityError, KeyDestroyedError):
            return []
        for references in recipients:
            try:
                found.append(tuple(map(self.keyring.find, references)))
            except KeyDestroyedError:
                continue
        return found

    def info(self, key: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        for form in self._forms(key):
            try:
                found = self.backend.info(form)
            except ObjectNotFoundError:
                continue
            return ObjectInfo(key, found.size_bytes, found.modified_utc)
        raise self._absent(key)

    def exists(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        return any(self.backend.exists(form) for form in self._forms(key))

    def missing_keys(self, keys: Iterable[str]) -> Sequence[str]:
        """See :class:`ObjectStore`."""
        missing = sorted(set(keys))
        for place in range(3):
            forms = {self._forms(key)[place]: key for key in missing if self._forms(key)[place:]}
            absent = set(self.backend.missing_keys(forms)) if forms else set()
            found = {key for form, key in forms.items() if form not in absent}
            missing = [key for key in missing if key not in found]
        return missing

    def list(self, prefix: str) -> list[str]:
        """See :class:`ObjectStore`."""
        return sorted({key for key, _ in self._logical(prefix, self.backend.list(prefix))})

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        stored = {info.key: info for info in self.backend.scan(prefix)}
        found: dict[str, ObjectInfo] = {}
        for key, form in self._logical(prefix, stored):
            if key not in found or form == self._written(key):
                info = stored[form]
                found[key] = ObjectInfo(key, info.size_bytes, info.modified_utc)
        return [found[key] for key in sorted(found)]

    def folders(self, prefix: str) -> Sequence[str]:
        """See :class:`ObjectStore`."""
        names = self.backend.folders(prefix)
        return [name for name in names if f"{prefix}{name}/" != KEYS_PREFIX]

    def delete(self, key: str) -> None:
        """See :class:`ObjectStore`."""
        self.delete_many([key])

    def delete_many(self, keys: Sequence[str]) -> None:
        """See :class:`ObjectStore`."""
        # What is out of date goes first: a kill in between must not bring it back.
        self.backend.delete_many([other for key in keys if (other := self._other(key))])
        self.backend.delete_many([self._written(key) for key in keys])

    def delete_if_older(self, key: str, before: datetime) -> bool:
        """See :class:`ObjectStore`."""
        forms = filter(None, (self._other(key), self._written(key)))
        went = [self.backend.delete_if_older(form, before) for form in forms]
        return any(went) and not self.exists(key)

    def uri(self, key: str) -> str:
        """See :class:`ObjectStore`: of what is sealed, where the sealed form is."""
        return self.backend.uri(self._written(key))

    def path(self, key: str) -> Path | None:
        """See :class:`ObjectStore`: no program reads in place what is sealed."""
        path = self.backend.path(key)
        return None if self.is_sealed(key) else path

    def lease_object(self, key: str, *, one_of_many: bool = False) -> LeaseObject:
        """See :class:`ObjectStore`: leases are never sealed."""
        return self.backend.lease_object(key, one_of_many=one_of_many)

    def temporaries(self, before: datetime | None = None) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        return self.backend.temporaries(before)

    def remove_temporaries(self, before: datetime) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        return self.backend.remove_temporaries(before)

    def each_of(
        self, action: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Sequence[_Result]:
        """See :class:`ObjectStore`."""
        return self.backend.each_of(action, items)

    def recipient(self, skus: Sequence[str]) -> Recipient:
        """The data keys that open together what belongs to ``skus``; of none, to the home."""
        if not skus:
            return (self.keyring.home_key(),)
        keys: Iterable[DataKey] = map(self.keyring.data_key, skus)
        return tuple(sorted(keys, key=lambda key: key.reference))

    def _recipient(self) -> Recipient:
        return self.recipient(self._skus)

    def _closed(self, key: str, data: bytes) -> bytes:
        return seal(data, [self._recipient()], key) if self.is_sealed(key) else data

    def _opened(self, key: str, form: str, stored: bytes) -> bytes:
        if form == key:
            return stored
        where = self.backend.uri(form)
        data = unseal(stored, self.keyring.find, key, where)
        check_digest(key, sha256_hex(data), where)
        return data

    def _written(self, key: str) -> str:
        """Where the backend is to keep ``key`` now."""
        return key + SEALED_SUFFIX if self.is_sealed(key) else key

    def _other(self, key: str) -> str:
        """Where ``key`` may lie from when the settings were others; empty for what never is."""
        if self.is_sealed(key):
            return key
        return key + SEALED_SUFFIX if PICTURES.fullmatch(key) else ""

    def _forms(self, key: str) -> tuple[str, ...]:
        """Where to look for ``key``; again at the first place, as it may just have moved there."""
        form, other = self._written(key), self._other(key)
        return (form, other, form) if other else (form,)

    def _drop_other(self, key: str) -> None:
        other = self._other(key)
        if other and self.backend.exists(other):
            self.backend.delete(other)

    def _token_of(self, form: str) -> str | None:
        try:
            return _token(form, self.backend.read(form).version) if form else None
        except ObjectNotFoundError:
            return None

    def _logical(self, prefix: str, stored: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The keys that begin with ``prefix``, each with the form that is ``stored``."""
        for form in stored:
            plain = form.removesuffix(SEALED_SUFFIX)
            sealed = plain != form and (self.is_sealed(plain) or PICTURES.fullmatch(plain))
            key = plain if sealed else form
            if key.startswith(prefix) and not form.startswith(KEYS_PREFIX):
                yield key, form

    def _absent(self, key: str) -> ObjectNotFoundError:
        return ObjectNotFoundError(f"no object {key!r}: nothing is at {self.backend.uri(key)}")


def _conflict(key: str) -> ConflictError:
    return ConflictError(f"{key!r} changed under this writer; read it again and retry")


def _since() -> datetime:
    """What was written before is no longer young."""
    return datetime.now(UTC) - promises.REWRITTEN_AFTER


def _token(form: str, version: str) -> str:
    """A version token: the two forms of an object are different objects of the backend."""
    return f"{'sealed' if form.endswith(SEALED_SUFFIX) else 'plain'} {version}"
