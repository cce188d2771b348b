"""How a message leaves: a log, a webhook, a mail server. Each call sends one message or raises.

Secrets come from the environment when a message is sent, and stand in no message, log or error.
"""

from __future__ import annotations

import hashlib
import json
import smtplib
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from catalog_pipeline import __version__
from catalog_pipeline.errors import AlertError
from catalog_pipeline.settings import AlertSettings, SmtpSettings, environment
from catalog_pipeline.workflows.upkeep.alert_message import Alert, as_payload, as_text, one_line

WEBHOOK_URL_ENV = "CATALOG_PIPELINE_ALERT_WEBHOOK_URL"
WEBHOOK_TOKEN_ENV = "CATALOG_PIPELINE_ALERT_WEBHOOK_TOKEN"
SMTP_PASSWORD_ENV = "CATALOG_PIPELINE_SMTP_PASSWORD"

_TELLING_DIGITS = 6
"""Of base64; fewer stand in any text."""

Channel = Callable[[Alert], None]
"""Sends one message.

Raises:
    AlertError: the message was not taken; one line, without a secret.
"""


def open_channels(settings: AlertSettings, write: Callable[[str], None]) -> dict[str, Channel]:
    """Every channel that is set, by name; opening one sends nothing.

    Args:
        settings: ``alerts.yaml``.
        write: takes the text of a message for the channel ``log``.
    """
    channels: dict[str, Channel] = {}
    if settings.log:
        channels["log"] = lambda alert: write(as_text(alert))
    seconds = settings.timeout_seconds
    if settings.webhook_url or environment(WEBHOOK_URL_ENV):
        url = environment(WEBHOOK_URL_ENV) or str(settings.webhook_url)
        channels["webhook"] = lambda alert: post(url.strip(), alert, seconds)
    if settings.smtp is not None:
        smtp = settings.smtp
        channels["smtp"] = lambda alert: mail(smtp, alert, seconds)
    return channels


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, and take its token to another server."""

    def redirect_request(self, *arguments: Any) -> None:
        """Never."""


def post(url: str, alert: Alert, seconds: float) -> None:
    """Send ``alert`` as JSON to ``url``; any answer but a 2xx is a failure.

    Raises:
        AlertError: no such address, no answer within ``seconds``, or another status.
    """
    where = _host_of(url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"catalog-pipeline/{__version__}",
    }
    token = environment(WEBHOOK_TOKEN_ENV)
    if token:
        headers["Authorization"] = f"Bearer {token.strip()}"
    body = json.dumps(as_payload(alert), ensure_ascii=False).encode()
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds):
            return
    except HTTPError as error:
        reason = f"answered {error.code} {error.reason}; expected 200"
        error.close()
    except URLError as error:
        reason = f"cannot be reached: {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        reason = f"failed: {type(error).__name__}"  # the text of some names the whole address
    raise AlertError(
        _without_secrets(f"webhook {where} {reason}; check webhook_url in alerts.yaml")
    )


def _host_of(url: str) -> str:
    """Scheme and server of an address; the path of some is a secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise AlertError(
            f"{WEBHOOK_URL_ENV} is no address; expected one that begins with https://; correct it "
            "or unset it"
        )
    return f"{parts.scheme}://{host}{port}"


def mail(smtp: SmtpSettings, alert: Alert, seconds: float) -> None:
    """Send ``alert`` by the mail server ``smtp``; the same finding has the same Message-ID.

    Raises:
        AlertError: no password, no answer within ``seconds``, no TLS, or the server refused
            the login, the sender or every recipient.
    """
    password = environment(SMTP_PASSWORD_ENV)
    where = f"mail server {smtp.host}:{smtp.port}"
    if smtp.username is not None and password is None:
        raise AlertError(
            f"{where} wants the login {smtp.username!r}, but {SMTP_PASSWORD_ENV} is not set; set "
            "it where Dagster runs, or remove username from alerts.yaml"
        )
    try:
        _submit(smtp, as_mail(smtp, alert), password or "", seconds)
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error
        words = said.decode(errors="replace") if isinstance(said, bytes) else said
        reason = f"answered {error.smtp_code} {words}"
    except (smtplib.SMTPException, OSError) as error:
        reason = f"failed: {error or type(error).__name__}"
    else:
        return
    raise AlertError(
        _without_secrets(f"{where} {reason}; check smtp in alerts.yaml and {SMTP_PASSWORD_ENV}")
    )


def as_mail(smtp: SmtpSettings, alert: Alert) -> EmailMessage:
    """The letter: plain text, marked as sent by a program."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = one_line(f"[catalog-pipeline] {alert.title}", 150)
    message["From"] = smtp.sender
    message["To"] = ", ".join(smtp.recipients)
    message["Date"] = formatdate()
    name = hashlib.sha256(alert.key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{name}@{smtp.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(as_text(alert) + "\n")
    return message


def _submit(smtp: SmtpSettings, message: EmailMessage, password: str, seconds: float) -> None:
    end = time.monotonic() + seconds

    def left() -> None:
        """Each step has what the steps before it have left: a slow server cannot hold a tick."""
        if server.sock is not None:
            server.sock.settimeout(max(0.1, end - time.monotonic()))

    # A name for the greeting that needs no look-up, which may take long without a network.
    hostname = socket.gethostname()
    with smtplib.SMTP(smtp.host, smtp.port, local_hostname=hostname, timeout=seconds) as server:
        left()
        server.ehlo()
        if smtp.starttls:
            left()
            server.starttls(context=ssl.create_default_context())
            left()
            server.ehlo()
        if smtp.username is not None:
            left()
            server.login(smtp.username, password)
        left()
        server.send_message(message)


def _without_secrets(text: str) -> str:
    for name in (SMTP_PASSWORD_ENV, WEBHOOK_TOKEN_ENV, WEBHOOK_URL_ENV):
        secret = (environment(name) or "").strip()
        for spelling in _spellings(secret) if secret else ():
            text = text.replace(spelling, "***")
    return one_line(text)


def _spellings(secret: str) -> Iterator[str]:
    """``secret`` and how a server may repeat it: as in an address, or within a login in base64."""
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    data = secret.encode()
    for before in range(3):
        coded = b64encode(bytes(before) + data).decode()
        # Only the digits that hold nothing but the secret, whatever stands before and after it.
        own = coded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(own) >= _TELLING_DIGITS:
            yield own
