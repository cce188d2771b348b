"""The same catalog in a bucket of a real S3 server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from catalog_pipeline.catalog.photo_set import list_one, load_photo_set
from catalog_pipeline.catalog.sources import (
    LocalPhotoSource,
    S3PhotoSource,
    open_photo_source,
)
from catalog_pipeline.errors import CatalogError, InvalidSkuError, PhotoSetError
from catalog_pipeline.settings import CatalogSettings, S3Settings, Settings
from tests.s3_server import answer_instead

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
        "mug/@eaDir/0.jpg",
        "mug/._0.jpg",
        "mug/1.JFIF",
        "mug/x.jpg?width=800",
        "@eaDir/mug/0.jpg",
        "#recycle/0.jpg",
        "System Volume Information/0.jpg",
    ):
        bucket.put(key, key.encode())
    result = source.list_skus()
    assert {x.sku: [p.key for p in x.photos] for x in result.listings} == {
        "marker": [],
        "mug": ["mug/0.jpg", "mug/1.JFIF"],
        "only-deep": [],
    }
    assert [file.key for file in result.refused] == [
        "a b",
        "mug/IMG.HEIC",
        "mug/deep/",
        "mug/x.jpg?width=800",
        "only-deep/x/",
        "stray.jpg",
        "青いマグ",
    ]


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


# --- one oddity stops nothing -------------------------------------------------

ARCHIVED = (
    "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's "
    "storage class</Message><StorageClass>DEEP_ARCHIVE</StorageClass></Error>"
)
COLD_TIER = (
    "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's "
    "access tier</Message><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier></Error>"
)
OWN_KEY = (
    "<Error><Code>InvalidRequest</Code><Message>The object was stored using a form of Server Side "
    "Encryption. The correct parameters must be provided</Message></Error>"
)
DISABLED_KEY = "<Error><Code>KMS.DisabledException</Code><Message>is disabled</Message></Error>"


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (ARCHIVED, "is archived in DEEP_ARCHIVE; restore it or remove it"),
        (COLD_TIER, "is archived in DEEP_ARCHIVE_ACCESS; restore it or remove it"),
        (OWN_KEY, "cannot be decrypted .*Server Side Encryption.* give the pipeline its key"),
        (DISABLED_KEY, "cannot be decrypted .*is disabled"),
    ],
    ids=["archived", "cold_tier", "own_key", "disabled_key"],
)
def test_an_object_that_will_not_be_read_is_refused_and_the_others_count(
    bucket: Bucket,
    source: S3PhotoSource,
    tmp_path: Path,
    make_photo: MakePhoto,
    xml: str,
    said: str,
) -> None:
    for n in range(4):
        make_photo(tmp_path / "mug" / f"{n}.jpg", seed=n)
    bucket.upload(tmp_path)
    answer_instead(source._client, "GetObject", xml, 403, to="mug/2.jpg")
    result = source.list_skus()
    (found,) = result.listings
    (refused,) = result.refused
    assert [p.key for p in found.photos] == ["mug/0.jpg", "mug/1.jpg", "mug/3.jpg"]
    assert refused.key == "mug/2.jpg"
    assert re.search(said, refused.reason)
    for listing in (found, list_one(source, "mug", read=False)):
        loaded = load_photo_set(source, listing, CatalogSettings())
        assert loaded.content_hash == found.content_hash
        assert len(loaded.photos) == 3
        assert re.search(said, loaded.refused[0].reason)


def test_an_archived_card_holds_its_sku_back(bucket: Bucket, source: S3PhotoSource) -> None:
    for key in ("mug/0.jpg", "mug/sku.yaml", "cup/0.jpg"):
        bucket.put(key, b"x")
    answer_instead(source._client, "GetObject", ARCHIVED, 403, to="mug/sku.yaml")
    result = source.list_skus()
    assert [x.sku for x in result.listings] == ["cup"]
    assert [file.key for file in result.refused] == ["mug/sku.yaml"]


def prefix_of(source: S3PhotoSource) -> str:
    return source.where.partition("arch/")[2].rstrip("/")


def page(prefix: str, keys: Sequence[str], modified: str = "2026-01-31T00:00:00.000Z") -> str:
    """A listing as S3 answers it; only the first object has the date ``modified``."""
    dates = [modified, *["2026-01-31T00:00:00.000Z"] * len(keys)]
    contents = "".join(
        f"<Contents><Key>{escape(quote(f'{prefix}/{key}'))}</Key><LastModified>{date}"
        f'</LastModified><ETag>"e"</ETag><Size>4</Size></Contents>'
        for key, date in zip(keys, dates, strict=False)
    )
    head = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<EncodingType>url</EncodingType>{contents}</ListBucketResult>"


@pytest.mark.parametrize(
    "modified", ["60000-01-01T00:00:00Z", "-4970-01-19T00:00:00Z", "0001-01-01T00:00:00Z", ""]
)
def test_a_date_that_no_calendar_knows_stops_nothing(source: S3PhotoSource, modified: str) -> None:
    answer_instead(
        source._client,
        "ListObjectsV2",
        page(prefix_of(source), ["mug/0.jpg", "cup/0.jpg"], modified),
    )
    result = source.list_skus(read=False)
    assert [x.sku for x in result.listings] == ["cup", "mug"]
    assert result.listings[0].newest_modified_utc == datetime(2026, 1, 31, tzinfo=UTC)


key_parts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@bounded(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(key_parts, min_size=1, max_size=3).map("/".join), max_size=6))
def test_no_key_stops_the_catalog(source: S3PhotoSource, keys: list[str]) -> None:
    listed = ["good/0.jpg", *keys, *(f"mug/{key}" for key in keys), *(f"{k}.jpg" for k in keys)]
    answer_instead(source._client, "ListObjectsV2", page(prefix_of(source), listed))
    result = source.list_skus(read=False)
    assert "good" in {x.sku for x in result.listings}
    assert all(f"{f.key}: {f.reason}".isprintable() and f.key for f in result.refused)
    taken = {p.key for x in result.listings for p in x.photos}
    assert taken <= set(listed)


def test_odd_keys_are_read_back_from_a_real_server(bucket: Bucket, source: S3PhotoSource) -> None:
    keys = ["a b+c%41&=?.jpg", "né.jpg", "日本.jpg", "x\ny.jpg", "<&>\"'.jpg", "#.jpg", " .jpg"]
    for key in keys:
        bucket.put(f"mug/{key}", key.encode())
    (found,) = source.list_skus().listings
    assert sorted(p.key for p in found.photos) == sorted(f"mug/{key}" for key in keys)
    for key in keys:
        assert source.read(f"mug/{key}") == key.encode()
