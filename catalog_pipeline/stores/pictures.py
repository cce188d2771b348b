"""Stored PNGs: read with their hash, and looked for before a row that names them is written."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive_keys import image_key, staging_folder
from catalog_pipeline.stores.batches import missing_keys
from catalog_pipeline.stores.objects import ObjectStore, sha256_hex


def read_picture(objects: ObjectStore, key: str) -> bytes:
    """The PNG file under ``key``.

    Raises:
        ObjectNotFoundError: no such picture.
        IntegrityError: the bytes do not hash to the key's digest.
    """
    data = objects.read(key).data
    if image_key(sha256_hex(data)) != key:
        raise IntegrityError(
            f"{objects.uri(key)} is corrupted: it hashes to {sha256_hex(data)[:12]}; "
            "delete it and render the night again"
        )
    return data


def check_pictures(objects: ObjectStore, rows: Sequence[ArchiveRow]) -> None:
    """See that the picture of every row is stored; its bytes are not read.

    Raises:
        ObjectNotFoundError: a row names a picture that is not stored, or by a wrong key.
    """
    named = {row.path for row in rows if row.path == image_key(row.sha256)}
    stored = named.difference(missing_keys(objects, named))
    for row in rows:
        if row.path not in stored:
            raise ObjectNotFoundError(
                f"row {row.image_id} names the picture {row.path!r}, expected "
                f"{image_key(row.sha256)!r} to be stored; delete {staging_folder(row.day)!r} "
                "and render the night again"
            )
