"""What versions are called since a product was taken out of them: ``renamed.json`` of a collection.

A version is named by its content, so one that was written anew without a product has another
name. Old names stand in rows, plans, the audit log and people's notes; here is what they mean, or,
by an empty text, that nothing has taken their place. Hashes alone: nothing of a product.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.objects import ObjectStore, until_won


class RenamedVersions:
    """Old name -> present name; compare-and-swap only, names are added and never taken away."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._objects = objects
        self._key = key

    def read(self) -> dict[str, str]:
        """Every old name with what it means now, empty where it was dropped for good.

        Raises:
            IntegrityError: the object is not what :meth:`add` writes.
        """
        return self._read()[0]

    def add(self, renamed: Mapping[str, str]) -> None:
        """Note ``renamed``; what had been renamed to one of its old names follows. Idempotent."""

        def attempt() -> None:
            known, token = self._read()
            followed = {old: renamed.get(name, name) for old, name in known.items()}
            after = {**followed, **renamed}
            if after != known:
                data = json.dumps(after, sort_keys=True, indent=0).encode() + b"\n"
                self._objects.compare_and_swap(self._key, data, token)

        until_won(attempt, self._key)

    def _read(self) -> tuple[dict[str, str], str | None]:
        try:
            stored = self._objects.read(self._key)
        except ObjectNotFoundError:
            return {}, None
        try:
            names = {str(old): str(name) for old, name in json.loads(stored.data).items()}
        except (ValueError, AttributeError) as error:
            raise IntegrityError(
                f"{self._objects.uri(self._key)} does not say how versions were renamed ({error}); "
                "restore it from a backup, or delete it: old names are then not known any more"
            ) from error
        return names, stored.version
