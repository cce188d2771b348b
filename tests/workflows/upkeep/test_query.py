"""SQL over a home: what is answered, what is refused, what nobody can touch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog_pipeline.errors import ConfigurationError, IntegrityError
from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.columns import MANIFEST_SCHEMA
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.data_dictionary import data_dictionary
from catalog_pipeline.workflows.upkeep.query import query_as_file, query_as_text
from tests.workflows.upkeep.data_home import fill_home


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("query")
    home = open_home(Settings.model_validate({"home": folder / "home", "config_dir": folder}))
    fill_home(home.objects)
    return home


def test_an_answer_as_text(example: Home) -> None:
    nights, none, many = query_as_text(
        example,
        "SELECT day, images, found_first FROM nights ORDER BY day; -- a comment\n"
        "FROM images WHERE false;\nFROM products ORDER BY image_id -- and one at the end",
        2,
    )
    assert nights.columns == ("day", "images", "found_first")
    assert nights.numeric == (False, True, True)
    assert nights.rows == (("2026-03-01", "3", None), ("2026-03-02", "1", None))
    assert nights.count == 3
    assert (none.count, none.rows) == (0, ())
    assert (many.count, len(many.rows)) == (9, 2)


READING = ("DESCRIBE images", "SHOW TABLES", "SUMMARIZE nights", "VALUES (1)")


@pytest.mark.parametrize("sql", READING)
def test_every_kind_of_reading(example: Home, sql: str) -> None:
    assert query_as_text(example, sql, 100)[0].count >= 1


def test_an_answer_as_a_file(example: Home) -> None:
    sql = (
        "SELECT image_id, skus, scores['nothing'] AS none, 'nan'::DOUBLE AS nan, created_utc AS t "
    )
    sql += "FROM images WHERE image_id = 'mug-and-zeros'"
    assert query_as_file(example, sql, "csv").decode() == (
        'image_id,skus,none,nan,t\nmug-and-zeros,"[MUG, 00123]",,nan,2026-03-01 02:00:00+00\n'
    )
    told = json.loads(query_as_file(example, sql, "json"), parse_constant=pytest.fail)
    assert told[0] == {
        "image_id": "mug-and-zeros",
        "skus": ["MUG", "00123"],
        "none": None,
        "nan": None,
        "t": "2026-03-01 02:00:00+00",
    }
    table = pq.read_table(io.BytesIO(query_as_file(example, sql, "parquet")))
    assert table["skus"].to_pylist() == [["MUG", "00123"]]
    assert json.loads(query_as_file(example, "FROM images WHERE false", "json")) == []


def test_a_bucket_answers_alike(
    example: Home, s3_settings: S3Settings, make_settings: Callable[..., Settings]
) -> None:
    bucket = open_home(make_settings(archive={"s3": s3_settings.model_dump()}))
    assert query_as_file(bucket, "FROM coverage", "csv").count(b"\n") == 1
    fill_home(bucket.objects)
    for sql in ("FROM nights ORDER BY day", "SELECT image_id, change FROM changes ORDER BY ALL"):
        assert query_as_file(bucket, sql, "csv") == query_as_file(example, sql, "csv")


REFUSED = {
    "COPY images TO '{out}'": "statement of kind COPY; expected SELECT",
    "SET enable_external_access = true": "statement of kind SET",
    "INSTALL httpfs": "expected SELECT",
    "ATTACH '{out}' AS other": "statement of kind ATTACH",
    "CREATE TABLE kept AS FROM images": "statement of kind CREATE",
    "DROP VIEW images": "statement of kind DROP",
    "SELECT 1) TO '{out}' --": "is no SQL: Parser Error",
    "FROM read_text('{secret}')": "file system operations are disabled",
    "FROM read_csv('{secret}')": "file system operations are disabled",
    "FROM '{secret}'": "file system operations are disabled",
    "FROM glob('{folder}/*')": "file system operations are disabled",
    "FROM read_parquet('s3://bucket/key')": "file system operations are disabled",
    "FROM variable_of_python": "does not exist",
    "SELECT imge_id FROM images": 'Candidate bindings: "image_id"',
    "FROM nigths": 'Did you mean "nights"',
    "FORM nights": 'syntax error at or near "FORM"',
    " -- nothing": "the query is empty",
    "SELECT 'x'::INTEGER": "Could not convert",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_question_is_refused_in_one_line(
    example: Home, tmp_path: Path, sql: str
) -> None:
    variable_of_python = [1]
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    names = {"out": tmp_path / "out", "secret": tmp_path / "secret.csv", "folder": tmp_path}
    with pytest.raises(ConfigurationError) as refused:
        query_as_text(example, sql.format(**names), 10)
    assert REFUSED[sql] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert variable_of_python == [1]


def test_a_file_holds_one_answer(example: Home) -> None:
    with pytest.raises(ConfigurationError, match="2 queries; expected one, since a csv file"):
        query_as_file(example, "FROM nights; FROM images", "csv")


def test_a_damaged_night_is_named(settings: Settings) -> None:
    home = open_home(settings)
    fill_home(home.objects)
    night = settings.home / "manifest/dt=2026-03-02/part-0.parquet"
    night.write_bytes(night.read_bytes()[:-9])
    with pytest.raises(IntegrityError, match=r"manifest/dt=2026-03-02/part-0\.parquet.*restore"):
        query_as_file(home, "FROM nights", "csv")


def test_every_column_of_every_table_is_explained() -> None:
    tables = data_dictionary()
    assert [table.name for table in tables[:4]] == [
        *("image_manifest", "catalog_index", "learning_log", "images")
    ]
    for table in tables:
        assert table.grain.startswith("one row per"), table.name
        assert [c.name for c in table.columns if not c.description] == []
    words = {c.name: c.description for c in tables[0].columns}
    said = MANIFEST_SCHEMA.field("steps").metadata[b"description"].decode()
    assert words["steps"] == said == "denoising steps"
    assert {c.name: c.type for c in tables[0].columns}["boxes"] == (
        "map<string, struct<left int32, top int32, right int32, bottom int32>>"
    )
