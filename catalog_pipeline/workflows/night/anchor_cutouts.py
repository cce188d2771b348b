"""The products of photos, cut out for the time of rendering; kept in memory alone."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from catalog_pipeline.catalog.decoding import RefusedPhotoError, decode_photo
from catalog_pipeline.errors import CatalogError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import Anchor, Cutout, Photo, RenderJob
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import product_masker

_log = logging.getLogger(__name__)

_RESIDENT_CUTOUTS = 64
"""Cut-outs kept in memory, about a megabyte each; least recently used ones leave first."""


class PhotoGoneError(Exception):
    """A photo that a plan names is not there any more, or is another one."""


class CutoutBook:
    """Reads the photos of anchors from the catalog, and cuts their products out, once each."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._resident: OrderedDict[str, Cutout] = OrderedDict()

    def of(self, jobs: Iterable[RenderJob]) -> dict[str, Cutout]:
        """The cut-outs of all anchors of ``jobs``, by the photo's SHA-256.

        Raises:
            PhotoGoneError: a photo is gone, or has changed since the night was planned.
        """
        found = {
            anchor.sha256: self._find(anchor)
            for job in jobs
            if job.mode != "learned"
            for anchor in job.anchors
        }
        while len(self._resident) > max(_RESIDENT_CUTOUTS, len(found)):
            self._resident.popitem(last=False)
        return found

    def or_learned(self, job: RenderJob) -> RenderJob:
        """``job``; without photos, and why, where one of them is gone."""
        try:
            self.of([job])
        except PhotoGoneError as error:
            _log.warning("a picture of %s is made without photos: %s", ", ".join(job.skus), error)
            return as_learned(job, str(error))
        return job

    def _find(self, anchor: Anchor) -> Cutout:
        from catalog_pipeline.evaluation.matting import cut_out_product

        if anchor.sha256 in self._resident:
            self._resident.move_to_end(anchor.sha256)
            return self._resident[anchor.sha256]
        try:
            data = self._home.photo_source.read(anchor.key)
            if hashlib.sha256(data).hexdigest() != anchor.sha256:
                raise PhotoGoneError(f"{shown(anchor.key)} has changed since the night was planned")
            decoded = decode_photo(data, self._home.settings.catalog)
        except (CatalogError, RefusedPhotoError) as error:
            raise PhotoGoneError(f"{shown(anchor.key)} cannot be read ({error})") from error
        photo = Photo(anchor.key, anchor.sha256, decoded.pixels, decoded.mask)
        self._resident[anchor.sha256] = cut_out_product(photo, product_masker(), seen=anchor.seen)
        return self._resident[anchor.sha256]


def as_learned(job: RenderJob, reason: str) -> RenderJob:
    """``job`` without photos, and why; its id stays, since it is the picture that was planned."""
    return replace(
        job, mode="learned", anchors=(), spare_anchors=(), strength=1.0, mode_reason=reason
    )
