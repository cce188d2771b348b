"""How alike each product of a study is to its photos, drawn by the concept that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from catalog_pipeline.records import AdapterVersion, Pixels, concept_part
from catalog_pipeline.workflows.evaluate.pictures import encoder_named, evaluation_jobs
from catalog_pipeline.workflows.evaluate.study_products import Group, StudyProduct
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import drawn_by, open_sampler, product_masker
from catalog_pipeline.workflows.progress import ProgressSink


@dataclass(frozen=True)
class ProductLooks:
    """A product as it was measured; ``likeness`` is ``None`` where ``reason`` says why not.

    ``part`` is the hash of the weights that drew it.
    """

    likeness: float | None = None
    color_shift: float | None = None
    part: str = ""
    reason: str = ""


def measure_products(
    home: Home,
    version: AdapterVersion,
    asked: Sequence[tuple[StudyProduct, Group]],
    images: int,
    progress: ProgressSink,
) -> Iterator[tuple[str, ProductLooks, Pixels | None]]:
    """Each product with its figures and its first picture; those of no concept have a reason.

    The prompts, seeds and scenes are those of every evaluation, and each names the product by its
    concept's tokens and its own class noun, which is the most that a shared concept can be told of
    it. The product's crops are held against those of its photos, as learning's gate does it.

    Raises:
        LearningError: the version belongs to another base model.
    """
    from catalog_pipeline.evaluation.learned_looks import compare_looks
    from catalog_pipeline.evaluation.prompts import evaluation_scenes

    sampler = open_sampler(home, drawn_by(version))
    encoder = encoder_named(home.settings.evaluation.encoder)
    generation, scenes = home.settings.generation, evaluation_scenes(images)
    label = f"measure {len(asked)} products"
    progress.start(label, len(asked))
    for product, group in asked:
        concept = version.concept(group.folder)
        if concept is None:
            yield product.sku, ProductLooks(reason=f"{group.folder} was not learned"), None
            continue
        named = replace(concept, class_noun=product.card.class_noun)
        jobs = evaluation_jobs(generation, version, named, scenes)
        pictures = sampler.render(jobs, {group.folder: named})
        looks = compare_looks(pictures, product.photos, product_masker(), encoder)
        part = version.parts[concept_part(group.folder)]
        if looks is None:
            found = ProductLooks(part=part, reason="too few of its photos have a product mask")
        else:
            found = ProductLooks(looks.share, looks.color_shift, part)
        progress.advance(label, 1, product.sku)
        yield product.sku, found, pictures[0]
    progress.finish(label)
