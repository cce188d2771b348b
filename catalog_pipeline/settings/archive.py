"""``archive.yaml``."""

from __future__ import annotations

from pydantic import Field

from catalog_pipeline.settings.values import S3Settings, Strict


class ArchiveSettings(Strict):
    """``archive.yaml``: where stores live, and what a clean-up keeps.

    ``s3`` moves every store to a bucket.
    """

    s3: S3Settings | None = None
    keep_versions: int | None = Field(
        None, ge=1, description="adapter versions that `gc` keeps a collection; null = all"
    )
