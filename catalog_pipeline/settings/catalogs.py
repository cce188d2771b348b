"""``catalogs.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from catalog_pipeline.settings.values import YEAR_SECONDS, S3Settings, Strict, not_blank


class CurationSettings(Strict):
    """Which photos a product is learned from."""

    enabled: bool = Field(True, description="false: every photo that can be read is used")
    near_duplicate: float = Field(
        0.06, ge=0, le=0.2, description="share of a perceptual hash in which one picture may differ"
    )
    max_blur: float = Field(
        0.6, gt=0, le=1, description="how blurred a photo may be; 0 is sharp, 1 shows no edge"
    )
    min_likeness: float = Field(
        0.25, ge=-1, lt=1, description="cosine of the product to that of the other photos"
    )


class ShardSettings(Strict):
    """Into how many sets of partitions Dagster divides the SKUs; nothing else knows of them."""

    count: int = Field(
        1, ge=1, le=64, description="sets of SKU partitions; more may be added, none taken away"
    )
    skus: int = Field(
        100_000, ge=1, description="SKUs of a full set; the last one takes all that are left"
    )


class CatalogSettings(Strict):
    """``catalogs.yaml``: the watched product folders and what counts as usable."""

    root: Annotated[Path, BeforeValidator(not_blank)] = Path("products")
    s3: S3Settings | None = None
    settle_seconds: float = Field(120.0, ge=0, le=YEAR_SECONDS)
    min_photos: int = Field(3, ge=1)
    max_photos: int = Field(30, ge=1)
    min_side_px: int = Field(64, ge=8)
    max_pixels: int = Field(60_000_000, ge=1, le=10**10)
    max_bytes: int = Field(
        50_000_000, ge=1, le=10**12, description="a larger photo is refused before it is read"
    )
    working_side_px: int = Field(
        512, ge=64, le=16384, description="photos are reduced to this longer side"
    )
    curation: CurationSettings = CurationSettings()
    max_requests_per_tick: int = Field(25, ge=1)
    sensor_lists_up_to_skus: int = Field(
        2000, ge=0, description="a larger catalog is listed by catalog/index, not by the sensor"
    )
    shards: ShardSettings = ShardSettings()
    retire_fraction_limit: float = Field(
        0.5, gt=0, le=1, description="refuse a listing that would retire more than this share"
    )
