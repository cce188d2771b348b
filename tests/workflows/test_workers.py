"""What is refused before a cluster is asked; tests/faults/test_ray.py has real clusters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import ValidationError

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import ExecutionSettings, Settings
from catalog_pipeline.workflows import workers
from catalog_pipeline.workflows.progress import SilentProgress
from catalog_pipeline.workflows.workers import Crew, check_execution
from tests.listeners import free_port
from tests.ray_cluster import REPOSITORY, ask_for_a_token

TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


@pytest.mark.parametrize("address", ["head", "ray://head", "http://head:1", "head:ray", "a b:1"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValidationError, match=re.escape("ray://head:10001")):
        ExecutionSettings(engine="ray", address=address)


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "ray://head-svc:10001", "[::1]:6379"])
def test_what_ray_takes_is_taken(address: str) -> None:
    assert ExecutionSettings(address=address).address == address


def test_a_named_cluster_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: object())
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    named = ExecutionSettings(engine="ray", address="head:6379")
    with pytest.raises(ConfigurationError, match="address is head:6379, and no token is given"):
        check_execution(named)
    check_execution(ExecutionSettings(engine="ray"))
    check_execution(named.model_copy(update={"engine": "local"}))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/secrets/ray")
    check_execution(named)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=re.escape("catalog-pipeline[ray]")):
        check_execution(ExecutionSettings(engine="ray"))


@needs_ray
def test_an_address_where_nobody_listens_is_said_at_once(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for_a_token(monkeypatch)
    address = f"127.0.0.1:{free_port()}"
    settings = make_settings(execution={"engine": "ray", "address": address})
    crew: Crew[int, int] = Crew(
        settings,
        settings.execution.images,
        lambda settings: pytest.fail("no worker is made"),
        SilentProgress(),
        again=lambda item: item,
        lost=lambda item, reason: item,
    )
    with pytest.raises(ConfigurationError, match=f"no Ray cluster answers at {address}: .*refused"):
        list(crew.results([1]))


def own_cluster(
    home: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A run with a cluster of its own, in a process that knows of Ray what ``environment`` says."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.own_cluster", str(home), *arguments],
        cwd=REPOSITORY,
        env={**known, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
    )


@needs_ray
@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, f"{LOOPBACK}=0 and RAY_AUTH_MODE=token"),
        ({LOOPBACK: "0"}, "RAY_AUTH_MODE=token"),
        ({LOOPBACK: "1", "RAY_AUTH_MODE": "token"}, f"{LOOPBACK}=0"),
    ],
)
def test_where_ray_was_imported_open_to_others_no_cluster_is_started(
    tmp_path: Path, environment: dict[str, str], missing: str
) -> None:
    done = own_cluster(tmp_path, "before", **environment)
    assert done.returncode == 1, done.stdout
    assert f"this process imported Ray without {missing}, so a cluster" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("before", [(), ("before",)])
def test_a_cluster_of_its_own_listens_on_loopback_and_lets_in_who_has_its_token(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    """Also where the environment names another cluster, which is not asked."""
    heard = {LOOPBACK: "0", "RAY_AUTH_MODE": "token"} if before else {}
    done = own_cluster(tmp_path, *before, RAY_ADDRESS=f"127.0.0.1:{free_port()}", **heard)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "listens": ["127.0.0.1"],
        "with its token": "let in",
        "without": "refused",
        "results": [2, 4],
    }
