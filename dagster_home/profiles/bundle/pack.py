"""Packs what an installation needs, for a machine that never sees a package index: `make bundle`.

The tar holds, under one folder: a wheel of every package at its pinned version and of the project
itself, `install.sh`, the settings, the profiles of Dagster, the documentation, and `SHA256SUMS`
over all of it. It serves the version of Python and the kind of machine that it was packed on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_TO_RUN = {"dev", "docs"}
"""Extras that the tests and the docs site need, and the pipeline does not."""

SOURCE = ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES.md", "catalog_pipeline")
BESIDE = ("constraints.txt", "requirements-encoders.txt", "LICENSE", "THIRD_PARTY_NOTICES.md")
FOLDERS = ("assets_config", "docs", "dagster_home/profiles")
FILES = ("dagster_home/dagster.yaml", "dagster_home/workspace.yaml")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
_MODIFIED = 315532800
"""1980-01-01, the first day that a wheel can be dated: the same content gives the same bytes."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Pack the bundle; says where it is and how large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build", metavar="FOLDER")
    parser.add_argument(
        "--extras", default="", help="names, separated by commas; all: the tests' packages, too"
    )
    options = parser.parse_args(arguments)
    extras = chosen_extras(options.extras)
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bundle-", dir=options.out) as scratch:
        source = copy_source(Path(scratch) / "source")
        version = _version(source)
        folder = Path(scratch) / f"catalog-pipeline-{version}"
        collect(source, folder / "wheelhouse", extras)
        write_beside(folder, version, extras)
        write_sums(folder)
        written = pack(folder, options.out / f"bundle-{version}.tar")
    with tarfile.open(written) as tar:
        wheels = sum(name.endswith(".whl") for name in tar.getnames())
    print(f"{written}: {wheels} wheels, {written.stat().st_size / 1e6:,.0f} MB")
    return written


def chosen_extras(asked: str) -> list[str]:
    """The names in ``asked``; by default every extra of the project that it needs to run."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    known = set(project["optional-dependencies"])
    if asked == "all":
        return sorted(known)
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if not names:
        return sorted(known - NOT_TO_RUN)
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"no extra {', '.join(unknown)}; expected some of {sorted(known)}, or all")
    return sorted(names)


def copy_source(folder: Path) -> Path:
    """The project without what an earlier build has left in its folder."""
    folder.mkdir()
    for name in SOURCE:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=_NOT_COPIED)
        else:
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def collect(source: Path, wheelhouse: Path, extras: Sequence[str]) -> None:
    """Wheels of the project in ``source`` and of all that it needs, by this Python's pip."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheelhouse)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_MODIFIED)}
    pinned = ["-c", str(REPOSITORY / "constraints.txt"), f"{source}[{','.join(extras)}]"]
    encoders = ["-r", str(REPOSITORY / "requirements-encoders.txt")]
    without_theirs = ["--no-deps", "--ignore-requires-python", *encoders]
    for asked in (pinned, without_theirs):
        subprocess.run([*pip, *asked], check=True, env=environment)


def write_beside(folder: Path, version: str, extras: Sequence[str]) -> None:
    """What lies beside the wheels: how to install them, settings, profiles, documentation."""
    for name in BESIDE:
        shutil.copy(REPOSITORY / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=_NOT_COPIED)
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder / name)
    here = Path(__file__).parent
    shutil.copy(here / "install.sh", folder / "install.sh")
    python = "{}.{}".format(*sys.version_info[:2])
    readme = (here / "README.md").read_text("utf-8")
    readme = readme.replace("VERSION", version).replace("PYTHON", python)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    (folder / "python").write_text(f"{python}\n", encoding="ascii")
    wanted = f"catalog-pipeline[{','.join(extras)}]=={version}\n"
    (folder / "requirements.txt").write_text(wanted, encoding="ascii")


def write_sums(folder: Path) -> None:
    """``SHA256SUMS``, as `sha256sum --check` reads it, over every other file."""
    sums = folder / "SHA256SUMS"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != sums)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    sums.write_text("".join(lines), encoding="utf-8")


def pack(folder: Path, target: Path) -> Path:
    """``folder`` as a tar at ``target``, which appears whole; wheels are compressed already."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = _MODIFIED
        runs = entry.isdir() or entry.name.endswith("install.sh")
        entry.mode = 0o755 if runs else 0o644
        return entry

    unfinished = folder.parent / target.name
    with tarfile.open(unfinished, "w") as tar:
        tar.add(folder, folder.name, filter=plain)
    unfinished.replace(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(source: Path) -> str:
    text = (source / "catalog_pipeline" / "__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


if __name__ == "__main__":
    main()
