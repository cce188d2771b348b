"""Write copies of stored objects, decrypted, for who cannot open them in place.

The folder is there complete, or not at all
(:mod:`~catalog_pipeline.workflows.upkeep.destinations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.destinations import check_destination, new_folder
from catalog_pipeline.workflows.upkeep.object_owners import ObjectOwners


@dataclass(frozen=True)
class ObjectExport:
    """What was copied to ``folder``: keys, sorted, and bytes of all."""

    folder: Path
    keys: tuple[str, ...]
    bytes: int


def export_objects(home: Home, prefix: str, out: Path) -> ObjectExport:
    """Copy every object whose key begins with ``prefix`` to the folder ``out``, by its key.

    Args:
        home: where they are.
        prefix: of keys, such as ``collections/default/quarantine/MUG-01-``; not empty.
        out: a folder that is absent or empty.

    Raises:
        ConfigurationError: no key begins so, or ``out`` holds files or lies among the program's
            own or the photos.
        StoreError: an object is damaged or its key destroyed, ``out`` cannot be written, or a
            version or manifest cannot be read, so that nobody knows whose objects these are.
    """
    check_destination(home.settings, out)
    keys = home.objects.list(prefix) if prefix else []
    if not keys:
        raise ConfigurationError(
            f"no object of {home.where} has a key that begins with {prefix!r}; expected such as "
            "'collections/default/quarantine/' or 'images/'; docs/stores.md lists them"
        )
    owners = ObjectOwners(home, keys)
    shown = sorted({sku for key in keys for skus in owners.of(key) for sku in skus})
    size = 0
    with new_folder(out) as staging:
        for key in keys:
            data = home.objects.read(key).data
            target = staging / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            size += len(data)
        facts = {"prefix": prefix, "skus": shown, "objects": len(keys)}
        home.audit.append("export", str(out), facts=facts)
    return ObjectExport(out.expanduser().resolve(), tuple(keys), size)
