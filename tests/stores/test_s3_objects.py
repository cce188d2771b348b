"""What only a network can get wrong, against a real server and a proxy that breaks answers."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from catalog_pipeline.errors import (
    ConflictError,
    IntegrityError,
    StorageFullError,
    StoreError,
)
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores import s3
from catalog_pipeline.stores.s3 import S3ObjectStore


@pytest.fixture
def store(s3_settings: S3Settings) -> S3ObjectStore:
    return S3ObjectStore(s3_settings)


REFUSALS = {
    "busy": (503, b""),
    "full": (507, b""),
    "quota": (403, b"<Error><Code>QuotaExceeded</Code><Message>no more</Message></Error>"),
}


class FaultyProxy:
    """Forwards to the server; each entry of ``faults`` spoils one PUT.

    ``lost``: the server does it, the answer never arrives. ``busy``: 503, ``full``: 507,
    ``quota``: 403 with its code; the server never hears of these.
    """

    def __init__(self, endpoint_url: str) -> None:
        self.faults: list[str] = []
        self.puts = 0
        proxy = self
        target = urlsplit(endpoint_url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = ""
                if self.command == "PUT":
                    proxy.puts += 1
                    fault = proxy.faults.pop(0) if proxy.faults else ""
                if fault in REFUSALS:
                    status, body = REFUSALS[fault]
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                connection = http.client.HTTPConnection(target)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                if fault == "lost":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = _forward  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.endpoint_url = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def proxy(s3_settings: S3Settings) -> Iterator[FaultyProxy]:
    assert s3_settings.endpoint_url
    running = FaultyProxy(s3_settings.endpoint_url)
    yield running
    running.stop()


@pytest.fixture
def spoiled(s3_settings: S3Settings, proxy: FaultyProxy) -> S3ObjectStore:
    return S3ObjectStore(s3_settings.model_copy(update={"endpoint_url": proxy.endpoint_url}))


def test_a_busy_server_is_asked_again(spoiled: S3ObjectStore, proxy: FaultyProxy) -> None:
    proxy.faults = ["busy", "busy"]
    spoiled.put("k", b"1")
    assert proxy.puts == 3
    assert spoiled.read("k").data == b"1"


def test_a_creation_whose_answer_was_lost_still_counts(
    spoiled: S3ObjectStore, proxy: FaultyProxy
) -> None:
    proxy.faults = ["lost"]
    assert spoiled.put_if_absent("k", b"1")
    assert proxy.puts == 2
    assert not spoiled.put_if_absent("k", b"1")


def test_a_swap_whose_answer_was_lost_still_counts(
    spoiled: S3ObjectStore, store: S3ObjectStore, proxy: FaultyProxy
) -> None:
    first = store.put("k", b"1")
    proxy.faults = ["lost"]
    second = spoiled.compare_and_swap("k", b"2", first)
    assert store.read("k").version == second
    proxy.faults = ["lost"]
    store.put("k", b"3")
    with pytest.raises(ConflictError):
        spoiled.compare_and_swap("k", b"4", second)
    assert store.read("k").data == b"3"


def test_a_server_that_stays_busy_is_reported(spoiled: S3ObjectStore, proxy: FaultyProxy) -> None:
    proxy.faults = ["busy"] * 20
    with pytest.raises(StoreError, match=r"PutObject of 'k' failed .* 503"):
        spoiled.put("k", b"1")
    assert proxy.puts == 6


@pytest.mark.parametrize("fault", ["full", "quota"])
def test_a_full_bucket_is_said_at_once_and_nothing_is_left(
    spoiled: S3ObjectStore, store: S3ObjectStore, proxy: FaultyProxy, fault: str
) -> None:
    version = store.put("k", b"old")
    for call in (
        lambda: spoiled.put("k", b"new"),
        lambda: spoiled.put_if_absent("fresh", b"new"),
        lambda: spoiled.compare_and_swap("k", b"new", version),
    ):
        proxy.faults, proxy.puts = [fault], 0
        with pytest.raises(
            StorageFullError, match=r"no room for .* make room .*catalog-pipeline gc"
        ):
            call()
        assert proxy.puts == 1
    assert store.list("") == ["k"]
    assert store.read("k").data == b"old"


def test_a_wrong_secret_is_named_as_such(
    s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = S3ObjectStore(s3_settings)
    for call in (
        lambda: store.read("k"),
        lambda: store.exists("k"),
        lambda: store.put("k", b""),
        lambda: store.put_if_absent("k", b""),
        lambda: store.list(""),
        lambda: store.delete("k"),
    ):
        with pytest.raises(StoreError, match=r"refused the credentials .* AWS_SECRET_ACCESS_KEY"):
            call()


def test_missing_credentials_are_named_as_such(
    s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(StoreError, match="credentials"):
        S3ObjectStore(s3_settings).read("k")


def test_a_missing_bucket_is_named(s3_settings: S3Settings) -> None:
    store = S3ObjectStore(s3_settings.model_copy(update={"bucket": "no-such-bucket"}))
    with pytest.raises(StoreError, match=r"no bucket 'no-such-bucket' .* archive.yaml"):
        store.read("k")


def test_an_unreachable_server_is_named(s3_settings: S3Settings) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint_url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    store = S3ObjectStore(s3_settings.model_copy(update={"endpoint_url": endpoint_url}))
    with pytest.raises(StoreError, match=f"cannot reach bucket 'arch' at {endpoint_url}"):
        store.read("k")


def test_bytes_that_do_not_match_their_digest_are_refused(
    store: S3ObjectStore, s3_settings: S3Settings
) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3_settings.endpoint_url, region_name=s3_settings.region
    )
    name = f"{s3_settings.prefix}/k"
    client.put_object(
        Bucket=s3_settings.bucket, Key=name, Body=b"rotten", Metadata={"sha256": "0" * 64}
    )
    with pytest.raises(IntegrityError, match="is corrupted"):
        store.read("k")
    client.put_object(Bucket=s3_settings.bucket, Key=name, Body=b"copied by another tool")
    assert store.read("k").data == b"copied by another tool"
    client.close()


def test_prefixes_are_separate_homes(s3_settings: S3Settings) -> None:
    inner = s3_settings.model_copy(update={"prefix": f"{s3_settings.prefix}/inner/"})
    S3ObjectStore(inner).put("k", b"inner")
    outer = S3ObjectStore(s3_settings)
    assert not outer.exists("k")
    assert outer.list("") == ["inner/k"]
    assert S3ObjectStore(inner).list("") == ["k"]
    with pytest.raises(StoreError, match="object key"):
        S3ObjectStore(s3_settings.model_copy(update={"prefix": "../x"}))


@pytest.mark.parametrize("worth_a_listing", [1, 5, 1000])
@pytest.mark.parametrize("page", [1, 7, 1000])
def test_what_is_missing_is_told_however_the_listing_is_cut(
    store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch, page: int, worth_a_listing: int
) -> None:
    monkeypatch.setattr(s3, "_LISTED_AT_ONCE", page)
    monkeypatch.setattr(s3, "_WORTH_A_LISTING", worth_a_listing)
    keys = [f"images/sha256={number:04d}.png" for number in range(60)]
    store.each_of(lambda key: store.put(key, b"1"), [*keys[::2], "other/0000.png"])
    assert store.missing_keys(keys[10:]) == keys[11::2]
    assert store.missing_keys([keys[0], "other/0000.png", "other/0001.png", "a"]) == [
        "a",
        "other/0001.png",
    ]
