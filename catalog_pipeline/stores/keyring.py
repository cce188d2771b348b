"""Data keys: one a SKU and one of the home, each a wrapped object that can be destroyed.

A key id is the HMAC of the SKU under the naming key, so the store does not tell by it which SKUs
it knows. The naming key is random and not derived from the master key: ids stand in every sealed
object, and a new master key must not change them.

A data key that is made anew after its destruction has another generation, which sealed objects
name: what was sealed before stays unreadable, and is told from what is corrupted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from catalog_pipeline.errors import (
    ConflictError,
    KeyDestroyedError,
    KeyringError,
    ObjectNotFoundError,
)
from catalog_pipeline.stores.master_key import MasterKey
from catalog_pipeline.stores.objects import ObjectStore, until_won
from catalog_pipeline.stores.sealing import (
    GENERATION_BYTES,
    ID_BYTES,
    KEY_BYTES,
    DataKey,
    KeyReference,
)
from catalog_pipeline.stores.wrapping_keys import (
    KEYRING_KEY,
    KeyringState,
    WrappingKeys,
    data_key_object,
    stored_key_ids,
)

_HOME = b"home"


class Keyring:
    """The data keys of a home.

    Idempotency key: the SKU. Atomic: each key; of racing writers of a SKU one makes the key,
    and all use it. A kill leaves a key or none, and a rotation that goes on when it is begun
    again. Keys that were opened stay in this process's memory.
    """

    def __init__(self, objects: ObjectStore, master: MasterKey) -> None:
        self._objects = objects
        self._wrapping = WrappingKeys(objects, master)
        self._opened: dict[KeyReference, DataKey] = {}

    @property
    def master(self) -> MasterKey:
        """Which opens this keyring."""
        return self._wrapping.master

    def open(self) -> bool:
        """Open what is stored; whether there is a keyring yet. Writes nothing.

        Raises:
            KeyringError: another master key has made it, or the key service refuses.
            IntegrityError: it is corrupted.
        """
        found = self._wrapping.read()
        if found is None:
            return False
        self._wrapping.unlock(found[0])
        return True

    def data_key(self, sku: str) -> DataKey:
        """The data key of ``sku`` as it is now, made where there is none.

        Looked up anew at each call: another process may have destroyed it.
        """
        return self._key_of(_identity(sku))

    def home_key(self) -> DataKey:
        """The data key of what belongs to no SKU; it is never destroyed."""
        return self._key_of(_HOME)

    def find(self, reference: KeyReference) -> DataKey:
        """The data key that a sealed object names.

        Raises:
            KeyDestroyedError: it is no more.
            KeyringError: the whole keyring is not there.
            IntegrityError: the key's object is corrupted.
        """
        opened = self._opened.get(reference)
        if opened is not None:
            return opened
        key = self._read_key(reference.key_id)
        if key is None:
            self._wrapping.require()
        if key is None or key.reference != reference:
            raise KeyDestroyedError(f"the data key {reference.key_id.hex()} was destroyed")
        return key

    def destroy(self, sku: str) -> bool:
        """Delete the data key of ``sku``: no copy of anything sealed with it opens again.

        Idempotent; whether there was one. Other processes that have opened it keep it until they
        end. A copy of ``keys/`` elsewhere keeps it too: see docs/governance/encryption.md.
        """
        if not self.open():
            return False
        key_id = self._key_id(_identity(sku))
        there = self._objects.exists(data_key_object(key_id))
        self._objects.delete(data_key_object(key_id))
        self._opened = {ref: key for ref, key in self._opened.items() if ref.key_id != key_id}
        return there

    def count(self) -> int:
        """How many data keys are stored, that of the home included."""
        return len(stored_key_ids(self._objects))

    def masters(self) -> set[str]:
        """The names of the master keys that open it: two while a rotation has not ended."""
        found = self._wrapping.read()
        return found[0].masters if found else set()

    def rewrap(self, new: MasterKey) -> int:
        """Make ``new`` the master key; returns how many data keys this call wrapped anew.

        The order is keyring (both master keys open it), data keys, keyring (``new`` alone). Until
        the end the old master key is needed. Safe beside writers, safe to kill: the same call
        goes on. Sealed objects are not touched. The wrapping key is another one afterwards, so
        that copies of ``keys/`` from before open with the old master key alone.

        Raises:
            KeyringError: there is no keyring, ``new`` is the master key already, or the rotation
                to another one has not ended.
        """
        found = self._wrapping.read()
        if found is None:
            raise KeyringError(
                "nothing is encrypted yet, so there is no key to rotate; set governance.yaml: "
                "encryption.master_key to the new one"
            )
        if found[0].masters == {new.name}:
            if new.name == self.master.name:
                raise KeyringError(f"{new.where} is the master key already; expected another one")
            return 0  # an earlier call has ended
        current = until_won(lambda: self._begin(new), KEYRING_KEY)
        count = self._rewrap_all(current)
        until_won(lambda: self._finish(new, current), KEYRING_KEY)
        # A writer that read the keyring before this began may just have made a key.
        count += self._rewrap_all(current)
        self._wrapping.master = new
        return count

    def _begin(self, new: MasterKey) -> str:
        """See that both master keys open the keyring; the wrapping key of new data keys."""
        wrapping = self._wrapping
        state, version = wrapping.require()
        wrapping.unlock(state)
        if len(state.masters) > 1:
            if new.name not in state.masters:
                other = " and ".join(sorted(state.masters))
                raise KeyringError(
                    f"a rotation between {other} has not ended; end it before the one to "
                    f"{new.name}: run it again with the key that it was begun with"
                )
            return state.current
        added = wrapping.add()
        wraps = {
            name: wrapping.wraps(name, self.master, new) for name in (*state.wrapping_keys, added)
        }
        begun = KeyringState(added, wraps, wrapping.wrapped_naming(added))
        self._objects.compare_and_swap(KEYRING_KEY, begun.encode(), version)
        return added

    def _finish(self, new: MasterKey, current: str) -> None:
        state, version = self._wrapping.require()
        if state.masters != {new.name}:
            wraps = {current: {new.name: state.wrapping_keys[current][new.name]}}
            ended = KeyringState(current, wraps, state.naming)
            self._objects.compare_and_swap(KEYRING_KEY, ended.encode(), version)

    def _rewrap_all(self, current: str) -> int:
        ids = stored_key_ids(self._objects)
        return sum(self._objects.each_of(lambda key_id: self._rewrap_key(key_id, current), ids))

    def _rewrap_key(self, key_id: bytes, current: str) -> bool:
        """Whether this call wrapped a data key anew; one that was destroyed meanwhile is none."""
        name = data_key_object(key_id)

        def attempt() -> bool:
            try:
                stored = self._objects.read(name)
            except ObjectNotFoundError:
                return False
            if self._wrapping.wrapped_by(key_id, stored.data) == current:
                return False
            data = self._wrapping.encode(self._wrapping.decode(key_id, stored.data), current)
            self._objects.compare_and_swap(name, data, stored.version)
            return True

        return until_won(attempt, name)

    def _key_of(self, identity: bytes) -> DataKey:
        if self._wrapping.naming is None and not self.open():
            self._wrapping.create()
        key_id = self._key_id(identity)

        def attempt() -> DataKey:
            return self._read_key(key_id) or self._create_key(key_id)

        return until_won(attempt, data_key_object(key_id))

    def _key_id(self, identity: bytes) -> bytes:
        assert self._wrapping.naming is not None
        return hmac.new(self._wrapping.naming, identity, hashlib.sha256).digest()[:ID_BYTES]

    def _read_key(self, key_id: bytes) -> DataKey | None:
        try:
            stored = self._objects.read(data_key_object(key_id))
        except ObjectNotFoundError:
            return None
        key = self._wrapping.decode(key_id, stored.data)
        self._opened[key.reference] = key
        return key

    def _create_key(self, key_id: bytes) -> DataKey:
        """Make the data key; ConflictError when another writer was first."""
        reference = KeyReference(key_id, secrets.token_bytes(GENERATION_BYTES))
        key = DataKey(reference, secrets.token_bytes(KEY_BYTES))
        data = self._wrapping.encode(key, self._present())
        if not self._objects.put_if_absent(data_key_object(key_id), data):
            raise ConflictError(f"{data_key_object(key_id)!r} was made by another writer")
        try:
            self._rewrap_key(key_id, self._present())  # where a rotation began in between
        except KeyringError:
            self._objects.delete(data_key_object(key_id))  # it has even ended: nothing opens this
            raise
        self._opened[reference] = key
        return key

    def _present(self) -> str:
        """The wrapping key that new data keys have now, opened."""
        state, _ = self._wrapping.require()
        self._wrapping.unlock(state)
        return state.current


def _identity(sku: str) -> bytes:
    return b"sku\x00" + sku.encode()
