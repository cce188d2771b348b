"""The command line: exit statuses, messages, progress, and that it starts light."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from catalog_pipeline.cli import app, report
from catalog_pipeline.cli.failures import ReportingGroup
from catalog_pipeline.cli.progress import BarProgress, LineProgress, open_progress
from catalog_pipeline.errors import PhotoSetError
from catalog_pipeline.records import (
    IndexReport,
    LearnOutcome,
    ManifestReport,
    NightPlan,
    PhotoSet,
    RefusedFile,
    Sku,
    SkuStatus,
)
from tests.builders import make_index_row, make_render_job

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = (
    *("sample-catalog", "index", "learn", "generate", "evaluate"),
    *("status", "versions", "rollback", "gallery", "doctor"),
    *("manifest", "verify", "gc", "retire"),
)

run = CliRunner().invoke


# --- starting ----------------------------------------------------------------


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = "torch dagster diffusers transformers pandas pyarrow onnxruntime duckdb matplotlib"
    program = (
        "import sys, catalog_pipeline.cli\n"
        f"print(*[name for name in {heavy.split()!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_help_lists_every_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "catalog_pipeline.cli", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout
    assert "..." not in result.stdout.partition("Commands:")[2], "a summary is cut off"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_config_and_home_and_tells_the_defaults(command: str) -> None:
    text = " ".join(run(app, [command, "--help"]).stdout.split())
    assert "--config DIR" in text
    assert "./assets_config" in text
    assert "--home DIR" in text
    assert "dagster_home/storage beside the settings folder" in text


def test_the_version_is_printed() -> None:
    result = run(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("catalog-pipeline ")


# --- exit statuses -----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["lern"], ["index", "--hme", "x"], ["generate", "--day", "tomorrow"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    result = run(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_wrong_day_says_what_a_day_looks_like() -> None:
    assert "such as 2026-01-31" in run(app, ["generate", "--day", "x"]).stderr


@pytest.mark.parametrize("command", ["generate", "gallery", "manifest", "verify"])
def test_a_day_out_of_range_or_misspelt_is_exit_2(command: str) -> None:
    for day in ("0001-01-03", "9999-12-31", "28.11.2026"):
        result = run(app, [command, "--day", day])
        assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 2026-11-28?" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--config"],
        ["status", "--home"],
        ["sample-catalog"],
        ["export", "mug", "--out"],
        ["manifest", "--out"],
    ],
)
def test_a_blank_folder_is_exit_2(arguments: list[str]) -> None:
    result = run(app, [*arguments, ""])
    assert result.exit_code == 2
    assert "a blank path" in result.stderr


@pytest.mark.parametrize(
    "command",
    [["index"], ["learn"], ["generate"], ["status"], ["versions"], ["rollback", "v"], ["doctor"]],
)
def test_a_wrong_settings_file_is_one_line_on_stderr_and_exit_1(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "learning.yaml").write_text("stpes: 3\n", encoding="utf-8")
    result = run(app, [*command, "--config", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "unknown key 'stpes'" in result.stderr


def raising(error: BaseException) -> typer.Typer:
    """A command line with the project's failure handling whose one command fails."""
    front = typer.Typer(cls=ReportingGroup, pretty_exceptions_enable=False)

    @front.callback()
    def main() -> None:
        """Keep the command a sub-command."""

    @front.command()
    def fail() -> None:
        raise error

    return front


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PhotoSetError("2 usable photos"), 1, "error: 2 usable photos\n"),
        (
            PermissionError(13, "Permission denied", "some/where"),
            1,
            "error: cannot use some/where: Permission denied\n",
        ),
        (KeyboardInterrupt(), 130, "safe to run the same command again"),
    ],
)
def test_an_expected_failure_is_one_message_without_traceback(
    error: BaseException, code: int, said: str
) -> None:
    result = run(raising(error), ["fail"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == said if code == 1 else said in result.stderr


def test_a_bug_keeps_its_traceback() -> None:
    result = run(raising(ZeroDivisionError("a bug")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


# --- progress ----------------------------------------------------------------


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    log = io.StringIO()
    with open_progress(log) as progress:
        assert isinstance(progress, LineProgress)
        progress.start("learn mug", 30)
        for _ in range(30):
            progress.advance("learn mug", note="loss 0.1")
        progress.finish("learn mug")
    lines = log.getvalue().splitlines()
    assert lines[0] == "learn mug: started, 30 to do"
    assert lines[-1].startswith("learn mug: 30/30 in ")
    assert len(lines) == 2, "lines between come ten seconds apart, not at every step"


def test_progress_without_a_total_only_counts() -> None:
    log = io.StringIO()
    progress = LineProgress(log)
    progress.start("list", 0)
    progress.advance("list", 7)
    progress.finish("list")
    assert log.getvalue().splitlines()[0] == "list: started"
    assert "list: 7 in " in log.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_may_start_again() -> None:
    screen = _Terminal()
    with open_progress(screen) as progress:
        assert isinstance(progress, BarProgress)
        for _ in range(2):
            progress.start("learn mug", 3)
            progress.advance("learn mug", 3, note="loss 0.1")
            progress.finish("learn mug")
    assert "learn mug" in screen.getvalue()
    assert "3/3" in screen.getvalue()


# --- what is printed ---------------------------------------------------------


def test_an_index_report_names_every_refused_file_with_its_reason() -> None:
    lines = report.index_lines(
        IndexReport(
            rows=(),
            added=tuple(f"sku-{n:02}" for n in range(20)),
            changed=(),
            retired=(),
            refused=(RefusedFile("mug/a.jpg", "not a picture"),),
            unsettled=("cup",),
            warnings=("a and b have 3 photos in common",),
        )
    )
    text = "\n".join(lines)
    assert "refused mug/a.jpg: not a picture" in text
    assert "sku-11 and 8 more" in text
    assert "still being uploaded: cup" in text
    assert lines[-1] == "warning: a and b have 3 photos in common"


def test_photos_that_do_not_count_are_named_and_a_shared_reason_is_said_once() -> None:
    left_out = [RefusedFile(f"mug/{n:02}.jpg", "is left out") for n in range(14)]
    refused = (RefusedFile("mug/a\nb.jpg", "is blank"), *left_out)
    photo_set = PhotoSet(Sku("mug", "mug", "mug"), "f" * 64, (), refused)
    blank, others = report.refused_lines(photo_set)
    assert blank == r"refused    'mug/a\nb.jpg': is blank"
    assert others.endswith("'mug/11.jpg' and 2 more: is left out")


def test_an_index_report_says_why_products_failed_and_does_not_flood() -> None:
    rows = [
        make_index_row(f"sku-{n:02}", status=SkuStatus.FAILED, reason=f"why {n}") for n in range(20)
    ]
    refused = tuple(RefusedFile(f"sku-{n:02}/originals/", "is a folder") for n in range(20))
    warnings = tuple(f"a and {n} have photos in common" for n in range(20))
    lines = report.index_lines(IndexReport(tuple(rows), (), (), (), refused, (), warnings))
    assert lines[-1] == "warning: 8 more; `doctor` says each"
    assert "failed sku-11: why 11" in lines
    assert "failed 8 more; `status` names each" in lines
    (told,) = [line for line in lines if line.startswith("refused")]
    assert told.endswith("sku-11/originals/ and 8 more: is a folder")


def test_outcomes_are_counted_and_a_failure_tells_its_reason() -> None:
    outcomes = [
        LearnOutcome("mug", "learned", version="ab12", seconds=41.2, metrics={"fidelity": 0.61}),
        LearnOutcome("cup", "failed", reason="2 usable photos"),
    ]
    assert "fidelity 0.610" in report.outcome_line(outcomes[0])
    assert "ab12" in report.outcome_line(outcomes[0])
    assert report.outcome_line(outcomes[1]).endswith("cup: 2 usable photos")
    assert report.outcomes_summary(outcomes) == "1 learned, 0 unchanged, 1 failed"
    assert "nothing to learn" in report.outcomes_summary([])


def test_a_plan_is_counted_and_printed_in_full_on_a_dry_run() -> None:
    jobs = (make_render_job("mug"), make_render_job("mug", "cup"))
    plan = NightPlan(date(2026, 1, 31), "f" * 64, jobs, notes=("one less",))
    assert report.plan_lines(plan, in_full=False) == [
        "plan ffffffffffff of 2026-01-31: 2 images (1 singles, 1 pairs)",
        "note: one less",
    ]
    assert report.plan_lines(plan, in_full=True)[-1].endswith(
        "mug+cup: mug and cup on a sandy beach"
    )


def test_a_manifest_that_was_right_already_says_so() -> None:
    same = ManifestReport(date(2026, 1, 31), "p", rows=4, added=0, superseded=0, changed=False)
    assert report.manifest_line(same) == "manifest p: 4 rows (nothing changed)"


def test_status_is_readable_and_as_json_keeps_other_scripts() -> None:
    state = {"index": {"skus": 2, "names": ["マグ", "cup"]}, "nights": [{"day": "d", "rows": 3}]}
    assert report.status_lines(state) == [
        "index:",
        "  skus: 2",
        "  names: マグ, cup",
        "nights:",
        "  - day d; rows 3",
    ]
    assert "マグ" in report.as_json(state)
    assert json.loads(report.as_json(state)) == state
