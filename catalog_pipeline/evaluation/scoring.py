"""The figures of an evaluation: each product against its own photos and the others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from catalog_pipeline.errors import IntegrityError
from catalog_pipeline.evaluation.confusion import ConfusionMatrix, recognise
from catalog_pipeline.evaluation.retention import cosine_to_photos, fidelity_share, photo_ceiling
from catalog_pipeline.records import Features


@dataclass(frozen=True)
class SkuScore:
    """One product's figures over its pictures, by the evaluation's first encoder.

    ``fidelity`` is the mean cosine to its photos and ``spread`` its standard
    deviation over pictures; ``ceiling`` the photos' own mean cosine; ``share``
    fidelity / ceiling. ``looks_like`` names, picture by picture, the product whose photos
    it looks like most; ``recognised`` is the fraction that look like this one in its
    colours. ``rival`` is the other product that the pictures are closest to, at ``rival_fidelity``.
    ``forgotten`` is the best earlier fidelity minus this one, ``None`` when it was not
    measured before. ``shows_scene`` names the scene that each picture shows, and
    ``scene_followed`` is the fraction that show the scene of their prompt; nothing and
    ``None`` where there are no two scenes to tell apart. ``other_shares`` is the share by
    each other encoder that had photos. ``color_difference`` is the median distance of the
    product's colours from its photos', in CIELAB units, ``color_bound`` the most that
    counts as its colours; ``off_color`` says which pictures lie above it, and these are not
    recognised. ``None`` and nothing where a memory says nothing of colours.
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
    class_noun: str = ""
    scene_followed: float | None = None
    looks_like: tuple[str, ...] = ()
    shows_scene: tuple[str, ...] = ()
    other_shares: Mapping[str, float] = field(default_factory=dict)
    color_difference: float | None = None
    color_bound: float | None = None
    off_color: tuple[bool, ...] = ()

    @property
    def taken_for(self) -> dict[str, float]:
        """The other products that pictures look like, and the fraction of pictures."""
        counts = Counter(other for other in self.looks_like if other != self.sku)
        return {other: count / len(self.looks_like) for other, count in counts.items()}


@dataclass(frozen=True)
class EncoderScore:
    """What one encoder says of the whole collection; ``None`` where it could not tell.

    ``products`` is how many had photos for it; ``fidelity``, ``share``, ``recognised``
    (and the other means) are over these. ``same_class`` is the share of pictures taken
    for another product of the same class noun. ``scenes_followed`` is the share of
    pictures that show the scene of their prompt; ``scenes_followed_by_base`` the same of
    pictures of the bare base that the recogniser was not fitted to, which is what this
    encoder can tell; ``scenes_by_chance`` what guessing gives. ``prior_drift`` is that of
    general prompts, ``class_drift`` that of the products' bare class nouns.
    """

    encoder: str
    products: int
    fidelity: float | None
    share: float | None
    recognised: float | None
    same_class: float | None
    scenes_followed: float | None
    scenes_followed_by_base: float | None
    scenes_by_chance: float | None
    prior_drift: float
    class_drift: float | None


@dataclass(frozen=True)
class CollectionScore:
    """Every product of one adapter version, and the protocol the figures belong to.

    Two scores are comparable when their ``protocol`` is equal: it names the
    encoder, the prompts and seeds, and the sampling parameters. ``encoders`` starts
    with the one that ``skus`` are measured by; ``unmeasured`` are the SKUs that it had
    no photos of.
    """

    collection: str
    version: str
    protocol: str
    images_per_sku: int
    skus: tuple[SkuScore, ...]
    encoders: tuple[EncoderScore, ...] = ()
    unmeasured: tuple[str, ...] = ()

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

    @property
    def first(self) -> EncoderScore | None:
        """What the first encoder says; ``None`` in records of before it was kept."""
        return self.encoders[0] if self.encoders else None

    @property
    def confusion(self) -> ConfusionMatrix:
        """Named x recognised over the measured products, by the first encoder."""
        return confusion_of(self.skus)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CollectionScore:
        """The score of :meth:`to_record`; keys that this program does not know are left out.

        Raises:
            IntegrityError: not such a record.
        """
        try:
            return cls(
                collection=record["collection"],
                version=record["version"],
                protocol=record["protocol"],
                images_per_sku=record["images_per_sku"],
                skus=tuple(_sku_score(score) for score in record["skus"]),
                encoders=tuple(
                    EncoderScore(**_known(EncoderScore, score))
                    for score in record.get("encoders", ())
                ),
                unmeasured=tuple(record.get("unmeasured", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"not an evaluation record: {error!r}; expected the JSON of an evaluation; "
                "delete the file and evaluate again"
            ) from error

    def to_record(self) -> dict[str, Any]:
        """JSON-ready, means and the most confused pairs included."""
        means = {
            "fidelity": self.fidelity,
            "share": self.share,
            "recognised": self.recognised,
            "forgetting": self.forgetting,
        }
        pairs = [asdict(pair) for pair in self.confusion.most_confused(10)]
        return {**asdict(self), "mean": means, "most_confused": pairs}


@dataclass(frozen=True)
class ProductColors:
    """How far each picture of a product is from its photos' colours, and the most allowed.

    In CIELAB units, see :func:`palettes.palette_distance`.
    """

    differences: tuple[float, ...]
    bound: float


def in_own_colors(score: SkuScore, colors: ProductColors | None) -> SkuScore:
    """``score`` with its colours; pictures in wrong ones are no longer recognised."""
    if colors is None:
        return score
    off = tuple(difference > colors.bound for difference in colors.differences)
    right = [
        like == score.sku and not wrong for like, wrong in zip(score.looks_like, off, strict=True)
    ]
    return replace(
        score,
        recognised=sum(right) / len(right),
        color_difference=float(np.median(colors.differences)),
        color_bound=colors.bound,
        off_color=off,
    )


def confusion_of(scores: Sequence[SkuScore]) -> ConfusionMatrix:
    """The matrix whose rows are in ``scores``."""
    skus = [score.sku for score in scores]
    values = np.zeros((len(skus), len(skus)))
    for row, score in enumerate(scores):
        taken = score.taken_for
        # A picture in wrong colours is not recognised, and yet taken for no other product.
        values[row, row] = 1 - sum(taken.values()) if score.looks_like else score.recognised
        for other, share in taken.items():
            values[row, skus.index(other)] = share
    return ConfusionMatrix(tuple(skus), values)


def _sku_score(record: Mapping[str, Any]) -> SkuScore:
    known = _known(SkuScore, record)
    lists = {
        name: tuple(known.get(name, ())) for name in ("looks_like", "shows_scene", "off_color")
    }
    return SkuScore(**{**known, **lists})


def _known(kind: type[Any], record: Mapping[str, Any]) -> dict[str, Any]:
    names = {known.name for known in fields(kind)}
    return {key: value for key, value in record.items() if key in names}


def score_products(
    generated: Mapping[str, Features],
    photos: Mapping[str, Features],
    names: Mapping[str, str],
    earlier: Mapping[str, float],
) -> tuple[SkuScore, ...]:
    """Figures of every product in ``generated``, in its order; scenes are left to others.

    Args:
        generated: SKU -> features of its pictures, ``(pictures, width)``.
        photos: SKU -> features of its photos, ``(photos, width)``; at least the same SKUs.
        names: SKU -> what people call it.
        earlier: SKU -> best fidelity of earlier versions, where one was measured.
    """
    skus = list(photos)
    means = np.stack([rows.mean(axis=0) for rows in photos.values()])  # (products, width)
    looks_like = iter(recognise(np.concatenate(list(generated.values())), photos))
    scores = []
    for sku, rows in generated.items():
        own = skus.index(sku)
        fidelity, ceiling = cosine_to_photos(rows, photos[sku]), photo_ceiling(photos[sku])
        others = rows.mean(axis=0) @ means.T  # (products,)
        others[own] = -np.inf
        rival = int(others.argmax())
        looks = tuple(next(looks_like) for _ in rows)
        scores.append(
            SkuScore(
                sku=sku,
                name=names[sku],
                fidelity=fidelity,
                spread=float((rows @ means[own]).std()),
                ceiling=ceiling,
                share=fidelity_share(fidelity, ceiling),
                recognised=looks.count(sku) / len(looks),
                rival=skus[rival] if rival != own else "",
                rival_fidelity=float(others[rival]) if rival != own else None,
                forgotten=earlier[sku] - fidelity if sku in earlier else None,
                looks_like=looks,
            )
        )
    return tuple(scores)
