"""The same catalog in a bucket of a real S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.catalog.photo_set import load_photo_set
from catalog_pipeline.catalog.sources import (
    LocalPhotoSource,
    S3PhotoSource,
    open_photo_source,
)
from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.settings import CatalogSettings, S3Settings, Settings

MakePhoto = Callable[..., Path]


class Bucket:
    """Puts and deletes as another program would."""

    def __init__(self, s3: S3Settings) -> None:
        import boto3

        self.s3 = s3
        self.client: Any = boto3.client("s3", endpoint_url=s3.endpoint_url, region_name=s3.region)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.s3.bucket, Key=f"{self.s3.prefix}/{key}", Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.s3.bucket, Key=f"{self.s3.prefix}/{key}")

    def upload(self, root: Path) -> None:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self.put(path.relative_to(root).as_posix(), path.read_bytes())


@pytest.fixture
def bucket(s3_settings: S3Settings) -> Iterator[Bucket]:
    opened = Bucket(s3_settings)
    yield opened
    opened.client.close()


@pytest.fixture
def source(bucket: Bucket) -> Iterator[S3PhotoSource]:
    opened = S3PhotoSource(bucket.s3)
    yield opened
    opened.close()


def test_a_bucket_gives_the_same_photo_sets_as_a_folder(
    bucket: Bucket, source: S3PhotoSource, tmp_path: Path, make_photo: MakePhoto
) -> None:
    root = tmp_path / "products"
    for sku in ("00123", "mug"):
        for n in range(3):
            make_photo(root / sku / f"{n}.JPG", seed=n, format="JPEG")
    (root / "mug" / "sku.yaml").write_text("name: Blue mug\nclass_noun: mug", encoding="utf-8")
    bucket.upload(root)
    local = LocalPhotoSource(root)
    here, there = local.list_skus().listings, source.list_skus().listings
    assert [x.sku for x in there] == ["00123", "mug"]
    assert [x.content_hash for x in there] == [x.content_hash for x in here]
    assert there[1].card_key == "mug/sku.yaml"
    for one, other in zip(here, there, strict=True):
        first = load_photo_set(local, one, CatalogSettings())
        second = load_photo_set(source, other, CatalogSettings())
        assert first.sku == second.sku
        assert [p.sha256 for p in first.photos] == [p.sha256 for p in second.photos]


def test_names_are_judged_as_in_a_folder(bucket: Bucket, source: S3PhotoSource) -> None:
    for key in (
        "mug/0.jpg",
        "mug/.hidden.jpg",
        "mug/1.jpg.part",
        "mug/deep/2.jpg",
        "mug/IMG.HEIC",
        "青いマグ/0.jpg",
        "a b/0.jpg",
        "stray.jpg",
        "catalog.json",
        ".trash/0.jpg",
        "only-deep/x/0.jpg",
        "marker/",
    ):
        bucket.put(key, key.encode())
    result = source.list_skus()
    assert {x.sku: [p.key for p in x.photos] for x in result.listings} == {
        "marker": [],
        "mug": ["mug/0.jpg"],
        "only-deep": [],
    }
    assert [file.key for file in result.refused] == ["a b", "mug/IMG.HEIC", "stray.jpg", "青いマグ"]


def test_a_listing_longer_than_a_page_is_complete(bucket: Bucket, source: S3PhotoSource) -> None:
    for n in range(12):
        bucket.put(f"sku-{n:02d}/0.jpg", b"x")
    source.page_size = 5
    assert len(source.list_skus().listings) == 12


def test_uploading_the_same_bytes_again_keeps_the_content_hash(
    bucket: Bucket, source: S3PhotoSource
) -> None:
    bucket.put("mug/0.jpg", b"one")
    before = source.list_skus()
    bucket.put("mug/0.jpg", b"one")
    assert source.list_skus(before.digests).listings[0].content_hash == (
        before.listings[0].content_hash
    )
    bucket.put("mug/0.jpg", b"two")
    after = source.list_skus(before.digests)
    assert after.listings[0].content_hash != before.listings[0].content_hash
    age = datetime.now(UTC) - after.listings[0].newest_modified_utc
    assert abs(age) < timedelta(minutes=1)


def test_known_objects_are_not_read_again(
    bucket: Bucket, source: S3PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("mug/0.jpg", b"one")
    bucket.put("mug/1.jpg", b"two")
    first = source.list_skus()
    assert set(first.digests) == {"mug/0.jpg", "mug/1.jpg"}
    read: list[str] = []
    true_digest = source._digest
    monkeypatch.setattr(source, "_digest", lambda ref: read.append(ref.key) or true_digest(ref))
    assert source.list_skus(first.digests) == first
    assert read == []
    bucket.put("mug/1.jpg", b"three")
    assert source.list_skus(first.digests).listings != first.listings
    assert read == ["mug/1.jpg"]


def test_an_object_that_changes_under_the_listing_keeps_the_set_moving(
    bucket: Bucket, source: S3PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("mug/0.jpg", b"one")
    true_digest = source._digest

    def racing_digest(ref: Any) -> str:
        bucket.put("mug/0.jpg", b"two")
        return true_digest(ref)

    monkeypatch.setattr(source, "_digest", racing_digest)
    result = source.list_skus()
    assert result.listings[0].photos == ()
    assert result.digests == {}


def test_only_the_named_skus_are_listed(bucket: Bucket, source: S3PhotoSource) -> None:
    for sku in ("mug", "mug-2", "cup"):
        bucket.put(f"{sku}/0.jpg", b"x")
    assert [x.sku for x in source.list_skus(only=["mug", "absent"]).listings] == ["mug"]
    with pytest.raises(InvalidSkuError):
        source.list_skus(only=["../x"])


def test_reading_says_what_is_gone_too_large_or_outside(bucket: Bucket) -> None:
    bucket.put("mug/0.jpg", b"0123456789")
    source = S3PhotoSource(bucket.s3, max_bytes=9)
    with pytest.raises(PhotoSetError, match="larger than 9 bytes"):
        source.read("mug/0.jpg")
    with pytest.raises(PhotoSetError, match="is gone"):
        source.read("mug/1.jpg")
    with pytest.raises(CatalogError, match="leads out of the catalog"):
        source.read("mug/../../secret")
    source.close()


def test_a_photo_that_changed_since_the_listing_asks_for_another_try(
    bucket: Bucket, source: S3PhotoSource
) -> None:
    for n in range(3):
        bucket.put(f"mug/{n}.jpg", b"same size " + str(n).encode())
    (listing,) = source.list_skus().listings
    bucket.put("mug/0.jpg", b"SAME SIZE 0")
    with pytest.raises(PhotoSetError, match=r"'mug/0.jpg' changed while it was read"):
        load_photo_set(source, listing, CatalogSettings())


def test_wrong_credentials_a_missing_bucket_and_a_dead_server_are_told_apart(
    s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failure(s3: S3Settings) -> str:
        source = S3PhotoSource(s3)
        with pytest.raises(CatalogError) as caught:
            source.list_skus()
        source.close()
        return str(caught.value)

    assert "no catalog at s3://no-such-bucket/" in failure(
        S3Settings(
            bucket="no-such-bucket", endpoint_url=s3_settings.endpoint_url, region="us-east-1"
        )
    )
    dead = s3_settings.model_copy(update={"endpoint_url": "http://127.0.0.1:1"})
    assert "check the endpoint" in failure(dead)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy" in failure(
        s3_settings
    )


def test_the_settings_choose_the_bucket(
    s3_settings: S3Settings, make_settings: Callable[..., Settings]
) -> None:
    source = open_photo_source(make_settings(catalog={"s3": s3_settings.model_dump()}))
    assert isinstance(source, S3PhotoSource)
    assert source.where == f"s3://arch/{s3_settings.prefix}/"
    source.close()
