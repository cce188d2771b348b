"""The committed figures still give the committed pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import languages, slot_bytes
from tests.benchmarks.generation import attention_report
from tests.benchmarks.generation import report as generation
from tests.benchmarks.harness.home import DOCS
from tests.benchmarks.harness.report import write_page
from tests.benchmarks.partitions import __main__ as partitions
from tests.benchmarks.stores import report as stores


@pytest.mark.parametrize(
    ("template", "words", "exact"),
    [
        (stores.TEMPLATE, {"titles": stores.TITLES}, True),
        (attention_report.TEMPLATE, {}, True),
        (generation.TEMPLATE, {"detector_figures": generation.DETECTOR}, False),
        (
            languages.TEMPLATE,
            {"command": languages.COMMAND, "titles": languages.TITLES},
            True,
        ),
        (slot_bytes.TEMPLATE, {}, True),
        (partitions.TEMPLATE, {}, True),
    ],
    ids=["stores", "attention", "generation", "languages", "slot-bytes", "partitions"],
)
def test_a_page_is_written_again_from_its_figures(
    template: Path, words: dict[str, Any], exact: bool, tmp_path: Path
) -> None:
    page = DOCS / template.stem
    facts = json.loads(page.with_suffix(".json").read_text("utf-8"))
    write_page(tmp_path, template, **facts, **words)
    pages = [path.read_text("utf-8") for path in (tmp_path / page.name, page)]
    if not exact:  # the page was written before its figures were rounded
        pages = [re.sub(r"\d+", "0", text) for text in pages]
    assert pages[0] == pages[1]
