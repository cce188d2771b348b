"""The files and objects that a feed's cells name."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from catalog_pipeline.catalog.file_kinds import is_passed_over, kind_of, why_not_read
from catalog_pipeline.catalog.local_folders import stamp_of
from catalog_pipeline.catalog.product_folders import PhotoFile
from catalog_pipeline.settings import S3Settings

_FOLDERS_REMEMBERED = 64
_IS_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

ListFolder = Callable[[str], Mapping[str, tuple[str, int]]]
"""Prefix that ends in ``/`` or is empty -> name -> (ETag, size), of the objects right below it."""


class NoSuchPhotoError(Exception):
    """A cell names no photo; the text says what was expected and what to do."""


class PhotoFinder(Protocol):
    """Finds what cells name: a photo, the photos of a folder, or those that fit a pattern."""

    def find(self, text: str) -> list[PhotoFile]:
        """The photos that ``text`` names, by name.

        Raises:
            NoSuchPhotoError: none, or something that is no photo.
        """
        ...


class LocalPhotoFinder:
    """Paths relative to ``root``, or absolute; a pattern (``*``, ``?``) only in the last part."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._list = lru_cache(_FOLDERS_REMEMBERED)(_photos_in)

    def find(self, text: str) -> list[PhotoFile]:
        """See :class:`PhotoFinder`."""
        if _IS_URL.match(text):
            raise NoSuchPhotoError(
                "is a URL, and nothing is downloaded; expected a path under "
                f"{self._root}; put the file there and its path here"
            )
        for spelled in dict.fromkeys((text, text.replace("\\", "/"))):
            path = os.path.normpath(os.path.join(self._root, spelled))
            try:
                found = self._at(path)
            except PermissionError as error:
                raise NoSuchPhotoError(
                    "cannot be read (Permission denied); expected a photo that this user may read; "
                    "give the permission"
                ) from error
            except (OSError, ValueError):  # too long, or with a zero byte: no path of a file
                found = None
            if found is not None:
                return found
        raise NoSuchPhotoError(
            f"no such file under {self._root}; expected a photo, a folder of photos or a pattern "
            "such as mug/*.jpg; correct the path, or name the folder with --photos"
        )

    def _at(self, path: str) -> list[PhotoFile] | None:
        folder, name = os.path.split(path)
        try:
            details = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return _fitting(name, self._list(folder)) if _is_pattern(name) else None
        if stat.S_ISDIR(details.st_mode):
            return _all_of(name, self._list(path))
        _require_photo(name)
        if not stat.S_ISREG(details.st_mode):
            raise NoSuchPhotoError("is not a file; expected a photo; put the file itself there")
        return [PhotoFile(name, path, stamp_of(details), details.st_size)]


def _photos_in(folder: str) -> list[PhotoFile]:
    """The photos right in ``folder``, by name; none where there is no such folder."""
    if not os.path.isdir(folder):
        return []
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if kind_of(entry.name) == "photo" and entry.is_file():
                details = entry.stat()
                found.append(PhotoFile(entry.name, entry.path, stamp_of(details), details.st_size))
    return sorted(found, key=lambda photo: photo.name)


class BucketPhotoFinder:
    """Keys below ``root`` in the bucket, ``s3://bucket/key``, or URLs of the same bucket."""

    def __init__(self, s3: S3Settings, list_folder: ListFolder, root: str = "") -> None:
        self._s3 = s3
        self._root = f"{root.strip('/')}/" if root.strip("/") else ""
        self._list = lru_cache(_FOLDERS_REMEMBERED)(list_folder)

    def find(self, text: str) -> list[PhotoFile]:
        """See :class:`PhotoFinder`."""
        key = self._key(text)
        folder, slash, name = key.rpartition("/")
        folder += slash
        if name:
            there = self._list(folder)
            if name in there:
                _require_photo(name)
                return [self._photo(folder, name, there[name])]
            if _is_pattern(name):
                return _fitting(name, self._photos(folder))
        inside = self._photos(f"{key.rstrip('/')}/")
        if inside:
            return inside
        raise NoSuchPhotoError(
            f"no such object in s3://{self._s3.bucket}/{self._root}; expected a key, a folder of "
            "photos or a pattern such as mug/*.jpg; correct it, or name the folder with --photos"
        )

    def _key(self, text: str) -> str:
        if not _IS_URL.match(text):
            return self._root + text.lstrip("/")
        inside = key_in_bucket(text, self._s3)
        if inside is None:
            raise NoSuchPhotoError(
                "is a URL elsewhere, and nothing is downloaded; expected a key or a URL of "
                f"s3://{self._s3.bucket}; upload the file there and put its key here"
            )
        return inside

    def _photos(self, folder: str) -> list[PhotoFile]:
        return [
            self._photo(folder, name, there)
            for name, there in sorted(self._list(folder).items())
            if kind_of(name) == "photo"
        ]

    def _photo(self, folder: str, name: str, there: tuple[str, int]) -> PhotoFile:
        etag, size_bytes = there
        return PhotoFile(name, f"s3://{self._s3.bucket}/{folder}{name}", etag, size_bytes)


def key_in_bucket(url: str, s3: S3Settings) -> str | None:
    """The key that ``url`` means in the bucket of ``s3``; ``None`` where it leads elsewhere.

    ``s3://bucket/key``, and http or https with the bucket before the server's name or as the
    first part of the path; a query (a signature) is dropped.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = parts.path.lstrip("/")
    if parts.scheme.lower() == "s3":
        return url.split("/", 3)[-1] if parts.netloc == s3.bucket and path else None
    if parts.scheme.lower() not in ("http", "https"):
        return None
    host = parts.netloc.lower()
    servers = _servers(s3)
    if host in servers and path.startswith(f"{s3.bucket}/"):
        return unquote(path[len(s3.bucket) + 1 :])
    if host in {f"{s3.bucket}.{server}".lower() for server in servers}:
        return unquote(path)
    return None


def _servers(s3: S3Settings) -> set[str]:
    if s3.endpoint_url is not None:
        return {urlsplit(s3.endpoint_url).netloc.lower()}
    regional = {f"s3.{s3.region}.amazonaws.com", f"s3-{s3.region}.amazonaws.com"}
    return {"s3.amazonaws.com"} | (regional if s3.region else set())


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _fitting(pattern: str, photos: Iterable[PhotoFile]) -> list[PhotoFile]:
    found = [
        photo
        for photo in photos
        if fnmatch.fnmatchcase(photo.name.lower(), pattern.lower())
        and not is_passed_over(photo.name)
    ]
    if not found:
        raise NoSuchPhotoError(
            "fits no photo; expected a pattern of .jpg, .png or .webp files; correct it"
        )
    return found


def _all_of(name: str, photos: list[PhotoFile]) -> list[PhotoFile]:
    if not photos:
        raise NoSuchPhotoError(
            "is a folder without photos; expected .jpg, .png or .webp files right in it; put "
            "them there"
        )
    return photos


def _require_photo(name: str) -> None:
    kind = kind_of(name.lstrip("."))  # it gets a name that is not hidden
    if kind != "photo":
        why = (
            why_not_read(name, kind)
            if kind in ("other_picture", "unknown")
            else ("is no photo; expected .jpg, .png or .webp; name one")
        )
        raise NoSuchPhotoError(why)
