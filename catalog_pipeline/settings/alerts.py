"""``alerts.yaml``."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from catalog_pipeline.settings.values import NotBlank, SecretValueError, Strict, without_login

NEVER = "never"


def _address(text: str) -> str:
    """Some addresses are secrets themselves, so a wrong one is not shown."""
    try:
        parts = urlsplit(without_login(text))
    except ValueError as error:
        raise SecretValueError(str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SecretValueError("expected an address such as https://chat.example.com/hooks/catalog")
    if not text.isprintable() or " " in text:
        raise SecretValueError("holds a space or a control character; expected one address")
    return text


def _mailbox(text: str) -> str:
    if not re.fullmatch(r"[^\s<>,;@\"]+@[^\s<>,;@\"]+", text) or not text.isprintable():
        raise ValueError("expected an e-mail address such as catalog@example.com")
    return text


def _clock(value: Any) -> str:
    text = str(value).strip()
    if text == NEVER:
        return text
    if not re.fullmatch(r"\d\d:\d\d", text):
        raise ValueError('expected hours and minutes such as "06:00", or never')
    time.fromisoformat(text)  # 25:00 is no time, and says so
    return text


Address = Annotated[NotBlank, AfterValidator(_address)]
Mailbox = Annotated[NotBlank, AfterValidator(_mailbox)]


class SmtpSettings(Strict):
    """A mail server of the user's own; the password comes from the environment alone."""

    host: NotBlank = Field(description="name of the mail server")
    port: int = Field(587, ge=1, le=65535, description="of the mail server")
    sender: Mailbox = Field(description="address that the mail comes from")
    recipients: tuple[Mailbox, ...] = Field(
        min_length=1, max_length=50, description="addresses that it goes to"
    )
    starttls: bool = Field(True, description="encrypt, and refuse a server that cannot")
    username: NotBlank | None = Field(
        None, description="null = no login; the password comes from the environment alone"
    )

    @model_validator(mode="after")
    def _password_is_never_sent_readable(self) -> SmtpSettings:
        if self.username is not None and not self.starttls:
            raise ValueError(
                "username needs starttls: true, or the password would cross the network readable"
            )
        return self


class AlertSettings(Strict):
    """``alerts.yaml``: who is told when a run fails, a candidate is refused or a night is late."""

    log: bool = True
    webhook_url: Address | None = None
    smtp: SmtpSettings | None = None
    ui_url: Address = "http://127.0.0.1:3000"
    stale_after: Annotated[str, BeforeValidator(_clock)] = "06:00"
    timeout_seconds: float = Field(10.0, ge=0.1, le=20)
    max_per_tick: int = Field(20, ge=1, le=100)

    @property
    def late_from(self) -> time | None:
        """The time of day from which a night without a manifest is late; ``None`` = never."""
        return None if self.stale_after == NEVER else time.fromisoformat(self.stale_after)
