"""`make bundle`: what it packs, and that it installs and runs where no network is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from catalog_pipeline import __version__
from tests.governance.without_network import run_without_network
from tests.workflows.tiny_catalog import LEARNING, write_photos_in

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE_ENV = "CATALOG_PIPELINE_TEST_BUNDLE"
"""Names a tar that `make bundle` has made, to save the minutes of another one."""


@pytest.fixture(scope="module", name="pack")
def _pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "pack", REPOSITORY / "dagster_home/profiles/bundle/pack.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(pack: ModuleType, tmp_path: Path) -> Path:
    """A bundle as it is unpacked, but without a wheel in it."""
    folder = tmp_path / "made" / f"catalog-pipeline-{__version__}"
    (folder / "wheelhouse").mkdir(parents=True)
    pack.write_beside(folder, __version__, ["ray", "s3"])
    pack.write_sums(folder)
    return unpacked(pack.pack(folder, tmp_path / "bundle.tar"), tmp_path / "here")


def unpacked(bundle: Path, folder: Path) -> Path:
    with tarfile.open(bundle) as tar:
        tar.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def install(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(folder / "install.sh")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_extras_are_those_that_the_pipeline_runs_with(pack: ModuleType) -> None:
    chosen = set(pack.chosen_extras(""))
    assert {"s3", "ray", "postgres", "languages"} <= chosen
    assert not {"dev", "docs"} & chosen
    assert set(pack.chosen_extras("all")) == chosen | {"dev", "docs"}
    assert pack.chosen_extras("s3, ray") == ["ray", "s3"]
    with pytest.raises(SystemExit, match="no extra rays; expected some of"):
        pack.chosen_extras("rays")


def test_settings_profiles_and_words_lie_beside_the_wheels(small: Path) -> None:
    for name in ("assets_config/governance.yaml", "dagster_home/dagster.yaml", "docs/data.md"):
        assert (small / name).read_bytes() == (REPOSITORY / name).read_bytes()
    assert (small / "dagster_home/profiles/postgres.yaml").is_file()
    assert (small / "requirements.txt").read_text() == f"catalog-pipeline[ray,s3]=={__version__}\n"
    readme = (small / "README.md").read_text("utf-8")
    assert f"Catalog Pipeline {__version__}," in readme
    assert "Python {}.{} with".format(*sys.version_info[:2]) in readme
    listed = {line.split("  ")[1] for line in (small / "SHA256SUMS").read_text().splitlines()}
    there = {p.relative_to(small).as_posix() for p in small.rglob("*") if p.is_file()}
    assert listed == there - {"SHA256SUMS"}


def test_the_same_content_is_the_same_tar(pack: ModuleType, small: Path, tmp_path: Path) -> None:
    assert (
        pack.pack(small, tmp_path / "again.tar").read_bytes()
        == (tmp_path / "bundle.tar").read_bytes()
    )


def test_a_damaged_bundle_is_not_installed(small: Path) -> None:
    with (small / "constraints.txt").open("a") as file:
        file.write("# one byte more\n")
    done = install(small)
    assert done.returncode == 1
    assert "constraints.txt: FAILED" in done.stdout
    assert "the bundle is damaged" in done.stderr
    assert not (small / "venv").exists()


def test_another_python_is_refused_with_what_was_found(pack: ModuleType, small: Path) -> None:
    (small / "python").write_text("3.9\n")
    pack.write_sums(small)
    done = install(small, PYTHON=sys.executable)
    assert done.returncode == 1
    found = "{} is {}.{}".format(sys.executable, *sys.version_info[:2])
    assert f"needs Python 3.9 with venv, for which the wheels were made; found: {found}" in (
        done.stderr
    )


def test_an_installation_asks_no_index_whatever_pip_was_told(small: Path, tmp_path: Path) -> None:
    elsewhere = "http://192.0.2.1/simple"
    (tmp_path / "pip.conf").write_text(f"[global]\nindex_url = {elsewhere}\n")
    told = {"PIP_INDEX_URL": elsewhere, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    done, report = run_without_network(
        ["sh", str(small / "install.sh")],
        tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY), **told},
    )
    assert done.returncode != 0
    assert "No matching distribution found for catalog-pipeline" in done.stderr
    assert (report["unroutable"], report["names"]) == (0, 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The whole bundle: a given one, or one that is packed now, from a package index."""
    given = os.environ.get(BUNDLE_ENV)
    if given:
        yield Path(given)
        return
    out = tmp_path_factory.mktemp("bundle")
    command = [
        sys.executable,
        str(REPOSITORY / "dagster_home/profiles/bundle/pack.py"),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and "onnection" in done.stderr:
        pytest.skip(f"no package index answers: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("bundle-*.tar")
    yield made
    made.unlink()


SETTINGS = {
    "catalogs": {"root": "products", "settle_seconds": 0},
    "learning": {**LEARNING, "steps": 2},
    "generation": {
        "policies": {"singles_per_sku": 1, "pairs": 0, "triples": 0},
        "steps": 2,
        "quality": {"gate": False},
    },
}
MINI_LINE = """\
set -eu
catalog-pipeline --version
catalog-pipeline index
catalog-pipeline learn
catalog-pipeline generate --day 2026-03-01
catalog-pipeline verify
catalog-pipeline query 'SELECT images FROM nights' --format csv
catalog-pipeline doctor
python -c 'import catalog_pipeline as c, torch; print(c.__file__, torch.__version__)'
"""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_bundle_installs_and_runs_where_no_network_is(bundle: Path, tmp_path: Path) -> None:
    folder = unpacked(bundle, tmp_path / "there")
    config, home = tmp_path / "settings", tmp_path / "state"
    config.mkdir()
    for name, content in SETTINGS.items():
        (config / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    write_photos_in(home / "products" / "MUG-01")
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    # No setting of pip, no path of this checkout: only what a new machine has.
    environment = {
        **kept,
        "PATH": f"{folder}/venv/bin:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "CATALOG_PIPELINE_CONFIG": str(config),
        "CATALOG_PIPELINE_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }
    for script, steps in (("install.sh", f"sh {folder}/install.sh\n"), ("line.sh", MINI_LINE)):
        (tmp_path / script).write_text(steps, encoding="utf-8")
        done, report = run_without_network(
            ["env", "-u", "PYTHONPATH", "-C", str(tmp_path), "sh", str(tmp_path / script)],
            tmp_path,
            env={**environment, "PYTHONPATH": str(REPOSITORY)},
            timeout=7000,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert (report["interfaces"], report["unroutable"], report["names"]) == (["lo"], 0, 0)
    told = done.stdout.splitlines()
    assert told[0] == f"catalog-pipeline {__version__}"
    assert "images" in told
    assert told[-1].startswith(f"{folder}/venv/lib/")
