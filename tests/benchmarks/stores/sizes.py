"""How large the benchmark's catalog, archive and collection are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """``nights * rows`` rows are in the manifest; a night that is published has ``rows``.

    ``concepts`` are in the head of the collection, which ``versions`` versions lead to;
    ``pictures`` are in the night that is verified.
    """

    skus: int
    photos: int
    nights: int
    rows: int
    concepts: int
    versions: int
    pictures: int


FULL = Sizes(
    skus=10_000,
    photos=4,
    nights=100,
    rows=10_000,
    concepts=1_000,
    versions=1_000,
    pictures=1_000,
)
QUICK = Sizes(skus=40, photos=3, nights=3, rows=40, concepts=30, versions=12, pictures=10)
