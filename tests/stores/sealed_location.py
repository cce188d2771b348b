"""A store that encrypts, in a form that another process can open."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.stores.keyring import Keyring
from catalog_pipeline.stores.master_key import open_master_key
from catalog_pipeline.stores.sealed import SealedObjectStore
from tests.stores.store_processes import Location

ALL_BUT_LEASES = r"(?!keys/|.*LEASE\.json$|.*/claims/).+"
"""Far more than a home seals: the contract of every object is then kept by the sealed form."""


def new_master_key(folder: Path, name: str = "master.key") -> str:
    """A master key file in ``folder``, as the setting names it."""
    path = folder / name
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return f"file:{path}"


@dataclass(frozen=True)
class SealedLocation(Location):
    """``kinds`` is what is sealed, as a regular expression."""

    master: str = ""
    kinds: str = ALL_BUT_LEASES

    def open(self) -> SealedObjectStore:
        backend = super().open()
        keyring = Keyring(backend, open_master_key(self.master))
        return SealedObjectStore(backend, keyring, kinds=re.compile(self.kinds), pictures=True)
