"""Fixtures for every room: a clean environment, photos, settings, and a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.settings import S3Settings, Settings

# Examples are judged, not timed: machines are noisy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

LONG_FILES = (
    "test_forgetting.py",
    "test_learn_concepts.py",
    "test_demo.py",
    "test_cli_line.py",
    "test_evaluate.py",
    "test_trainer.py",
    "test_verify.py",
)
"""A third of the suite's time. They start first, so that of two workers none ends long before
the other."""

TEST_DATA_ENV = "CATALOG_PIPELINE_TEST_DATA"
_S3_READY_SECONDS = 60.0
_ENDS_WITH_ITS_PARENT = '"$@" & server=$!; read -r _; kill -9 "$server"; wait "$server"; exit 0'
"""Runs a server until its stdin ends, which also happens when a test run is killed.

A polite end takes the server 16 s, and a test bucket has nothing to save.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; everything else stays in its order."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        if {"defs", "faults"} & set(item.path.relative_to(Path(__file__).parent).parts):
            # Warnings are errors, and Dagster's own code raises these about itself.
            for warning in ("BetaWarning", "PreviewWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::dagster.{warning}"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("CATALOG_PIPELINE_") and name != TEST_DATA_ENV:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", name="test_data")
def _test_data() -> Path:
    """The folder of real photos; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get(TEST_DATA_ENV, beside))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set {TEST_DATA_ENV} to a folder that has it")
    return folder


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """``make_settings(catalog={"settle_seconds": 0}, ...)``: settings over a scratch home.

    The home is ``tmp_path/home`` and the watched folder ``tmp_path/home/products``;
    both are created. Keyword arguments are the sections of ``Settings``.
    """

    def make(**sections: Any) -> Settings:
        home = tmp_path / "home"
        config_dir = tmp_path / "assets_config"
        config_dir.mkdir(parents=True, exist_ok=True)
        settings = Settings.model_validate({"home": home, "config_dir": config_dir, **sections})
        home.mkdir(parents=True, exist_ok=True)
        settings.catalog_root.mkdir(parents=True, exist_ok=True)
        return settings

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Default settings over a scratch home."""
    return make_settings()


@pytest.fixture
def make_photo() -> Callable[..., Path]:
    """``make_photo(path, seed=0, size=(96, 80))``: a small photo whose pixels follow the seed.

    ``size`` is (width, height) in pixels, ``mode`` the mode of the file; the format
    follows the extension; ``age_seconds`` dates the file that far back.
    """

    def make(
        path: Path,
        *,
        seed: int = 0,
        size: tuple[int, int] = (96, 80),
        mode: str = "RGB",
        age_seconds: float = 3600.0,
        **save_options: Any,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
        picture.save(path, **save_options)
        then = time.time() - age_seconds
        os.utime(path, (then, then))
        return path

    return make


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS that accepts one key pair and holds one bucket."""

    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    region: str

    def settings(self, prefix: str = "") -> S3Settings:
        """How the project is told about the bucket; credentials go by environment."""
        return S3Settings(
            bucket=self.bucket,
            prefix=prefix,
            endpoint_url=self.endpoint_url,
            region=self.region,
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on 127.0.0.1, one a test session, which it does not outlive."""
    with running_s3_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """A SeaweedFS that keeps its files in ``folder``; both are gone at the end."""
    access_key, secret_key, bucket = "testaccess", uuid.uuid4().hex, "arch"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    ports = _free_ports(10)
    command = _weed_command(folder, config, bucket, ports)
    log_path = folder / "log.txt"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", _ENDS_WITH_ITS_PARENT, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = S3Server(
        endpoint_url=f"http://127.0.0.1:{ports[-1]}",
        bucket=bucket,
        access_key=access_key,
        secret_key=secret_key,
        region="us-east-1",
    )
    try:
        _wait_until_ready(server, process, log_path)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3_settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Settings:
    """An empty prefix of the test bucket, with the credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server.settings(prefix=f"test-{uuid.uuid4().hex}")


def _weed_command(folder: Path, config: Path, bucket: str, ports: list[int]) -> list[str]:
    executable = Path(sys.executable).with_name("weed")
    found = str(executable) if executable.exists() else shutil.which("weed")
    if found is None:
        pytest.skip("no 'weed' program; install the dev extra for the S3 tests")
    names = (
        *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
        *("filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"),
        *("s3.port.grpc", "s3.port"),
    )
    return [
        found,
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        f"-bucket={bucket}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=64",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log_path: Path) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    deadline = time.monotonic() + _S3_READY_SECONDS
    last: Exception | None = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # Writing proves more than listing: a volume has been assigned.
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"ready")
            client.delete_object(Bucket=server.bucket, Key="ready")
            client.close()
            return
        except (BotoCoreError, ClientError) as error:
            last = error
            time.sleep(0.1)
    tail = log_path.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"the S3 server at {server.endpoint_url} did not start ({last}):\n{tail}")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny v-prediction Stable Diffusion folder of real classes with random weights."""
    from tests.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def engine(tiny_model_folder: Path) -> Any:
    """A fresh fp32 engine over the tiny model: rank 2, a slot per concept."""
    from tests.tiny_model import open_tiny_engine

    return open_tiny_engine(tiny_model_folder)
