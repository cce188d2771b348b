"""`dagster_home/profiles/access/folder.sh`: the same roles by users, groups and modes of files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.governance.places import INNER, KEYS, TABLES_AND_PICTURES

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "dagster_home" / "profiles" / "access" / "folder.sh"
OPERATORS, READERS = 54001, 54002
USERS = {
    "service": (54000, (OPERATORS, READERS)),
    "operator": (54010, (OPERATORS, READERS)),
    "reader": (54020, (READERS,)),
    "stranger": (54030, (54030,)),
}
"""Numbers that no user or group of this machine has."""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to act as other users"
)
HOW = {
    "read": ["sha256sum"],
    "list": ["ls"],
    "write": ["sh", "-c", 'printf other > "$1"', "sh"],
}
WORDS = ("catalog/IMPORT_LEASE.json", "catalog/matches.json")
"""Beside the index: words that cards were read by, and who takes in a feed. Groups read folders."""


@dataclass(frozen=True)
class Shared:
    """A home and photos in a folder that everybody may enter."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def grant(self) -> None:
        service = str(USERS["service"][0])
        command = ["sh", str(SCRIPT), str(self.home), str(self.photos), service]
        subprocess.run([*command, str(OPERATORS), str(READERS)], check=True, capture_output=True)

    def act(self, who: str, *what: str) -> subprocess.CompletedProcess[str]:
        """A command of the program, or what the service does in a night."""
        uid, groups = USERS[who]
        command = [sys.executable, "-m", "tests.governance.as_user", str(uid)]
        command += [",".join(map(str, groups)), str(self.home), *what]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def may(self, who: str, how: str, path: Path) -> bool:
        """Whether a user can ``read`` or ``write`` a file, or ``list`` a folder."""
        uid, groups = USERS[who]
        done = subprocess.run(
            [*HOW[how], str(path)],
            user=uid,
            group=groups[0],
            extra_groups=groups,
            umask=0o027,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or "ermission denied" in done.stderr, done.stderr
        return done.returncode == 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """Granted, then filled by the service: what it makes after the grant has the right modes."""
    with tempfile.TemporaryDirectory(prefix="catalog-access-") as name:
        Path(name).chmod(0o755)
        found = Shared(Path(name))
        (found.folder / "assets_config").mkdir()
        (found.photos / "MUG").mkdir(parents=True)
        (found.photos / "MUG" / "a.jpg").write_bytes(b"photo")
        found.grant()
        filled = found.act("service", "fill")
        assert filled.returncode == 0, filled.stderr
        for key in (*INNER, *KEYS):
            (found.home / key).parent.mkdir(parents=True, exist_ok=True)
            (found.home / key).write_bytes(b"secret")
        # Again over a home that is in use: nothing that worked stops working.
        found.grant()
        yield found


def test_a_reader_queries_and_reads_pictures(shared: Shared) -> None:
    sql = "SELECT day, images FROM nights ORDER BY day"
    told = shared.act("reader", "cli", "query", sql, "--format", "csv")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-3:] == ["2026-03-01,3", "2026-03-02,1", "2026-03-03,1"]
    told = shared.act("reader", "cli", "manifest", "--day", "2026-03-02")
    assert told.returncode == 0, told.stderr
    for key in (*TABLES_AND_PICTURES, *WORDS):
        assert shared.may("reader", "read", shared.home / key), key
    assert shared.may("reader", "read", next((shared.home / "images").iterdir()))


def test_a_reader_sees_neither_photos_nor_what_was_learned(shared: Shared) -> None:
    for key in {*INNER, *KEYS} - set(WORDS):
        assert not shared.may("reader", "read", shared.home / key), key
    anchors = shared.home / "catalog" / "anchors"
    for folder in (shared.home, shared.home / "collections", anchors, shared.photos):
        assert not shared.may("reader", "list", folder), folder
    assert not shared.may("reader", "read", shared.photos / "MUG" / "a.jpg")


def test_a_reader_writes_nothing(shared: Shared) -> None:
    manifest = shared.home / "manifest" / "dt=2026-03-01" / "part-0.parquet"
    for path in (manifest, shared.home / "images" / "new", shared.photos / "MUG" / "b.jpg"):
        assert not shared.may("reader", "write", path), path
    told = shared.act("reader", "cli", "index")
    assert told.returncode == 1
    assert told.stderr.startswith("error: ")


def test_an_operator_brings_photos_and_reads_all_of_the_home_but_keys(shared: Shared) -> None:
    assert shared.may("operator", "write", shared.photos / "MUG" / "c.jpg")
    for key in (*INNER, *TABLES_AND_PICTURES):
        assert shared.may("operator", "read", shared.home / key), key
        assert not shared.may("operator", "write", shared.home / key), key
        assert not shared.may("operator", "write", (shared.home / key).parent / "new"), key
    for key in KEYS:
        assert not shared.may("operator", "read", shared.home / key), key
        assert not shared.may("operator", "write", shared.home / key), key
    for name in ("", ".tmp", ".locks"):
        assert not shared.may("operator", "write", shared.home / name / "new"), name


def test_the_service_reads_what_an_operator_has_brought_and_keeps_the_keys(shared: Shared) -> None:
    assert shared.may("operator", "write", shared.photos / "MUG" / "d.jpg")
    assert shared.may("service", "read", shared.photos / "MUG" / "d.jpg")
    assert shared.may("service", "read", shared.home / KEYS[0])
    again = shared.act("service", "fill")
    assert again.returncode == 0, again.stderr


def test_everybody_else_sees_nothing(shared: Shared) -> None:
    image = next((shared.home / "images").iterdir())
    for path in (image, shared.home / KEYS[0], shared.photos / "MUG" / "a.jpg"):
        assert not shared.may("stranger", "read", path), path
    assert not shared.may("stranger", "list", shared.home / "images")


def test_a_service_that_is_no_member_of_the_groups_is_refused(tmp_path: Path) -> None:
    where = [str(tmp_path / "home"), str(tmp_path / "photos")]
    done = subprocess.run(
        ["sh", str(SCRIPT), *where, "daemon", str(OPERATORS), str(READERS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"usermod -a -G {OPERATORS} daemon" in done.stderr
    assert not (tmp_path / "home").exists()
