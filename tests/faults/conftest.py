"""What the fault tests share with the rooms they break."""

from __future__ import annotations

from tests.defs.conftest import empty_dagster_home, instance, line, make_line
from tests.stores.conftest import location

__all__ = ["empty_dagster_home", "instance", "line", "location", "make_line"]
