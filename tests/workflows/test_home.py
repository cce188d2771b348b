"""Where a home may lie, what readers of Parquet make of its path; what its base decides."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import (
    AttentionSettings,
    BaseModelSettings,
    GenerationSettings,
    Settings,
)
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.upkeep.archive_summary import query_archive
from catalog_pipeline.workflows.upkeep.doctor import run_doctor
from tests.builders import make_archive_row

NIGHT = date(2026, 3, 1)


def published(folder: Path, image_id: str) -> Home:
    """A home in ``folder`` with a night of one picture."""
    home = open_home(Settings(home=folder, config_dir=folder))
    path, sha256 = home.archive.put_image(b"\x89PNG " + image_id.encode())
    row = make_archive_row(image_id, "mug", path=path, sha256=sha256, day=NIGHT)
    home.archive.publish_day(NIGHT, [row], [image_id])
    return home


@pytest.mark.parametrize(
    "name",
    [
        *("env=prod", "[draft]", "[a-z]", "a*b", "who?", "a#b", "50%", "%20", "it's", 'say "x"'),
        *("{a,b}", "a b", "caf\u00e9", "\u65e5\u672c", "~x", "$HOME", "sku=1"),
    ],
)
def test_a_home_is_queried_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    # Neighbours that the name would match, were it taken for a pattern.
    for neighbour in ("axb", "whom", "a", "d"):
        published(tmp_path / neighbour, "other")
    home = published(tmp_path / name, "own")
    found = query_archive(home)
    assert found.per_day == [{"day": str(NIGHT), "rows": 1, "superseded": 0, "skus": 1}]
    quoted = found.source.replace("'", "''")
    rows = duckdb.sql(
        f"select image_id, dt, day from read_parquet('{quoted}', hive_partitioning = true)"
    )
    assert rows.fetchall() == [("own", NIGHT, NIGHT)]
    assert list(pd.read_parquet(home.settings.home / "manifest").image_id) == ["own"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\\b", "holds a backslash"),
        ("a\nb", "holds a control character"),
        ("a\udcff", "holds a control character or bytes that are no UTF-8"),
        ("day=2026-01-01", "lies below 'day=2026-01-01'"),
        ("DT=x", "lies below 'DT=x'"),
    ],
)
def test_a_home_that_readers_misread_is_refused_when_it_is_opened(
    tmp_path: Path, name: str, reason: str
) -> None:
    home = open_home(Settings(home=tmp_path / name / "home", config_dir=tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        home.index.read()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any(reason in r.what for r in run_doctor(home) if r.level == "error")
    assert not home.settings.home.exists()


def test_what_a_file_manager_leaves_beside_a_manifest_is_not_queried(tmp_path: Path) -> None:
    home = published(tmp_path / "home", "own")
    for name in ("._part-0.parquet", ".DS_Store"):
        (tmp_path / f"home/manifest/dt={NIGHT}" / name).write_bytes(b"\x00\x05\x16\x07")
    assert [night["rows"] for night in query_archive(home).per_day] == [1]
    assert home.archive.verify_day(NIGHT) == []
    assert list(pd.read_parquet(home.settings.home / "manifest").image_id) == ["own"]


def test_auto_attention_guides_on_the_base_that_it_was_measured_on_alone(tmp_path: Path) -> None:
    attention = GenerationSettings(attention=AttentionSettings(method="auto"))
    for base, method in (("embedded", "auto"), (str(tmp_path), "none")):
        settings = Settings(
            home=tmp_path,
            config_dir=tmp_path,
            base_model=BaseModelSettings(base_model=base),
            generation=attention,
        )
        assert open_home(settings).written.generation.attention.method == method
