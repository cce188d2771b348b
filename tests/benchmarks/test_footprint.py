"""What one more SKU costs: the report, and what counts as stored."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.learning.footprint import EARLY, LATE, stored_bytes, write_report


def cost(cpu_seconds: float, rss_mib: float) -> dict[str, float]:
    return {
        "cpu_seconds": cpu_seconds,
        "wall_seconds": 10.0,
        "peak_rss_bytes": rss_mib * 2**20,
        "disk_bytes": 3.5 * 2**20,
    }


def test_the_report_compares_the_medians_of_early_and_late_tasks(tmp_path: Path) -> None:
    early = {task: cost(20.0 + task, 1000.0) for task in EARLY}
    late = {task: cost(27.5, 1050.0) for task in range(60 - LATE + 1, 61)}
    late[60] = cost(90.0, 1050.0)  # once, the machine was busy
    write_report(tmp_path, {**early, **late}, 60, 20)
    content = json.loads((tmp_path / "footprint.json").read_text("utf-8"))
    assert content["ratios"]["cpu_seconds"] == 27.5 / 25.0
    assert content["ratios"]["peak_rss_bytes"] == 1.05
    assert content["tasks"]["60"]["cpu_seconds"] == 90.0
    text = (tmp_path / "footprint.md").read_text("utf-8")
    assert "| CPU seconds | 25.0 | 27.5 | 1.10 |" in text
    assert "| disk, MiB | 3.50 | 3.50 | 1.00 |" in text


def test_photos_settings_and_notes_are_not_what_a_store_holds(tmp_path: Path) -> None:
    for name in ("products/a/1.jpg", "config/learning.yaml", "footprint/task-4.json", "parts/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert stored_bytes(tmp_path) == 5
