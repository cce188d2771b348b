"""Writing an object that is named by its content, beside a clean-up that may run at any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.objects import ObjectStore

REWRITTEN_AFTER = timedelta(hours=1)
"""An object that is used again and older than this is written again, which makes it young.

A clean-up takes only objects that nothing names and nobody wrote for its grace period
(hours to days). A writer that finds its content there already is about to name it.
"""


def put_content(objects: ObjectStore, key: str, data: bytes) -> None:
    """Make ``key`` hold ``data``, its only possible content, and be young. Idempotent.

    Bytes that have rotted are replaced by the good ones.
    """
    if objects.put_if_absent(key, data):
        return
    try:
        young = objects.info(key).modified_utc > datetime.now(UTC) - REWRITTEN_AFTER
        if young and objects.read(key).data == data:
            return
    except (IntegrityError, ObjectNotFoundError):
        pass  # rotten, or taken by a clean-up a moment ago
    objects.put(key, data)
