"""Product folders in a bucket, written so that a listing takes none for whole before it is.

A new product gets ``sku.importing.yaml`` first, its photos, its card, and loses that file last:
a SKU whose only card is misnamed is not learned, however long the import has been dead. What
lies in the bucket already is copied by the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catalog_pipeline.catalog.file_kinds import kind_of
from catalog_pipeline.catalog.product_folders import (
    CARD_NAME,
    RECORD_NAME,
    FolderChanges,
    FolderRecord,
    FolderRefusedError,
    FolderState,
    PhotoFile,
    WrittenPhoto,
)
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.s3_client import advice, open_s3_client
from catalog_pipeline.settings import S3Settings

MARKER_NAME = "sku.importing.yaml"
"""A listing takes it for a misnamed card, and fails a SKU that has no other."""

_AT_ONCE = 16
_GONE = {"NoSuchKey", "404", "NotFound", "PreconditionFailed", "412"}
_THIS_PRODUCT = {"InvalidObjectState", "InvalidRequest", "EntityTooLarge"}


class S3ProductFolders:
    """See :class:`~catalog_pipeline.catalog.product_folders.ProductFolders`."""

    def __init__(self, s3: S3Settings) -> None:
        self.bucket = s3.bucket
        prefix = s3.prefix.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.where = f"s3://{s3.bucket}/{self._prefix}"
        self.client = open_s3_client(
            s3, "catalogs.yaml", retries={"mode": "standard", "total_max_attempts": 4}
        )

    def close(self) -> None:
        """Close the connections; the folders are of no use afterwards."""
        self.client.close()

    def location(self, sku: str, name: str) -> str:
        """``s3://bucket/key``."""
        return f"{self.where}{sku}/{name}"

    def states(self, skus: Sequence[str]) -> Iterator[FolderState | FolderRefusedError]:
        """See :class:`ProductFolders`; several at once."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="folders") as pool:
            for start in range(0, len(skus), 16 * _AT_ONCE):
                yield from pool.map(self._state, skus[start : start + 16 * _AT_ONCE])

    def is_same(self, photo: PhotoFile, sku: str, name: str) -> bool:
        """See :class:`ProductFolders`; by the ETag, which may differ though the bytes do not."""
        there = self._etags(sku).get(name)
        if photo.location.startswith("s3://"):
            return photo.stamp == there
        with open(photo.location, "rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest() == there

    def is_as_written(self, sku: str, name: str, written: WrittenPhoto) -> bool:
        """See :class:`ProductFolders`."""
        return self._etags(sku).get(name) == written.content

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See :class:`ProductFolders`; of a killed import there is nothing to clear."""
        yield

    def write(self, changes: FolderChanges) -> None:
        """See :class:`ProductFolders`."""
        with _explained(f"{self.where}{changes.sku}/"):
            if changes.unfinished and changes.card is not None:
                self._put(changes.sku, MARKER_NAME, changes.card)
            self._put(changes.sku, RECORD_NAME, changes.record().encode())
            written = self._put_photos(changes)
            for name in (*changes.removed, *changes.removed_cards):
                self._delete(changes.sku, name)
            if changes.card is not None:
                self._put(changes.sku, CARD_NAME, changes.card)
            self._put(changes.sku, RECORD_NAME, changes.record(written).encode())
            if changes.unfinished:
                self._delete(changes.sku, MARKER_NAME)

    def _state(self, sku: str) -> FolderState | FolderRefusedError:
        try:
            with _explained(f"{self.where}{sku}/"):
                etags = self._etags(sku)
                cards = {n: self._get(sku, n) for n in etags if kind_of(n, sku) == "card"}
                record = None
                if RECORD_NAME in etags:
                    data = self._get(sku, RECORD_NAME)
                    record = FolderRecord.decode(data, self.location(sku, RECORD_NAME))
        except FolderRefusedError as error:
            return error
        photos = {name: etag for name, etag in etags.items() if kind_of(name, sku) == "photo"}
        return FolderState(sku, bool(etags), photos, cards, record, MARKER_NAME in etags)

    def _etags(self, sku: str) -> dict[str, str]:
        """The names directly in the folder of ``sku``, with their ETags."""
        return {name: etag for name, (etag, _) in self.list_folder(f"{self._prefix}{sku}/").items()}

    def list_folder(self, prefix: str) -> dict[str, tuple[str, int]]:
        """The objects directly below ``prefix`` of the bucket: name -> (ETag, size)."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, Delimiter="/"
        )
        with _explained(f"s3://{self.bucket}/{prefix}"):
            return {
                str(found["Key"])[len(prefix) :]: (str(found["ETag"]).strip('"'), found["Size"])
                for page in pages
                for found in page.get("Contents", ())
                if found["Key"] != prefix
            }

    def _put_photos(self, changes: FolderChanges) -> dict[str, WrittenPhoto]:
        def put(item: tuple[str, PhotoFile]) -> tuple[str, WrittenPhoto]:
            name, photo = item
            etag = self._put_photo(changes.sku, name, photo)
            return name, WrittenPhoto(photo.location, photo.stamp, etag, etag)

        if not changes.photos:
            return {}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="photos") as pool:
            return dict(pool.map(put, sorted(changes.photos.items())))

    def _put_photo(self, sku: str, name: str, photo: PhotoFile) -> str:
        key = f"{self._prefix}{sku}/{name}"
        if not photo.location.startswith("s3://"):
            answer = self.client.put_object(
                Bucket=self.bucket, Key=key, Body=Path(photo.location).read_bytes()
            )
            return str(answer["ETag"]).strip('"')
        source = photo.location.removeprefix(f"s3://{self.bucket}/")
        answer = self.client.copy_object(
            Bucket=self.bucket,
            Key=key,
            CopySource={"Bucket": self.bucket, "Key": source},
            CopySourceIfMatch=f'"{photo.stamp}"',
        )
        return str(answer["CopyObjectResult"]["ETag"]).strip('"')

    def _get(self, sku: str, name: str) -> bytes:
        answer = self.client.get_object(Bucket=self.bucket, Key=f"{self._prefix}{sku}/{name}")
        data: bytes = answer["Body"].read()
        return data

    def _put(self, sku: str, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self._prefix}{sku}/{name}", Body=data)

    def _delete(self, sku: str, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"{self._prefix}{sku}/{name}")


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """FolderRefusedError of what concerns one product alone, CatalogError of all else."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _GONE:
            raise FolderRefusedError(
                f"{what}: something changed or went away meanwhile ({error}); run the import again"
            ) from error
        if code in _THIS_PRODUCT or code.startswith("KMS."):
            raise FolderRefusedError(f"{what} cannot be written: {error}") from error
        raise CatalogError(f"cannot use {what}: {error}; {advice(error)}") from error
    except BotoCoreError as error:
        raise CatalogError(f"cannot use {what}: {error}; {advice(error)}") from error
    except OSError as error:
        raise FolderRefusedError(
            f"{error.filename or what} cannot be read ({error.strerror or error})"
        ) from error
