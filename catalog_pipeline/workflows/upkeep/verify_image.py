"""Which job, products, versions and photos made a picture, and whether it is still that picture.

A file is looked up by its bytes, else by its pixels, else by the job that its Content Credentials
or its XMP name, else by its watermark. With a home the archive is the witness; without one only
what the file says, and a signature of somebody whom the caller trusts.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from catalog_pipeline.errors import (
    CertificateError,
    ConfigurationError,
    IntegrityError,
    ObjectNotFoundError,
)
from catalog_pipeline.provenance.certificates import read_anchors
from catalog_pipeline.provenance.content_credentials import ContentCredentials, read_credentials
from catalog_pipeline.provenance.origin import Origin
from catalog_pipeline.provenance.picture_files import pixel_digest, read_picture
from catalog_pipeline.provenance.watermark import TOLERATED, extract, payload_of, wrong_bits
from catalog_pipeline.provenance.xmp import read_origin
from catalog_pipeline.records import ArchiveRow
from catalog_pipeline.stores.archive import PictureDigests
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.query import query_as_file

FoundBy = Literal["bytes", "pixels", "credentials", "xmp", "watermark"]
_BEST_FIRST: tuple[FoundBy, ...] = ("bytes", "pixels", "credentials", "xmp", "watermark")

Shelf = Literal["published", "held back", "staged"]

_LARGEST_BYTES = 2**28
"""Of a file that is read."""
_SHAPES_DIFFER = 0.01
"""Share by which width over height changes when a picture is scaled to whole pixels."""


class PhotoOfPicture(NamedTuple):
    """A photo behind a picture; ``photo`` is its file in the catalog, empty where unknown."""

    sku: str
    photo: str
    sha256: str
    in_picture: bool


@dataclass(frozen=True)
class Found:
    """The row of the archive that a file is of, where it lies, and how it was found."""

    by: FoundBy
    row: ArchiveRow
    shelf: Shelf
    photos: tuple[PhotoOfPicture, ...] = ()


@dataclass(frozen=True)
class ImageReport:
    """What is known of a file.

    Attributes:
        file: as it was named.
        problem: why it could not be read as a picture; empty when it could.
        found: its row; ``None`` without a home, or where no row fits.
        says: what its XMP says, which nobody vouches for.
        credentials: its Content Credentials; ``None`` where it has none.
        unread: what was not looked at, a watermark or a signature, and why.
    """

    file: Path
    problem: str = ""
    found: Found | None = None
    says: Origin | None = None
    credentials: ContentCredentials | None = None
    unread: tuple[str, ...] = ()

    @property
    def established(self) -> bool:
        """Whether it is proved where the picture comes from, and that nobody has changed it.

        The archive has the same bytes or pixels, or somebody trusted has signed the file as it
        is; and no signature in it is broken.
        """
        signed = self.credentials
        if self.problem or (signed is not None and not signed.intact):
            return False
        archived = self.found is not None and self.found.by in ("bytes", "pixels")
        return archived or (signed is not None and signed.trusted)


@dataclass(frozen=True)
class _Read:
    """A file as it was read, and what it may be found by; ``size`` is width and height."""

    report: ImageReport
    sha256: str = ""
    pixels_sha256: str = ""
    signed_job: str = ""
    told_job: str = ""
    marks: tuple[int, ...] = ()
    size: tuple[int, int] = (0, 0)

    def fits(self, row: PictureDigests, mark: int | None) -> FoundBy | None:
        """How the file is found to be the picture of ``row``, which would bear ``mark``."""
        if self.sha256 == row.sha256:
            return "bytes"
        if self.pixels_sha256 and self.pixels_sha256 == row.pixels_sha256:
            return "pixels"
        if self.signed_job == row.image_id:
            return "credentials"
        if self.told_job == row.image_id:
            return "xmp"
        if mark is not None and any(wrong_bits(own, mark) <= TOLERATED for own in self.marks):
            return "watermark"
        return None


class _Place(NamedTuple):
    """Where a row lies that fits a file, and how it fits."""

    by: FoundBy
    shelf: Shelf
    day: date
    image_id: str


def verify_images(
    home: Home | None, files: Sequence[Path], *, trust: Sequence[Path] = ()
) -> list[ImageReport]:
    """What is known of each of ``files``, in their order; changes nothing, asks no network.

    The archive is read once for all of them: every night's published and held back rows, and
    those that are rendered but not published.

    Args:
        home: whose archive is asked, whose certificate is trusted, and whose watermark is read,
            as far as this user may read certificate and key; ``None`` for what the files say.
        files: PNG, JPEG or WebP.
        trust: PEM files of further roots whose signatures count.

    Raises:
        CertificateError: a file of ``trust`` holds no certificate, or the extra ``provenance``
            is not installed.
        IntegrityError: a manifest cannot be read.
    """
    anchors, key, unread = [read_anchors(file) for file in trust], None, []
    if home is not None:
        try:
            anchors += home.marks.anchors
        except CertificateError as error:
            unread.append(f"who signed: {error}")
        try:
            key = home.marks.watermark_key
        except ConfigurationError as error:
            unread.append(f"watermark: {error}")
    read = [_read(file, anchors, key, unread) for file in files]
    if home is None:
        return [each.report for each in read]
    best, sizes = _look_up(home, dict(enumerate(read)), key)
    scaled = {
        place: replace(each, marks=_marks_at(each, sizes, key))
        for place, each in enumerate(read)
        if key is not None and each.marks and place not in best
    }
    if any(each.marks for each in scaled.values()):
        best |= _look_up(home, scaled, key)[0]
    return [
        replace(each.report, found=_found(home, best[place], each))
        if place in best
        else each.report
        for place, each in enumerate(read)
    ]


def _read(file: Path, anchors: Sequence[str], key: bytes | None, unread: Sequence[str]) -> _Read:
    try:
        data = _bytes_of(file)
        picture = read_picture(data)
    except OSError as error:
        return _Read(ImageReport(file, f"cannot be read: {error.strerror}"))
    except IntegrityError as error:
        return _Read(ImageReport(file, str(error)))
    credentials = None
    try:
        credentials = read_credentials(data, picture.media_type, anchors)
    except CertificateError as error:  # the extra is not installed
        unread = [*unread, f"signature: {error}"]
    says, pixels = read_origin(picture.xmp), picture.pixels
    signed = credentials.origin if credentials is not None else None
    damage = f"its pixels cannot be decoded ({picture.damage})" if picture.damage else ""
    return _Read(
        ImageReport(file, damage, says=says, credentials=credentials, unread=tuple(unread)),
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256="" if pixels is None or not picture.plain else pixel_digest(pixels),
        signed_job=signed.job_id if signed is not None else "",
        told_job=says.job_id if says is not None else "",
        marks=() if pixels is None or key is None else (extract(pixels, key),),
        size=(0, 0) if pixels is None else (pixels.shape[1], pixels.shape[0]),
    )


def _bytes_of(file: Path) -> bytes:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError("is a folder or a device; expected a file")
    if found.st_size > _LARGEST_BYTES:
        raise IntegrityError(
            f"has {found.st_size:,} bytes; expected a picture of at most {_LARGEST_BYTES:,}"
        )
    return file.read_bytes()


def _look_up(
    home: Home, files: Mapping[int, _Read], key: bytes | None
) -> tuple[dict[int, _Place], set[tuple[int, int]]]:
    """File -> the row that fits it best, and the sizes of all pictures.

    Of rows that fit alike it is the first of :func:`_shelves`.
    """
    best: dict[int, _Place] = {}
    sizes = set()
    for shelf, day, rows in _shelves(home):
        for row in rows:
            sizes.add((row.width, row.height))
            mark = None if key is None else payload_of(row.image_id, key)
            for place, file in files.items():
                by, known = file.fits(row, mark), best.get(place)
                if by is None or (known and _BEST_FIRST.index(known.by) <= _BEST_FIRST.index(by)):
                    continue
                best[place] = _Place(by, shelf, day, row.image_id)
    return best, sizes


def _marks_at(file: _Read, sizes: Iterable[tuple[int, int]], key: bytes) -> tuple[int, ...]:
    """The marks of a picture that was scaled, at the sizes of its shape that the archive has."""
    width, height = file.size
    alike = [
        size
        for size in sorted(sizes)
        if size != file.size
        and abs(size[0] * height - size[1] * width) <= _SHAPES_DIFFER * size[0] * height
    ]
    if not alike:
        return ()
    pixels = read_picture(file.report.file.read_bytes()).pixels
    if pixels is None:
        return ()
    image = Image.fromarray(pixels)
    return tuple(
        extract(np.asarray(image.resize(size, Image.Resampling.LANCZOS)), key) for size in alike
    )


def _shelves(home: Home) -> Iterator[tuple[Shelf, date, Iterable[PictureDigests]]]:
    """What every row of the archive knows its picture by; published ones first, then newer ones."""
    archive = home.archive
    for day in reversed(archive.days()):
        yield "published", day, archive.digests(day)
    for day in reversed(archive.quarantine.days()):
        yield "held back", day, archive.quarantine.digests(day)
    for day in reversed(archive.staged_days()):
        yield "staged", day, map(_digests, archive.staged(day))


def _digests(row: ArchiveRow) -> PictureDigests:
    digests = (row.image_id, row.sha256, row.pixels_sha256)
    return PictureDigests(*digests, row.width, row.height)


def _found(home: Home, place: _Place, file: _Read) -> Found | None:
    archive = home.archive
    read = {
        "published": archive.read_day,
        "held back": archive.quarantine.read_day,
        "staged": archive.staged,
    }[place.shelf]
    row = next((row for row in read(place.day) if row.image_id == place.image_id), None)
    if row is None:  # published or let go since it was looked up
        return None
    same = place.by != "bytes" and not row.pixels_sha256 and _shows_the_same(home, row, file)
    return Found("pixels" if same else place.by, row, place.shelf, _photos(home, row))


def _shows_the_same(home: Home, row: ArchiveRow, file: _Read) -> bool:
    """Whether the stored picture of a row without a digest of its pixels shows what ``file`` does.

    Such rows are older than that column; what `export-images` adds to their files is not in the
    archive.
    """
    try:
        stored = read_picture(home.archive.read_image(row.path)).pixels
    except (ObjectNotFoundError, IntegrityError):
        return False
    return stored is not None and pixel_digest(stored) == file.pixels_sha256


def _photos(home: Home, row: ArchiveRow) -> tuple[PhotoOfPicture, ...]:
    """What the view ``lineage`` knows; of a row that is staged, the photos that stand in it."""
    quoted = row.image_id.replace("'", "''")
    sql = (
        "SELECT DISTINCT sku, photo, photo_sha256 AS sha256, in_picture FROM lineage "
        f"WHERE image_id = '{quoted}' AND photo_sha256 IS NOT NULL ORDER BY ALL"
    )
    known = tuple(
        PhotoOfPicture(each["sku"], each["photo"] or "", each["sha256"], each["in_picture"])
        for each in json.loads(query_as_file(home, sql, "json"))
    )
    placed = (PhotoOfPicture(sku, "", digest, True) for sku, digest in sorted(row.photos.items()))
    return known or tuple(placed)
