"""Which photos of a product may stand in scenes: judged once a content of its folder.

What is kept are figures and file names, ``catalog/anchors/<sku>.json``; no pixel of a photo
leaves the catalog. Idempotency key: the content hash of the SKU's folder and the judge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from catalog_pipeline.catalog.photo_set import list_one, load_card
from catalog_pipeline.errors import CatalogPipelineError, ObjectNotFoundError
from catalog_pipeline.plain_text import shown
from catalog_pipeline.records import JudgedPhoto, PhotoSet, ProductPhotos, Sku
from catalog_pipeline.stores.keys import anchors_key
from catalog_pipeline.workflows.catalog.validate_photo_set import validate_photo_set
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import product_masker

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.features import FeatureEncoder

JUDGE_VERSION = 2
"""Raised whenever photos are judged otherwise, or more is kept of them."""

_PRODUCT_PHOTOS = TypeAdapter(ProductPhotos)


class PhotoBook:
    """What is known of products' photos, read or judged when a plan first asks for it."""

    def __init__(self, home: Home, contents: Mapping[str, str], *, keep: bool = True) -> None:
        """``contents``: SKU -> content hash of its folder; ``keep`` stores what is judged."""
        self._home = home
        self._contents = contents
        self._keep = keep
        self._known: dict[str, ProductPhotos] = {}

    def find(self, sku: str) -> ProductPhotos:
        """The product's photos; one that cannot be read has none, and says why."""
        if sku not in self._known:
            self._known[sku] = self._read(sku) or self._judge(sku)
        return self._known[sku]

    def _read(self, sku: str) -> ProductPhotos | None:
        """What was judged before, unless the folder or the judge is another by now."""
        try:
            content = json.loads(self._home.objects.read(anchors_key(sku)).data)
            stamp = content.pop("judge"), content.pop("content_hash")
            found = _PRODUCT_PHOTOS.validate_python(content)
        except ObjectNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # A cache: what cannot be read is judged anew.
        return found if stamp == (JUDGE_VERSION, self._contents.get(sku)) else None

    def _judge(self, sku: str) -> ProductPhotos:
        if sku not in self._contents:
            return ProductPhotos(sku, reason="its folder is not in the catalog's index")
        try:
            source = self._home.photo_source
            card = load_card(source, list_one(source, sku, read=False), self._home.words.noun)
            if unread := self._why_unread(card):
                return _product(card, (), unread)
            photo_set = validate_photo_set(self._home, sku)
            product = self._judged(photo_set)
        except CatalogPipelineError as error:
            return ProductPhotos(sku, reason=str(error).partition("\n")[0])
        if self._keep:
            stamp = {"judge": JUDGE_VERSION, "content_hash": photo_set.content_hash}
            data = json.dumps({**asdict(product), **stamp}, sort_keys=True, ensure_ascii=False)
            self._home.objects.for_skus(sku).put(anchors_key(sku), data.encode())
        return product

    def _why_unread(self, card: Sku) -> str:
        """Why no photo of a product is read at all; empty where scenes may ask for one."""
        if card.anchor_photos == ():
            return "its card says anchor_photos: false"
        anyone = self._home.settings.generation.asks_for_photos
        asked = card.mode != "learned" if card.mode else anyone
        return "" if asked else "only learned scenes are asked for"

    def _judged(self, photo_set: PhotoSet) -> ProductPhotos:
        from catalog_pipeline.evaluation.anchor_photos import judge_photos

        card = photo_set.sku
        judged = judge_photos(
            photo_set.photos, product_masker(), self._encoder, allowed=card.anchor_photos
        )
        usable = tuple(photo for photo in judged if photo.usable)
        return _product(card, usable, "" if usable else _why_none(judged))

    @cached_property
    def _encoder(self) -> FeatureEncoder:
        from catalog_pipeline.evaluation.features import open_encoder

        return open_encoder()


def _product(card: Sku, photos: tuple[JudgedPhoto, ...], reason: str) -> ProductPhotos:
    return ProductPhotos(
        sku=card.sku,
        photos=photos,
        mode=card.mode,
        height_cm=card.height_cm,
        width_cm=card.width_cm or card.depth_cm,
        reason=reason,
    )


def _why_none(judged: list[JudgedPhoto]) -> str:
    """Why none of the photos can stand in a scene: the commonest reason, and an example."""
    reasons = Counter(photo.reason for photo in judged)
    reason, count = reasons.most_common(1)[0]
    example = next(photo.key for photo in judged if photo.reason == reason)
    others = f", {len(judged) - count} for other reasons" if count < len(judged) else ""
    return (
        f"none of its {len(judged)} photos shows it alone, whole and sharp: {shown(example)} "
        f"{reason} ({count} so{others})"
    )
