"""What a small home has cost, by sums that are done by hand here.

The home is that of ``data_home``. Seconds: MUG was learned twice in 60 each, 00123 once in 90, NEW
failed in 60. Pictures: MUG 2, MUG and 00123 4, 00123 2 on the first night; MUG 2, MUG and GONE 2
(superseded), 00123 2 (held back) on the second; MUG 2 on the third. Prices are such that a second
costs 0.0001: 0.33 an hour, and 100 W at 0.30 a kWh, 0.03 an hour.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.evaluation.costs import machine_cost
from catalog_pipeline.records import NightCost, SkuCost
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.naming import Naming
from catalog_pipeline.stores.report_tables import encode_sku_costs
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.night.night_report import write_night_report
from catalog_pipeline.workflows.upkeep.cost_report import collect_costs, write_cost_report
from catalog_pipeline.workflows.upkeep.removal_traces import clean_reports
from tests.builders import make_concept, next_version, promote
from tests.evaluation.test_gallery import Collector
from tests.workflows.upkeep.data_home import (
    FIRST,
    SECOND,
    THIRD,
    fill_home,
    learning_row,
    picture,
)

PRICES = {
    "currency": "CHF",
    "watts": 100,
    "price_per_kwh": 0.3,
    "machine_price_per_hour": 0.33,
    "storage_price_per_gb_month": 0.02,
    "studio_price_per_picture": 30,
    "studio_minutes_per_picture": 12,
    "hosted_price_per_sku": 5,
    "hosted_price_per_picture": 0.5,
}
A_SECOND = 0.0001
MakeSettings = Callable[..., Settings]


def store_more(home: Home) -> None:
    """Two products are served, one from two parts; a refused candidate, a cache, an old part."""
    store = home.adapters("default")
    first = next_version(None, make_concept("MUG"), store.write_part(b"m" * 1000))
    promote(store, first)
    promote(store, next_version(first, make_concept("00123"), store.write_part(b"z" * 500)))
    store.write_part(b"nobody names it" * 10)
    home.objects.put("collections/default/quarantine/NEW-0123456789abcdef/report.json", b"{}")
    home.objects.put("base/0123/prior-0123.safetensors", b"b" * 300)
    home.objects.put("keys/keyring.json", b"k" * 40)


@pytest.fixture
def home(make_settings: MakeSettings) -> Home:
    opened = open_home(make_settings(governance={"cost": PRICES}))
    fill_home(opened.objects)
    store_more(opened)
    return opened


@pytest.fixture
def costs(home: Home) -> Any:
    return collect_costs(home)


def by_sku(costs: Any) -> dict[str, SkuCost]:
    return {row.sku: row for row in costs.skus}


def test_seconds_add_up_refused_and_unpublished_ones_included(costs: Any) -> None:
    assert costs.learning_seconds == pytest.approx(60 + 60 + 90 + 60)
    assert costs.refused_seconds == pytest.approx(60)
    assert costs.rendering_seconds == pytest.approx(2 + 4 + 2 + 2 + 2 + 2 + 2)
    assert costs.unused_seconds == pytest.approx(2 + 2)
    assert (costs.learned_skus, costs.published) == (2, 5)
    assert costs.period == (datetime(2026, 2, 28).date(), THIRD)
    assert costs.cost == pytest.approx((270 + 16) * A_SECOND)
    assert costs.cost_per_sku == pytest.approx(270 * A_SECOND / 2)
    assert costs.cost_per_picture == pytest.approx(16 * A_SECOND / 5)
    assert costs.full_cost_per_picture == pytest.approx(286 * A_SECOND / 5)
    assert machine_cost(3600, costs.prices) == pytest.approx(0.33 + 0.1 * 0.3)


def test_a_product_has_its_attempts_and_its_share_of_every_picture(costs: Any) -> None:
    rows = by_sku(costs)
    assert sorted(rows) == ["00123", "GONE", "MUG", "NEW"]
    mug, zeros, gone, new = (rows[sku] for sku in ("MUG", "00123", "GONE", "NEW"))
    assert (mug.name, mug.status, mug.place) == ("Blue mug", "learned", 2)
    assert (mug.attempts, mug.learned, mug.refused) == (2, 2, 0)
    assert mug.learning_seconds == pytest.approx(120)
    assert (mug.pictures, mug.picture_share, mug.held_back) == (4, 3.5, 0)
    assert mug.rendering_seconds == pytest.approx(2 + 4 / 2 + 2 + 2 / 2 + 2)
    assert mug.machine_cost == pytest.approx((120 + 9) * A_SECOND)
    assert mug.energy_kwh == pytest.approx((120 + 9) * 100 / 3.6e6)
    assert (zeros.place, zeros.pictures, zeros.picture_share, zeros.held_back) == (1, 2, 1.5, 1)
    assert zeros.rendering_seconds == pytest.approx(4 / 2 + 2 + 2)
    assert zeros.machine_cost == pytest.approx((90 + 6) * A_SECOND)
    assert (gone.status, gone.attempts, gone.pictures) == ("gone", 0, 0)
    assert gone.rendering_seconds == pytest.approx(2 / 2)
    assert (new.status, new.place, new.refused, new.refused_seconds) == ("failed", None, 1, 60)
    assert sum(row.machine_cost for row in costs.skus) == pytest.approx(costs.cost)


def test_a_day_has_what_ended_on_it_and_the_pictures_of_its_plan(costs: Any) -> None:
    days: dict[Any, NightCost] = {row.day: row for row in costs.nights}
    assert len(days) == 4
    learned = days[datetime(2026, 2, 28).date()]
    assert (learned.attempts, learned.learning_seconds, learned.published) == (2, 150, 0)
    assert learned.cost_per_picture is None
    first, second = days[FIRST], days[SECOND]
    assert (first.published, first.rendering_seconds, first.unused_seconds) == (3, 8, 0)
    assert first.cost_per_picture == pytest.approx(8 * A_SECOND / 3)
    assert (second.attempts, second.learned, second.refused) == (2, 1, 1)
    assert (second.published, second.held_back, second.superseded) == (1, 1, 1)
    assert (second.picture_attempts, second.rendering_seconds) == (3 + 1 + 1, 6)
    assert second.unused_seconds == pytest.approx(4)
    assert second.machine_cost == pytest.approx((120 + 6) * A_SECOND)
    assert second.cost_per_picture == pytest.approx(6 * A_SECOND / 1)
    assert (days[THIRD].rendering_seconds, days[THIRD].failed) == (2, None)


def test_every_byte_counts_once_and_comes_to_a_product(home: Home, costs: Any) -> None:
    files = [path for path in home.settings.home.rglob("*") if path.is_file()]
    objects = [
        path
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(home.settings.home).parts)
        and "products" not in path.parts
    ]
    total = sum(path.stat().st_size for path in objects)
    assert costs.stored_bytes == total
    rows = by_sku(costs)
    assert rows["MUG"].concept_bytes == 1000
    assert rows["00123"].concept_bytes == 500
    assert rows["NEW"].concept_bytes == 2
    assert sum(
        row.concept_bytes + row.picture_bytes + row.shared_bytes for row in costs.skus
    ) == pytest.approx(total)
    images = {p.name: p.stat().st_size for p in (home.settings.home / "images").iterdir()}
    assert sum(row.picture_bytes for row in costs.skus) == pytest.approx(sum(images.values()))
    by_id = {
        row.image_id: images[row.path.rpartition("/")[2]]
        for day in (FIRST, SECOND, THIRD)
        for row in (*home.archive.read_day(day), *home.archive.quarantine.read_day(day))
    }
    assert rows["GONE"].picture_bytes == pytest.approx(by_id["dropped"] / 2)
    assert rows["00123"].picture_bytes == pytest.approx(
        by_id["mug-and-zeros"] / 2 + by_id["zeros-placed"] + by_id["held"]
    )
    # A picture that no row names, and a cache: half for each product that is served.
    stored = {kind.kind: kind.stored_bytes for kind in costs.stored}
    assert stored["caches of the base"] == 300
    assert costs.storage_cost_month == pytest.approx(total / 1e9 * 0.02)
    assert rows["MUG"].storage_cost_month == pytest.approx(
        (1000 + rows["MUG"].picture_bytes + rows["MUG"].shared_bytes) / 1e9 * 0.02
    )


def test_others_are_asked_for_what_is_published_and_learned(costs: Any) -> None:
    studio, hosted = costs.alternatives
    assert (studio.asked, studio.hours) == (5 * 30, pytest.approx(5 * 12 / 60))
    assert (hosted.asked, hosted.hours) == (pytest.approx(2 * 5 + 5 * 0.5), None)
    assert studio.saved == pytest.approx(150 - 286 * A_SECOND)


def test_what_nobody_measured_is_said_and_not_made_up(home: Home) -> None:
    crashed = learning_row("MUG", "b" * 16, datetime(2026, 3, 3, 9, tzinfo=UTC), seconds=0.0)
    home.learning_log.add(crashed)
    old = picture(home.archive, "old", "MUG", day=THIRD, render_seconds=0.0)
    home.archive.publish_day(THIRD, [old], ["old", "mug-third"])
    (home.settings.home / old.path).unlink()
    missing = " | ".join(collect_costs(home).missing)
    without_report = (
        "Nights without a report, so without pictures that failed and what people had to do"
    )
    assert (
        "Attempts at learning without seconds (a crash lost them), whose cost is missing: 1"
        in missing
    )
    assert (
        "Pictures without seconds (an earlier release made them), whose cost is missing: 1"
        in missing
    )
    assert "Pictures with a row and no file, whose bytes are missing: 1" in missing
    assert f"{without_report}: 3" in missing
    assert "no meter was read" in missing
    assert by_sku(collect_costs(home))["MUG"].untimed_attempts == 1
    write_night_report(home, THIRD)
    report = collect_costs(home)
    assert f"{without_report}: 2" in report.missing
    assert report.nights[-1].failed == 0
    assert report.nights[-1].to_do is not None


def test_bytes_without_a_product_are_said(make_settings: MakeSettings) -> None:
    home = open_home(make_settings())
    fill_home(home.objects)
    report = collect_costs(home)
    given = sum(row.concept_bytes + row.picture_bytes + row.shared_bytes for row in report.skus)
    left = report.stored_bytes - given
    assert left > 0
    assert f"Bytes in no row, since no product is served: {left:,.0f}" in report.missing


def test_growth_is_a_line_through_what_was_learned_alike(make_settings: MakeSettings) -> None:
    home = open_home(make_settings())
    store, version = home.adapters("default"), None
    for n in range(6):
        version = next_version(version, make_concept(f"S{n}", task=n), store.write_part(b"%d" % n))
        promote(store, version)
        ended = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=n)
        asked = {"settings": json.dumps({"steps": 120}), "metrics": {"final_loss": 0.1}}
        row = learning_row(f"S{n}", version.version, ended, seconds=10 + 0.5 * n, **asked)
        home.learning_log.add(row)
    other = learning_row(
        "T", "c" * 16, ended - timedelta(hours=1), seconds=500.0, metrics={"final_loss": 0.1}
    )
    home.learning_log.add(other)  # with other steps
    growth = {each.name: each for each in collect_costs(home).growth}
    learning = growth["learning"]
    # T was learned before the sixth, which therefore had six products before it.
    assert learning.points == (*((n, 10 + 0.5 * n) for n in range(5)), (6, 12.5))
    assert learning.slope == pytest.approx(0.5, rel=0.2)
    assert learning.source == "this home"
    sizes = [size for _, size in growth["record of a version"].points]
    assert len(sizes) == 6
    assert sizes == sorted(sizes)
    publishing = growth["publishing"]
    assert (publishing.points, "benchmark elsewhere" in publishing.source) == ((), True)
    assert publishing.slope is not None


def test_the_files_are_the_same_again_and_say_what_they_hold(home: Home, tmp_path: Path) -> None:
    written = write_cost_report(home)
    assert written.paths["page"] == home.settings.home / "reports" / "cost" / "index.html"
    before = {kind: path.read_bytes() for kind, path in written.paths.items()}
    again = write_cost_report(home, tmp_path / "out")
    assert {kind: path.read_bytes() for kind, path in again.paths.items()} == before
    page = before["page"].decode()
    assert Collector(page).open == []
    assert len(page) < 300_000
    assert "http://" not in page
    assert "https://" not in page
    for words in ("0.36 CHF an hour", "100 W at 0.30 CHF a kWh", "0.02 CHF a GB", "Blue mug"):
        assert words in page
    for kind, grain in (("skus", "sku"), ("nights", "day")):
        table = pq.read_table(io.BytesIO(before[kind]))
        assert all(field.metadata[b"description"] for field in table.schema)
        assert json.loads(table.schema.metadata[b"prices"])["watts"] == 100
        keys = table.column(grain).to_pylist()
        assert keys == sorted(set(keys))
    skus = pq.read_table(io.BytesIO(before["skus"])).to_pylist()
    assert [row["machine_cost"] for row in skus if row["sku"] == "MUG"] == [
        pytest.approx(129 * A_SECOND)
    ]


def test_a_bucket_has_the_same_costs(home: Home, make_settings: MakeSettings, s3_settings) -> None:
    cost = {"cost": PRICES}
    there = open_home(make_settings(governance=cost, archive={"s3": s3_settings.model_dump()}))
    fill_home(there.objects)
    store_more(there)
    here, found = collect_costs(home), write_cost_report(there).report
    assert found.cost == pytest.approx(here.cost)
    in_folder, in_bucket = ({k.kind: k.objects for k in each.stored} for each in (here, found))
    assert in_bucket["collections"] == in_folder["collections"] + 1  # its lease is an object
    assert in_bucket == in_folder | {"collections": in_bucket["collections"]}
    assert there.objects.exists("reports/cost/skus.parquet")


def test_a_removal_takes_a_table_whose_bytes_do_not_show_the_name(home: Home, costs: Any) -> None:
    key, gone = "reports/cost/skus.parquet", "MUG-00010"
    rows = [replace(costs.skus[0], sku=f"MUG-{n:05d}") for n in range(20)]
    data = encode_sku_costs(rows, "{}")
    assert not Naming(gone).stands_in(data)  # compressed
    home.objects.put(key, data)
    assert clean_reports(home, "MUG-00099", [], []) == 0
    assert clean_reports(home, gone, [], []) == 1
    assert not home.objects.exists(key)


def test_an_empty_home_has_no_report(make_settings: MakeSettings) -> None:
    with pytest.raises(GenerationError, match="nothing was learned or rendered"):
        write_cost_report(open_home(make_settings()))
