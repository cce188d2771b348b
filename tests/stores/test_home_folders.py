"""What is counted, kept from users' files and searched knows every folder that is written to."""

from __future__ import annotations

import re
from pathlib import Path

import catalog_pipeline
from catalog_pipeline.stores.keys import HOME_FOLDERS
from catalog_pipeline.workflows.upkeep.removal_search import SEARCHED

PACKAGE = Path(catalog_pipeline.__file__).parent
BEGINS_A_KEY = re.compile(
    r"^_?[A-Z_]*(?:PREFIX|ROOT|KEY) = f?\"([a-z_]+)/"
    r"|(?:return|\.(?:put|list|scan|exists|read)\(|\bprefix =) ?f?\"([a-z_]+)/",
    re.MULTILINE,
)
OF_A_STUDY = {"pictures"}
"""Under the folder of a cell, which is no home."""


def test_every_key_in_the_source_begins_with_one_of_the_folders() -> None:
    found = {
        one or other
        for room in ("stores", "workflows")
        for file in (PACKAGE / room).rglob("*.py")
        for one, other in BEGINS_A_KEY.findall(file.read_text("utf-8"))
    }
    assert {"audit", "base", "collections", "images", "keys", "removals", "reports"} <= found
    assert found - OF_A_STUDY <= set(HOME_FOLDERS)


def test_a_removal_searches_all_of_them_but_its_own_record_and_the_audit_log() -> None:
    searched = {prefix.partition("/")[0] for prefix in SEARCHED}
    assert searched == set(HOME_FOLDERS) - {"audit", "images", "removals"}
