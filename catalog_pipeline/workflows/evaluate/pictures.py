"""Features of what an evaluation measures: pictures of every product, of the base, the photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from catalog_pipeline.errors import GenerationError, PromptError
from catalog_pipeline.generation.layouts import split_layout
from catalog_pipeline.generation.prompts import own_prompts
from catalog_pipeline.records import (
    COLOR_SPREAD,
    SHARED,
    AdapterVersion,
    Concept,
    Features,
    Pixels,
    RenderJob,
    memory_part,
)
from catalog_pipeline.settings import GenerationSettings
from catalog_pipeline.stores.memory import ENCODER, MemoryEntry, decode_memory
from catalog_pipeline.workflows.evaluate.base_only import BasePictures
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import (
    check_same_base,
    drawn_by,
    open_engine,
    product_masker,
    read_named_part,
    sampler_on,
)
from catalog_pipeline.workflows.progress import ProgressSink
from catalog_pipeline.workflows.report_pages import each_with_photos

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import DiffusionEngine
    from catalog_pipeline.evaluation.collection import BaseFeatures, CollectionFeatures
    from catalog_pipeline.evaluation.features import FeatureEncoder
    from catalog_pipeline.evaluation.scoring import ProductColors

SECOND_ENCODER = "efficientnet_lite0"
PHOTOS = 6
"""Looked at, a product, by an encoder whose features the memory does not hold; and shown."""

_FEWEST_PHOTOS = 2
_SHOWN_PX = 256
_NO_DAY = date(1970, 1, 1)
_BySku = dict[str, dict[str, Features]]  # encoder -> SKU -> features


@lru_cache(maxsize=4)
def encoder_named(name: str) -> FeatureEncoder:
    """The encoder of ``evaluation.yaml``, opened once a process."""
    from catalog_pipeline.evaluation.features import open_encoder

    return open_encoder(name)


@dataclass(frozen=True)
class VersionFeatures:
    """Everything that is measured of a version.

    ``by_encoder`` starts with the configured encoder; ``samples`` maps a SKU to its
    pictures as data URIs, one a scene.
    """

    by_encoder: tuple[CollectionFeatures, ...]
    samples: Mapping[str, list[str]]


@dataclass(frozen=True)
class FeatureExtractor:
    """Renders one version and encodes each of its pictures once with every encoder."""

    home: Home
    version: AdapterVersion
    images_per_sku: int
    progress: ProgressSink

    @cached_property
    def encoders(self) -> dict[str, FeatureEncoder]:
        """By identity: the configured one, then the packaged ones."""
        from catalog_pipeline.evaluation.features import encoder_identity

        names = dict.fromkeys((self.home.settings.evaluation.encoder, ENCODER, SECOND_ENCODER))
        opened = {name: encoder_named(name) for name in names}
        return {encoder_identity(name): encoder for name, encoder in opened.items()}

    @property
    def scenes(self) -> list[tuple[str, int]]:
        """Scene and seed of each picture of a product."""
        from catalog_pipeline.evaluation.prompts import evaluation_scenes

        return evaluation_scenes(self.images_per_sku)

    def extract(self) -> VersionFeatures:
        """Render and encode; minutes for a large collection.

        Raises:
            LearningError: the version belongs to another base model.
        """
        from catalog_pipeline.evaluation.collection import CollectionFeatures

        engine = open_engine(self.home.settings)
        check_same_base(self.version, engine.base.content_hash)
        self._check_prompts(engine)
        photos = self._photos()
        base = _BaseFeatures(self, engine)
        pictures, around, samples, colors = self._products(engine)
        seen = base.features()
        scenes = [scene for scene, _ in self.scenes]
        return VersionFeatures(
            tuple(
                CollectionFeatures(
                    name, pictures[name], around[name], photos[name], scenes, seen[name], colors
                )
                for name in self.encoders
            ),
            samples,
        )

    def _check_prompts(self, engine: DiffusionEngine) -> None:
        """Before minutes of rendering, what would end them.

        Raises:
            PromptError: a product whose prompts the base does not read whole, as of an earlier
                release that cut them; or such a negative prompt.
        """
        reads, negative = engine.text.prompts, self.home.settings.generation.negative_prompt
        if not reads.fits([negative]):
            raise PromptError(
                f"generation.yaml: negative_prompt comes to {reads.count(negative)} tokens, and "
                f"the base's text encoder reads {reads.length}; shorten it"
            )
        scenes = [scene for scene, _ in self.scenes]
        for concept in self.version.concepts:
            if not all(reads.fits(own_prompts([concept], scene)) for scene in scenes):
                raise PromptError(
                    f"the base's text encoder reads {reads.length} tokens, fewer than the prompts "
                    f"of {concept.sku} have with its class_noun {concept.class_noun!r}; shorten "
                    "it in the card and learn it anew, or retire it"
                )

    def _products(
        self, engine: DiffusionEngine
    ) -> tuple[_BySku, _BySku, dict[str, list[str]], dict[str, ProductColors]]:
        """Features of the pictures and of their surroundings; by SKU pictures to show, colours."""
        from catalog_pipeline.evaluation.html_pages import picture_uri
        from catalog_pipeline.evaluation.text_following import surroundings

        sampler = sampler_on(engine, self.home, drawn_by(self.version))
        generation = self.home.settings.generation
        concepts = {concept.sku: concept for concept in self.version.concepts}
        features: _BySku = {name: {} for name in self.encoders}
        around: _BySku = {name: {} for name in self.encoders}
        samples: dict[str, list[str]] = {}
        colors: dict[str, ProductColors] = {}
        label = f"evaluate {self.version.collection}"
        self.progress.start(label, len(concepts) * self.images_per_sku)
        for sku, concept in concepts.items():
            jobs = evaluation_jobs(generation, self.version, concept, self.scenes)
            pictures = sampler.render(jobs, concepts)
            for name, encoder in self.encoders.items():
                features[name][sku] = encoder.encode(pictures)
                around[name][sku] = encoder.encode([surroundings(one) for one in pictures])
            samples[sku] = [picture_uri(picture, _SHOWN_PX) for picture in pictures]
            found = self._colors(concept, pictures)
            if found is not None:
                colors[sku] = found
            self.progress.advance(label, len(pictures), sku)
        self.progress.finish(label)
        return features, around, samples, colors

    def _colors(self, concept: Concept, pictures: Sequence[Pixels]) -> ProductColors | None:
        """``None`` for a memory without colours, and where no gate has measured the photos'."""
        from catalog_pipeline.evaluation.learned_looks import color_differences, products_alone
        from catalog_pipeline.evaluation.scoring import ProductColors

        palette, spread = self._memory(concept.sku).palette, concept.metrics.get(COLOR_SPREAD)
        if palette is None or spread is None:
            return None
        seen = products_alone(pictures, product_masker())
        shift = self.home.settings.learning.gate_max_color_shift
        return ProductColors(tuple(color_differences(seen, palette)), spread + shift)

    def _photos(self) -> _BySku:
        """Encoder -> SKU -> features of its photos.

        Those of the memory's encoder are the memory's, which needs no photo; the others
        look at the photos that the catalog still has, at two or more.

        Raises:
            GenerationError: the configured encoder has no product to measure.
        """
        found: _BySku = {name: {} for name in self.encoders}
        skus = [concept.sku for concept in self.version.concepts]
        for sku, photos in each_with_photos(self.home, skus, PHOTOS):
            for name, encoder in self.encoders.items():
                if name == ENCODER:
                    found[name][sku] = self._memory(sku).features
                elif len(photos) >= _FEWEST_PHOTOS:
                    found[name][sku] = encoder.encode(photos)
        first = next(iter(self.encoders))
        if not found[first]:
            raise GenerationError(
                f"no product of collection '{self.version.collection}' can be measured by the "
                f"encoder {first}: it needs {_FEWEST_PHOTOS} photos of a product in the catalog "
                "and found none; bring the photos back, or set evaluation.yaml: encoder to "
                f"{ENCODER}"
            )
        return found

    def _memory(self, sku: str) -> MemoryEntry:
        store = self.home.adapters(self.version.collection)
        return decode_memory(read_named_part(store, self.version, memory_part(sku)))


def evaluation_jobs(
    generation: GenerationSettings,
    version: AdapterVersion,
    concept: Concept,
    scenes: Sequence[tuple[str, int]],
) -> list[RenderJob]:
    """A picture of ``concept`` alone in each of ``scenes``, at the seed beside it."""
    return [
        RenderJob(
            job_id=f"evaluation-{concept.sku}-{seed}",
            day=_NO_DAY,
            template="evaluation",
            prompt=f"{concept.name} {scene}",
            scene=scene,
            skus=(concept.sku,),
            regions=split_layout(1),
            layout="single",
            seed=seed,
            sampler=generation.sampler,
            steps=generation.steps,
            guidance=generation.guidance,
            width=generation.width,
            height=generation.height,
            negative_prompt=generation.negative_prompt,
            collection=version.collection,
            adapter_version=version.version,
        )
        for scene, seed in scenes
    ]


class _BaseFeatures:
    """The base before and after: opened while ``engine`` is bare, read once a version is in."""

    def __init__(self, extractor: FeatureExtractor, engine: DiffusionEngine) -> None:
        from catalog_pipeline.evaluation.prompts import (
            class_prompts,
            prior_prompts,
            scene_prompts,
        )

        self._pictures = BasePictures(
            engine,
            extractor.home.objects,
            extractor.encoders,
            extractor.home.settings.generation,
            extractor.progress,
        )
        version = extractor.version
        self._slot = SHARED if SHARED in version.parts else None
        scenes = list(dict.fromkeys(scene for scene, _ in extractor.scenes))
        # One scene alone cannot be told from another.
        self._scene_prompts = scene_prompts(scenes if len(scenes) > 1 else [])
        self._prompts = {
            "prior": prior_prompts(),
            "class": class_prompts(concept.class_noun for concept in version.concepts),
        }
        self._scenes = self._pictures.before(self._scene_prompts, "base: scenes", surroundings=True)
        self._before = {
            kind: self._pictures.before(prompts, f"base: {kind} prompts")
            for kind, prompts in self._prompts.items()
        }

    def features(self) -> dict[str, BaseFeatures]:
        """By encoder; renders the prior's prompts with what is installed now."""
        from catalog_pipeline.evaluation.collection import BaseFeatures

        after = {
            kind: self._pictures.after(prompts, self._slot, f"{kind} prompts again")
            for kind, prompts in self._prompts.items()
        }
        return {
            name: BaseFeatures(
                scene_prompts=self._scene_prompts,
                scenes=np.asarray(rows),
                prior=(self._before["prior"][name], after["prior"][name]),
                class_nouns=(self._before["class"][name], after["class"][name]),
            )
            for name, rows in self._scenes.items()
        }
