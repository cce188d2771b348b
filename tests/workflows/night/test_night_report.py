"""The report of a night from a real home: what belongs to it, where it lies, that it stays so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import yaml
from PIL import Image

from catalog_pipeline.errors import GenerationError, IntegrityError
from catalog_pipeline.evaluation.night_report import RefusedProduct, ShownPhoto
from catalog_pipeline.evaluation.page_texts import PageTexts
from catalog_pipeline.records import LearningRow, SkuPassRate, SkuStatus
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.gallery import shown_days, write_gallery
from catalog_pipeline.workflows.night.night_actions import (
    photo_actions,
    picture_actions,
    refused_action,
    waiting_action,
)
from catalog_pipeline.workflows.night.night_figures import FIGURES_KEY
from catalog_pipeline.workflows.night.night_report import (
    collect_night,
    reported_days,
    write_night_report,
)
from catalog_pipeline.workflows.night.publish_manifest import publish_manifest
from catalog_pipeline.workflows.upkeep.collect_garbage import collect_garbage
from tests.builders import make_index_row
from tests.evaluation.drawn import photos_of
from tests.evaluation.test_night_report import attempt as made_attempt
from tests.evaluation.test_night_report import section
from tests.workflows.hard_night import hard_studio
from tests.workflows.painted_night import DAY, Studio

ENGLISH = PageTexts("en")


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return hard_studio(make_settings)


def attempt(sku: str, ended: datetime, status: str = "learned", **changes) -> LearningRow:
    name = f"{sku}@{ended.isoformat()}"
    return made_attempt(sku, attempt_id=name, ended_utc=ended, status=status, **changes)


def figures(home: Home) -> list[dict[str, object]]:
    return json.loads(home.objects.read(FIGURES_KEY).data)


def test_a_published_night_has_a_report_and_a_line_on_the_page_of_all_nights(night: Studio):
    home = night.home
    home.learning_log.add(attempt("a", datetime.now(UTC)))
    path = write_night_report(home, DAY)
    assert path == night.settings.home / "reports" / "nights" / f"dt={DAY.isoformat()}.html"
    html = path.read_text("utf-8")
    held = home.archive.quarantine.read_day(DAY)
    published = home.archive.read_day(DAY)
    assert f"{len(published)} pictures published, {len(held)} held back, 1 product learned" in html
    assert section(html, "held").count("<figure>") == len(held)
    assert "not found: a" in section(html, "held")
    assert f"--day {DAY.isoformat()} --retry-quarantined" in section(html, "next")
    index = (path.parent / "index.html").read_text("utf-8")
    assert f'href="{path.name}"' in index
    (line,) = figures(home)
    assert (line["published"], line["held_back"], line["learned"]) == (
        len(published),
        len(held),
        1,
    )
    assert line["judged"] > line["found"] > 0


def test_a_second_report_is_the_same_bytes_and_reads_as_the_setting_says(night: Studio):
    first = write_night_report(night.home, DAY)
    files = night.files()
    write_night_report(night.home, DAY)
    assert night.files() == files
    assert 'lang="ja"' in write_night_report(night.home, DAY, language="ja").read_text("utf-8")
    evaluation = night.settings.evaluation.model_copy(update={"language": "ja"})
    japanese = open_home(night.settings.model_copy(update={"evaluation": evaluation}))
    assert 'html lang="ja"' in write_night_report(japanese, DAY).read_text("utf-8")
    assert 'html lang="ja"' in (first.parent / "index.html").read_text("utf-8")
    assert 'html lang="ja"' in write_gallery(japanese, DAY).read_text("utf-8")


def test_a_night_that_is_held_back_whole_is_shown_by_gallery_and_report(studio: Studio):
    studio.render(forgets=dict.fromkeys("abc", 99))
    home = studio.home
    failed = [replace(row, verdict="failed") for row in home.archive.staged(DAY)]
    home.archive.stage(DAY, "held", [replace(r, created_utc=datetime.now(UTC)) for r in failed])
    publish_manifest(home, DAY)
    assert home.archive.days() == []
    assert shown_days(home) == [DAY] == reported_days(home)
    gallery = write_gallery(home, DAY, language="ja").read_text("utf-8")
    assert f"保留 {len(failed)} 枚" in gallery
    assert f"{len(failed)} held back" in write_night_report(home, DAY).read_text("utf-8")
    home.archive.quarantine.settle_day(DAY, [], [])
    assert shown_days(home) == []
    with pytest.raises(GenerationError, match="no picture of 2025-03-14 is published or held"):
        write_gallery(home, DAY)


def test_every_attempt_is_told_by_the_night_after_it(night: Studio):
    home = night.home
    rendered = [row.created_utc for row in home.archive.read_day(DAY)]
    before, after = min(rendered) - timedelta(hours=3), max(rendered) + timedelta(minutes=1)
    home.learning_log.add(attempt("a", before))
    home.learning_log.add(attempt("b", after))

    def told(day: date) -> list[str]:
        return [row.sku for row in collect_night(home, day, ENGLISH).attempts]

    assert told(DAY) == ["a", "b"]  # there is no later night yet
    next_day = DAY + timedelta(days=1)
    later = [
        replace(row, day=next_day, image_id=f"{n:032x}", created_utc=after + timedelta(hours=1))
        for n, row in enumerate(home.archive.read_day(DAY))
    ]
    home.archive.publish_day(next_day, later, [row.image_id for row in later])
    assert told(DAY) == ["a"]
    assert told(next_day) == ["b"]
    # The first night is rendered further after the second one: nothing changes sides.
    late = replace(later[0], day=DAY, image_id="f" * 32, created_utc=after + timedelta(hours=9))
    home.archive.publish_day(DAY, [late], [late.image_id])
    assert told(DAY) == ["a"]
    assert told(next_day) == ["b"]


def test_refused_products_come_with_photos_and_reason_and_the_newest_attempt_counts(
    night: Studio,
):
    home, now = night.home, datetime.now(UTC)
    for number, photo in enumerate(photos_of("ball")[:2]):
        path = night.settings.catalog_root / "tent" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo).save(path)
    (path.parent / "sku.yaml").write_text(
        yaml.safe_dump({"name": "Tent", "names": {"ja": "テント"}}, allow_unicode=True), "utf-8"
    )
    few = attempt("tent", now, "failed", reason="tent: 2 usable photos", photos=(), metrics={})
    home.learning_log.add(few)
    home.learning_log.add(attempt("a", now, "failed", reason="a: blurred"))
    home.learning_log.add(attempt("a", now + timedelta(seconds=1)))
    html = write_night_report(home, DAY, language="ja").read_text("utf-8")
    refused = section(html, "refused")
    assert refused.count("data:image/webp") == 2
    assert "テント" in refused
    assert ">2 usable photos<" in refused
    assert "blurred" not in refused
    assert "使える写真は 2 枚で、3 枚必要です" in section(html, "next")
    shutil.rmtree(path.parent)
    assert "data:image" not in section(write_night_report(home, DAY).read_text("utf-8"), "refused")


def test_what_the_index_alone_knows_stands_in_the_newest_night(night: Studio):
    home = night.home
    rows = [
        make_index_row("new"),
        make_index_row("bad", status=SkuStatus.FAILED, reason="bad: its card is no YAML"),
        make_index_row("gone", status=SkuStatus.RETIRED),
    ]
    home.index.update(lambda _: rows)
    home.learning_log.add(attempt("gone", datetime.now(UTC), "failed"))
    report = collect_night(home, DAY, ENGLISH)
    assert [product.sku for product in report.refused] == ["bad"]
    assert [a.kind for a in report.actions] == ["add_photos", "held_back", "retake", "waiting"]
    earlier = DAY - timedelta(days=1)
    old = [
        replace(row, day=earlier, created_utc=row.created_utc - timedelta(days=1))
        for row in home.archive.read_day(DAY)
    ]
    home.archive.publish_day(earlier, old, [row.image_id for row in old])
    assert collect_night(home, earlier, ENGLISH).refused == []


def test_a_picture_that_could_not_be_made_is_named_with_its_reason(studio: Studio):
    from catalog_pipeline.workflows.night.plan_night import read_plan

    job = read_plan(studio.home, DAY).jobs[0]
    studio.render(refuses=frozenset({job.job_id}))
    publish_manifest(studio.home, DAY)
    report = collect_night(studio.home, DAY, ENGLISH)
    assert report.failures == [(job.prompt, "RuntimeError: a NaN in the latents")]
    assert [a.kind for a in report.actions][:1] == ["failed"]


def test_a_day_of_nothing_names_the_nights_that_there_are(night: Studio):
    with pytest.raises(GenerationError, match=r"on 2025-03-20; latest nights: 2025-03-14;"):
        write_night_report(night.home, date(2025, 3, 20))


def test_before_any_night_a_day_of_learning_has_a_report(settings: Settings):
    home = open_home(settings)
    assert reported_days(home) == []
    home.learning_log.add(attempt("a", datetime(2026, 3, 1, 12, tzinfo=UTC), "failed"))
    (day,) = reported_days(home)
    html = write_night_report(home, day).read_text("utf-8")
    assert "No picture was made, 1 product refused." in html


def test_damaged_figures_say_how_they_are_made_anew(night: Studio):
    write_night_report(night.home, DAY)
    night.home.objects.put(FIGURES_KEY, b'[{"day": "yesterday"}]')
    with pytest.raises(IntegrityError, match=r"run `catalog-pipeline report --all`"):
        write_night_report(night.home, DAY)


def test_a_damaged_picture_does_not_cost_the_report(night: Studio):
    for path in (night.settings.home / "images").iterdir():
        path.write_bytes(b"rotten")
    html = write_night_report(night.home, DAY).read_text("utf-8")
    assert "missing or damaged" in section(html, "held")


def test_reports_of_a_bucket_lie_in_the_bucket_and_beside_the_settings(
    make_settings: Callable[..., Settings], s3_settings: S3Settings
):
    home = open_home(make_settings(archive={"s3": s3_settings}))
    home.learning_log.add(attempt("a", datetime(2026, 3, 1, 12, tzinfo=UTC)))
    path = write_night_report(home, date(2026, 3, 1))
    keys = home.objects.list("reports/")
    names = ("dt=2026-03-01.html", "figures.json", "index.html")
    assert keys == [f"reports/nights/{name}" for name in names]
    assert home.objects.read(keys[0]).data == path.read_bytes()


# --- what to do --------------------------------------------------------------


def refused(*photos: ShownPhoto) -> RefusedProduct:
    return RefusedProduct("a", "why", photos)


def test_each_kind_of_refusal_asks_for_its_own_remedy():
    good = [ShownPhoto(f"{n}.jpg", "", photos_of("ball")[0]) for n in range(3)]
    now = datetime.now(UTC)
    gates = {"gate_max_forgetting": 0.05, "gate_max_prior_drift": 0.5}
    shared = json.dumps({"adapter": {"slots": "shared"}, **gates})

    def kind(product: RefusedProduct, **changes) -> str:
        row = attempt("a", now, "failed", **changes) if changes else None
        return refused_action(product, row, 3).kind

    looks = {"fidelity_share": 0.1}
    assert kind(refused(*good[:2], ShownPhoto("x.txt", "is text"))) == "add_photos"
    assert kind(refused(*good), metrics=looks) == "clearer_photos"
    assert kind(refused(*good), metrics=looks | {"forgetting": 0.1}, settings=shared) == "forgets"
    assert kind(refused(*good), metrics=looks | {"forgetting": 0.01}, settings=shared) == (
        "clearer_photos"
    )
    assert kind(refused(*good), metrics={}) == "read_reason"


def test_pictures_photos_and_waiting_products_ask_for_theirs():
    rates = [SkuPassRate("a", 4, 1, 0), SkuPassRate("b", 4, 4, 4)]
    found = picture_actions(DAY, 2, 1, ["a"], rates)
    assert [(a.kind, a.number) for a in found] == [
        ("failed", 1),
        ("held_back", 2),
        ("retake", None),
    ]
    assert found[2].values == {"found": 1, "pictures": 4}
    assert picture_actions(DAY, 0, 0, [], rates) == []
    learned = attempt("a", datetime.now(UTC))
    assert [(a.sku, a.number) for a in photo_actions([learned])] == [("a", 1)]
    (use,) = [use for use in learned.photos if use.reason]
    spare = replace(use, reason="is left out: the folder has 40 photos and 30 are used")
    assert photo_actions([replace(learned, photos=(spare,))]) == []
    rows = [make_index_row(f"p{n:02}") for n in range(12)]
    (waiting,) = waiting_action(rows)
    assert str(waiting.values["names"]).endswith("p09 (+2)")
    assert waiting_action([make_index_row("a", status=SkuStatus.LEARNED)]) == []


def test_nights_whose_reports_were_cleaned_up_stay_in_the_list_without_a_link(night: Studio):
    home = night.home
    gone = write_night_report(home, DAY)
    collect_garbage(home, now=datetime.now(UTC) + timedelta(days=366))
    assert not gone.exists()
    next_day = DAY + timedelta(days=1)
    home.learning_log.add(attempt("a", datetime.now(UTC), "failed"))
    rows = [replace(row, day=next_day) for row in home.archive.read_day(DAY)[:1]]
    home.archive.publish_day(next_day, rows, [row.image_id for row in rows])
    index = (write_night_report(home, next_day).parent / "index.html").read_text("utf-8")
    assert f'href="dt={next_day.isoformat()}.html"' in index
    assert f'href="dt={DAY.isoformat()}.html"' not in index
