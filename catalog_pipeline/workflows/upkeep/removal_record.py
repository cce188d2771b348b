"""What a removal under way has to remember: written before it begins, deleted when it is noted.

``removals/<hash of the SKU>.json``. As long as it is there the removal is not finished, and the
next call of ``catalog-pipeline remove`` goes on with it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from catalog_pipeline.errors import IntegrityError, ObjectNotFoundError
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.objects import ObjectStore

REMOVALS_PREFIX = "removals/"


@dataclass
class RemovalRecord:
    """One removal.

    Attributes:
        removal: names it, in the audit log too.
        digests: SHA-256 of photos, pictures and parts of the product, which nothing may name.
        image_ids: of the pictures that showed it, likewise.
        fallen: collection -> other SKUs that fell out of its head, to be learned anew.
        dropped: versions of a shared slot that are not served again.
        renamed: version -> what it is called without the product.
        nights: that showed the product.
        counts: what went so far, by kind; a step that died before it was noted counts less.
    """

    sku: str
    removal: str
    started_utc: datetime
    digests: set[str] = field(default_factory=set)
    image_ids: set[str] = field(default_factory=set)
    fallen: dict[str, list[str]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    nights: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, objects: ObjectStore, sku: str) -> RemovalRecord:
        """That of ``sku``, begun now where there is none; writes nothing.

        Raises:
            IntegrityError: the object is not such a record.
        """
        try:
            stored = objects.read(record_key(sku))
        except ObjectNotFoundError:
            return cls(sku, secrets.token_hex(8), datetime.now(UTC))
        try:
            content = json.loads(stored.data)
            return cls(
                str(content["sku"]),
                str(content["removal"]),
                datetime.fromisoformat(content["started_utc"]),
                set(content["digests"]),
                set(content["image_ids"]),
                {name: list(skus) for name, skus in content["fallen"].items()},
                set(content["dropped"]),
                dict(content["renamed"]),
                set(content["nights"]),
                {kind: int(count) for kind, count in content["counts"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{objects.uri(record_key(sku))} is no record of a removal ({error}); delete it, "
                "then run the same command again"
            ) from error

    def save(self, objects: ObjectStore) -> None:
        """Keep it; one process removes a product at a time, under the record's lease."""
        content = {
            "sku": self.sku,
            "removal": self.removal,
            "started_utc": self.started_utc.isoformat(),
            "digests": sorted(self.digests),
            "image_ids": sorted(self.image_ids),
            "fallen": self.fallen,
            "dropped": sorted(self.dropped),
            "renamed": self.renamed,
            "nights": sorted(self.nights),
            "counts": self.counts,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=0)
        objects.put(record_key(self.sku), text.encode() + b"\n")

    def count(self, objects: ObjectStore, counts: Mapping[str, int]) -> None:
        """Add ``counts`` to what went."""
        for kind, number in counts.items():
            if number:
                self.counts[kind] = self.counts.get(kind, 0) + number
        self.save(objects)


def record_key(sku: str) -> str:
    """Where the removal of ``sku`` is remembered; the SKU is not in the name."""
    return f"{REMOVALS_PREFIX}{sha256_hex(sku.encode())[:16]}.json"


def unfinished(objects: ObjectStore) -> list[str]:
    """The SKUs whose removal was begun and has not ended."""
    keys: Iterable[str] = objects.list(REMOVALS_PREFIX)
    found = [objects.read(key).data for key in keys if not key.endswith(".lease.json")]
    return sorted(str(json.loads(data)["sku"]) for data in found)
