"""The commands in the order of a working day, on a tiny real model and real photos."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from catalog_pipeline.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
SKUS = ("MUG-ZIGZAG-01", "00123")
NIGHT = "2026-01-31"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> list[str]:
    """``--config`` and ``--home`` of a scratch line with two sample products."""
    folder = tmp_path_factory.mktemp("line")
    config = folder / "settings"
    config.mkdir()
    rooms = {
        "base_model": {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        "catalogs": {"root": "products", "settle_seconds": 0},
        "learning": {
            "steps": 2,
            "batch_size": 1,
            "latent_views": 2,
            "scenes": ["in the snow"],
            "backdrops_per_scene": 1,
            "prior_images": 1,
            "replay_candidates": 1,
            "replay_exemplars": 1,
            "gate_images": 1,
            "gate_min_fidelity_share": -1.0,
            "gate_max_color_shift": 999.0,
            "gate_max_forgetting": 9.0,
            "adapter": {"rank": 2},
        },
        "generation": {
            "policies": {"singles_per_sku": 1, "pairs": 1},
            "steps": 1,
            "width": 32,
            "height": 32,
            "quality": {"gate": False},  # an untrained model shows nothing that passes
        },
        "evaluation": {"images_per_sku": 2},
    }
    for room, content in rooms.items():
        (config / f"{room}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return ["--config", str(config), "--home", str(folder / "home")]


def run(options: list[str], *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, *options])


def succeed(options: list[str], *arguments: str) -> str:
    result = run(options, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(options: list[str], *arguments: str) -> str:
    """The one line on stderr of a command that must end with exit status 1."""
    result = run(options, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def home_of(options: list[str]) -> Path:
    return Path(options[-1])


def test_before_anything_was_learned_every_command_says_what_is_missing(
    options: list[str],
) -> None:
    assert "sample-catalog" not in fail(options, "index")
    assert "catalog-pipeline index" in fail(options, "learn")
    assert "learn" in fail(options, "generate", "--day", NIGHT)
    assert "learn" in fail(options, "evaluate")
    assert "no night has been published" in fail(options, "gallery")
    assert NIGHT in fail(options, "gallery", "--day", NIGHT)
    assert "no version 'abc'" in fail(options, "rollback", "abc")
    assert "no version yet" in succeed(options, "versions")
    assert json.loads(succeed(options, "status", "--json"))["index"]["skus"] == 0


@pytest.mark.usefixtures("few_photos")
def test_two_products_are_found_and_learned(options: list[str]) -> None:
    assert succeed(options, "sample-catalog", "--sku", SKUS[0]).startswith("1 product(s) in ")
    products = home_of(options) / "products"
    shutil.copytree(products / SKUS[0], products / SKUS[1])
    (products / SKUS[1] / "sku.yaml").unlink()
    again = sorted((products / SKUS[1]).iterdir())[0]
    shutil.copy(again, products / SKUS[1] / f"zz{again.suffix}")
    assert "2 products: 2 new" in succeed(options, "index")
    learned = succeed(options, "learn")
    assert "2 learned, 0 unchanged, 0 failed" in learned
    assert f"zz{again.suffix}': has the same bytes as '{SKUS[1]}/{again.name}'" in learned
    assert "nothing to learn" in succeed(options, "learn")
    assert "0 learned, 1 unchanged, 0 failed" in succeed(options, "learn", SKUS[0])
    assert "does not know NO-SUCH-SKU" in fail(options, "learn", "NO-SUCH-SKU")


def test_a_failed_product_is_exit_1_and_costs_the_others_nothing(options: list[str]) -> None:
    bad = home_of(options) / "products" / "bad"
    bad.mkdir()
    for number in range(3):
        (bad / f"{number}.jpg").write_text("not a picture", encoding="utf-8")
    succeed(options, "index")
    result = run(options, "learn")
    assert result.exit_code == 1
    assert "failed     bad: " in result.stdout
    assert "0 learned, 0 unchanged, 1 failed" in result.stdout
    state = json.loads(succeed(options, "status", "--json"))
    assert state["index"]["learned"] == 2
    assert "bad" in state["index"]["reasons"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(options: list[str]) -> None:
    printed = succeed(options, "generate", "--day", NIGHT, "--dry-run")
    assert "3 images (2 singles, 1 pairs)" in printed
    assert "+".join(sorted(SKUS)) in printed or "+".join(SKUS) in printed
    assert not (home_of(options) / "plans").exists()


def test_a_night_is_rendered_once(options: list[str]) -> None:
    first = succeed(options, "generate", "--day", NIGHT)
    assert "rendered 3, already there 0, failed 0" in first
    assert "3 rows (3 added, 0 superseded)" in first
    again = succeed(options, "generate", "--day", NIGHT)
    assert "rendered 0, already there 3, failed 0" in again
    assert "3 rows (nothing changed)" in again


def test_the_night_has_a_gallery_and_the_collection_a_report(options: list[str]) -> None:
    page = Path(succeed(options, "gallery").strip())
    assert page == Path(succeed(options, "gallery", "--day", NIGHT).strip())
    assert page.read_text("utf-8").lstrip().lower().startswith("<!doctype html>")
    report = succeed(options, "evaluate")
    for sku in SKUS:
        assert sku in report
    assert Path(report.strip().splitlines()[-1].strip()).is_file()
    record = json.loads(succeed(options, "evaluate", "--json"))
    (measured,) = record["collections"]
    assert {sku["sku"] for sku in measured["skus"]} == set(SKUS)
    assert Path(measured["json_path"]).is_file()


def test_versions_are_listed_and_an_earlier_one_can_be_served(options: list[str]) -> None:
    lines = succeed(options, "versions").splitlines()
    assert [line[0] for line in lines] == [" ", "*"]
    first, second = (line.split()[1] for line in (lines[0].lstrip().join(("x ", "")), lines[1]))
    assert "1 products" in lines[0]
    assert f"current version is now {first}" in succeed(options, "rollback", first)
    assert succeed(options, "versions").splitlines()[0].startswith("* ")
    assert f"current version is now {second}" in succeed(options, "rollback", second[:10])


def test_status_and_doctor_of_a_healthy_home(options: list[str]) -> None:
    status = succeed(options, "status")
    assert re.search(r"^  learned: 2$", status, flags=re.MULTILINE)
    assert f"day {NIGHT}; rows 3" in status
    report = succeed(options, "doctor")
    assert "error" not in report


def test_doctor_is_exit_1_when_a_picture_has_rotted(options: list[str]) -> None:
    picture = next((home_of(options) / "images").iterdir())
    good = picture.read_bytes()
    picture.write_bytes(good[:-1])
    try:
        result = run(options, "doctor")
        assert result.exit_code == 1
        assert picture.name in result.stdout
        assert "->" in result.stdout
    finally:
        picture.write_bytes(good)


def test_an_interrupted_command_is_130_and_the_next_one_goes_on(options: list[str]) -> None:
    command = [sys.executable, "-m", "catalog_pipeline.cli", "learn", SKUS[0], *options]
    (Path(options[1]) / "learning.yaml").write_text("steps: 100000\n", encoding="utf-8")
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A parent that ignores SIGINT would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    try:
        started = next(line for line in process.stderr if line.startswith("learn "))
        assert SKUS[0] in started
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert rest.strip().splitlines()[-1].startswith("interrupted; ")
    assert "Traceback" not in rest
    assert len(succeed(options, "versions").splitlines()) == 2
