"""A home on which nights are planned, rendered and published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from catalog_pipeline.settings import Settings
from tests.workflows.hard_night import published_night
from tests.workflows.painted_night import NIGHT, Studio


@pytest.fixture
def studio(make_settings: Callable[..., Settings]) -> Studio:
    return Studio(make_settings(generation=NIGHT))


@pytest.fixture
def night(studio: Studio) -> Studio:
    return published_night(studio)
