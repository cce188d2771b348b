"""From plain to sealed and back, object by object: what changes a home that is in use.

An object is written in its new form before the old one is removed, and every reader looks for
both: a kill anywhere leaves an object that is read, and the next call goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.keys import SEALED_SUFFIX
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.sealed import SealedObjectStore
from catalog_pipeline.stores.sealing import seal
from catalog_pipeline.stores.wrapping_keys import KEYRING_KEY, KEYS_PREFIX

FOLDERS = ("_staging/", "catalog/anchors/", "collections/", "images/")
"""Which hold what may be sealed."""


def plain_keys(store: SealedObjectStore) -> list[str]:
    """What is stored plain, and would be sealed were it written now; sorted."""
    stored = (key for folder in FOLDERS for key in store.backend.list(folder))
    return [key for key in stored if store.is_sealed(key) and not key.endswith(SEALED_SUFFIX)]


def sealed_keys(backend: ObjectStore) -> list[str]:
    """The logical keys of what ``backend`` holds sealed, sorted."""
    stored = (key for folder in FOLDERS for key in backend.list(folder))
    return [key.removesuffix(SEALED_SUFFIX) for key in stored if key.endswith(SEALED_SUFFIX)]


def seal_stored(store: SealedObjectStore, key: str, owners: Sequence[Sequence[str]]) -> bool:
    """Seal what is plain under ``key``; whether it was there. Idempotent.

    Args:
        store: whose keyring has the data keys.
        key: of :func:`plain_keys`.
        owners: SKUs that own it together, and others that own it too; of none, the home.

    Raises:
        IntegrityError: the plain bytes have rotted; they are left as they are.
    """
    backend, form = store.backend, key + SEALED_SUFFIX
    try:
        data = backend.read(key).data
    except ObjectNotFoundError:
        return False  # another call has sealed it
    sealed = seal(data, [store.recipient(skus) for skus in owners or [()]], key)
    if not backend.put_if_absent(form, sealed):
        try:
            store.read(key)
        except (IntegrityError, ObjectNotFoundError):
            backend.put(form, sealed)
    backend.delete(key)
    return True


def unseal_stored(store: SealedObjectStore, key: str) -> bool:
    """Write what is sealed under ``key`` plain; whether it was there. Idempotent.

    Raises:
        KeyDestroyedError: nothing opens it any more; it is left as it is.
        IntegrityError: it has rotted; it is left as it is.
    """
    backend, form = store.backend, key + SEALED_SUFFIX
    if not backend.exists(form):
        return False
    backend.put(key, store.read(key).data)
    backend.delete(form)
    return True


def drop_keyring(backend: ObjectStore) -> None:
    """Delete every key, the keyring last, once nothing is sealed any more."""
    backend.delete_many([key for key in backend.list(KEYS_PREFIX) if key != KEYRING_KEY])
    backend.delete(KEYRING_KEY)
