"""The doctor and the status page over a good home and over every kind of damage."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.versions import version_hash
from catalog_pipeline.workflows.catalog.refresh_index import DIGESTS_KEY
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.doctor import CheckResult, run_doctor
from catalog_pipeline.workflows.upkeep.status import collect_status
from tests import builders

GOLDEN = Path(__file__).resolve().parents[2] / "stores" / "golden" / "schema_1"
NIGHT = date(2026, 3, 1)


@pytest.fixture
def home(settings: Settings) -> Home:
    """A home with an index, a version and a night in it."""
    home = open_golden(settings, GOLDEN)
    (settings.config_dir / "learning.yaml").write_text("steps: 300\n")
    return home


def open_golden(settings: Settings, golden: Path) -> Home:
    """A copy of ``golden`` with a night of the present schema, and the part that it lacks."""
    shutil.copytree(golden, settings.home, dirs_exist_ok=True)
    home = open_home(settings)
    home.archive.upgrade_day(NIGHT)
    store = home.adapters("mugs")
    served = store.current()
    assert served is not None
    part = store.write_part(b"weights")
    promote(home, parts={**served.parts, f"concept/{served.concepts[0].sku}": part})
    return home


def promote(home: Home, **changes: Any) -> None:
    """Serve the head with ``changes``."""
    store = home.adapters("mugs")
    head = store.current()
    assert head is not None
    draft = replace(head, version="", parent=head.version, **changes)
    builders.promote(store, replace(draft, version=version_hash(draft)))


def problems(settings: Settings) -> list[CheckResult]:
    found = run_doctor(open_home(settings))
    assert all(finding.hint for finding in found if finding.level != "ok")
    return [finding for finding in found if finding.level != "ok"]


def mend_index(home: Home) -> None:
    """The golden index has a failed SKU, which is a finding of its own."""
    home.index.update(
        lambda rows: [
            replace(row, status=SkuStatus.NEW) if row.status is SkuStatus.FAILED else row
            for row in rows
        ]
    )


def test_a_good_home_has_no_problem(settings: Settings, home: Home) -> None:
    mend_index(home)
    before = {key: home.objects.read(key).version for key in home.objects.list("")}
    found = run_doctor(open_home(settings))
    assert {finding.level for finding in found} == {"ok"}, found
    said = "\n".join(finding.what for finding in found)
    for part in (
        "base model: embedded",
        "provenance: new pictures carry XMP",
        "conditional writes hold",
        "index: 2 SKUs",
        ", 1 concepts, 2 parts with the right hashes",
        "archive: 1 nights, 1 pictures, all in place",
    ):
        assert part in said
    assert {key: home.objects.read(key).version for key in home.objects.list("")} == before


def test_an_empty_home_is_fine(settings: Settings) -> None:
    assert [finding.what for finding in problems(settings)] == [
        f"settings: no *.yaml in {settings.config_dir}; every default applies"
    ]


def test_a_settings_file_that_is_passed_over_and_a_dagster_home_like_a_url_are_named(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("learning.yaml~", "learning.yaml.bak", "._learning.yaml"):
        (home.settings.config_dir / name).write_text("steps: 1")
    monkeypatch.setenv("DAGSTER_HOME", "/srv/who?")
    said = [f"{result.level} {result.what}" for result in run_doctor(home)]
    folder = home.settings.config_dir
    assert f"ok settings: learning.yaml in {folder}" in said
    assert f"warning settings: 'learning.yaml~' in {folder} is not read" in said
    assert f"warning settings: 'learning.yaml.bak' in {folder} is not read" in said
    assert any(line.startswith("error dagster: DAGSTER_HOME='/srv/who?'") for line in said)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("catalog/index.parquet", "index: .* not a readable Parquet file"),
        ("collections/mugs/HEAD.json", "collection mugs: .* is not a head"),
        ("collections/mugs/versions/*.json", "is not an adapter version"),
        ("collections/mugs/parts/*.safetensors", "is corrupted"),
        ("images/*.png", "archive: .* is corrupted"),
        ("manifest/*/part-0.parquet", "archive: .* not a readable Parquet file"),
        ("_versions/manifest/*/*.parquet", "archive: .*_versions.* is corrupted"),
    ],
)
def test_rotten_bytes_are_found_where_they_are(
    settings: Settings, home: Home, pattern: str, message: str
) -> None:
    mend_index(home)
    for path in settings.home.glob(pattern):
        path.write_bytes(b"rotten")
    found = problems(settings)
    assert found
    assert any(finding.level == "error" for finding in found)
    assert any(re.search(message, finding.what) for finding in found), found


def test_missing_parts_and_pictures_are_found(settings: Settings, home: Home) -> None:
    mend_index(home)
    for pattern in ("images/*.png", "collections/mugs/parts/*"):
        for path in settings.home.glob(pattern):
            path.unlink()
    said = "\n".join(finding.what for finding in problems(settings))
    assert "which is not stored" in said
    assert re.search(r"collection mugs: part concept/.* is not stored", said)


def test_doctor_says_what_the_asset_checks_say(settings: Settings, home: Home) -> None:
    mend_index(home)
    head = home.adapters("mugs").current()
    assert head is not None
    figures = {"forgetting": 0.9, "prior_drift": 0.8}
    promote(home, concepts=(replace(head.concepts[0], metrics=figures),))
    (row,) = home.archive.read_day(NIGHT)
    later = replace(row, day=NIGHT + timedelta(days=1))
    home.archive.publish_day(later.day, [later], {row.image_id})
    said = "\n".join(f"{found.level} {found.what}" for found in problems(settings))
    assert "error no_forgetting_regression: largest forgetting of 1 concepts: 0.900" in said
    assert "error prior_intact: largest prior_drift of 1 concepts: 0.800" in said
    assert f"error archive: image {row.image_id} has 2 rows" in said


def test_what_ended_runs_leave_is_counted(settings: Settings, home: Home) -> None:
    mend_index(home)
    store = home.adapters("mugs")
    store.write_part(b"of a run that was killed")
    store.write_staging("checkpoint", b"half learned")
    home.archive.put_image(b"\x89PNG nobody names me")
    (row,) = home.archive.read_day(NIGHT)
    home.archive.stage(NIGHT, "left", [replace(row, image_id="job-2")])
    home.objects.put(
        store.lease_object.key, b'{"expires_utc": null, "holder": "process 1", "token": ""}'
    )
    old = settings.home / ".tmp" / ".tmp-0123"
    old.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    said = [f"{finding.level} {finding.what}" for finding in run_doctor(open_home(settings))]
    for expected in (
        "ok collection mugs: 1 parts belong to no version",
        "ok collection mugs: 1 checkpoints",
        "ok archive: 1 pictures in no manifest",
        "warning archive: 1 pictures of 2026-03-01 are rendered, but not published",
        "warning collection mugs: stale lock of process 1, which ended early",
        "warning home: 1 temporary files such as .tmp/.tmp-0123",
    ):
        assert expected in said, said
    with store.lease(timeout_seconds=1):
        busy = [finding.what for finding in run_doctor(open_home(settings))]
    assert any(what.endswith("is learning") for what in busy)


def test_a_failed_sku_is_shown_with_its_reason(settings: Settings, home: Home) -> None:
    (finding,) = problems(settings)
    assert finding.what == "index: マグ failed: 2 usable photos, expected 3"
    assert "learn マグ" in finding.hint


def test_the_same_photos_under_two_skus_are_a_warning_that_names_both(
    settings: Settings, home: Home
) -> None:
    mend_index(home)
    digests = {f"{sku}/{n}.jpg": ["etag", f"{n}"] for sku in ("cup", "mug") for n in range(3)}
    content = {"schema_version": 1, "digests": digests}
    home.objects.put(DIGESTS_KEY, json.dumps(content).encode())
    (found,) = problems(settings)
    assert found.level == "warning"
    assert found.what.startswith("photos: cup and mug have 3 photos in common")
    home.objects.put(DIGESTS_KEY, b"no digests")
    assert "is not a digest cache" in problems(settings)[0].what


@pytest.mark.parametrize(
    ("base_model", "message"),
    [
        ("/nonexistent/model", "is not a folder, and offline is true"),
        ("{tmp}", "lacks unet, vae, text_encoder, tokenizer, scheduler"),
    ],
)
def test_a_base_model_that_cannot_open_is_an_error(
    make_settings: Callable[..., Settings], tmp_path: Path, base_model: str, message: str
) -> None:
    name = base_model.format(tmp=tmp_path)
    found = problems(make_settings(base_model={"base_model": name}))
    assert any(finding.level == "error" and message in finding.what for finding in found), found


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        (
            {"learning": {"scenes": ["in a " + "very " * 40 + "large room"]}},
            "learning.yaml: scenes",
        ),
        ({"generation": {"negative_prompt": "blurry, " * 40}}, "the negative_prompt comes to"),
    ],
)
def test_a_text_that_the_base_would_cut_is_an_error(
    make_settings: Callable[..., Settings], sections: dict[str, Any], named: str
) -> None:
    (told,) = [one for one in problems(make_settings(**sections)) if one.level == "error"]
    assert told.what.startswith("prompts: ")
    assert named in told.what
    assert "reads 48; shorten it" in told.what


def test_a_home_that_cannot_be_written_ends_the_look(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings()
    blocked = settings.model_copy(update={"home": tmp_path / "file" / "home"})
    (tmp_path / "file").write_text("in the way")
    errors = [finding for finding in problems(blocked) if finding.level == "error"]
    assert [finding.what.split(":")[0] for finding in errors] == ["home"]
    assert "cannot write" in errors[0].what


def test_a_wrong_secret_is_one_clear_finding(
    make_settings: Callable[..., Settings],
    s3_settings: S3Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings(archive={"s3": s3_settings.model_dump()})
    assert not [finding for finding in problems(settings) if finding.level == "error"]
    assert collect_status(open_home(settings))["collections"] == {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    (error,) = [finding for finding in problems(settings) if finding.level == "error"]
    assert "refused the credentials" in error.what


def test_the_status_is_plain_json(settings: Settings, home: Home) -> None:
    status: dict[str, Any] = collect_status(open_home(settings))
    assert json.loads(json.dumps(status)) == status
    assert status["home"] == str(settings.home)
    assert status["index"] == {
        "skus": 2,
        "photos": 8,
        "new": 0,
        "changed": 0,
        "learned": 1,
        "failed": 1,
        "retired": 0,
        "reasons": {"マグ": "2 usable photos, expected 3"},
    }
    assert status["collections"] == {
        "mugs": {
            "version": "152b57882315b97d",
            "fence": 2,
            "concepts": 1,
            "imported": {},
            "created_utc": "2026-03-01T02:30:00.123456+00:00",
            "versions": 2,
            "learning": {},
            "last_learned": {"sku": "00123", "fidelity": 0.5},
        }
    }
    assert status["nights"] == [
        {
            "day": "2026-03-01",
            "rows": 1,
            "superseded": 1,
            "quarantined": 0,
            "skus": 0,
            "adapter_versions": [],
        }
    ]
    assert status["staged"] == []
    with home.adapters("mugs").claim("00123", timeout_seconds=1):
        learning = collect_status(open_home(settings))["collections"]["mugs"]["learning"]
    assert learning["00123"].startswith(f"process {os.getpid()} on ")


def test_the_status_of_an_empty_home_is_empty(settings: Settings) -> None:
    status = collect_status(open_home(settings))
    assert (status["collections"], status["nights"], status["staged"]) == ({}, [], [])
    assert status["index"]["skus"] == 0
