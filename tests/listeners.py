"""Servers on the loopback that take messages: a webhook and a mail server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword


@dataclass
class Webhook:
    """What was posted; ``status`` is what it answers, with ``reason`` beside it."""

    url: str = ""
    status: int = 200
    reason: str | None = None
    payloads: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        return [payload["key"] for payload in self.payloads]


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    """A listener on a free port of the loopback."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.headers.append(dict(self.headers))
            if webhook.status == 200:
                webhook.payloads.append(json.loads(body))
            else:
                webhook.refused += 1
            self.send_response(webhook.status, webhook.reason)
            if webhook.status == 302:
                self.send_header("Location", webhook.url + "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        webhook.url = f"http://127.0.0.1:{server.server_port}/hooks/catalog"
        yield webhook
        server.shutdown()
        thread.join()


@dataclass
class Mailbox:
    """What was delivered; ``answer`` is what the server says to a letter."""

    port: int
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    answer: str = "250 OK"
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            letter = message_from_bytes(content, policy=policy.default)
            assert isinstance(letter, EmailMessage)
            self.letters.append(letter)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running_mail_server(tls_context: Any = None, password: str | None = None) -> Iterator[Mailbox]:
    """An SMTP server; with ``tls_context`` it demands STARTTLS, with ``password`` a login."""
    mailbox = Mailbox(free_port())

    def authenticate(
        _server: Any, _session: Any, _envelope: Any, _how: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        mailbox.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode() == password, handled=False)

    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=mailbox.port,
        tls_context=tls_context,
        require_starttls=tls_context is not None,
        authenticator=authenticate if password else None,
        auth_required=password is not None,
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def everything_in(folder: Path) -> bytes:
    """The bytes of every file below ``folder``."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
