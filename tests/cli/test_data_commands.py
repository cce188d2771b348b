"""query, dictionary and export-images as somebody types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import Result
from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.cli.data_tables import result_text
from catalog_pipeline.settings import Settings
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.upkeep.data_dictionary import as_markdown, data_dictionary
from catalog_pipeline.workflows.upkeep.query import QueryResult, describe_views, views_sql
from tests.workflows.upkeep.data_home import fill_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    settings = Settings.model_validate({"home": folder / "home", "config_dir": folder})
    fill_home(open_home(settings).objects)
    return settings.home


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_query_prints_a_table(home: Path) -> None:
    done = run("query", "SELECT sku, name, images FROM coverage ORDER BY sku", "--home", home)
    assert done.exit_code == 0
    assert done.stdout == (
        "sku    name           images\n"
        "00123  Product 00123       2\n"
        "MUG    Blue mug            4\n"
        "NEW    Product NEW         0\n"
    )


def test_without_a_query_the_views_are_listed() -> None:
    done = run("query")
    assert done.exit_code == 0
    for view in describe_views():
        assert f"{view.name}: {view.grain}\n" in done.stdout
        for name, _, _ in view.columns:
            assert name in done.stdout


def test_a_file_of_queries_prints_each(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "questions.sql"
    file.write_text("-- two\nFROM left_out;\nSELECT image_id FROM images WHERE false;\n", "utf-8")
    done = run("query", "--file", file, "--home", home)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == [
        *("00123", "Product", "00123", "00123/dark.jpg", "too", "dark")
    ]
    assert done.stdout.endswith("image_id\n(0 rows)\n")


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_query_writes_a_file(home: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"answer.{form}"
    sql = "SELECT day, images FROM nights ORDER BY day"
    done = run("query", sql, "--out", out, "--home", home)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{out}: {out.stat().st_size} bytes\n"
    assert duckdb.sql(f"SELECT images FROM '{out}'").fetchall() == [(3,), (1,), (1,)]
    printed = run("query", sql, "--format", form, "--home", home)
    assert printed.stdout_bytes == out.read_bytes()


def test_a_wrong_query_is_one_line(home: Path, tmp_path: Path) -> None:
    done = run("query", "SELECT nothing FROM images", "--home", home)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the query failed: Binder Error: Referenced column")
    assert done.stderr.count("\n") == 1
    for arguments in (["FROM nights", "--file", "a.sql"], ["--format", "csv"]):
        assert run("query", *arguments, "--home", home).exit_code == 2
    among = home / "manifest/answer.csv"
    refused = run("query", "FROM nights", "--out", among, "--home", home)
    assert refused.exit_code == 1
    assert not among.exists()


def test_a_table_says_how_much_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    result = QueryResult(("a", "b"), (True, False), (("1", None), ("22", "[bold]x")), 5)
    told = "(5 rows, 3 not shown; --format csv has all)"
    assert result_text(result) == f" a  b\n 1  -\n22  [bold]x\n{told}"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    narrow = QueryResult(("a", "long_name"), (True, False), (("1", None),), 1)
    assert result_text(narrow) == "a          1\nlong_name  -"


def test_the_dictionary() -> None:
    assert run("dictionary").stdout == as_markdown(data_dictionary()) + "\n"
    told = json.loads(run("dictionary", "--format", "json").stdout)
    assert [table["name"] for table in told["tables"]] == [t.name for t in data_dictionary()]
    sql = run("dictionary", "--format", "sql").stdout
    assert sql == views_sql()
    assert all(f"VIEW {view.name} " in sql for view in describe_views())


def test_pictures_are_exported(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = ["--day", "2026-03-01", "--day", "2026-03-02", "--sku", "MUG"]
    given = [*chosen, "--where", "attempts = 1", "--out", out, "--home", home]
    done = run("export-images", "--format", "imagefolder", *given)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"2 pictures in {out}: 4 files, ")
    assert {path.stem for path in out.rglob("*.png")} == {"mug-alone", "mug-and-zeros"}
    again = run("export-images", "--format", "imagefolder", "--out", out, "--home", home)
    assert again.exit_code == 1
    assert "is not an empty folder" in again.stderr


def test_the_card_alone_is_printed(home: Path, tmp_path: Path) -> None:
    done = run("export-images", "--format", "card", "--home", home)
    assert done.exit_code == 0
    assert done.stdout.startswith("---\nlicense: unknown\n")
    for wrong in (["card", "--out", tmp_path / "x"], ["coco"]):
        refused = run("export-images", "--format", *wrong, "--home", home)
        assert refused.exit_code == 2
        assert "--out FOLDER goes with every format but card" in refused.stderr
