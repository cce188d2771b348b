"""Products with the photos of another: most often a folder that was copied, or put in twice."""

from __future__ import annotations

from collections import Counter, defaultdict

from catalog_pipeline.catalog.file_kinds import kind_of
from catalog_pipeline.catalog.listing import KnownDigests

_SHARE = 0.5


def shared_photo_warnings(digests: KnownDigests) -> tuple[str, ...]:
    """One line for each SKU that has half its photos, or half of the other's, from an earlier one.

    Photos are compared byte for byte.

    A picture that many products share, such as a size chart, is no reason to warn.
    """
    photos: defaultdict[str, set[str]] = defaultdict(set)
    for key, (_, sha256) in digests.items():
        sku, _, name = key.partition("/")
        if kind_of(name) == "photo":
            photos[sku].add(sha256)
    first: dict[str, str] = {}
    warnings: list[str] = []
    for sku in sorted(photos):
        owners = Counter(first.setdefault(sha256, sku) for sha256 in photos[sku])
        del owners[sku]
        for other, count in sorted(owners.items(), key=lambda owner: (-owner[1], owner[0]))[:1]:
            sizes = len(photos[other]), len(photos[sku])
            if count >= _SHARE * min(sizes):
                warnings.append(
                    f"{other} and {sku} have {count} photos in common (of {sizes[0]} and "
                    f"{sizes[1]}); expected other photos of another product; replace the photos "
                    "of one, or remove its folder"
                )
    return tuple(warnings)
