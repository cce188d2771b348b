"""One text for one content, and its hash: what fingerprints and cache keys are made of."""

from __future__ import annotations

import hashlib
import json


def canonical_text(content: object) -> str:
    """The JSON of plain data, however its keys are ordered: ASCII, sorted, without a blank."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def canonical_sha256(content: object) -> str:
    """SHA-256 of plain data, however its keys are ordered."""
    return hashlib.sha256(canonical_text(content).encode()).hexdigest()
