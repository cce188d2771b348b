"""What is refused before a cluster is asked; tests/faults/test_ray.py has real clusters."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from pydantic import ValidationError

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import ExecutionSettings, Settings
from catalog_pipeline.workflows import workers
from catalog_pipeline.workflows.progress import SilentProgress
from catalog_pipeline.workflows.workers import Crew, check_execution
from tests.listeners import free_port
from tests.ray_cluster import ask_for_a_token

TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


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


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
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
