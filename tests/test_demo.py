"""The demo, start to end on a tiny real model, and its care for other people's folders."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import dagster as dg
import pytest
import yaml

from catalog_pipeline.demo import scratch_home
from catalog_pipeline.demo.__main__ import main
from catalog_pipeline.demo.scratch_home import prepare_home
from catalog_pipeline.demo.tour import FIRST_PRODUCTS, NEXT_PRODUCT
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import CONFIG_ENV, HOME_ENV, load_settings

TINY = {
    "learning": {
        "steps": 1,
        "batch_size": 1,
        "latent_views": 2,
        "scenes": ["in the snow"],
        "backdrops_per_scene": 1,
        "gate_images": 1,
        "gate_min_fidelity_share": -1.0,
        "gate_max_color_shift": 999.0,
        "adapter": {"rank": 2},
    },
    "generation": {
        "policies": {"singles_per_sku": 1, "pairs": 3},
        "steps": 1,
        "width": 32,
        "height": 32,
        "quality": {"gate": False},
    },
}


@pytest.fixture(autouse=True)
def _environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo points the environment at its home; here that ends with the test."""
    for name in (CONFIG_ENV, HOME_ENV, "DAGSTER_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("few_photos")
def test_the_whole_tour_on_a_tiny_model(
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1}
    for room, changes in {**TINY, "base_model": model}.items():
        known = scratch_home.OVERRIDES.get(room, {})
        monkeypatch.setitem(scratch_home.OVERRIDES, room, {**known, **changes})
    home = tmp_path / "demo"
    assert main(["--home", str(home)]) == 0
    printed, complaints = capfd.readouterr()
    assert "Traceback" not in complaints
    assert [int(n) for n in re.findall(r"^\[(\d)/7\]", printed, flags=re.MULTILINE)] == [
        *range(1, 8)
    ]
    assert (home / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert list((home / "reports").glob("gallery-*.html"))
    # The first night has nothing to keep; in the second a right picture stays.
    assert re.search(r"the night shows \d+ images: 0 kept", printed)
    kept = re.findall(r"the night shows \d+ images: (\d+) kept", printed)
    assert int(kept[1]) > 0
    # The UI files each run under its job and shows it on its start page.
    with dg.DagsterInstance.from_config(str(home / "dagster_home")) as instance:
        runs = instance.get_runs()
        ours = dg.RunsFilter(tags={".dagster/repository": "__repository__@catalog_pipeline"})
        assert len(instance.get_runs(filters=ours)) == len(runs) == 5
    origins = {run.remote_job_origin for run in runs}
    assert {origin.location_name for origin in origins if origin} == {"catalog_pipeline"}
    assert None not in origins
    # The query is offered for pasting: paste it.
    line = next(line for line in printed.splitlines() if "import duckdb" in line)
    pasted = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    for sku in (*FIRST_PRODUCTS, NEXT_PRODUCT):
        assert sku in pasted.stdout


def test_a_folder_that_is_not_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not made by the demo"):
        prepare_home(tmp_path, keep=False)
    assert (tmp_path / "thesis.txt").read_text("utf-8") == "years of work"


def test_an_earlier_demo_is_removed_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    prepare_home(home, keep=False)
    (home / "left-over").touch()
    prepare_home(home, keep=True)
    assert (home / "left-over").exists()
    prepare_home(home, keep=False)
    assert not (home / "left-over").exists()


def test_a_home_that_no_folder_can_be_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for home in ("file", "file/demo"):
        assert main(["--home", str(tmp_path / home)]) == 1
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert told[0].startswith("error: ")
    assert (tmp_path / "file").read_text("utf-8") == "mine"


def test_the_demo_runs_the_shipped_settings_but_for_what_it_says(tmp_path: Path) -> None:
    settings = prepare_home(tmp_path / "demo", keep=False).settings
    shipped = load_settings(Path(__file__).resolve().parents[1] / "assets_config")
    fewer_steps = scratch_home.OVERRIDES["learning"]
    assert settings.learning == shipped.learning.model_copy(update=fewer_steps)
    assert settings.base_model == shipped.base_model
    assert settings.generation.scenes == shipped.generation.scenes
    assert settings.catalog.settle_seconds == 0
    changed = (tmp_path / "demo" / "config" / "catalogs.yaml").read_text("utf-8")
    assert changed.startswith("# assets_config/catalogs.yaml with these keys changed: root")
    assert yaml.safe_load(changed)["min_photos"] == shipped.catalog.min_photos


def test_a_demo_below_a_folder_that_dagster_reads_as_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds '\?', which Dagster reads"):
        prepare_home(tmp_path / "who?", keep=False)
