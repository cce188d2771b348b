"""Messages reach a webhook and a mail server of the loopback, once each, without a secret."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import trustme
import yaml
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import AlertError, ConfigurationError
from catalog_pipeline.settings import AlertSettings, Settings, load_settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep import alert_channels, alerts
from catalog_pipeline.workflows.upkeep.alerts import Alert, Waiting, deliver, enqueue
from tests.builders import make_index_row
from tests.listeners import Mailbox, Webhook, free_port, running_mail_server, running_webhook

CANARY = "correct-horse-9f3a"


def an_alert(key: str = "run/1", **changes: str) -> Alert:
    fields = {
        "kind": "run_failed",
        "subject": "マグ <1>",
        "title": "the run 1 of learn_new_skus failed",
        "reason": "2 usable photos & <!channel>",
        "action": "open the run",
        "link": "http://127.0.0.1:3000/runs/1",
    }
    return Alert(key=key, **(fields | changes))


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as listener:
        yield listener


@pytest.fixture
def mail_server() -> Iterator[Mailbox]:
    with running_mail_server() as mailbox:
        yield mailbox


def settings_for(webhook: Webhook | None, mailbox: Mailbox | None, **smtp: object) -> AlertSettings:
    server = {
        "host": "127.0.0.1",
        "sender": "catalog@example.com",
        "recipients": ["ops@example.com", "night@example.com"],
        "starttls": False,
    }
    content: dict[str, object] = {"webhook_url": webhook.url if webhook else None}
    if mailbox is not None:
        content["smtp"] = {**server, "port": mailbox.port, **smtp}
    return AlertSettings.model_validate(content)


def test_a_message_reaches_every_channel(webhook: Webhook, mail_server: Mailbox) -> None:
    logged: list[str] = []
    channels = alerts.open_channels(settings_for(webhook, mail_server), logged.append)
    waiting, _ = enqueue([], [an_alert()], tuple(channels))
    assert deliver(waiting, channels, most=20) == ([], [])
    text = (
        "the run 1 of learn_new_skus failed\nWhy: 2 usable photos & <!channel>\n"
        "Do: open the run\nhttp://127.0.0.1:3000/runs/1"
    )
    assert logged == [text]
    (payload,) = webhook.payloads
    assert payload == {
        "schema_version": 1,
        "text": text.replace("& <!channel>", "&amp; &lt;!channel&gt;"),
        "key": "run/1",
        "kind": "run_failed",
        "subject": "マグ <1>",
        "title": "the run 1 of learn_new_skus failed",
        "reason": "2 usable photos & <!channel>",
        "action": "open the run",
        "link": "http://127.0.0.1:3000/runs/1",
    }
    (letter,) = mail_server.letters
    assert letter["Subject"] == "[catalog-pipeline] the run 1 of learn_new_skus failed"
    assert letter.get_content().splitlines() == text.splitlines()
    assert mail_server.recipients == [["ops@example.com", "night@example.com"]]


def test_a_channel_that_fails_is_tried_again_and_the_others_are_not(
    webhook: Webhook, mail_server: Mailbox
) -> None:
    logged: list[str] = []
    channels = alerts.open_channels(settings_for(webhook, mail_server), logged.append)
    waiting, _ = enqueue([], [an_alert("a"), an_alert("b")], tuple(channels))
    webhook.status, mail_server.answer = 503, "451 come back"
    waiting, problems = deliver(waiting, channels, most=20)
    assert [item.channels for item in waiting] == [("webhook", "smtp")] * 2
    assert webhook.refused == 1  # a failing channel is asked once a call
    assert "answered 503 Service Unavailable; expected 200" in problems[0]
    assert "answered 451" in problems[1]
    webhook.status = 200
    waiting, problems = deliver(waiting, channels, most=20)
    assert [item.channels for item in waiting] == [("smtp",)] * 2
    mail_server.answer = "250 OK"
    assert deliver(waiting, channels, most=20) == ([], [])
    assert webhook.keys == ["a", "b"]
    assert len(logged) == len(mail_server.letters) == 2
    assert len({letter["Message-ID"] for letter in mail_server.letters}) == 2


def test_what_waits_is_bounded_and_never_twice() -> None:
    waiting, _ = enqueue([], [an_alert("a")], ("log",))
    assert enqueue(waiting, [an_alert("a")], ("log",)) == (waiting, 0)
    many = [an_alert(str(number)) for number in range(alerts.MAX_WAITING)]
    kept, dropped = enqueue(waiting, many, ("log",))
    assert (len(kept), dropped) == (alerts.MAX_WAITING, 1)
    assert "a" not in {item.alert.key for item in kept}
    # A channel that was taken out of the settings is forgotten, and so is what waited for it.
    assert enqueue([Waiting(an_alert(), ("smtp",))], [], ("log",)) == ([], 0)


def test_a_call_sends_so_many_a_channel_and_begins_nothing_after_its_time() -> None:
    sent: list[str] = []
    waiting, _ = enqueue([], [an_alert(key) for key in "abc"], ("log",))
    channels = {"log": lambda alert: sent.append(alert.key)}
    left, _ = deliver(waiting, channels, most=2)
    assert (sent, [item.alert.key for item in left]) == (["a", "b"], ["c"])
    moments = iter([0.0, 1.0, alerts.SECONDS_FOR_SENDING + 1])
    left, _ = deliver(waiting[:2], channels, most=9, clock=lambda: next(moments))
    assert [item.alert.key for item in left] == ["b"]


def test_a_redirect_is_a_failure_and_takes_no_token_along(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(alert_channels.WEBHOOK_TOKEN_ENV, CANARY)
    webhook.status = 302
    with pytest.raises(AlertError, match="answered 302") as failed:
        alert_channels.post(webhook.url, an_alert(), 5)
    assert CANARY not in str(failed.value)
    assert [headers["Authorization"] for headers in webhook.headers] == [f"Bearer {CANARY}"]


def test_nobody_listening_is_said_without_the_secret_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        alert_channels.WEBHOOK_URL_ENV, f"http://127.0.0.1:{free_port()}/hooks/{CANARY}"
    )
    channels = alerts.open_channels(AlertSettings(log=False), print)
    with pytest.raises(AlertError, match=r"webhook http://127\.0\.0\.1:\d+ cannot") as failed:
        channels["webhook"](an_alert())
    assert CANARY not in str(failed.value)


@pytest.fixture
def trusted_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate for the loopback, of an authority that this process trusts."""
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_login_goes_over_tls_and_its_password_stands_nowhere(
    trusted_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_mail_server(trusted_tls, CANARY) as mailbox:
        settings = settings_for(None, mailbox, starttls=True, username="robot")
        send = alerts.open_channels(settings, print)["smtp"]
        with pytest.raises(AlertError, match="CATALOG_PIPELINE_SMTP_PASSWORD is not set"):
            send(an_alert())
        monkeypatch.setenv(alert_channels.SMTP_PASSWORD_ENV, f"{CANARY}-wrong")
        with pytest.raises(AlertError, match="answered 535") as refused:
            send(an_alert())
        monkeypatch.setenv(alert_channels.SMTP_PASSWORD_ENV, CANARY)
        send(an_alert())
    # A client tries each way of logging in that the server offers.
    assert dict.fromkeys(mailbox.logins) == {
        ("robot", f"{CANARY}-wrong"): None,
        ("robot", CANARY): None,
    }
    (letter,) = mailbox.letters
    assert CANARY not in str(refused.value)
    assert CANARY.encode() not in letter.as_bytes()
    assert CANARY not in settings.model_dump_json()


def test_a_server_that_cannot_encrypt_or_is_not_trusted_gets_no_password(
    trusted_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(alert_channels.SMTP_PASSWORD_ENV, CANARY)
    with running_mail_server() as plain:
        settings = settings_for(None, plain, starttls=True, username="robot")
        with pytest.raises(AlertError, match="STARTTLS"):
            alerts.open_channels(settings, print)["smtp"](an_alert())
    monkeypatch.delenv("SSL_CERT_FILE")
    with running_mail_server(trusted_tls, CANARY) as unknown:
        settings = settings_for(None, unknown, starttls=True, username="robot")
        with pytest.raises(AlertError, match="certificate"):
            alerts.open_channels(settings, print)["smtp"](an_alert())
    assert plain.logins == unknown.logins == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"webhook_url": "ftp://example.com"}, "expected an address such as"),
        ({"webhook_url": f"https://me:{CANARY}@example.com"}, "secrets belong in the environment"),
        ({"stale_after": "25:00"}, "hour must be in"),
        ({"stale_after": "6 am"}, "expected hours and minutes"),
        ({"smtp": {"host": "mail", "sender": "a", "recipients": ["a@b"]}}, "an e-mail address"),
        ({"smtp": {"host": "mail", "sender": "a@b", "recipients": []}}, "at least 1 item"),
        (
            {
                "smtp": {
                    "host": "mail",
                    "sender": "a@b",
                    "recipients": ["c@d"],
                    "starttls": False,
                    "username": "robot",
                }
            },
            "the password would cross the network readable",
        ),
        ({"smtp": {"host": "m", "sender": "a@b", "recipients": ["c@d"], "password": "x"}}, "key"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(
    tmp_path: Path, content: dict[str, object], words: str
) -> None:
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words) as refused:
        load_settings(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ['"16:00"', "16:00", "never"])
def test_a_time_may_stand_with_or_without_quotes(tmp_path: Path, text: str) -> None:
    (tmp_path / "alerts.yaml").write_text(f"stale_after: {text}\n", encoding="utf-8")
    late_from = load_settings(tmp_path).alerts.late_from
    assert (late_from is None) == (text == "never")
    assert late_from is None or late_from.hour == 16


def test_a_refused_candidate_is_found_once(make_settings: Callable[..., Settings]) -> None:
    home = open_home(make_settings())
    home.index.update(lambda _: [make_index_row("mug-01")])
    folder = "collections/default/quarantine/mug-01-0123456789abcdef/"
    home.objects.put(folder + "pictures.png", b"")
    assert alerts.refused_candidates(home, ()) == ([], [])  # the report is written last
    report = {"sku": "mug-01", "complaint": "vase fell\nfrom 0.9 to 0.2"}
    home.objects.put(folder + "report.json", json.dumps(report).encode())
    known, (found,) = alerts.refused_candidates(home, ())
    assert found.subject == "mug-01"
    assert found.reason == "vase fell from 0.9 to 0.2"
    assert "pictures.png" in found.action
    assert found.link == "http://127.0.0.1:3000/assets/learning/concept?partition=mug-01"
    assert alerts.refused_candidates(home, known) == (known, [])
    home.objects.put(folder + "report.json", b"{")
    _, (broken,) = alerts.refused_candidates(home, ())
    assert "report.json cannot be read" in broken.reason
    assert broken.subject == "mug-01"


def test_a_night_is_due_from_its_time_on(make_settings: Callable[..., Settings]) -> None:
    home = open_home(make_settings())
    early = datetime(2026, 3, 5, 5, 59, tzinfo=UTC)
    late = early.replace(hour=6, minute=0)
    days = [date(2026, 3, day) for day in range(1, 6)]
    assert alerts.nights_to_look_at(None, early, home) == []
    assert alerts.nights_to_look_at(None, late, home) == days[-1:]
    assert alerts.nights_to_look_at(days[-1], late, home) == []
    assert alerts.nights_to_look_at(days[1], early, home) == days[2:4]
    assert alerts.nights_to_look_at(date(2026, 1, 1), late, home)[0] == date(2026, 2, 27)
    never = open_home(make_settings(alerts={"stale_after": "never"}))
    assert alerts.nights_to_look_at(None, late, never) == []
    assert alerts.late_nights(home, days) == []  # nothing was ever learned


def test_the_command_names_the_channels_and_tries_them(tmp_path: Path, webhook: Webhook) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "alerts.yaml").write_text(f"webhook_url: {webhook.url}\n", encoding="utf-8")
    options = ["alert", "--config", str(config), "--home", str(tmp_path / "home")]
    run = CliRunner().invoke
    assert run(app, options).output == "channels: log, webhook; --test sends a message on each\n"
    assert webhook.payloads == []
    tried = run(app, [*options, "--test"])
    assert tried.exit_code == 0
    assert tried.stdout.splitlines()[-1] == "taken by: log, webhook"
    assert webhook.payloads[0]["kind"] == "test"
    webhook.status = 404
    failed = run(app, [*options, "--test"])
    assert failed.exit_code == 1
    assert failed.stdout.splitlines()[-1] == "taken by: log"
    assert "error: webhook: webhook http://127.0.0.1" in failed.stderr
