"""What workflows note in the audit log, what a kill in between leaves, and the command."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import AuditError, StoreError
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.audit_chain import verify_chain
from catalog_pipeline.stores.audit_log import ACTOR_ENV, AUDIT_PREFIX, AuditLog, entry_key
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.catalog.import_feed import FeedImport, FeedSource
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.catalog.retire import retire_concepts
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.plan_night import plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.export_images import export_images
from catalog_pipeline.workflows.upkeep.versions import rollback
from tests.workflows.painted_night import DAY, Studio

run = CliRunner().invoke


@pytest.fixture
def studio(make_settings: Callable[..., Settings], make_photo: Callable[..., Path]) -> Studio:
    made = Studio(make_settings(catalog={"settle_seconds": 0, "retire_fraction_limit": 1}))
    made = made.configured(policies={"singles_per_sku": 1, "pairs": 1, "triples": 0})
    for number, sku in enumerate(("mug", "vase")):
        for photo in range(3):
            file = made.settings.catalog_root / sku / f"{photo}.png"
            make_photo(file, seed=10 * number + photo)
    refresh_index(made.home)
    made.learn("mug")
    made.learn("vase")
    plan_night(made.home, DAY)
    made.render()
    return made


def noted(home: Home) -> list[tuple[str, str]]:
    return [(entry.action, entry.subject) for entry in matching_entries(home)]


def die_at_the_entry(act: Callable[[], object]) -> None:
    """``act`` in a process that is killed where it would write its entry."""
    child = os.fork()
    if child == 0:
        AuditLog.append = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,method-assign]
        try:
            act()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_published_night_is_noted_once_for_each_change(studio: Studio) -> None:
    home = studio.home
    publish_manifest(home, DAY)
    publish_manifest(home, DAY)
    (entry,) = matching_entries(home)
    assert (entry.action, entry.subject) == ("publish", DAY.isoformat())
    assert entry.version == home.archive.versions(DAY)[-1]
    assert entry.facts == {"added": 3, "held_back": 0, "rows": 3}


def test_a_night_whose_publisher_was_killed_before_its_entry_is_noted_by_the_next(
    studio: Studio,
) -> None:
    die_at_the_entry(lambda: publish_manifest(studio.home, DAY))
    assert len(studio.home.archive.read_day(DAY)) == 3
    assert noted(studio.home) == []
    publish_manifest(studio.home, DAY)
    assert noted(studio.home) == [("publish", DAY.isoformat())]
    assert studio.home.archive.staged(DAY) == []


def test_a_log_that_is_refused_loses_no_night(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = LocalObjectStore.put_if_absent

    def refusing(self: LocalObjectStore, key: str, data: bytes) -> bool:
        if key.startswith(AUDIT_PREFIX):
            raise StoreError("no room")
        return create(self, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(LocalObjectStore, "put_if_absent", refusing)
        with pytest.raises(AuditError, match="what is done stays done"):
            publish_manifest(studio.home, DAY)
    assert len(studio.home.archive.read_day(DAY)) == 3
    publish_manifest(studio.home, DAY)
    assert noted(studio.home) == [("publish", DAY.isoformat())]


def test_a_rollback_is_noted_with_what_was_served_before(studio: Studio) -> None:
    home = studio.home
    first, second = home.adapters("default").history()
    rollback(home, first.version)
    (entry,) = matching_entries(home, action="rollback")
    assert (entry.subject, entry.version) == ("default", first.version)
    assert entry.facts == {"from": second.version}
    die_at_the_entry(lambda: rollback(studio.home, second.version))
    current = studio.home.adapters("default").current()
    assert current is not None
    assert current.version == second.version
    rollback(home, second.version)
    assert noted(home) == [("rollback", "default")] * 2


def test_a_product_that_goes_is_noted_with_the_version_without_it(studio: Studio) -> None:
    home = studio.home
    for path in (studio.settings.catalog_root / "mug").iterdir():
        path.unlink()
    (studio.settings.catalog_root / "mug").rmdir()
    refresh_index(home)
    (outcome,) = retire_concepts(home, today=DAY)
    entries = matching_entries(home, sku="mug")
    assert [entry.action for entry in entries] == ["drop", "retire"]
    assert {entry.version for entry in entries} == {outcome.version}


def test_exports_are_noted_before_they_leave(studio: Studio, tmp_path: Path) -> None:
    home = studio.home
    publish_manifest(home, DAY)
    out = tmp_path / "out"
    die_at_the_entry(lambda: export_images(studio.home, out, form="coco"))
    assert not out.exists()
    export_images(home, out, form="coco")
    (entry,) = matching_entries(home, action="export")
    assert entry.subject == str(out)
    assert entry.facts == {"form": "coco", "pictures": 3, "skus": ["mug", "vase"]}
    assert matching_entries(home, sku="vase") == [entry]


def test_a_feed_is_noted_before_its_first_product_is_written(
    studio: Studio, tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    make_photo(tmp_path / "feed" / "a.png")
    feed = tmp_path / "feed" / "products.csv"
    feed.write_text("sku,name,photo\nnew,New,a.png\n", encoding="utf-8")
    home = studio.home
    importing = FeedImport(home, FeedSource(feed))
    outcomes = importing.write(importing.check())
    next(iter(outcomes))
    (entry,) = matching_entries(home, action="import")
    assert (entry.subject, entry.facts) == ("products.csv", {"skus": ["new"]})


def test_garbage_collection_never_takes_an_entry(studio: Studio) -> None:
    home = studio.home
    publish_manifest(home, DAY)
    before = home.objects.list(AUDIT_PREFIX)
    later = datetime.now(UTC) + timedelta(days=4000)
    collect_garbage(home, grace_hours=0, now=later)
    assert before
    assert home.objects.list(AUDIT_PREFIX) == before


@pytest.fixture
def told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three entries of a person, and the options of the command."""
    monkeypatch.setenv(ACTOR_ENV, "ada")
    home = open_home(studio.settings)
    publish_manifest(home, DAY)
    first, second = home.adapters("default").history()
    rollback(home, first.version)
    rollback(home, second.version)
    return ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]


def test_the_command_shows_entries(studio: Studio, told: list[str], tmp_path: Path) -> None:
    shown = run(app, ["audit", *told])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert len(lines) == 3
    assert "publish" in lines[0]
    assert lines[0].endswith("(ada)")
    only = run(app, ["audit", "show", "--action", "publish", *told])
    assert len(only.output.splitlines()) == 1
    assert run(app, ["audit", "show", "--since", "2999-01-01", *told]).output == ""
    assert run(app, ["audit", "show", "--since", "2020-01-01", *told]).output == shown.output
    for name in ("log.csv", "log.json"):
        done = run(app, ["audit", "show", "--out", str(tmp_path / name), *told])
        assert done.output == f"{tmp_path / name}: 3 entries\n"
    records = json.loads((tmp_path / "log.json").read_text("utf-8"))
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sha256"] for row in rows] == [record["sha256"] for record in records]
    assert json.loads(rows[1]["facts"]) == records[1]["facts"]
    wrong = run(app, ["audit", "show", "--out", str(tmp_path / "log.txt"), *told])
    assert wrong.exit_code == 2
    inside = run(app, ["audit", "show", "--out", str(studio.settings.home / "audit/a.csv"), *told])
    assert "among what the program stores itself" in inside.stderr


def test_the_command_verifies_and_prints_the_end(studio: Studio, told: list[str]) -> None:
    head = run(app, ["audit", "head", *told]).output.strip()
    assert head.startswith("3:")
    good = run(app, ["audit", "verify", "--expect", head, *told])
    assert (good.exit_code, good.output) == (0, f"3 entries, 0 problems, end {head}\n")
    objects = studio.home.objects
    objects.delete(entry_key(3))
    cut = run(app, ["audit", "verify", "--expect", head, *told])
    assert cut.exit_code == 1
    assert "its end was cut off" in cut.output
    data = objects.read(entry_key(1)).data
    objects.put(entry_key(1), data.replace(b"ada", b"eve"))
    broken = run(app, ["audit", "verify", *told])
    assert broken.exit_code == 1
    assert broken.output.startswith("broken    ")
    assert run(app, ["audit", "verify", "--expect", "3", *told]).exit_code == 2
    assert run(app, ["audit", "verify", "--sku", "mug", *told]).exit_code == 2
    assert run(app, ["audit", "head", "--expect", head, *told]).exit_code == 2
    assert verify_chain(objects).problems
