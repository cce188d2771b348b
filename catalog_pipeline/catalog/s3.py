"""SKU folders in an S3 bucket, or in any server that speaks S3."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC
from typing import Any

from catalog_pipeline.catalog.file_kinds import (
    FOLDER_REASON,
    is_passed_over,
    kind_of,
    printable,
    why_not_read,
)
from catalog_pipeline.catalog.keys import validate_sku
from catalog_pipeline.catalog.listing import (
    NOTHING_KNOWN,
    KnownDigests,
    ListingResult,
    ScannedFolder,
    UnreadableFileError,
    finish_listing,
    no_such_place,
    outside_folder,
)
from catalog_pipeline.catalog.local import DEFAULT_MAX_BYTES
from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import PhotoRef, RefusedFile
from catalog_pipeline.s3_client import advice, open_s3_client
from catalog_pipeline.settings import S3Settings

_GONE = {"NoSuchKey", "NoSuchBucket", "404", "NotFound", "PreconditionFailed", "412"}
"""Answers that mean: what was listed is not there any more."""

_CHUNK_BYTES = 1 << 20


class S3PhotoSource:
    """A bucket, or a prefix of it, whose first path part is the SKU.

    Credentials come from the usual boto3 chain. The digest of a photo is of its bytes,
    not its ETag, so a catalog keeps its content hashes when it moves between a folder
    and a bucket, and when a photo is uploaded again in parts of another size; the first
    listing therefore reads every photo once.
    """

    def __init__(self, s3: S3Settings, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._bucket = s3.bucket
        prefix = s3.prefix.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._max_bytes = max_bytes
        self.where = f"s3://{s3.bucket}/{self._prefix}"
        self.page_size = 1000
        self._client = open_s3_client(
            s3, "catalogs.yaml", retries={"mode": "standard", "total_max_attempts": 4}
        )

    def close(self) -> None:
        """Close the connections; the source is of no use afterwards."""
        self._client.close()

    def list_skus(
        self,
        known: KnownDigests = NOTHING_KNOWN,
        *,
        only: Collection[str] | None = None,
        read: bool = True,
    ) -> ListingResult:
        """Every SKU prefix, or those in ``only``; see :class:`PhotoSource`."""
        prefixes = [""] if only is None else sorted({f"{validate_sku(name)}/" for name in only})
        refused: dict[str, RefusedFile] = {}
        folders: dict[str, ScannedFolder] = {}
        for prefix in prefixes:
            for found in self._objects(prefix):
                self._take_in(found, folders, refused)
        return finish_listing(
            list(folders.values()),
            list(refused.values()),
            known=known,
            read=read,
            max_bytes=self._max_bytes,
            digest=self._digest,
            # An ETag names one version of an object: it never stays while the bytes change.
            may_remember=lambda ref: True,
        )

    def read(self, key: str) -> bytes:
        """The object under ``key``; see :class:`PhotoSource`."""
        self._check(key)
        try:
            with closing(self._open(key)) as body, _as_os_error():
                data: bytes = body.read(self._max_bytes + 1)
        except FileNotFoundError as error:
            raise PhotoSetError(f"{shown(key)} is gone; list the catalog again") from error
        except UnreadableFileError as error:
            raise CatalogError(f"{shown(key)} {error}") from error
        except OSError as error:
            raise CatalogError(f"{shown(key)} in {self.where} cannot be read: {error}") from error
        if len(data) > self._max_bytes:
            raise PhotoSetError(f"{shown(key)} is larger than {self._max_bytes:,} bytes")
        return data

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._prefix + prefix,
            PaginationConfig={"PageSize": self.page_size},
        )
        try:
            with _as_os_error():
                for page in pages:
                    yield from page.get("Contents", ())
        except FileNotFoundError as error:
            raise no_such_place(self.where, "s3") from error
        except OSError as error:
            raise CatalogError(f"cannot list {self.where}: {error}") from error

    def _take_in(
        self,
        found: dict[str, Any],
        folders: dict[str, ScannedFolder],
        refused: dict[str, RefusedFile],
    ) -> None:
        """File one object of the bucket under its SKU, or refuse it."""
        key = str(found["Key"])[len(self._prefix) :]
        sku, slash, name = key.partition("/")
        if is_passed_over(sku) or sku in refused:
            return
        if not slash:
            if kind_of(sku) == "photo":
                refused[key] = outside_folder(key)
            return
        modified = found["LastModified"].astimezone(UTC)
        if sku not in folders:
            try:
                folders[sku] = ScannedFolder(validate_sku(sku), modified=modified)
            except InvalidSkuError as error:
                refused[sku] = RefusedFile(printable(sku) or "/", str(error))
                return
        first, deeper, _ = name.partition("/")
        kind = kind_of(first, sku)
        if is_passed_over(first) or not name:
            return
        if deeper:
            folders[sku].refuse(f"{first}/", FOLDER_REASON)
        elif kind in ("unknown", "other_picture"):
            folders[sku].refuse(name, why_not_read(name, kind))
        elif kind != "ignored":
            etag = str(found["ETag"]).strip('"')
            folders[sku].add(kind, PhotoRef(key, int(found["Size"]), modified, etag))

    def _digest(self, ref: PhotoRef) -> str:
        digest = hashlib.sha256()
        body = self._open(ref.key, IfMatch=f'"{ref.etag}"')
        with closing(body), _as_os_error():
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def _open(self, key: str, **conditions: str) -> Any:
        with _as_os_error():
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + key, **conditions
            )
        return answer["Body"]

    def _check(self, key: str) -> None:
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise CatalogError(f"{shown(key)} leads out of the catalog {self.where}")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Speak of S3 failures as of file failures, so that both sources share their rules."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _GONE:
            raise FileNotFoundError(str(error)) from error
        if code in {"AccessDenied", "403", "Forbidden"}:
            raise PermissionError(f"{error}; {advice(error)}") from error
        if code == "InvalidObjectState":
            raise UnreadableFileError(_archived(error.response)) from error
        if code == "InvalidRequest" or code.startswith("KMS."):
            raise UnreadableFileError(
                f"cannot be decrypted ({error}); give the pipeline its key, or upload it without"
            ) from error
        raise OSError(f"{error}; {advice(error)}") from error
    except BotoCoreError as error:
        raise OSError(f"{error}; {advice(error)}") from error


def _archived(answer: Mapping[str, Any]) -> str:
    details = {**answer.get("Error", {}), **answer}
    where = details.get("StorageClass") or details.get("AccessTier") or "a class that is not read"
    return f"is archived in {where}; restore it or remove it"
