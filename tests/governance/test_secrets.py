"""Secrets come from the environment or a file, and nothing that is written or told has one.

Each is a random word, given in the way that the documentation says; then commands run, well and
badly, and everything that they left is searched for each word: files, databases, logs, output.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.definitions import defs
from catalog_pipeline.defs.ops import alerts
from catalog_pipeline.defs.ops.recorded_runs import execute_recorded
from catalog_pipeline.provenance.own_certificate import make_certificate, make_watermark_key
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings
from tests.governance.canaries import PATH_OF_WEBHOOK, Canaries, leaks, plant, spellings, written
from tests.listeners import free_port, running_mail_server, running_webhook
from tests.s3_server import S3Server, running_s3_server
from tests.workflows.tiny_catalog import tiny_sections, write_photos

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::dagster.{warning}")
    for warning in ("BetaWarning", "PreviewWarning")
]
REPOSITORY = Path(__file__).resolve().parents[2]
DAGSTER_HOME = REPOSITORY / "dagster_home"
NIGHT = "2026-03-01"
S3_USER = "canary"


@pytest.fixture(scope="module")
def planted() -> Canaries:
    return plant()


@pytest.fixture(scope="module")
def server(planted: Canaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server that knows the planted key."""
    secret = planted.environment["AWS_SECRET_ACCESS_KEY"]
    identity = {
        "name": S3_USER,
        "credentials": [{"accessKey": S3_USER, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    folder = tmp_path_factory.mktemp("seaweedfs")
    with running_s3_server(folder, {"identities": [identity]}) as found:
        yield found


@dataclass
class Bench:
    """A home and its settings in a folder that is searched, and what was told meanwhile."""

    planted: Canaries
    folder: Path
    log: pytest.LogCaptureFixture
    told: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "assets_config"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def write(self, **sections: Any) -> None:
        """Settings files by name; what was there before stays."""
        for name, content in sections.items():
            (self.config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def run(self, *arguments: str, exits: int | None = 0) -> str:
        """A command that must end so (None: however it likes); what it told is kept.

        An exception's whole chain is part of that.
        """
        done = CliRunner().invoke(app, list(arguments))
        self.told += [done.output, done.stderr]
        if done.exception is not None:
            self.told.append("".join(traceback.format_exception(done.exception)))
        assert exits in (None, done.exit_code), self.told
        return done.output

    def run_apart(self, *arguments: str, exits: int = 0) -> str:
        """As :meth:`run`, in a process of its own: Ray reads its settings once a process."""
        done = subprocess.run(
            [sys.executable, "-m", "catalog_pipeline.cli", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        self.told += [done.stdout, done.stderr]
        assert done.returncode == exits, self.told
        return done.stdout + done.stderr

    def leaks(self, *folders: Path) -> list[str]:
        """Every secret in what was written, in ``folders`` besides, told or logged."""
        texts = {
            place: text for each in (self.folder, *folders) for place, text in written(each).items()
        }
        texts["what was told"] = "\n".join(self.told).encode()
        records = [
            self.log.handler.format(record)
            for record in self.log.handler.records
            if record.name != "mail.log"  # what the other side, a server of these tests, heard
        ]
        texts["what was logged"] = "\n".join(records).encode()
        return leaks(self.planted, texts)


@pytest.fixture
def bench(
    planted: Canaries,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tiny_model_folder: Path,
) -> Bench:
    """Everything that is secret is set; settings for tiny learning and tiny pictures."""
    found = Bench(planted, tmp_path / "searched", caplog)
    found.config.mkdir(parents=True)
    found.home.mkdir()
    key = tmp_path / "master.key"
    key.write_text(planted.files["master.key"], encoding="ascii")
    key.chmod(0o600)
    for name, value in planted.environment.items():
        monkeypatch.setenv(name, value)
    login = quote(planted.environment["DAGSTER_POSTGRES_URL"], safe="")
    url = f"postgresql+psycopg2://dagster:{login}@127.0.0.1:{free_port()}/dagster"
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_USER)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_SESSION_TOKEN")  # of a server that gives none
    monkeypatch.delenv(PATH_OF_WEBHOOK)
    monkeypatch.setenv(CONFIG_ENV, str(found.config))
    monkeypatch.setenv(HOME_ENV, str(found.home))
    sections = tiny_sections(tiny_model_folder, steps=2)
    sections["catalogs"] = sections.pop("catalog")
    policies = {"singles_per_sku": 1, "pairs": 0, "triples": 0}
    sections["generation"] = {**sections["generation"], "policies": policies}
    governance = {
        "encryption": {"master_key": f"file:{key}"},
        "provenance": _signed(found, tmp_path),
    }
    found.write(**sections, governance=governance)
    caplog.set_level(logging.DEBUG)
    return found


def _signed(bench: Bench, folder: Path) -> dict[str, Any]:
    """Settings that sign and mark pictures, with keys that are looked for from now on."""
    made = make_certificate(folder / "signing", "Catalog House")
    pem = made.private_key.read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    mark = folder / "watermark.key"
    make_watermark_key(mark)
    keys = {
        "signing.key": f"{key.private_numbers().private_value:064x}",
        "signing.key as PEM": pem.decode().splitlines()[1],
        "watermark.key": mark.read_text("ascii").strip(),
    }
    bench.planted = Canaries(bench.planted.environment, {**bench.planted.files, **keys})
    signature = {"certificate": str(made.chain), "private_key": str(made.private_key)}
    return {**signature, "watermark": True, "watermark_key": str(mark)}


def in_bucket(server: S3Server, **changes: Any) -> dict[str, Any]:
    """``archive.yaml`` of a home in the server's bucket."""
    return {"s3": server.settings("prod/").model_dump() | changes}


@pytest.mark.slow
def test_a_whole_line_writes_no_secret(bench: Bench) -> None:
    write_photos(load_settings(), "MUG-01", 1)
    for arguments in (
        ("index",),
        ("learn",),
        ("generate", "--day", NIGHT),
        ("verify",),
        ("manifest",),
        ("status", "--json"),
        ("doctor",),
    ):
        bench.run(*arguments)
    assert "1" in bench.run("query", "SELECT images FROM nights")
    (picture,) = (bench.home / "images").iterdir()
    assert b"c2pa" in picture.read_bytes()  # it is signed
    assert bench.leaks() == []


@pytest.mark.slow
def test_a_bucket_is_used_without_a_trace_of_its_key(bench: Bench, server: S3Server) -> None:
    write_photos(load_settings(), "MUG-01", 1)
    bench.write(archive=in_bucket(server))
    bench.run("index")
    bench.run("learn")
    bench.run("generate", "--day", NIGHT)
    bench.run("doctor")
    import boto3

    s3 = boto3.client("s3", endpoint_url=server.endpoint_url, region_name=server.region)
    kept = bench.folder / "of the bucket"
    for each in s3.list_objects_v2(Bucket=server.bucket)["Contents"]:
        got = s3.get_object(Bucket=server.bucket, Key=each["Key"])
        path = kept / each["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(got["Body"].read())
        bench.told.append(str(got["Metadata"]))
    assert list(kept.rglob("*.parquet"))
    assert bench.leaks() == []


@pytest.mark.parametrize("changes", [{"bucket": "no-such-bucket"}, {"region": "mars-north-1"}])
def test_a_wrong_bucket_or_region_is_told_without_the_key(
    bench: Bench, server: S3Server, changes: dict[str, str]
) -> None:
    bench.write(archive=in_bucket(server, **changes))
    for command in ("status", "manifest", "doctor"):
        bench.run(command, exits=None)
    assert bench.leaks() == []


def test_refused_credentials_are_told_without_them(
    bench: Bench, server: S3Server, planted: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(archive=in_bucket(server))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "check AWS_ACCESS_KEY_ID" in bench.run("status", exits=1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_USER)
    monkeypatch.setenv("AWS_SESSION_TOKEN", planted.environment["AWS_SESSION_TOKEN"])
    assert "refused" in bench.run("status", exits=1)
    # A line break, as a file that was read whole ends in, must not end up in an error of a header.
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", planted.environment["AWS_SECRET_ACCESS_KEY"] + "\n")
    bench.run("status", exits=1)
    assert bench.leaks() == []


def test_a_server_that_is_away_is_told_without_the_key(bench: Bench, server: S3Server) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    bench.write(archive=in_bucket(server, endpoint_url=away))
    assert f"cannot reach bucket 'arch' at {away}" in bench.run("status", exits=1)
    bench.write(archive={}, execution={"engine": "ray", "address": f"127.0.0.1:{free_port()}"})
    write_photos(load_settings(), "MUG-01", 1)
    bench.run("index")
    assert "no Ray cluster answers" in bench.run_apart("learn", exits=1)
    assert bench.leaks() == []


WRONG = {
    "a key in place of its file": ("governance", "encryption", "master_key", "{0}"),
    "a key in place of the file of the mark's": (
        "governance",
        "provenance",
        "watermark_key",
        "{0}",
    ),
    "a key in place of the file of the signature's": (
        *("governance", "provenance", "private_key"),
        "-----BEGIN PRIVATE KEY-----\n{0}\n-----END PRIVATE KEY-----\n",
    ),
    "a login in the address of a webhook": ("alerts", "webhook_url", "https://me:{0}@chat.test/"),
    "a webhook without a scheme": ("alerts", "webhook_url", "chat.test/hooks/{0}"),
    "a login in the address of a bucket": ("archive", "s3", "endpoint_url", "http://a:{0}@s3.test"),
    "a login in the address of photos": ("catalogs", "s3", "endpoint_url", "http://a:{0}@s3.test"),
    "a token in the address of a cluster": ("execution", "address", "ray://{0}@head:10001"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_secret_in_a_settings_file_is_refused_and_not_repeated(
    bench: Bench, planted: Canaries, mistake: str
) -> None:
    name, *keys, template = WRONG[mistake]
    content: Any = template.format(planted.files["master.key"])
    for key in reversed(keys):
        content = {key: content} if key != "s3" else {"s3": {"bucket": "arch", **content}}
    path = bench.config / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    told = bench.run("status", exits=1)
    assert ".".join(keys) in told
    # Dagster keeps what caused an error, too.
    with dg.DagsterInstance.ephemeral() as instance:
        run = execute_recorded(instance, defs, "refresh_catalog")
        bench.told += [str(entry) for entry in instance.all_logs(run.run_id)]
    assert run.is_failure
    path.unlink()
    assert bench.leaks() == []


def test_alerts_that_are_not_taken_give_nothing_away(
    bench: Bench, planted: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    token = planted.environment["CATALOG_PIPELINE_ALERT_WEBHOOK_TOKEN"]
    password = planted.environment["CATALOG_PIPELINE_SMTP_PASSWORD"]
    with running_webhook() as webhook, running_mail_server(context, password) as mailbox:
        monkeypatch.setenv(PATH_OF_WEBHOOK, f"{webhook.url}/{planted.environment[PATH_OF_WEBHOOK]}")
        smtp = {"host": "127.0.0.1", "port": mailbox.port, "username": "robot"}
        letters = {"sender": "catalog@example.com", "recipients": ["ops@example.com"]}
        bench.write(alerts={"smtp": {**smtp, **letters}, "timeout_seconds": 5})
        bench.run("alert", "--test")
        # Servers that repeat what they were sent, as it came and otherwise spelt.
        said = base64.b64encode(f"\0robot\0{password}".encode()).decode()
        mailbox.answer = f"550 what is {said} or {password} or {quote(password, safe='')}"
        webhook.status, webhook.reason = 401, f"no {token} and no {quote(token, safe='')}"
        told = bench.run("alert", "--test", exits=1)
        assert "answered 401 no *** and no ***" in told
        assert "answered 550 what is" in told
        assert told.count("***") == 5
        webhook.reason = base64.b64encode(f"Bearer {token}".encode()).decode()
        bench.run("alert", "--test", exits=1)
        monkeypatch.setenv("CATALOG_PIPELINE_SMTP_PASSWORD", f"{password}-wrong")
        assert "answered 535" in bench.run("alert", "--test", exits=1)
    assert "cannot be reached" in bench.run("alert", "--test", exits=1)
    assert bench.leaks() == []


@pytest.fixture
def instance(bench: Bench) -> Iterator[dg.DagsterInstance]:
    """A real instance on SQLite, in the folder that is searched."""
    folder = bench.folder / "dagster_home"
    folder.mkdir()
    shutil.copy(DAGSTER_HOME / "dagster.yaml", folder)
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        yield opened


def test_runs_that_fail_leave_no_secret_in_the_databases_of_dagster(
    bench: Bench, server: S3Server, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(load_settings(), "MUG-01", 1)
    assert execute_recorded(instance, defs, "refresh_catalog").is_success
    bench.write(archive=in_bucket(server, endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert execute_recorded(instance, defs, "refresh_catalog").is_failure
    bench.write(archive=in_bucket(server))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    failed = execute_recorded(instance, defs, "nightly_generation", partition_key=NIGHT)
    assert failed.is_failure
    bench.told.append(_tick(instance, monkeypatch))
    assert list(bench.folder.rglob("*.db"))
    assert any(failed.run_id.encode() in text for text in written(bench.folder).values())
    assert bench.leaks() == []


def _tick(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the sensor `alerts` leaves after two looks, with a webhook that nobody listens at."""
    secret = plant().environment[PATH_OF_WEBHOOK]
    monkeypatch.setenv(PATH_OF_WEBHOOK, f"http://127.0.0.1:{free_port()}/{secret}")
    repository = defs.get_repository_def()
    cursor = '{"failed_after": 0}'
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
        sensor_name=alerts.SENSOR_NAME,
    ) as context:
        done = repository.get_sensor_def(alerts.SENSOR_NAME).evaluate_tick(context)
    told = f"{done.skip_message} {done.cursor}"
    assert "cannot be reached" in told
    assert secret not in told
    return told


@pytest.mark.slow
def test_a_database_that_is_away_is_told_without_its_password(bench: Bench) -> None:
    folder = bench.folder / "dagster_home"
    folder.mkdir()
    shutil.copy(DAGSTER_HOME / "profiles" / "postgres.yaml", folder / "dagster.yaml")
    with (
        pytest.raises(Exception, match="too many retries") as failed,
        dg.DagsterInstance.from_config(str(folder)) as opened,
    ):
        opened.get_runs(limit=1)
    bench.told.append("".join(traceback.format_exception(failed.value)))
    from dagster._utils.error import serializable_error_info_from_exc_info

    kept = serializable_error_info_from_exc_info(failed._excinfo)
    bench.told.append(kept.to_string())
    assert bench.leaks() == []


@pytest.mark.slow
def test_workers_of_ray_leave_no_secret(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("ray") is None:  # imported, it would read this environment for every test after
        pytest.skip("needs the extra ray")
    short = Path(tempfile.mkdtemp(prefix="ray"))  # the names of its sockets have to fit in
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    write_photos(load_settings(), "MUG-01", 1)
    bench.run("index")
    workers = {"at_once": 1}
    bench.write(execution={"engine": "ray", "learning": workers, "images": workers})
    try:
        bench.run_apart("learn")
        bench.run_apart("generate", "--day", NIGHT)
        assert list(short.rglob("*.log"))
        assert bench.leaks(short) == []
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_the_search_finds_a_secret_however_it_is_spelt(planted: Canaries, tmp_path: Path) -> None:
    secret = planted.environment["CATALOG_PIPELINE_SMTP_PASSWORD"]
    for before in ("", "a", "ab", "abc"):
        said = base64.b64encode(f"{before}{secret}zz".encode())
        assert leaks(planted, {"x": said}), before
    for text in (secret, quote(secret), secret.encode().hex(), f'"{secret}"'):
        assert leaks(planted, {"x": text.encode()}), text
    key = planted.files["master.key"]
    assert leaks(planted, {"x": b"\0" + bytes.fromhex(key)})
    assert leaks(planted, {"x": base64.b64encode(bytes.fromhex(key))})
    assert leaks(planted, {"x": b"nothing"}) == []
    assert min(map(len, spellings(secret))) >= 8
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"reason": [f"it was {secret}"] * 100})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert leaks(planted, written(tmp_path)) != []
