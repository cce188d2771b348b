"""The commands in the order of a working day, on a tiny real model and real photos."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from catalog_pipeline.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
SKUS = ("MUG-ZIGZAG-01", "00123")
NIGHT = "2026-01-31"
TINY_LEARNING = """\
steps: 2
batch_size: 1
latent_views: 2
scenes: ["in the snow"]
backdrops_per_scene: 1
prior_images: 1
replay_candidates: 1
replay_exemplars: 1
gate_images: 1
gate_min_fidelity_share: -1.0
gate_max_color_shift: 999.0
gate_max_forgetting: 9.0
adapter: {"rank": 2}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> list[str]:
    """``--config`` and ``--home`` of a scratch line with two sample products."""
    folder = tmp_path_factory.mktemp("line")
    config = folder / "settings"
    config.mkdir()
    (folder / "home").mkdir()
    rooms = {
        "base_model": {"base_model": str(tiny_model_folder), "dtype": "float32", "threads": 1},
        "catalogs": {"root": "products", "settle_seconds": 0},
        "learning": yaml.safe_load(TINY_LEARNING),
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


def listed(options: list[str], *arguments: str) -> list[dict[str, Any]]:
    """What ``products`` says."""
    found: list[dict[str, Any]] = json.loads(succeed(options, "products", *arguments, "--json"))[
        "products"
    ]
    return found


def home_of(options: list[str]) -> Path:
    return Path(options[-1])


def test_before_anything_was_learned_every_command_says_what_is_missing(
    options: list[str],
) -> None:
    assert "sample-catalog" not in fail(options, "index")
    assert "catalog-pipeline index" in fail(options, "learn")
    assert "learn" in fail(options, "generate", "--day", NIGHT)
    assert "learn" in fail(options, "evaluate")
    assert "no night has a picture" in fail(options, "gallery")
    assert NIGHT in fail(options, "gallery", "--day", NIGHT)
    assert "no version 'abc'" in fail(options, "rollback", "abc")
    assert "no version yet" in succeed(options, "versions")
    assert json.loads(succeed(options, "status", "--json"))["index"]["skus"] == 0
    assert "no product" in succeed(options, "products")


def test_a_home_that_is_not_there_is_said_by_every_command_that_reads(
    options: list[str], tmp_path: Path
) -> None:
    away = [*options[:2], "--home", str(tmp_path / "typo")]
    for command in ("status", "products", "versions", "gallery", "manifest", "verify", "evaluate"):
        assert f"no home at {tmp_path / 'typo'}" in fail(away, command)
    assert not (tmp_path / "typo").exists()


@pytest.mark.usefixtures("few_photos")
def test_two_products_are_found_and_learned(options: list[str]) -> None:
    assert succeed(options, "sample-catalog", "--sku", SKUS[0]).startswith("1 product(s) in ")
    products = home_of(options) / "products"
    shutil.copytree(products / SKUS[0], products / SKUS[1])
    (products / SKUS[1] / "sku.yaml").unlink()
    again = sorted((products / SKUS[1]).iterdir())[0]
    shutil.copy(again, products / SKUS[1] / f"zz{again.suffix}")
    assert "2 products: 2 new" in succeed(options, "index")
    planned = succeed(options, "learn", "--dry-run")
    assert "2 of 2 would be learned: no measured time yet" in planned
    assert [product["status"] for product in listed(options)] == ["new", "new"]
    learned = succeed(options, "learn")
    assert "2 learned, 0 unchanged, 0 failed" in learned
    assert f"zz{again.suffix}': has the same bytes as '{SKUS[1]}/{again.name}'" in learned
    assert "nothing to learn" in succeed(options, "learn")
    assert "0 learned, 1 unchanged, 0 failed" in succeed(options, "learn", SKUS[0])
    assert "does not know NO-SUCH-SKU" in fail(options, "learn", "NO-SUCH-SKU")


def test_the_products_are_listed_with_what_was_learned_of_them(options: list[str]) -> None:
    first, second = listed(options)
    assert (first["sku"], second["sku"]) == tuple(sorted(SKUS))
    assert first["status"] == second["status"] == "learned"
    assert first["served_by"] == "default"
    assert first["learned_utc"] < datetime.now(UTC).isoformat()
    assert (first["photos"], first["photos_used"]) == (4, 3)
    (photo,) = first["left_out"]
    assert photo.startswith(f"{SKUS[1]}/zz")
    assert photo in succeed(options, "products", SKUS[1])
    assert listed(options, "--status", "failed") == []
    assert "does not know NOPE" in fail(options, "products", "NOPE")


def test_other_settings_are_said_with_their_cost_and_learned_on_demand(options: list[str]) -> None:
    settings = Path(options[1]) / "learning.yaml"
    before = settings.read_text("utf-8")
    assert "2 of the learned products" not in succeed(options, "learn")
    try:
        settings.write_text(before.replace("steps: 2", "steps: 1"), encoding="utf-8")
        assert "2 of the learned products would come out otherwise now" in succeed(options, "learn")
        cost = succeed(options, "learn", "--all", "--dry-run")
        assert cost.count("learned under other settings") == 2
        assert re.search(r"2 of 2 would be learned: about [\d.]+ minutes", cost)
        assert run(options, "learn", "--all", SKUS[0]).exit_code == 2
        assert "1 learned" in succeed(options, "learn", SKUS[0])
        assert succeed(options, "learn", "--all", "--dry-run").count("other settings") == 1
    finally:
        settings.write_text(before, encoding="utf-8")
    assert "1 learned, 1 unchanged" in succeed(options, "learn", "--all")


def test_a_card_that_is_being_edited_never_makes_a_learned_product_fail(
    options: list[str],
) -> None:
    settings = Path(options[1]) / "catalogs.yaml"
    before = settings.read_text("utf-8")
    card = home_of(options) / "products" / SKUS[0] / "sku.yaml"
    settings.write_text(before.replace("settle_seconds: 0", "settle_seconds: 600"), "utf-8")
    try:
        card.write_text(card.read_text("utf-8") + "depth_cm: 7\n", encoding="utf-8")
        result = run(options, "learn", SKUS[0])
        assert result.exit_code == 1
        assert re.search(r"still being uploaded.*try again in (59\d|600) s", result.stdout)
        assert "learned" in {product["status"] for product in listed(options, SKUS[0])}
        assert re.search(r"uploaded: .*; still for long enough in", succeed(options, "index"))
        settings.write_text(before.replace("settle_seconds: 0", "settle_seconds: 0.2"), "utf-8")
        assert "1 changed" in succeed(options, "index", "--wait")
    finally:
        settings.write_text(before, encoding="utf-8")
    assert "0 learned, 1 unchanged, 0 failed" in succeed(options, "learn")


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
    assert [line[0] for line in lines] == [*" " * (len(lines) - 1), "*"]
    first, second = lines[0].split()[0], lines[-1].split()[1]
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
    assert listed(options, SKUS[0])[0]["status"] == "learned"


def test_somebodys_own_photos_in_one_command(options: list[str], tmp_path: Path) -> None:
    photos = tmp_path / "Zigzag mug"
    shutil.copytree(home_of(options) / "products" / SKUS[0], photos)
    (photos / "sku.yaml").unlink()
    (Path(options[1]) / "learning.yaml").write_text(TINY_LEARNING, encoding="utf-8")
    own = [*options[:2], "--home", str(tmp_path / "try")]
    printed = succeed(own, "try", str(photos), "--class-noun", "mug")
    assert "1 learned" not in printed
    assert "learned    Zigzag-mug" in printed
    page = Path(printed.strip().splitlines()[-1].removeprefix("your pictures: "))
    assert "Zigzag mug" in page.read_text("utf-8")
    assert not (photos / "sku.yaml").exists()
    (gone, *_) = sorted(photos.glob("*.jpg"))
    gone.rename(photos / "other.jpg")
    again = succeed(own, "try", str(photos), "--class-noun", "mug")
    assert "changed: Zigzag-mug" in again
    assert not (tmp_path / "try/photos-tried/Zigzag-mug" / gone.name).exists()
    assert "is no folder" in fail(own, "try", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "holds no photo" in fail(own, "try", str(tmp_path / "empty"))
    assert "one folder a product" in fail(own, "try", str(tmp_path), "--class-noun", "mug")
