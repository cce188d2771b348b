"""The policies of `dagster_home/profiles/access` on a real S3 server, which evaluates them."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from catalog_pipeline.cli import app
from catalog_pipeline.errors import AccessDeniedError
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from tests.governance.places import INNER, KEYS, TABLES_AND_PICTURES
from tests.s3_server import S3Server, running_s3_server
from tests.workflows.upkeep.data_home import fill_home

PROFILES = Path(__file__).resolve().parents[2] / "dagster_home" / "profiles" / "access"
ROLES = ("service", "operator", "reader")
ARCHIVE, PHOTOS = "product-archive", "product-photos"
HOME, CATALOG = "prod/", "catalog/"
MANIFEST = f"{HOME}manifest/dt=2026-03-01/part-0.parquet"


@dataclass(frozen=True)
class Bucket:
    """The server, and the access keys of each role."""

    server: S3Server
    keys: dict[str, str]

    def environment(self, role: str) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": role,
            "AWS_SECRET_ACCESS_KEY": self.keys[role],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, role: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.server.endpoint_url,
            region_name=self.server.region,
            aws_access_key_id=role,
            aws_secret_access_key=self.keys[role],
            config=Config(retries={"total_max_attempts": 1}),
        )


def identities(keys: dict[str, str]) -> dict[str, Any]:
    """What docs/governance/access.md has a SeaweedFS told: each role by its policy as shipped."""
    return {
        "identities": [
            {
                "name": role,
                "credentials": [{"accessKey": role, "secretKey": keys[role]}],
                "policyNames": [role],
            }
            for role in ROLES
        ],
        "policies": [
            {"name": role, "content": (PROFILES / f"{role}.json").read_text("utf-8")}
            for role in ROLES
        ],
    }


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A home and photos in buckets of the names that the profiles have."""
    keys = {role: uuid.uuid4().hex for role in ROLES}
    folder = tmp_path_factory.mktemp("seaweedfs")
    with running_s3_server(folder, identities(keys)) as server:
        keys["root"] = server.secret_key
        found = Bucket(server, {**keys, server.access_key: server.secret_key})
        root = found.client(server.access_key)
        for name in (ARCHIVE, PHOTOS):
            root.create_bucket(Bucket=name)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            fill_home(open_home(settings_of(server, folder)).objects)
        for key in SECRETS:
            root.put_object(Bucket=ARCHIVE, Key=key, Body=b"secret")
        root.put_object(Bucket=PHOTOS, Key=f"{CATALOG}MUG/a.jpg", Body=b"photo")
        yield found


SECRETS = (
    *(HOME + key for key in (*INNER, *KEYS)),
    f"another-home/{TABLES_AND_PICTURES[1]}",
)
AUDIT = HOME + INNER[0]


def settings_of(server: S3Server, folder: Path) -> Settings:
    s3 = server.settings(HOME).model_copy(update={"bucket": ARCHIVE})
    sections = {"archive": {"s3": s3.model_dump()}}
    return Settings.model_validate({"home": folder / "home", "config_dir": folder, **sections})


def an_image(bucket: Bucket) -> str:
    listed = bucket.client("reader").list_objects_v2(Bucket=ARCHIVE, Prefix=f"{HOME}images/")
    return str(listed["Contents"][0]["Key"])


def is_allowed(request: Callable[[], Any]) -> bool:
    """Whether the server does it; any other failure than a 403 is raised."""
    try:
        request()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


def reads(client: Any, bucket: str, key: str) -> bool:
    got = is_allowed(lambda: client.get_object(Bucket=bucket, Key=key)["Body"].read())
    # What may not be read may not be looked at either.
    assert is_allowed(lambda: client.head_object(Bucket=bucket, Key=key)) == got
    return got


def writes(client: Any, bucket: str, key: str) -> bool:
    return is_allowed(lambda: client.put_object(Bucket=bucket, Key=key, Body=b"other"))


def deletes(client: Any, bucket: str, key: str) -> bool:
    return is_allowed(lambda: client.delete_object(Bucket=bucket, Key=key))


def lists(client: Any, bucket: str, prefix: str) -> bool:
    return is_allowed(lambda: client.list_objects_v2(Bucket=bucket, Prefix=prefix))


def test_a_reader_reads_pictures_and_tables_and_nothing_else(bucket: Bucket) -> None:
    reader = bucket.client("reader")
    for key in TABLES_AND_PICTURES:
        assert reads(reader, ARCHIVE, HOME + key), key
    assert reads(reader, ARCHIVE, an_image(bucket))
    assert [key for key in SECRETS if reads(reader, ARCHIVE, key)] == []
    assert not reads(reader, PHOTOS, f"{CATALOG}MUG/a.jpg")


def test_a_reader_lists_pictures_and_tables_and_nothing_else(bucket: Bucket) -> None:
    reader = bucket.client("reader")
    for folder in ("images/", "manifest/dt=", "quarantine/dt=", "learning/dt="):
        assert lists(reader, ARCHIVE, HOME + folder), folder
    for prefix in ("", HOME, f"{HOME}collections/", f"{HOME}keys/", "another-home/"):
        assert not lists(reader, ARCHIVE, prefix), prefix
    assert not lists(reader, PHOTOS, CATALOG)
    names = reader.list_buckets()["Buckets"] if is_allowed(reader.list_buckets) else []
    assert PHOTOS not in {each["Name"] for each in names}


def test_a_reader_changes_nothing(bucket: Bucket) -> None:
    reader, image = bucket.client("reader"), an_image(bucket)
    for key in (MANIFEST, image, *SECRETS, f"{HOME}manifest/new.parquet", f"{HOME}audit/new"):
        assert not writes(reader, ARCHIVE, key), key
        assert not deletes(reader, ARCHIVE, key), key
    assert not writes(reader, PHOTOS, f"{CATALOG}MUG/b.jpg")
    several = {"Objects": [{"Key": MANIFEST}, {"Key": image}]}
    with_errors = reader.delete_objects(Bucket=ARCHIVE, Delete=several).get("Errors", [])
    assert {each["Code"] for each in with_errors} == {"AccessDenied"}
    assert len(with_errors) == 2
    for key in (MANIFEST, image):
        assert reads(reader, ARCHIVE, key)


def test_a_reader_takes_no_way_around(bucket: Bucket) -> None:
    reader = bucket.client("reader")
    part = {"Bucket": ARCHIVE, "Key": next(key for key in SECRETS if "/parts/" in key)}
    taken = {"Bucket": ARCHIVE, "Key": f"{HOME}images/taken"}
    assert not is_allowed(lambda: reader.copy_object(CopySource=part, **taken))
    opened = {"Version": "2012-10-17", "Statement": []}
    policy = json.dumps(opened)
    assert not is_allowed(lambda: reader.put_bucket_policy(Bucket=ARCHIVE, Policy=policy))
    assert not is_allowed(lambda: reader.put_object_acl(**part, ACL="public-read"))
    assert not is_allowed(lambda: reader.delete_bucket(Bucket=ARCHIVE))
    assert not is_allowed(lambda: reader.create_multipart_upload(**taken))
    # A link that a reader signs opens no more than the reader may.
    import urllib.error
    import urllib.request

    link = reader.generate_presigned_url("get_object", Params=part)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(link)


def test_an_operator_keeps_the_photos_and_sees_all_of_the_home_but_keys(bucket: Bucket) -> None:
    operator = bucket.client("operator")
    photo = f"{CATALOG}VASE/a.jpg"
    assert writes(operator, PHOTOS, photo)
    assert reads(operator, PHOTOS, photo)
    assert deletes(operator, PHOTOS, photo)
    readable = [key for key in SECRETS if reads(operator, ARCHIVE, key)]
    assert readable == [HOME + key for key in INNER]
    for key in (MANIFEST, *SECRETS):
        assert not writes(operator, ARCHIVE, key), key
        assert not deletes(operator, ARCHIVE, key), key


def test_the_service_keeps_the_home_and_only_reads_photos(bucket: Bucket) -> None:
    service = bucket.client("service")
    assert reads(service, PHOTOS, f"{CATALOG}MUG/a.jpg")
    assert lists(service, PHOTOS, CATALOG)
    assert not writes(service, PHOTOS, f"{CATALOG}MUG/a.jpg")
    assert not deletes(service, PHOTOS, f"{CATALOG}MUG/a.jpg")
    new = f"{HOME}collections/default/staging/step-1"
    assert writes(service, ARCHIVE, new)
    assert reads(service, ARCHIVE, new)
    assert deletes(service, ARCHIVE, new)
    assert not writes(service, ARCHIVE, "another-home/new")
    assert not reads(service, ARCHIVE, SECRETS[-1])


def test_nobody_takes_anything_out_of_the_audit_log(bucket: Bucket) -> None:
    assert writes(bucket.client("service"), ARCHIVE, AUDIT.replace("1.json", "2.json"))
    for role in ROLES:
        assert not deletes(bucket.client(role), ARCHIVE, AUDIT), role
        one = {"Objects": [{"Key": AUDIT}]}
        told = bucket.client(role).delete_objects(Bucket=ARCHIVE, Delete=one)
        assert len(told.get("Errors", [])) == 1, role
    assert reads(bucket.client("service"), ARCHIVE, AUDIT)


def test_who_has_no_key_or_a_wrong_one_gets_nothing(bucket: Bucket) -> None:
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{bucket.server.endpoint_url}/{ARCHIVE}/{MANIFEST}")
    wrong = Bucket(bucket.server, {"reader": "wrong"}).client("reader")
    assert not reads(wrong, ARCHIVE, MANIFEST)


@pytest.fixture
def run_as(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """``run_as(role, *arguments)``: a command with the credentials of a role alone."""
    s3 = bucket.server.settings(HOME).model_dump() | {"bucket": ARCHIVE}
    photos = bucket.server.settings(CATALOG).model_dump() | {"bucket": PHOTOS}
    for name, content in (("archive", {"s3": s3}), ("catalogs", {"s3": photos})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def run(role: str, *arguments: str) -> Result:
        for name, value in bucket.environment(role).items():
            monkeypatch.setenv(name, value)
        options = ["--config", str(tmp_path), "--home", str(tmp_path / "home")]
        return CliRunner().invoke(app, [*arguments, *options])

    return run


@pytest.mark.parametrize("role", ROLES)
def test_every_role_queries_the_tables(run_as: Callable[..., Result], role: str) -> None:
    sql = "SELECT day, images FROM nights ORDER BY day"
    told = run_as(role, "query", sql, "--format", "csv")
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[:2] == ["day,images", "2026-03-01,3"]
    told = run_as(role, "manifest", "--day", "2026-03-02")
    assert told.exit_code == 0, told.output
    assert "mug-second" in told.stdout
    # One query each of every file that any view is made of.
    views = ("images", "held_back", "learning", "catalog", "history")
    counts = " UNION ALL ".join(f"SELECT count(*) AS rows FROM {view}" for view in views)
    told = run_as(role, "query", counts, "--format", "csv")
    assert told.exit_code == 0, told.output
    assert len(told.stdout.split()) == 1 + len(views)
    assert "0" not in told.stdout.split()


@pytest.mark.parametrize(
    "arguments",
    [("index",), ("generate", "--day", "2026-03-09"), ("rollback", "abc"), ("retire", "MUG")],
)
def test_what_a_reader_may_not_is_one_line(
    run_as: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    told = run_as("reader", *arguments)
    assert told.exit_code == 1, told.output
    assert told.stderr.count("\n") == 1, told.stderr
    assert "AccessDenied" in told.stderr


def test_who_may_not_look_at_keys_never_writes(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the policy would let it: the home may be encrypted."""
    for name, value in bucket.environment("operator").items():
        monkeypatch.setenv(name, value)
    objects = open_home(settings_of(bucket.server, tmp_path)).objects
    assert objects.read(MANIFEST.removeprefix(HOME)).data
    with pytest.raises(AccessDeniedError, match=r"is not known \(bucket .* \(AccessDenied\)"):
        objects.put("_staging/new", b"")


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_names_the_buckets_of_the_shipped_examples_and_nobody_in_general(
    role: str,
) -> None:
    policy = json.loads((PROFILES / f"{role}.json").read_text("utf-8"))
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert {"Sid", "Effect", "Action", "Resource"} <= set(statement)
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            assert resource.startswith(f"arn:aws:s3:::{ARCHIVE}") or resource.startswith(
                f"arn:aws:s3:::{PHOTOS}"
            )
        wide = "*" in str(statement["Action"])
        assert not (wide and statement["Effect"] == "Allow")
    shipped = Path(__file__).resolve().parents[2] / "assets_config"
    for name, example in (("archive", f"{ARCHIVE}, prefix: {HOME}"), ("catalogs", PHOTOS)):
        assert f"s3: {{bucket: {example}" in (shipped / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_the_names_of_another_bucket_are_put_in_as_the_page_says(role: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/governance/access.md").read_text("utf-8")
    (command,) = [line for line in page.splitlines() if line.startswith("sed ")]
    done = subprocess.run(
        ["sh", "-c", command.replace("reader.json", f"{role}.json")],
        cwd=PROFILES,
        capture_output=True,
        text=True,
        check=True,
    )
    changed, shipped = done.stdout, (PROFILES / f"{role}.json").read_text("utf-8")
    assert "my-archive/" in json.dumps(json.loads(changed))
    assert ARCHIVE not in changed
    assert HOME not in changed
    assert changed.count("my-archive") == shipped.count(ARCHIVE)


def test_every_place_of_a_home_is_tried() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/architecture.md").read_text("utf-8")
    table = page.partition("## What lies where")[2].partition("\n## ")[0]
    places = {key.partition("/")[0] for key in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)}
    tried = {key.partition("/")[0] for key in (*TABLES_AND_PICTURES, *INNER, *KEYS)}
    assert places == tried | {"images", "_versions"}
