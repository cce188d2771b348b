"""One message to a person: what happened, to which product or night, why, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PAYLOAD_SCHEMA_VERSION = 1
LONGEST_LINE = 500


@dataclass(frozen=True)
class Alert:
    """A finding, ready to be sent.

    ``key`` names the finding for ever: the same one has the same key. ``kind`` is
    ``run_failed``, ``candidate_refused``, ``night_late`` or ``test``; ``subject`` the SKU, the
    night or the job; every other field is one line. ``link`` may be empty.
    """

    key: str
    kind: str
    subject: str
    title: str
    reason: str
    action: str
    link: str = ""


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """``text`` on one line without control characters, cut where it is longer."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= longest else words[: longest - 3] + "..."


def as_text(alert: Alert) -> str:
    """The message as a person reads it: four lines at most."""
    lines = [alert.title, f"Why: {alert.reason}", f"Do: {alert.action}"]
    return "\n".join([*lines, alert.link] if alert.link else lines)


def as_payload(alert: Alert) -> dict[str, Any]:
    """The message for programs; docs/operations.md tells what each key means.

    ``text`` is what Slack and Mattermost show, with their three letters of markup escaped: no
    file name in it can call everybody in a channel.
    """
    text = as_text(alert).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"schema_version": PAYLOAD_SCHEMA_VERSION, "text": text, **asdict(alert)}
