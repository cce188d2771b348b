"""A product is removed for good: nothing of it is left, and its neighbours are as they were."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.errors import CatalogError, IntegrityError
from catalog_pipeline.records import AdapterVersion, SkuStatus
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.audit_chain import verify_chain
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.night.night_figures import read_figures
from catalog_pipeline.workflows.night.plan_night import find_plan, plan_night
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.audit_entries import matching_entries
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from catalog_pipeline.workflows.upkeep.removal_record import unfinished
from catalog_pipeline.workflows.upkeep.removal_search import SEARCHED, search_home
from catalog_pipeline.workflows.upkeep.remove_concept import (
    RemovalOutcome,
    plan_removals,
    remove_concepts,
)
from catalog_pipeline.workflows.upkeep.verify import verify
from catalog_pipeline.workflows.upkeep.versions import list_versions, rollback
from tests.workflows.painted_night import DAY, Studio
from tests.workflows.upkeep.removal_home import (
    GONE,
    UNREPORTED,
    Filled,
    copied,
    fill,
    kill_at,
    leftovers,
    neighbours,
    status_of,
    stored,
    take_folder_away,
)

run = CliRunner().invoke
TOMORROW = DAY.replace(day=DAY.day + 1)


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A home of the module's own, which no test changes."""
    folder = tmp_path_factory.mktemp("removal")
    (folder / "assets_config").mkdir()
    sections = {"catalog": {"settle_seconds": 0, "retire_fraction_limit": 1}}
    paths = {"home": folder / "home", "config_dir": folder / "assets_config"}
    return fill(Settings.model_validate(paths | sections))


@pytest.fixture
def filled(filled_once: Filled, tmp_path: Path) -> Filled:
    return copied(filled_once, tmp_path / "home")


def remove(home: Home, sku: str = GONE) -> RemovalOutcome:
    (outcome,) = remove_concepts(home, [sku], lease_wait_seconds=5.0, search_pictures=True)
    return outcome


def line(home: Home) -> list[AdapterVersion]:
    """The versions that the head descends from, oldest first."""
    store = home.adapters("default")
    found: list[AdapterVersion] = []
    version = store.current()
    while version is not None:
        found.append(version)
        version = store.read(version.parent) if version.parent else None
    return found[::-1]


def test_nothing_of_it_is_left_in_any_byte_of_the_home(filled: Filled) -> None:
    settings = filled.studio.settings
    take_folder_away(settings)
    before = leftovers(filled.studio.files(), {})
    places = {line.partition("/")[0] for line in before}
    assert places >= {
        *("_staging", "_versions", "catalog", "collections", "learning", "manifest"),
        *("plans", "quarantine", "reports"),
    }
    outcome = remove(filled.home)
    assert outcome.reason == ""
    assert len(filled.secrets) > 30
    assert leftovers(filled.studio.files(), filled.secrets) == []
    assert not filled.home.objects.exists(UNREPORTED)
    assert not [path for path in settings.home.rglob(f"{GONE}*") if path.is_dir()]
    assert outcome.searched is not None
    assert outcome.searched.named_in == ()
    assert outcome.searched.bytes > 10_000
    assert outcome.counts["attempts"] == 2
    assert outcome.counts["pictures"] >= 4
    assert outcome.counts["versions_written_anew"] >= 2
    assert unfinished(filled.home.objects) == []
    assert filled.home.objects.list("removals/") == []


def test_its_neighbours_are_the_same_to_the_bit(filled: Filled) -> None:
    before = neighbours(filled.home)
    take_folder_away(filled.studio.settings)
    remove(filled.home)
    after = neighbours(filled.home)
    assert after == before
    assert len(before["pictures"]) >= 3
    assert set(before["statuses"].values()) == {SkuStatus.LEARNED}
    assert verify(filled.home).problems == ()
    levels = [check for check in run_doctor(filled.home) if check.level == "error"]
    assert levels == []


def test_rollbacks_and_time_travel_go_on_without_it(filled: Filled) -> None:
    home = filled.home
    archive, store = home.archive, home.adapters("default")
    old = line(home)
    states = archive.history(DAY)
    take_folder_away(filled.studio.settings)
    remove(home)
    versions = line(home)
    assert {entry.version.version for entry in list_versions(home)} == {v.version for v in versions}
    assert [[c.sku for c in version.concepts] for version in versions] == [
        ["blue-mug"],
        ["blue-mug", "vase"],
        ["blue-mug", "vase"],
    ]
    assert versions[0] == old[0]
    # The version that had learned the product is, without it, the one before.
    assert home.adapters("default").renamed.read() == {
        old[1].version: old[0].version,
        old[2].version: versions[1].version,
        old[3].version: versions[2].version,
    }
    rollback(home, old[2].version)
    current = store.current()
    assert current is not None
    assert current == versions[1]
    rollback(home, old[3].version[:8])
    assert home.adapters("default").current() == versions[2]
    after = archive.history(DAY)
    assert [s.published_utc for s in after] == [s.published_utc for s in states][-len(after) :]
    for state in after:
        rows = archive.read_as_of(DAY, state.published_utc)
        assert rows
        assert all(GONE not in row.skus for row in rows)


def test_the_search_finds_what_a_key_is_made_of_and_what_a_table_holds(filled: Filled) -> None:
    left = [
        f"collections/default/staging/{GONE}-8899aabbccddeeff.safetensors",
        "reports/cost/skus.parquet",
    ]
    filled.home.objects.put(left[0], b"weights")
    assert set(left) <= set(search_home(filled.home, GONE, ()).named_in)


def test_figures_of_nights_are_no_products_that_are_called_by_a_number(filled: Filled) -> None:
    figures = read_figures(filled.home)
    number = str(figures[0].published)
    remove(filled.home, number)
    assert read_figures(filled.home) == figures


def test_every_prefix_of_a_home_is_searched_or_named_as_not() -> None:
    page = Path(__file__).parents[3] / "docs" / "architecture.md"
    table = page.read_text("utf-8").partition("## What lies where")[2].partition("**Crashes.**")[0]
    prefixes = set(re.findall(r"`([a-z_]+)/", table))
    assert len(prefixes) >= 12
    searched = {prefix.partition("/")[0] for prefix in SEARCHED}
    assert prefixes - searched == {"audit", "images", "removals"}


def test_plans_keep_their_other_jobs_and_the_next_night_is_drawn(filled: Filled) -> None:
    home = filled.home
    before = find_plan(home, TOMORROW)
    assert before is not None
    take_folder_away(filled.studio.settings)
    remove(home)
    after = find_plan(home, TOMORROW)
    assert after is not None
    assert [j.job_id for j in after.jobs] == [j.job_id for j in before.jobs if GONE not in j.skus]
    filled.studio.painted()
    filled.studio.render(TOMORROW)
    assert filled.studio.painted() == []  # what was staged beside it is still there
    publish_manifest(home, TOMORROW)
    publish_manifest(home, DAY)
    plan = plan_night(home, TOMORROW)
    assert {sku for job in plan.jobs for sku in job.skus} == {"blue-mug", "vase"}
    filled.studio.render(TOMORROW)
    publish_manifest(home, TOMORROW)
    shown = {sku for row in home.archive.read_day(TOMORROW) for sku in row.skus}
    assert shown == {"blue-mug", "vase"}
    assert leftovers(filled.studio.files(), filled.secrets) == []
    collect_garbage(home, grace_hours=0)
    assert verify(home).problems == ()


def test_the_tombstone_says_when_and_what_and_nothing_of_the_product(filled: Filled) -> None:
    take_folder_away(filled.studio.settings)
    outcome = remove(filled.home)
    entries = matching_entries(filled.home, sku=GONE)
    assert [entry.action for entry in entries] == ["learn", "drop", "remove"]
    stone = entries[-1]
    assert outcome.tombstone is not None
    assert (stone.number, stone.sha256) == (outcome.tombstone.number, outcome.tombstone.sha256)
    assert set(stone.facts) == {
        *("removal", "started_utc", "gone", "learned_anew", "searched", "named_in", "nights"),
    }
    assert stone.facts["named_in"] == 0
    assert stone.facts["nights"] == [DAY.isoformat(), TOMORROW.isoformat()]
    data = b"".join(filled.home.objects.read(k).data for k in filled.home.objects.list("audit/"))
    assert [what for what, secret in filled.secrets.items() if secret in data] == []
    assert verify_chain(filled.home.objects).problems == ()


def test_it_may_come_back_as_a_new_product(filled: Filled, make_photo: Callable[..., Path]) -> None:
    settings = filled.studio.settings
    take_folder_away(settings)
    remove(filled.home)
    assert status_of(filled.home, GONE) is None
    refresh_index(filled.home)
    assert status_of(filled.home, GONE) is None
    for photo in range(3):
        make_photo(settings.catalog_root / GONE / f"{photo}.png", seed=90 + photo)
    assert refresh_index(filled.home).added == (GONE,)


def test_what_cannot_be_removed_is_said_before_anything_happens(filled: Filled) -> None:
    files = filled.studio.files()
    with pytest.raises(CatalogError, match=f"{GONE} still has its folder in"):
        list(remove_concepts(filled.home, [GONE]))
    with pytest.raises(CatalogError, match="nothing of nobody is stored"):
        plan_removals(filled.home, ["nobody"])
    take_folder_away(filled.studio.settings)
    (plan,) = plan_removals(filled.home, [GONE])
    assert plan.known
    text = "\n".join(plan.lines)
    assert "collection default: 3 versions are written anew without it" in text
    assert "2 attempts at learning it" in text
    left = {k: v for k, v in files.items() if f"products/{GONE}/" not in k}
    assert {k: v for k, v in filled.studio.files().items() if ".locks/" not in k} == {
        k: v for k, v in left.items() if ".locks/" not in k
    }


def test_a_version_that_cannot_be_read_stops_the_removal_of_what_it_may_hold(
    filled: Filled,
) -> None:
    home = filled.home
    first = line(home)[0]
    key = home.adapters("default").version_key(first.version)
    data = home.objects.read(key).data
    home.objects.put(key, data.replace(b'"seed": 0', b'"seed": 1'))
    take_folder_away(filled.studio.settings)
    with pytest.raises(IntegrityError, match="nobody knows whether they hold"):
        plan_removals(home, [GONE])
    assert "nobody knows whether they hold" in remove(home).reason
    assert unfinished(home.objects) == [GONE]
    assert any(f"that of {GONE} was begun" in check.what for check in run_doctor(home))
    home.objects.put(key, data)
    assert remove(home).reason == ""
    assert leftovers(filled.studio.files(), filled.secrets) == []


def test_a_learner_that_holds_it_is_waited_for(filled: Filled) -> None:
    take_folder_away(filled.studio.settings)
    with filled.home.adapters("default").claim(GONE, timeout_seconds=1):
        (outcome,) = remove_concepts(filled.home, [GONE], lease_wait_seconds=0.0)
    assert "is held by process" in outcome.reason
    assert remove(filled.home).reason == ""


def test_a_rollback_beside_it_is_followed(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    home, store = filled.home, filled.home.adapters("default")
    old = line(home)[1]
    take_folder_away(filled.studio.settings)
    delete = type(home.objects).delete

    def rolled_back_first(self: object, key: str) -> None:
        if key == store.version_key(old.version):
            store.rollback(old.version)
        delete(self, key)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(home.objects), "delete", rolled_back_first)
        assert remove(filled.home).reason == ""
    current = filled.home.adapters("default").current()
    assert current is not None
    assert [concept.sku for concept in current.concepts] == ["blue-mug"]
    assert leftovers(filled.studio.files(), filled.secrets) == []


def test_a_kill_at_any_write_is_mended_by_the_next_call(filled: Filled, tmp_path: Path) -> None:
    killed = kill_everywhere(filled, tmp_path, range(1, 400, 11))
    assert killed >= 5


@pytest.mark.slow
def test_a_kill_at_every_single_write_is_mended_by_the_next_call(
    filled: Filled, tmp_path: Path
) -> None:
    assert kill_everywhere(filled, tmp_path, range(1, 400)) > 50


def kill_everywhere(filled: Filled, tmp_path: Path, writes: range) -> int:
    """Kills at these writes, each in a fresh copy; how many there were before the end."""
    settings = filled.studio.settings
    take_folder_away(settings)
    before = neighbours(filled.home)
    kept = tmp_path / "kept"
    shutil.copytree(settings.home, kept)
    remove(filled.home)
    wanted = stored(filled.home)
    for count, write in enumerate(writes):
        shutil.rmtree(settings.home)
        shutil.copytree(kept, settings.home)
        if not kill_at(write, lambda: remove(filled.home)):
            return count
        assert remove(filled.home).reason == "", write
        assert stored(filled.home) == wanted, write
        assert leftovers(filled.studio.files(), filled.secrets) == [], write
        assert neighbours(filled.home) == before, write
        stones = matching_entries(filled.home, sku=GONE, action="remove")
        assert len({s.facts["removal"] for s in stones if s.facts["gone"]}) == 1, write
    raise AssertionError("more writes than were tried")


def test_in_a_bucket_too(
    make_settings: Callable[..., Settings],
    s3_settings: S3Settings,
) -> None:
    settings = make_settings(
        catalog={"settle_seconds": 0, "retire_fraction_limit": 1}, archive={"s3": s3_settings}
    )
    filled = fill(settings)
    before = neighbours(filled.home)
    take_folder_away(settings)
    for write in (9, 20, 40):
        assert kill_at(write, lambda: remove(filled.home))
    outcome = remove(filled.home)
    assert outcome.reason == ""
    objects = filled.home.objects
    files = {key: objects.read(key).data for key in objects.list("")}
    assert leftovers(files | filled.studio.files(), filled.secrets) == []
    assert neighbours(filled.home) == before
    assert filled.home.objects.list("removals/") == []


def test_the_command_asks_and_proves(filled: Filled) -> None:
    studio: Studio = filled.studio
    options = ["--config", str(studio.settings.config_dir), "--home", str(studio.settings.home)]
    (studio.settings.config_dir / "catalogs.yaml").write_text("settle_seconds: 0\n")
    refused = run(app, ["remove", GONE, *options])
    assert refused.exit_code == 1
    assert "still has its folder" in refused.stderr
    take_folder_away(studio.settings)
    dry = run(app, ["remove", GONE, "--dry-run", *options])
    assert dry.exit_code == 0
    assert dry.output.endswith("dry run: nothing was removed\n")
    asked = run(app, ["remove", GONE, *options], input="n\n")
    assert asked.exit_code == 1
    assert leftovers(studio.files(), {}) != []
    done = run(app, ["remove", GONE, "--yes", *options])
    assert done.exit_code == 0, done.output
    assert "found nowhere" in done.output
    assert f"removed   {GONE}: " in done.output
    assert "not reached: backups" in done.output
    assert leftovers(studio.files(), filled.secrets) == []
    again = run(app, ["remove", GONE, "--yes", *options])
    assert again.exit_code == 1
    assert f"nothing of {GONE} is stored" in again.stderr
