"""What only a network can get wrong, against a real server and a proxy that breaks answers.

The proxy also speaks TLS, and keeps the headers of every request.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import tenacity.nap
import trustme

from catalog_pipeline.catalog.s3 import S3PhotoSource
from catalog_pipeline.errors import (
    CatalogError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    StorageFullError,
    StoreError,
)
from catalog_pipeline.settings import S3Settings
from catalog_pipeline.stores import s3
from catalog_pipeline.stores.s3 import S3ObjectStore
from tests.s3_server import answer_instead


@pytest.fixture
def store(s3_settings: S3Settings) -> S3ObjectStore:
    return S3ObjectStore(s3_settings)


def an_error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


REFUSALS = {
    "busy": (503, b""),
    "full": (507, b""),
    "quota": (403, an_error("QuotaExceeded")),
    "unmeasured": (411, an_error("MissingContentLength")),
    "skewed": (403, an_error("RequestTimeTooSkewed")),
    "expired": (400, an_error("ExpiredToken")),
    "elsewhere": (400, an_error("AuthorizationHeaderMalformed")),
}


class FaultyProxy:
    """Forwards to the server; each entry of ``faults`` spoils one PUT.

    ``lost``: the server does it, the answer never arrives. The server never hears of the
    others, which are ``REFUSALS``. The answers to these are dated ``clock_ahead`` of now.
    So many connections as ``hang_ups`` says are closed before a word.
    """

    def __init__(self, endpoint_url: str, tls: ssl.SSLContext | None = None) -> None:
        self.faults: list[str] = []
        self.puts = 0
        self.hang_ups = 0
        self.clock_ahead = timedelta()
        self.requests: list[tuple[str, dict[str, str]]] = []
        proxy = self
        target = urlsplit(endpoint_url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                if proxy.hang_ups:
                    proxy.hang_ups -= 1
                    raise ConnectionAbortedError
                super().setup()

            def _forward(self) -> None:
                sent = {name.lower(): value for name, value in self.headers.items()}
                proxy.requests.append((self.command, sent))
                body = self.rfile.read(int(sent.get("content-length", 0)))
                fault = ""
                if self.command == "PUT":
                    proxy.puts += 1
                    fault = proxy.faults.pop(0) if proxy.faults else ""
                    if "content-length" not in sent:
                        fault, self.close_connection = "unmeasured", True
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

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _forward  # noqa: N815

            def date_time_string(self, timestamp: float | None = None) -> str:
                return format_datetime(datetime.now(UTC) + proxy.clock_ahead, usegmt=True)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            # The handshake belongs to a request's own thread: a client that gives up ends it.
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        scheme = "https" if tls else "http"
        self.endpoint_url = f"{scheme}://127.0.0.1:{self.server.server_port}"

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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_proxy(s3_settings: S3Settings, authority: trustme.CA) -> Iterator[FaultyProxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    assert s3_settings.endpoint_url
    running = FaultyProxy(s3_settings.endpoint_url, context)
    yield running
    running.stop()


@pytest.fixture
def over_tls(
    s3_settings: S3Settings,
    tls_proxy: FaultyProxy,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> S3Settings:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return s3_settings.model_copy(update={"endpoint_url": tls_proxy.endpoint_url})


def test_over_https_a_body_goes_out_whole_with_its_length(
    over_tls: S3Settings, tls_proxy: FaultyProxy
) -> None:
    store = S3ObjectStore(over_tls)
    assert store.put_if_absent("k", b"1")
    assert not store.put_if_absent("k", b"1")
    version = store.compare_and_swap("k", b"22", store.read("k").version)
    with pytest.raises(ConflictError):
        store.compare_and_swap("k", b"3", "another")
    assert store.read("k").version == version
    assert store.list("") == ["k"]
    store.put("empty", b"")
    store.delete("k")
    assert store.missing_keys(["k", "empty"]) == ["k"]
    source = S3PhotoSource(over_tls)
    assert source.read("empty") == b""
    assert [file.key for file in source.list_skus().refused] == []
    source.close()
    puts = [headers for command, headers in tls_proxy.requests if command == "PUT"]
    assert [headers["content-length"] for headers in puts] == ["1", "1", "2", "1", "0"]
    for _, headers in tls_proxy.requests:
        text = " ".join([*headers, *headers.values()]).lower()
        assert not {"aws-chunked", "x-amz-trailer", "transfer-encoding"} & set(text.split())
        assert "checksum" not in text
        assert "trailer" not in text


def test_a_connection_that_breaks_under_tls_is_tried_again(
    over_tls: S3Settings, tls_proxy: FaultyProxy
) -> None:
    tls_proxy.hang_ups = 2
    assert S3ObjectStore(over_tls).put_if_absent("k", b"1")
    assert (tls_proxy.hang_ups, tls_proxy.puts) == (0, 1)


def test_a_certificate_that_is_not_trusted_is_said_at_once(
    over_tls: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "another.pem"))
    with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.* AWS_CA_BUNDLE names"):
        S3ObjectStore(over_tls).read("k")
    source = S3PhotoSource(over_tls)
    with pytest.raises(CatalogError, match=r"CERTIFICATE_VERIFY_FAILED.* AWS_CA_BUNDLE names"):
        source.list_skus()
    source.close()


def test_a_certificate_of_another_host_is_said_at_once(over_tls: S3Settings) -> None:
    assert over_tls.endpoint_url
    by_name = over_tls.endpoint_url.replace("127.0.0.1", "localhost")
    store = S3ObjectStore(over_tls.model_copy(update={"endpoint_url": by_name}))
    with pytest.raises(StoreError, match=r"localhost.* as its certificate does"):
        store.read("k")


def test_an_authority_file_that_is_not_there_is_said(
    over_tls: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "absent.pem")
    with pytest.raises(StoreError, match=r"cannot reach .*AWS_CA_BUNDLE .*absent\.pem"):
        S3ObjectStore(over_tls).read("k")


def test_tls_that_the_server_does_not_speak_is_said(s3_settings: S3Settings) -> None:
    assert s3_settings.endpoint_url
    wrong = s3_settings.endpoint_url.replace("http:", "https:")
    store = S3ObjectStore(s3_settings.model_copy(update={"endpoint_url": wrong}))
    with pytest.raises(StoreError, match=r"cannot reach .*https://.* s3.endpoint_url"):
        store.read("k")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("skewed", r"clock is (89|90) minutes from the server's; set it right"),
        ("expired", r"credentials have expired: renew them, AWS_SESSION_TOKEN among them"),
        ("elsewhere", r"check that s3.region is the bucket's region"),
    ],
)
def test_a_refusal_says_what_to_do(
    spoiled: S3ObjectStore, proxy: FaultyProxy, fault: str, said: str
) -> None:
    proxy.faults, proxy.clock_ahead = [fault], timedelta(minutes=90)
    with pytest.raises(StoreError, match=rf"\Abucket 'arch' at [^\n]*{said}\Z"):
        spoiled.put("k", b"1")
    assert proxy.puts == 1


@pytest.mark.parametrize(
    ("endpoint_url", "said"),
    [
        ("s3.example.com:9000", "expected an address such as https://"),
        ("s3.example.com", "expected an address such as https://"),
        ("", "expected an address such as https://"),
        ("s3://arch", "expected an address such as https://"),
        ("https://", "expected an address such as https://"),
        ("https://s3.example.com/arch", "ends in the bucket"),
        ("https://s3.example.com/storage/arch/", "ends in the bucket"),
    ],
)
def test_an_address_that_cannot_work_is_refused_before_a_request(
    s3_settings: S3Settings, endpoint_url: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"archive.yaml: s3.endpoint_url .*{said}"):
        S3ObjectStore(s3_settings.model_copy(update={"endpoint_url": endpoint_url}))


def test_an_address_may_end_in_a_slash(store: S3ObjectStore, s3_settings: S3Settings) -> None:
    store.put("k", b"1")
    with_slash = f"{s3_settings.endpoint_url}/"
    other = S3ObjectStore(s3_settings.model_copy(update={"endpoint_url": with_slash}))
    assert other.read("k").data == b"1"


def test_a_server_that_starts_again_is_waited_for(
    s3_settings: S3Settings, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as waiting:
        waiting.bind(("127.0.0.1", 0))
        port = waiting.getsockname()[1]
        spoiled = s3_settings.model_copy(update={"endpoint_url": f"http://127.0.0.1:{port}"})
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            proxy.server.socket.close()
            waiting.close()
            proxy.server.server_address = ("127.0.0.1", port)
            proxy.server.socket = socket.socket()
            proxy.server.server_bind()
            proxy.server.server_activate()

        monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=pause))
        S3ObjectStore(spoiled).put("k", b"1")
    assert len(pauses) == 1


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
        lambda: store.delete_many(["k"]),
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


def test_a_request_removes_many(
    spoiled: S3ObjectStore, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_DELETED_AT_ONCE", 8)
    keys = [f"k-{number:02d}" for number in range(20)]
    spoiled.each_of(lambda key: spoiled.put(key, b"1"), keys)
    proxy.requests.clear()
    spoiled.delete_many(keys)
    assert [method for method, _ in proxy.requests] == ["POST"] * 3
    assert spoiled.list("") == []


def test_what_a_server_leaves_of_many_is_removed_one_by_one(
    store: S3ObjectStore, s3_settings: S3Settings
) -> None:
    for key in ("k & 1", "k & 2"):
        store.put(key, b"1")
    left = f"<Key>{s3_settings.prefix}/k &amp; 1</Key><Code>InternalError</Code>"
    answer_instead(
        store._client, "DeleteObjects", f"<DeleteResult><Error>{left}</Error></DeleteResult>"
    )
    store.delete_many(["k & 1", "k & 2"])
    assert store.list("") == ["k & 2"]  # of which the answer says that it went


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "InvalidRequest")],
)
def test_a_server_that_removes_only_one_by_one_is_asked_to(
    store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=pytest.fail))
    keys = [f"k-{number}" for number in range(6)]
    for key in keys:
        store.put(key, b"1")
    answer_instead(store._client, "DeleteObjects", an_error(code).decode(), status)
    store.delete_many(keys[1:])
    assert store.list("") == keys[:1]


def test_a_bucket_from_which_nothing_may_be_removed_is_named(store: S3ObjectStore) -> None:
    store.put("k", b"1")
    answer_instead(store._client, "DeleteObjects", an_error("AccessDenied").decode(), 403)
    with pytest.raises(StoreError, match=r"refused the credentials for 'k'"):
        store.delete_many(["k"])
    assert store.exists("k")
