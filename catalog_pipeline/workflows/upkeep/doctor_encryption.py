"""What ``doctor`` says of encryption: which master key, and what is not encrypted yet."""

from __future__ import annotations

from collections.abc import Iterator

from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.upkeep.check_results import CheckResult
from catalog_pipeline.workflows.upkeep.encryption import encryption_state


def check_encryption(home: Home) -> Iterator[CheckResult]:
    """On or off, a rotation that has not ended, and objects that are still plain."""
    state = encryption_state(home)
    if state.master is None:
        yield CheckResult("ok", "encryption: off; whoever reads the home reads what it holds", "")
        return
    pictures = "pictures too" if state.pictures else "not of pictures"
    yield CheckResult(
        "ok",
        f"encryption: on, {pictures}, master key {state.master}, {state.data_keys} data keys",
        "",
    )
    if len(state.masters) > 1:
        yield CheckResult(
            "warning",
            f"encryption: the rotation between {' and '.join(state.masters)} has not ended",
            "run the same `catalog-pipeline rotate-key` again; both master keys are needed until "
            "then",
        )
    if state.plain:
        yield CheckResult(
            "warning",
            f"encryption: {state.plain} objects are still plain",
            "run `catalog-pipeline encrypt`",
        )
