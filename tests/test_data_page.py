"""docs/data.md: its dictionary is the program's; its questions and its lines of code run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_pipeline.settings import S3Settings, Settings
from catalog_pipeline.stores.s3 import S3ObjectStore
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.data_dictionary import as_markdown, data_dictionary
from catalog_pipeline.workflows.upkeep.query import query_as_file, views_sql
from tests.s3_server import S3Server
from tests.stores.store_processes import Location, Worker
from tests.stores.test_leases import wait_for
from tests.workflows.upkeep.data_home import fill_home

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs/data.md").read_text("utf-8")
BATCH = 3


def part(title: str) -> str:
    """The text below the heading ``title``, up to the next one of its level."""
    level = title.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^{level} |\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert found is not None, title
    return found[1]


def snippets(title: str) -> dict[str, str]:
    """The lines of Python below a heading, by their first comment."""
    return {text.split("\n", 1)[0].removeprefix("# "): text for text in code(title, "python")}


def code(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", part(title), re.DOTALL)


def test_the_dictionary_of_the_page_is_the_programs() -> None:
    printed = PAGE.partition("<!-- dictionary -->\n")[2].partition("\n<!-- /dictionary -->")[0]
    assert printed == as_markdown(data_dictionary())


QUESTIONS = dict(
    re.findall(
        r"^### (\d+)\. [^\n]*\n.*?```sql\n(.*?)```",
        part("## Twelve questions"),
        re.DOTALL | re.MULTILINE,
    )
)
NOT_PLANNED = "the plan in force no longer asks for it"
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "1": [
        ("00123", "00123/a.jpg", True, True, "00123@aaaa000000000002"),
        ("00123", "00123/b.jpg", True, False, "00123@aaaa000000000002"),
    ],
    "2": [
        ("2026-02-28 12:00:00+00", "learned", "aaaa000000000001", 2, ""),
        ("2026-03-02 12:00:00+00", "learned", "aaaa000000000003", 2, ""),
    ],
    "3": [
        ("2026-03-02", "dropped", "superseded", NOT_PLANNED),
        ("2026-03-02", "held", "held back", "00123 is not in it"),
    ],
    "4": [
        ("mug-and-zeros", sku, "dpmsolver++", 20, 4.0, 7, "learned", 400, "0.9.0")
        for sku in ("00123", "MUG")
    ],
    "6": [
        ("MUG", "Blue mug", 4, 3, 3, "2026-03-03"),
        ("00123", "Product 00123", 2, 1, 1, "2026-03-01"),
        ("NEW", "Product NEW", 0, 0, 0, None),
    ],
    "7": [
        ("2026-03-01", 3, 0, 3, 1.0, 0.7, 1.0),
        ("2026-03-02", 1, 1, 1, 1.0, 0.7, 3.0),
        ("2026-03-03", 1, 0, 1, 1.0, 0.7, 1.0),
    ],
    "8": [("2026-03-01", "mug-and-zeros")],
    "9": [
        ("2026-03-01", "00123", 4.0),
        ("2026-03-01", "MUG", 4.0),
        ("2026-03-02", "GONE", 1.0),
        ("2026-03-02", "MUG", 3.0),
        ("2026-03-03", "MUG", 2.0),
    ],
    "10": [
        *(
            ("2026-03-01", name, "added", "")
            for name in ("mug-alone", "mug-and-zeros", "zeros-placed")
        ),
        *(("2026-03-02", name, "added", "") for name in ("dropped", "mug-second")),
        ("2026-03-02", "dropped", "superseded", NOT_PLANNED),
        ("2026-03-03", "mug-third", "added", ""),
    ],
    "11": [("NEW", "Product NEW", "failed", 0)],
    "12": [("00123", "00123/dark.jpg", "too dark")],
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The example of the page, in a folder ``demo``."""
    folder = tmp_path_factory.mktemp("data")
    home = open_home(Settings.model_validate({"home": folder / "demo", "config_dir": folder}))
    fill_home(home.objects)
    return home


def test_there_is_a_query_for_each_question() -> None:
    assert list(QUESTIONS) == [str(number) for number in range(1, 13)]


@pytest.mark.parametrize("number", ANSWERS)
def test_a_question_is_answered(example: Home, number: str) -> None:
    found = [
        tuple(row.values()) for row in json.loads(query_as_file(example, QUESTIONS[number], "json"))
    ]
    width = len(ANSWERS[number][0])
    rounded = [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in found]
    assert [row[:width] for row in rounded] == ANSWERS[number]


def test_a_picture_has_its_state_of_a_time(example: Home) -> None:
    """Question 5: it was current until the night was published again."""
    (now,) = json.loads(query_as_file(example, QUESTIONS["5"], "json"))
    assert (now["state"], now["reason"]) == (
        "superseded",
        NOT_PLANNED,
    )
    before = QUESTIONS["5"].replace("<= now()", f"< TIMESTAMPTZ '{now['published_utc']}'")
    (then,) = json.loads(query_as_file(example, before, "json"))
    assert (then["state"], then["reason"]) == ("current", "")
    assert then["published_utc"] < now["published_utc"]


Run = Callable[[str, Path], str]


@pytest.fixture(name="run")
def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(lines, folder)``: what the lines print, in a folder with the views beside the home."""

    def run(lines: str, folder: Path) -> str:
        (folder / "views.sql").write_text(views_sql(), "utf-8")
        monkeypatch.chdir(folder)
        exec(compile(lines, "docs/data.md", "exec"), {})
        return capsys.readouterr().out

    return run


def test_there_are_lines_for_each_library() -> None:
    for title in ("### A folder", "### A bucket"):
        offered = [re.split(r"\W", name)[0] for name in snippets(title)]
        assert offered == ["pandas", "pyarrow", "DuckDB", "Polars"]


@pytest.mark.parametrize("library", snippets("### A folder"))
def test_the_lines_for_a_folder(example: Home, run: Run, library: str) -> None:
    printed = run(snippets("### A folder")[library], example.settings.home.parent)
    assert re.search(r"00123", printed)
    assert not re.search(r"GONE|dropped|held", printed)
    if library != "pyarrow":
        assert re.search(r"MUG\W+4\b", printed)


@pytest.fixture(scope="module")
def s3_example(s3_server: S3Server) -> S3Settings:
    """The example of the page in a bucket."""
    settings = s3_server.settings(prefix="data-page")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in s3_server.environment.items():
            patched.setenv(name, value)
        fill_home(S3ObjectStore(settings))
    return settings


@pytest.mark.parametrize("library", snippets("### A bucket"))
def test_the_lines_for_a_bucket(
    s3_example: S3Settings,
    s3_server: S3Server,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
) -> None:
    environment = {
        **s3_server.environment,
        "CATALOG_BUCKET": s3_example.bucket,
        "CATALOG_PREFIX": s3_example.prefix,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "AWS_DEFAULT_REGION": s3_example.region,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    printed = run(snippets("### A bucket")[library], tmp_path)
    assert re.search(r"00123", printed)
    assert not re.search(r"GONE|dropped|held", printed)


def test_the_layout_is_one_that_spark_reads(example: Home) -> None:
    """Of every table: no INT96, no unsigned integer, maps with text keys, times in microseconds."""
    plain = {pa.string(), pa.bool_(), pa.int32(), pa.int64(), pa.float64(), pa.date32()}

    def leaves(kind: pa.DataType) -> list[pa.DataType]:
        if pa.types.is_map(kind):
            assert kind.key_type == pa.string()
            return leaves(kind.item_type)
        if pa.types.is_list(kind):
            return leaves(kind.value_type)
        if pa.types.is_struct(kind):
            return [leaf for part in kind for leaf in leaves(part.type)]
        return [kind]

    files = sorted(example.settings.home.rglob("*.parquet"))
    assert {file.relative_to(example.settings.home).parts[0] for file in files} == {
        *("manifest", "quarantine", "learning", "catalog", "_versions")
    }
    for file in files:
        content = pq.ParquetFile(file)
        kinds = {leaf for column in content.schema_arrow for leaf in leaves(column.type)}
        assert kinds <= {*plain, pa.timestamp("us", tz="UTC")}, file
        stored = [content.schema.column(place) for place in range(len(content.schema))]
        assert {column.physical_type for column in stored} <= {
            *("BYTE_ARRAY", "BOOLEAN", "INT32", "INT64", "DOUBLE")
        }
        codecs = {
            content.metadata.row_group(group).column(place).compression
            for group in range(content.num_row_groups)
            for place in range(len(stored))
        }
        assert codecs <= {"ZSTD"}
        assert "dt" not in content.schema_arrow.names
    nights = [p for p in (example.settings.home / "manifest").rglob("*") if p.is_file()]
    assert {night.parent.name[:3] for night in nights} == {"dt="}


@pytest.fixture
def busy(tmp_path: Path) -> Any:
    """A home in which another process publishes three pictures at a time."""
    location = Location(root=str(tmp_path / "home"))
    worker = Worker(location, "publish_batches", (200, BATCH), None)
    wait_for(lambda: any((tmp_path / "home/manifest").glob("*/part-0.parquet")))
    yield tmp_path / "home"
    worker.end()


def test_who_polls_never_fails_and_never_sees_half_a_night(busy: Path, settings: Settings) -> None:
    """As the page has it for four libraries, and by the command; rows never become fewer."""
    (poll,) = code("## While nights are published", "python")
    names: dict[str, Any] = {}
    exec(compile(poll, "docs/data.md", "exec"), names)
    assert settings.home == busy
    home = open_home(settings)
    counted = "SELECT count(*) AS rows FROM images"
    ways: dict[str, Callable[[], int]] = {
        "pandas": lambda: len(names["with_pandas"](busy)),
        "pyarrow": lambda: int(names["with_pyarrow"](busy).num_rows),
        "DuckDB": lambda: len(names["with_duckdb"](busy)),
        "Polars": lambda: int(names["with_polars"](busy).height),
        "query": lambda: int(json.loads(query_as_file(home, counted, "json"))[0]["rows"]),
    }
    seen: dict[str, list[int]] = {way: [] for way in ways}
    for turn in range(100):
        for way, count in ways.items():
            seen[way].append(count())
        if turn > 7 and all(len(set(counts)) > 2 for counts in seen.values()):
            break
    for way, counts in seen.items():
        assert all(count % BATCH == 0 for count in counts), way
        assert counts == sorted(counts), way
        assert len(set(counts)) > 2, f"{way} met no publication: {counts}"
