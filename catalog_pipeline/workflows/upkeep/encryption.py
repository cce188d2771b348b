"""Encryption switched on, off, and given another master key, over a home that has objects already.

Each is done object by object, goes on where it was killed, and may run beside readers. Writers
have to have the settings of the new state: end those of the old one first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from catalog_pipeline.errors import ConfigurationError, StoreError
from catalog_pipeline.stores.audit_log import AuditLog
from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.master_key import open_master_key
from catalog_pipeline.stores.resealing import (
    drop_keyring,
    plain_keys,
    seal_stored,
    sealed_keys,
    unseal_stored,
)
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.progress import ProgressSink, SilentProgress
from catalog_pipeline.workflows.upkeep.object_owners import ObjectOwners

_AT_ONCE = 64
"""Objects that are taken together where the store answers several as fast as one."""


@dataclass(frozen=True)
class ChangedForm:
    """How many objects now have another form, and which could not be changed, with the reason."""

    changed: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class EncryptionState:
    """What is encrypted; ``master`` is ``None`` where nothing is.

    ``master`` is where the master key is, ``masters`` are the names of those that open the
    keyring, two while a rotation has not ended; ``plain`` counts objects that are not sealed yet.
    """

    master: str | None
    masters: tuple[str, ...] = ()
    data_keys: int = 0
    pictures: bool = False
    plain: int = 0


def encryption_state(home: Home) -> EncryptionState:
    """Of ``home``; lists what may be encrypted and reads no object.

    Raises:
        StoreError: the home cannot be listed, or the master key does not open it.
    """
    objects, keyring = home.objects, home.keyring
    if keyring is None or not isinstance(objects, SealedObjectStore):
        return EncryptionState(None)
    return EncryptionState(
        keyring.master.where,
        tuple(sorted(keyring.masters())),
        keyring.count(),
        home.settings.governance.encryption.pictures,
        len(plain_keys(objects)),
    )


def encrypt_home(home: Home, *, progress: ProgressSink | None = None) -> ChangedForm:
    """Seal what is stored plain and would be sealed were it written now.

    Idempotent. An object that nothing names any more is sealed for the home.

    Raises:
        ConfigurationError: no master key is set.
        StoreError: versions or manifests cannot be read, so nobody knows whose parts and
            pictures are.
    """
    store = _sealed_store(home)
    keys = plain_keys(store)
    owners = ObjectOwners(home, keys)
    done = _each(
        store, keys, lambda key: seal_stored(store, key, owners.of(key)), "encrypt", progress
    )
    home.audit.append("encrypt", store.keyring.master.name, facts=_facts(done))
    return done


def decrypt_home(home: Home, *, progress: ProgressSink | None = None) -> ChangedForm:
    """Write everything that is sealed plain, and destroy every key once nothing is sealed.

    Idempotent. What cannot be opened any more is named and stays, and so do the keys.

    Raises:
        ConfigurationError: no master key is set.
    """
    store = _sealed_store(home)
    keys = sealed_keys(store.backend)
    done = _each(store, keys, partial(unseal_stored, store), "decrypt", progress)
    ended = not done.problems and not sealed_keys(store.backend)
    if ended:
        drop_keyring(store.backend)
    facts = {**_facts(done), "keys_destroyed": ended}
    home.audit.append("decrypt", store.keyring.master.name, facts=facts)
    return done


def rotate_master_key(home: Home, new: str) -> int:
    """Wrap every data key of ``home`` with the master key ``new``; how many this call wrapped.

    Afterwards the settings have to name ``new``. No sealed object is touched. A rotation that was
    killed goes on; the settings may name the old master key or the new one meanwhile.

    Args:
        home: whose settings name the present master key.
        new: ``file:/path`` or ``kms:<id>``.

    Raises:
        ConfigurationError: no master key is set, or ``new`` is no name of one.
        KeyringError: nothing is encrypted yet, ``new`` is the master key already, or another
            rotation has not ended.
    """
    setting = home.written.governance.encryption.master_key
    if setting is None:
        raise _not_set()
    # Not the home's keyring: where an earlier call has ended, the old master key opens it no more.
    old, master = open_master_key(setting), open_master_key(new)
    count = Keyring(home.backend, old).rewrap(master)
    facts = {"from": old.name, "data_keys": count}
    AuditLog(home.backend, home.signature).append("rotate-key", master.name, facts=facts)
    return count


def _facts(done: ChangedForm) -> dict[str, int]:
    return {"objects": done.changed, "left": len(done.problems)}


def _sealed_store(home: Home) -> SealedObjectStore:
    if not isinstance(home.objects, SealedObjectStore):
        raise _not_set()
    return home.objects


def _not_set() -> ConfigurationError:
    return ConfigurationError(
        "governance.yaml: encryption.master_key is not set, so nothing is encrypted; set it to "
        "file:/path/of/key or kms:alias/name first"
    )


def _each(
    store: SealedObjectStore,
    keys: Sequence[str],
    change: Callable[[str], bool],
    task: str,
    progress: ProgressSink | None,
) -> ChangedForm:
    problems: list[str] = []

    def attempt(key: str) -> bool:
        try:
            return change(key)
        except StoreError as error:
            problems.append(str(error))
            return False

    sink, changed = progress or SilentProgress(), 0
    sink.start(task, len(keys))
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        changed += sum(store.each_of(attempt, some))
        sink.advance(task, len(some))
    sink.finish(task)
    return ChangedForm(changed, tuple(sorted(problems)))
