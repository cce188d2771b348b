"""The figures of an evaluation: each product against its own photos and the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.retention import cosine_to_photos, fidelity_share, photo_ceiling
from catalog_pipeline.records import Features


@dataclass(frozen=True)
class SkuScore:
    """One product's figures over its pictures.

    ``fidelity`` is the mean cosine to its photos and ``spread`` its standard
    deviation over pictures; ``ceiling`` the photos' own mean cosine; ``share``
    fidelity / ceiling. ``recognised`` is the fraction of pictures that are
    closer to these photos than to any other product's; ``rival`` the other product that
    the pictures are closest to, at ``rival_fidelity``. ``forgotten`` is the best
    earlier fidelity minus this one, ``None`` when it was not measured before.
    ``second_share`` is the share by another, independent encoder, ``None`` without photos.
    """

    sku: str
    name: str
    fidelity: float
    spread: float
    ceiling: float
    share: float
    recognised: float
    rival: str = ""
    rival_fidelity: float | None = None
    forgotten: float | None = None
    second_share: float | None = None


@dataclass(frozen=True)
class CollectionScore:
    """Every product of one adapter version, and the protocol the figures belong to.

    Two scores are comparable when their ``protocol`` is equal: it names the
    encoder, the prompts and seeds, and the sampling parameters.
    """

    collection: str
    version: str
    protocol: str
    images_per_sku: int
    skus: tuple[SkuScore, ...]

    @property
    def fidelity(self) -> float:
        """Mean fidelity over products."""
        return float(np.mean([score.fidelity for score in self.skus]))

    @property
    def share(self) -> float:
        """Mean share over products."""
        return float(np.mean([score.share for score in self.skus]))

    @property
    def recognised(self) -> float:
        """Mean fraction of recognised pictures."""
        return float(np.mean([score.recognised for score in self.skus]))

    @property
    def forgetting(self) -> float | None:
        """Mean fall from the best earlier figure; ``None`` without earlier figures."""
        falls = [score.forgotten for score in self.skus if score.forgotten is not None]
        return float(np.mean(falls)) if falls else None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CollectionScore:
        """The score of :meth:`to_record`.

        Raises:
            IntegrityError: not such a record.
        """
        try:
            return cls(
                collection=record["collection"],
                version=record["version"],
                protocol=record["protocol"],
                images_per_sku=record["images_per_sku"],
                skus=tuple(SkuScore(**score) for score in record["skus"]),
            )
        except (KeyError, TypeError) as error:
            raise IntegrityError(
                f"not an evaluation record: {error!r}; expected the JSON of an evaluation; "
                "delete the file and evaluate again"
            ) from error

    def to_record(self) -> dict[str, Any]:
        """JSON-ready, means included."""
        means = {
            "fidelity": self.fidelity,
            "share": self.share,
            "recognised": self.recognised,
            "forgetting": self.forgetting,
        }
        return {**asdict(self), "skus": [asdict(score) for score in self.skus], "mean": means}


def score_product(
    sku: str,
    name: str,
    generated: Features,
    photos: Mapping[str, Features],
    earlier: float | None = None,
) -> SkuScore:
    """Figures of one product.

    Args:
        sku: a key of ``photos``.
        name: what people call it.
        generated: features of its pictures, ``(pictures, width)``.
        photos: features of every product's photos, ``(photos, width)`` each.
        earlier: the best fidelity of earlier versions, where one was measured.
    """
    fidelity = cosine_to_photos(generated, photos[sku])
    ceiling = photo_ceiling(photos[sku])
    own = generated @ photos[sku].mean(axis=0)  # (pictures,)
    others = {
        other: generated @ rows.mean(axis=0) for other, rows in photos.items() if other != sku
    }
    recognised, rival = 1.0, ""
    if others:
        rival = max(others, key=lambda other: float(others[other].mean()))
        recognised = float((own > np.max(list(others.values()), axis=0)).mean())
    return SkuScore(
        sku=sku,
        name=name,
        fidelity=fidelity,
        spread=float(own.std()),
        ceiling=ceiling,
        share=fidelity_share(fidelity, ceiling),
        recognised=recognised,
        rival=rival,
        rival_fidelity=float(others[rival].mean()) if rival else None,
        forgotten=None if earlier is None else earlier - fidelity,
    )
