"""When a photo set was first seen, for sets whose files are dated after the present.

A clock that was set back, or a bucket whose clock runs ahead, leaves files from the
future: by their dates they would settle only once the clock has caught up, in an hour
or in years. Such a set settles ``settle_seconds`` after this content was first seen.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from catalog_pipeline.catalog.listing import ListingResult
from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.objects import ObjectStore

FIRST_SEEN_KEY = "catalog/first_sight.json"
"""SKU -> content hash and when it was first seen, of the sets that were last dated ahead."""


def date_by_first_seen(
    objects: ObjectStore, listing: ListingResult, now: datetime
) -> ListingResult:
    """``listing`` with every set from the future dated to when its content was first seen.

    Writes only when such a set is new or changed. A time that lies in the future itself
    is forgotten: the clock was set back once more. A crash costs one settle window.

    Raises:
        IntegrityError: the remembered times are not what this function wrote.
    """
    ahead = [found for found in listing.listings if found.newest_modified_utc > now]
    if not ahead:
        return listing
    known = _read(objects)
    first_seen: dict[str, tuple[str, datetime]] = {}
    for found in ahead:
        content, seen = known.get(found.sku, ("", now))
        same = content == found.content_hash and seen <= now
        first_seen[found.sku] = (found.content_hash, seen if same else now)
    if first_seen != known:
        _write(objects, first_seen)
    return replace(
        listing,
        listings=tuple(
            replace(found, newest_modified_utc=first_seen[found.sku][1])
            if found.sku in first_seen
            else found
            for found in listing.listings
        ),
    )


def _read(objects: ObjectStore) -> dict[str, tuple[str, datetime]]:
    try:
        data = objects.read(FIRST_SEEN_KEY).data
    except ObjectNotFoundError:
        return {}
    try:
        return {
            sku: (str(content), datetime.fromisoformat(seen))
            for sku, (content, seen) in json.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{objects.uri(FIRST_SEEN_KEY)} does not say when sets were first seen "
            f"({error!r}); expected the JSON that a refresh writes; delete it, the next refresh "
            "writes it anew"
        ) from error


def _write(objects: ObjectStore, first_seen: dict[str, tuple[str, datetime]]) -> None:
    content = {
        sku: [hashed, seen.isoformat()] for sku, (hashed, seen) in sorted(first_seen.items())
    }
    objects.put(FIRST_SEEN_KEY, json.dumps(content).encode())
