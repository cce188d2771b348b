"""What the fault tests share with the rooms they break."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.defs.conftest import empty_dagster_home, instance, line, make_line
from tests.stores.store_processes import Location

__all__ = ["empty_dagster_home", "instance", "line", "make_line"]

_DAGSTER_NOISE = ("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Warnings are errors, and Dagster's own code raises these about itself.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for line in _DAGSTER_NOISE:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a store is, in a form that another process can open."""
    if request.param == "local":
        return Location(root=str(tmp_path / "home"))
    settings = request.getfixturevalue("s3_settings")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    environment = tuple((name, os.environ[name]) for name in names)
    return Location(s3=settings.model_dump_json(), environment=environment)
