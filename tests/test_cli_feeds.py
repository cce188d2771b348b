"""``import-feed``: lines, exit statuses and the JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog_pipeline.cli import app

invoke = CliRunner().invoke


@pytest.fixture
def places(tmp_path: Path, make_photo: Callable[..., Path]) -> list[str]:
    """``FILE --config --home``: a feed of one good and one wrong row."""
    for n in range(3):
        make_photo(tmp_path / f"{n}.jpg", seed=n)
    feed = tmp_path / "feed.csv"
    feed.write_text(
        "sku,type,photos,Vendor\n00123,Home > Mugs,*.jpg,x\nbad one,Mugs,9.jpg,x\n", "utf-8"
    )
    (tmp_path / "config").mkdir()
    options = {"--config": tmp_path / "config", "--home": tmp_path / "home"}
    return [str(feed), *(str(part) for option in options.items() for part in option)]


def test_a_dry_run_prints_what_would_be_done_and_writes_nothing(places: list[str]) -> None:
    result = invoke(app, ["import-feed", *places, "--dry-run"])
    assert result.exit_code == 1
    heading, *wrong, added, last = result.stdout.splitlines()
    assert heading == "columns not read: Vendor"
    assert [line.partition(":")[0] for line in wrong] == ["wrong      row 3 (sku bad one)"] * 2
    assert "'bad one' cannot be a SKU" in wrong[0]
    assert "use 'bad-one', say" in wrong[0]
    assert "photos '9.jpg': no such file under" in wrong[1]
    assert added == "added      00123: card, +3 photos (0.jpg, 1.jpg, 2.jpg)"
    assert last == "1 added, 0 changed, 0 unchanged, 1 row wrong; dry run, nothing was written"
    assert not os.path.exists(places[-1])


def test_good_rows_are_imported_and_the_status_is_1_while_one_is_wrong(places: list[str]) -> None:
    result = invoke(app, ["import-feed", *places])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 added, 0 changed, 0 unchanged, 1 row wrong"
    feed = Path(places[0])
    feed.write_text("".join(feed.read_text("utf-8").splitlines(keepends=True)[:2]), "utf-8")
    result = invoke(app, ["import-feed", *places])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "unchanged  00123",
        "0 added, 0 changed, 1 unchanged, 0 rows wrong",
    ]


def test_one_json_object_has_everything(places: list[str]) -> None:
    result = invoke(app, ["import-feed", *places, "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["columns_not_read"] == ["Vendor"]
    (product,) = told["products"]
    assert (product["sku"], product["status"], product["added"]) == (
        "00123",
        "added",
        ["0.jpg", "1.jpg", "2.jpg"],
    )
    assert {(remark["row"], remark["sku"]) for remark in told["wrong"]} == {(3, "bad one")}


def test_columns_of_other_names_are_chosen(places: list[str]) -> None:
    feed = Path(places[0])
    feed.write_text("Artikel;Bilder\n7;0.jpg,1.jpg,2.jpg\n", "utf-8")
    refused = invoke(app, ["import-feed", *places])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "no column for the SKU; got 'Artikel', 'Bilder'" in refused.stderr
    chosen = ["--column", "sku=artikel", "--column", "photos=Bilder"]
    result = invoke(app, ["import-feed", *places, *chosen])
    assert result.exit_code == 0
    assert "warning    no column gives a class noun" in result.stdout
    assert "added      7: card, +3 photos" in result.stdout


def test_a_column_without_its_field_is_wrong_usage(places: list[str]) -> None:
    result = invoke(app, ["import-feed", *places, "--column", "sku"])
    assert result.exit_code == 2
    assert "expected FIELD=COLUMN such as sku=Article" in " ".join(result.stderr.split())
