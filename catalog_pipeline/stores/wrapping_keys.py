"""The wrapping keys of a keyring, which wrap data keys and are wrapped by the master key.

::

    keys/keyring.json     the wrapping keys, each wrapped by the master key; the naming key
    keys/<key id>.json    a data key, wrapped by a wrapping key

There is one wrapping key, and two while a rotation has not ended; then each is wrapped by the old
and by the new master key. The master key is asked once a process. What was opened stays in memory.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog_pipeline.errors import (
    AccessDeniedError,
    IntegrityError,
    KeyringError,
    ObjectNotFoundError,
    StoreError,
)
from catalog_pipeline.stores.keys import SEALED_SUFFIX
from catalog_pipeline.stores.master_key import MasterKey, Wrapped, decrypt_key, encrypt_key
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.read_only import ReadOnlyObjectStore
from catalog_pipeline.stores.sealing import ID_BYTES, KEY_BYTES, DataKey, KeyReference

KEYS_PREFIX = "keys/"
KEYRING_KEY = f"{KEYS_PREFIX}keyring.json"
KEYRING_SCHEMA_VERSION = 1

_DATA_KEY = re.compile(rf"{KEYS_PREFIX}([0-9a-f]{{{2 * ID_BYTES}}})\.json")
_NAMING = "naming key"


@dataclass(frozen=True)
class KeyringState:
    """``keyring.json``: id of a wrapping key -> name of a master key -> wrapped by that one.

    ``current`` is the wrapping key of new data keys, ``naming`` the wrapped naming key.
    """

    current: str
    wrapping_keys: Mapping[str, Mapping[str, Wrapped]]
    naming: Wrapped

    @property
    def masters(self) -> set[str]:
        """The names of the master keys that open it: two while a rotation has not ended."""
        return {name for wraps in self.wrapping_keys.values() for name in wraps}

    def encode(self) -> bytes:
        """JSON bytes."""
        return _json(
            {
                "current": self.current,
                "wrapping_keys": self.wrapping_keys,
                "naming": self.naming,
            }
        )


class WrappingKeys:
    """Those of the keyring under ``objects``, opened with ``master``."""

    def __init__(self, objects: ObjectStore, master: MasterKey) -> None:
        self.objects = objects
        self.master = master
        self._opened: dict[str, bytes] = {}
        self._naming: bytes | None = None

    @property
    def naming(self) -> bytes | None:
        """The key that key ids are made with; ``None`` before the keyring was opened."""
        return self._naming

    def read(self) -> tuple[KeyringState, str] | None:
        """What is stored, and its version token; ``None`` before anything was encrypted.

        Raises:
            IntegrityError: it is corrupted.
        """
        try:
            stored = self.objects.read(KEYRING_KEY)
        except ObjectNotFoundError:
            return None
        where = self.objects.uri(KEYRING_KEY)
        content = _parsed(stored.data, where)
        try:
            wraps = {str(key): dict(value) for key, value in content["wrapping_keys"].items()}
            state = KeyringState(str(content["current"]), wraps, dict(content["naming"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _corrupted(where, error) from error
        return state, stored.version

    def require(self) -> tuple[KeyringState, str]:
        """:meth:`read`; KeyringError where there is none."""
        found = self.read()
        if found is None:
            raise KeyringError(
                f"{self.objects.uri(KEYRING_KEY)} is not there, and without it nothing that is "
                f"encrypted can be read; restore {KEYS_PREFIX} from a backup"
            )
        return found

    def unlock(self, state: KeyringState) -> None:
        """Open what this process has not opened yet.

        Raises:
            KeyringError: another master key has made it, it was made anew since this process
                opened it, or the key service refuses.
            IntegrityError: a wrapped key is corrupted.
        """
        where = self.objects.uri(KEYRING_KEY)
        master = self.master
        try:
            for name, wraps in state.wrapping_keys.items():
                if name not in self._opened:
                    if master.name not in wraps:
                        raise KeyringError(
                            f"{where} was made with another master key: it opens with "
                            f"{' or '.join(sorted(state.masters))}, and {master.where} is "
                            f"{master.name}; set governance.yaml: encryption.master_key right"
                        )
                    self._opened[name] = master.unwrap(wraps[master.name], _purpose(name))
            wrapping_key = self._opened[state.naming["wrapping_key"]]
            naming = decrypt_key(wrapping_key, state.naming["wrapped"], _NAMING)
        except (KeyError, TypeError) as error:
            raise _corrupted(where, error) from error
        if self._naming not in (None, naming):
            raise KeyringError(
                f"{where} was made anew since this process opened it, so its keys are others; run "
                "the command again"
            )
        self._naming = naming

    def create(self) -> None:
        """Make the keyring, or open the one that another writer has just made.

        Raises:
            KeyringError: there was one, and what needs it is still there.
        """
        left = self.objects.list(KEYS_PREFIX) or [
            key for key in self.objects.list("collections/") if key.endswith(SEALED_SUFFIX)
        ]
        if left and self.read() is None:
            raise KeyringError(
                f"{self.objects.uri(KEYRING_KEY)} is not there, but {left[0]} and "
                f"{len(left) - 1} more that need it are; restore {KEYS_PREFIX} from a backup"
            )
        name, key, naming = secrets.token_hex(8), _new_key(), _new_key()
        wraps = {name: _wraps(name, key, [self.master])}
        state = KeyringState(name, wraps, _wrapped_naming(name, key, naming))
        if self.objects.put_if_absent(KEYRING_KEY, state.encode()):
            self._opened[name], self._naming = key, naming
        else:
            self.unlock(self.require()[0])

    def add(self) -> str:
        """A new wrapping key in memory alone; returns its id."""
        name = secrets.token_hex(8)
        self._opened[name] = _new_key()
        return name

    def wraps(self, name: str, *masters: MasterKey) -> dict[str, Wrapped]:
        """The wrapping key ``name`` as each of ``masters`` wraps it, by their names."""
        return _wraps(name, self._opened[name], masters)

    def wrapped_naming(self, name: str) -> Wrapped:
        """The naming key, wrapped by ``name``."""
        assert self._naming is not None
        return _wrapped_naming(name, self._opened[name], self._naming)

    def encode(self, key: DataKey, name: str) -> bytes:
        """The object of a data key, wrapped by ``name``."""
        wrapped = encrypt_key(self._opened[name], key.secret, _key_purpose(key.reference))
        generation = key.reference.generation.hex()
        return _json({"generation": generation, "wrapping_key": name, "wrapped": wrapped})

    def decode(self, key_id: bytes, data: bytes) -> DataKey:
        """The data key of :meth:`encode`.

        Raises:
            IntegrityError: it is corrupted, or its wrapping key is not in the keyring.
        """
        where = self.objects.uri(data_key_object(key_id))
        content = _parsed(data, where)
        try:
            reference = KeyReference(key_id, bytes.fromhex(content["generation"]))
            wrapping_key = self._find(content["wrapping_key"], where)
            secret = decrypt_key(wrapping_key, content["wrapped"], _key_purpose(reference))
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupted(where, error) from error
        return DataKey(reference, secret)

    def wrapped_by(self, key_id: bytes, data: bytes) -> str:
        """The id of the wrapping key of a data key's object."""
        return str(_parsed(data, data_key_object(key_id)).get("wrapping_key"))

    def _find(self, name: str, where: str) -> bytes:
        if name not in self._opened:  # a rotation has made another one
            self.unlock(self.require()[0])
        if name not in self._opened:
            raise IntegrityError(
                f"{where} is wrapped by the key {name}, which {KEYRING_KEY} does not hold; restore "
                f"{KEYS_PREFIX} whole, from one backup"
            )
        return self._opened[name]


def without_keyring(objects: ObjectStore) -> ObjectStore:
    """``objects`` for whoever has no master key.

    A reader by role may not look at keys at all: what is encrypted is closed to it anyway. It gets
    a store that is only read, since nobody may write plain bytes into a home that is perhaps
    encrypted.

    Raises:
        KeyringError: something is encrypted.
        StoreError: whether it is cannot be found out now.
    """
    where = objects.uri(KEYRING_KEY)
    try:
        objects.read(KEYRING_KEY)  # the answer to a mere look says less of why it is refused
    except ObjectNotFoundError:
        return objects
    except AccessDeniedError as error:
        return ReadOnlyObjectStore(
            objects,
            f"nothing may be written here: whether this home is encrypted is not known ({error}); "
            f"give this process the right to read {where}",
        )
    raise KeyringError(
        f"{where} says that this home is encrypted, and governance.yaml: encryption.master_key is "
        "not set; set it again; to do without encryption run `catalog-pipeline decrypt` with it "
        "first"
    )


def data_key_object(key_id: bytes) -> str:
    """Where the data key with this id is stored."""
    return f"{KEYS_PREFIX}{key_id.hex()}.json"


def stored_key_ids(objects: ObjectStore) -> list[bytes]:
    """The id of every stored data key."""
    found = map(_DATA_KEY.fullmatch, objects.list(KEYS_PREFIX))
    return [bytes.fromhex(match[1]) for match in found if match]


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(data)
        version = int(content["schema_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupted(where, error) from error
    if version > KEYRING_SCHEMA_VERSION:
        raise StoreError(
            f"{where} has schema version {version}; this program reads up to "
            f"{KEYRING_SCHEMA_VERSION}: upgrade catalog-pipeline"
        )
    return content


def _corrupted(where: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{where} is corrupted ({type(error).__name__}: {error}); restore {KEYS_PREFIX} from a "
        "backup"
    )


def _new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _wraps(name: str, key: bytes, masters: Iterable[MasterKey]) -> dict[str, Wrapped]:
    return {master.name: master.wrap(key, _purpose(name)) for master in masters}


def _wrapped_naming(name: str, key: bytes, naming: bytes) -> Wrapped:
    return {"wrapping_key": name, "wrapped": encrypt_key(key, naming, _NAMING)}


def _purpose(name: str) -> str:
    return f"wrapping key {name}"


def _key_purpose(reference: KeyReference) -> str:
    return f"data key {reference.key_id.hex()} {reference.generation.hex()}"


def _json(content: Mapping[str, Any]) -> bytes:
    complete = {"schema_version": KEYRING_SCHEMA_VERSION, **content}
    return json.dumps(complete, sort_keys=True, indent=1).encode() + b"\n"
