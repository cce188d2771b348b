"""A real nginx with a shipped file, and what stands behind it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.listeners import free_port

PROFILES = Path(__file__).resolve().parents[1] / "dagster_home" / "profiles" / "nginx"

MAIN = """
daemon off;
master_process off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/shipped.conf;
}}
"""


def find_nginx() -> str:
    """The program; the test is skipped where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("needs nginx (Debian's package `nginx`)")
    return program


@contextmanager
def running_nginx(
    folder: Path, profile: str, replaced: Mapping[str, str], authority: trustme.CA
) -> Iterator[None]:
    """nginx with the shipped ``profile``, of which ports and files are ``replaced`` by others.

    Every text to replace must stand in the file.
    """
    program = find_nginx()
    text = (PROFILES / profile).read_text("utf-8")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    files = {
        "/etc/nginx/catalog-pipeline.crt": str(folder / "server.crt"),
        "/etc/nginx/catalog-pipeline.key": str(folder / "server.key"),
    }
    for old, new in {**files, **replaced}.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "shipped.conf").write_text(text, encoding="utf-8")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder), encoding="utf-8")
    log = folder / "error.log"
    process = subprocess.Popen(
        [program, "-p", str(folder), "-e", str(log), "-c", str(folder / "nginx.conf")]
    )
    try:
        ports = [new for old, new in replaced.items() if old.startswith("listen ")]
        for port in ports:
            _wait_for(int(port.removeprefix("listen 127.0.0.1:").split()[0]), process, log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text("utf-8")
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, f"nginx does not listen on {port}"
        time.sleep(0.02)


def listening(port: int) -> str:
    """How a replaced ``listen`` line reads."""
    return f"listen 127.0.0.1:{port} ssl"


@contextmanager
def echoing(answers: Mapping[str, Any] | None = None) -> Iterator[int]:
    """A server that answers with the headers that reached it, by HTTP and by websocket; its port.

    ``answers`` maps the beginning of a path to a function of the request that answers instead.
    """

    def respond(_: ServerConnection, request: Request) -> Response | None:
        for path, answer in (answers or {}).items():
            if request.path.startswith(path):
                return answer(request)
        if "Upgrade" in request.headers:
            return None
        return plain(HTTPStatus.OK, json.dumps(list(request.headers.raw_items())))

    def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        connection.send(json.dumps(list(connection.request.headers.raw_items())))
        for message in connection:
            connection.send(message)

    port = free_port()
    with serve(talk, "127.0.0.1", port, process_request=respond) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown()
            thread.join()


def plain(status: HTTPStatus, text: str = "", **headers: str) -> Response:
    """An answer over HTTP."""
    body = text.encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers(named), body)
