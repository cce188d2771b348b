"""Does a picture show its products: each region measured against the product's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.records import AdapterVersion, Features, Pixels, Region, RenderJob
from catalog_pipeline.stores.adapters import AdapterStore
from catalog_pipeline.stores.memory import decode_memory

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder


class PictureScorer:
    """Scores pictures of one adapter version; memories and the encoder are read once."""

    def __init__(
        self,
        store: AdapterStore,
        version: AdapterVersion,
        open_encoder: Callable[[], FeatureEncoder],
    ) -> None:
        self._store = store
        self._version = version
        self._open_encoder = open_encoder
        self._memory: dict[str, Features | None] = {}

    def score(
        self, jobs: Sequence[RenderJob], pictures: Sequence[Pixels]
    ) -> list[dict[str, float]]:
        """``fidelity/<sku>`` of every product of each picture, and ``min_fidelity``.

        The fidelity of a product is the mean cosine of the features of its region to
        the remembered features of its photos; its ceiling is below 1, so compare
        pictures of one product, not products. A product without a memory has no
        score, and a picture of such products alone has none at all.

        Raises:
            GenerationError: a memory was made with an encoder of another width.
            IntegrityError: a memory is corrupted.
        """
        from catalog_pipeline.evaluation.retention import cosine_to_photos

        wanted = [
            (index, sku, photos, crop_region(picture, region))
            for index, (job, picture) in enumerate(zip(jobs, pictures, strict=True))
            for sku, region in zip(job.skus, job.regions, strict=True)
            if (photos := self._remember(sku)) is not None
        ]
        scores: list[dict[str, float]] = [{} for _ in jobs]
        if not wanted:
            return scores
        features = self._open_encoder().encode([crop for *_, crop in wanted])
        for (index, sku, photos, _), feature in zip(wanted, features, strict=True):
            if photos.shape[1] != feature.shape[0]:
                raise GenerationError(
                    f"the memory of {sku!r} has {photos.shape[1]} features, the encoder gives "
                    f"{feature.shape[0]}; learn the SKU again with the encoder in use"
                )
            scores[index][f"fidelity/{sku}"] = float(cosine_to_photos(feature[None], photos))
        for score in scores:
            if score:
                score["min_fidelity"] = min(score.values())
        return scores

    def _remember(self, sku: str) -> Features | None:
        if sku not in self._memory:
            part = self._version.parts.get(f"memory/{sku}")
            data = None if part is None else self._store.read_part(part)
            self._memory[sku] = None if data is None else decode_memory(data).features
        return self._memory[sku]


def crop_region(picture: Pixels, region: Region) -> Pixels:
    """The pixels of ``region``: ``(height, width, 3)`` -> ``(region height, region width, 3)``."""
    height, width = picture.shape[:2]
    top, bottom = round(region.top * height), round(region.bottom * height)
    left, right = round(region.left * width), round(region.right * width)
    return picture[top:bottom, left:right]
