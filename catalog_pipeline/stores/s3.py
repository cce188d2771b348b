"""Objects in an S3 bucket, or in any server that honours conditional writes.

Atomic: one PUT an object, so readers see the old one or the new one.
``If-None-Match: *`` and ``If-Match`` make creation and replacement exclusive.
Every object carries two metadata entries: ``sha256``, checked on each read, and
``write-id``, by which a writer whose answer was lost recognises its own write.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from catalog_pipeline.errors import (
    AccessDeniedError,
    ConflictError,
    IntegrityError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
)
from catalog_pipeline.s3_client import advice, is_cut_off, open_s3_client
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores.keys import check_digest, check_key, check_prefix, sha256_hex
from catalog_pipeline.stores.objects import ObjectInfo, ObjectStore, StoredObject

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 4.0
_LISTED_AT_ONCE = 1000
_DELETED_AT_ONCE = 1000
_NOT_UNDERSTOOD = {400, 405, 501}
_WORTH_A_LISTING = 32
"""Keys that a page of a listing must answer for, to be faster than asking for each."""

_AT_ONCE = 16
_FEW = 4
_RETRIED_CODES = {
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_FULL_CODES = {
    "InsufficientStorage",
    "QuotaExceeded",
    "ServiceQuotaExceededException",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_INSUFFICIENT_STORAGE = 507
_REFUSED = {301, 400, 401, 403}
_DENIED_CODES = {"403", "AccessDenied"}
_MISSING_KEY_CODES = {"404", "NoSuchKey", "NotFound"}
_CONFLICT_CODES = {"412", "PreconditionFailed"}


class S3ObjectStore(ObjectStore):
    """Objects in a bucket.

    A version is the ETag. Credentials come from the usual boto3 chain
    (environment, profile, instance role). Throttling, 5xx answers and broken
    connections are retried up to six times with growing random pauses.
    """

    def __init__(self, s3: S3Settings) -> None:
        self._bucket = s3.bucket
        self._prefix = f"{check_key(s3.prefix.strip('/'))}/" if s3.prefix.strip("/") else ""
        self._where = f"bucket {s3.bucket!r} at {s3.endpoint_url or 'AWS'}"
        self._client = open_s3_client(s3, "archive.yaml", retries={"total_max_attempts": 1})

    def read(self, key: str) -> StoredObject:
        """See :class:`ObjectStore`."""
        name = self._name(key)

        def fetch() -> tuple[bytes, str, str | None]:
            answer = self._client.get_object(Bucket=self._bucket, Key=name)
            return answer["Body"].read(), answer["ETag"], answer["Metadata"].get("sha256")

        data, etag, recorded = self._call(key, fetch)
        found = sha256_hex(data)
        check_digest(key, found, self.uri(key))
        if recorded is not None and recorded != found:
            raise IntegrityError(
                f"{self.uri(key)} is corrupted: its bytes hash to {found[:12]}, "
                f"expected {recorded[:12]}; restore the object from a backup"
            )
        return StoredObject(data, etag)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See :class:`ObjectStore`."""
        try:
            self._put(key, data, IfNoneMatch="*")
        except ConflictError:
            return False
        return True

    def put(self, key: str, data: bytes) -> str:
        """See :class:`ObjectStore`."""
        return self._put(key, data)

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str:
        """See :class:`ObjectStore`."""
        if expected is None:
            return self._put(key, data, IfNoneMatch="*")
        return self._put(key, data, IfMatch=expected)

    def scan(self, prefix: str) -> Sequence[ObjectInfo]:
        """See :class:`ObjectStore`."""
        wanted = self._prefix + check_prefix(prefix)

        def fetch() -> list[ObjectInfo]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=wanted
            )
            return [
                ObjectInfo(
                    entry["Key"].removeprefix(self._prefix),
                    entry["Size"],
                    entry["LastModified"].astimezone(UTC),
                )
                for page in pages
                for entry in page.get("Contents", [])
            ]

        return sorted(self._call(prefix, fetch), key=lambda found: found.key)

    def folders(self, prefix: str) -> Sequence[str]:
        """See :class:`ObjectStore`: the server tells the names, not their keys."""
        wanted = self._prefix + check_prefix(prefix)

        def fetch() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=wanted, Delimiter="/"
            )
            found = (each["Prefix"] for page in pages for each in page.get("CommonPrefixes", []))
            return [name.removeprefix(wanted).removesuffix("/") for name in found]

        return sorted(self._call(prefix, fetch))

    def info(self, key: str) -> ObjectInfo:
        """See :class:`ObjectStore`."""
        answer = self._head(key)
        modified: datetime = answer["LastModified"]
        return ObjectInfo(key, int(answer["ContentLength"]), modified.astimezone(UTC))

    def delete(self, key: str) -> None:
        """See :class:`ObjectStore`."""
        name = self._name(key)
        self._call(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=name))

    def delete_many(self, keys: Sequence[str]) -> None:
        """See :class:`ObjectStore`: a thousand keys a request.

        What the server leaves of them, and everything where it does not know the request, is
        removed one by one: that tries again, and says why it cannot.
        """
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            self.each_of(self.delete, self._delete_some(keys[start : start + _DELETED_AT_ONCE]))

    def _delete_some(self, keys: Sequence[str]) -> Sequence[str]:
        """Remove ``keys`` in one request; those that may be there still."""
        from botocore.exceptions import ClientError

        named = {self._name(key): key for key in keys}
        objects = [{"Key": name} for name in named]

        def request() -> Sequence[str]:
            try:
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            except ClientError as error:
                if (
                    error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                    in _NOT_UNDERSTOOD
                ):
                    return keys
                raise
            return [named[left["Key"]] for left in answer.get("Errors", ())]

        return self._call(keys[0], request)

    def uri(self, key: str) -> str:
        """See :class:`ObjectStore`: ``s3://bucket/...``."""
        return f"s3://{self._bucket}/{self._name(key)}"

    def each_of(
        self, action: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Sequence[_Result]:
        """See :class:`ObjectStore`: over several connections."""
        if len(items) < _FEW:
            return super().each_of(action, items)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(action, items))

    def missing_keys(self, keys: Iterable[str]) -> Sequence[str]:
        """See :class:`ObjectStore`.

        The bucket is listed from key to key for as long as one page of the listing answers for
        many of them. What no page shows is asked for by name: a listing proves only presence.
        """
        left = sorted(set(keys))
        unseen: list[str] = []
        answered = len(left)
        while min(len(left), answered) >= _WORTH_A_LISTING:
            listed = self._list_from(left[0])
            answered = bisect_right(left, listed[-1]) if listed else 0
            unseen += sorted(set(left[:answered]).difference(listed))
            left = left[answered:]
        return super().missing_keys([*unseen, *left])

    def _list_from(self, key: str) -> Sequence[str]:
        """One page of the listing of ``key``'s folder: up to 1,000 keys from ``key`` on, sorted."""
        name = self._name(key)
        answer = self._call(
            key,
            lambda: self._client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=name[: name.rfind("/") + 1],
                StartAfter=name[:-1],
                MaxKeys=_LISTED_AT_ONCE,
            ),
        )
        return sorted(each["Key"].removeprefix(self._prefix) for each in answer.get("Contents", ()))

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _head(self, key: str) -> dict[str, Any]:
        name = self._name(key)
        return self._call(
            key, lambda: dict(self._client.head_object(Bucket=self._bucket, Key=name))
        )

    def _put(self, key: str, data: bytes, **condition: str) -> str:
        write_id = secrets.token_hex(16)
        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "Body": data,
            "ContentMD5": base64.b64encode(
                hashlib.md5(data, usedforsecurity=False).digest()
            ).decode(),
            "Metadata": {"sha256": sha256_hex(data), "write-id": write_id},
            **condition,
        }
        try:
            return str(self._call(key, lambda: self._client.put_object(**request)["ETag"]))
        except ConflictError:
            # A retried PUT meets its own first attempt when only the answer was lost.
            own = self._own_write(key, write_id)
            if own is None:
                raise
            return own

    def _own_write(self, key: str, write_id: str) -> str | None:
        try:
            found = self._head(key)
        except ObjectNotFoundError:
            return None
        return str(found["ETag"]) if found["Metadata"].get("write-id") == write_id else None

    def _call(self, key: str, request: Callable[[], _Answer]) -> _Answer:
        """``request`` with retries; every failure becomes one of the project's errors."""
        from botocore.exceptions import BotoCoreError, ClientError

        attempts = Retrying(
            retry=retry_if_exception(_is_passing),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE_SECONDS),
            reraise=True,
        )
        try:
            return attempts(request)
        except ClientError as error:
            raise self._explained(key, error) from error
        except BotoCoreError as error:
            raise StoreError(
                f"cannot reach {self._where} for {key!r}: {error}; {advice(error)}"
            ) from error

    def _explained(self, key: str, error: Any) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        conditional = error.operation_name == "PutObject"
        if code in _CONFLICT_CODES or (conditional and code == "NoSuchKey"):
            return ConflictError(
                f"{key!r} changed under this writer in {self._where}; read it again and retry"
            )
        if code in _MISSING_KEY_CODES:
            return ObjectNotFoundError(f"no object {key!r} in {self._where}")
        if code == "NoSuchBucket":
            return StoreError(f"no {self._where}; create it or correct archive.yaml: s3.bucket")
        if code in _FULL_CODES or status == _INSUFFICIENT_STORAGE:
            return StorageFullError(
                f"no room for {key!r} in {self._where}: {code} (HTTP {status}); raise its quota or "
                "make room (`catalog-pipeline gc --dry-run` shows what can go), then run the same "
                "command again; nothing was left half-written"
            )
        if status in _REFUSED:
            what = "the credentials" if status == 403 else error.operation_name
            kind = AccessDeniedError if code in _DENIED_CODES else StoreError
            return kind(f"{self._where} refused {what} for {key!r} ({code}); {advice(error)}")
        return StoreError(
            f"{error.operation_name} of {key!r} failed in {self._where}: {code} "
            f"(HTTP {status}): {error.response.get('Error', {}).get('Message', '')}"
        )


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    from botocore.exceptions import (
        ClientError,
        EndpointConnectionError,
        HTTPClientError,
        IncompleteReadError,
    )

    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _FULL_CODES or status == _INSUFFICIENT_STORAGE:
            return False
        if status in _NOT_UNDERSTOOD:
            return code in _RETRIED_CODES
        return code in _RETRIED_CODES or status == 429 or status >= 500
    # A server that restarts refuses connections for a moment.
    passing = (EndpointConnectionError, HTTPClientError, IncompleteReadError)
    return isinstance(error, passing) or is_cut_off(error)
