"""One text for one content, and its hash: what fingerprints and cache keys are made of."""

from __future__ import annotations

import hashlib
import json


def canonical_sha256(content: object) -> str:
    """SHA-256 of plain data, however its keys are ordered."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
