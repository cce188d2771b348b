"""Does one thing as another user: ``UID GROUPS HOME WHAT ARGUMENTS...``; begun as root.

WHAT is ``fill`` (publish three nights as the service does) or ``cli`` (a command). It is done in a
scratch home first, as root: what it imports only then may lie where the other user may not look,
such as root's own Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from typer.testing import CliRunner

from catalog_pipeline.cli import app
from catalog_pipeline.stores.local import LocalObjectStore
from tests.workflows.upkeep.data_home import fill_home

UMASK = 0o027


def main(uid: int, groups: Sequence[int], home: Path, what: str, arguments: Sequence[str]) -> int:
    """See the module; the exit status is 0 where it could be done."""
    config = home.parent / "assets_config"
    with TemporaryDirectory() as name:
        fill_home(LocalObjectStore(Path(name)))
        _do(Path(name), config, what, arguments)
    os.setgroups(groups)
    os.setresgid(groups[0], groups[0], groups[0])
    os.setresuid(uid, uid, uid)
    os.umask(UMASK)
    return _do(home, config, what, arguments)


def _do(home: Path, config: Path, what: str, arguments: Sequence[str]) -> int:
    if what == "fill":
        fill_home(LocalObjectStore(home))
        return 0
    options = ["--config", str(config), "--home", str(home)]
    done = CliRunner().invoke(app, [*arguments, *options])
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.exit_code


if __name__ == "__main__":
    uid, groups, home, what, *rest = sys.argv[1:]
    sys.exit(main(int(uid), [int(g) for g in groups.split(",")], Path(home), what, rest))
