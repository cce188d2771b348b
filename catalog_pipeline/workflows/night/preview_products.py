"""A product in every mode, before any night is made of it: photo, learned, anchored, exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.generation.anchors import anchor_job
from catalog_pipeline.generation.draws import Slot
from catalog_pipeline.generation.planner import draft_job
from catalog_pipeline.records import Concept, Pixels, ProductPhotos, RenderJob
from catalog_pipeline.settings import GenerationSettings, SceneTemplate
from catalog_pipeline.workflows.home import Home
from catalog_pipeline.workflows.models import check_picture_size, drawn_by, open_sampler
from catalog_pipeline.workflows.night.anchor_cutouts import CutoutBook
from catalog_pipeline.workflows.night.night_inputs import NightInputs, read_inputs
from catalog_pipeline.workflows.night.product_photos import PhotoBook
from catalog_pipeline.workflows.night.render_batches import OpenSampler, Sampler
from catalog_pipeline.workflows.report_pages import each_with_photos, write_page
from catalog_pipeline.workflows.scene_words import require_read

MODES = ("learned", "anchored", "exact")


@dataclass(frozen=True)
class ProductStrip:
    """One product: ``pictures`` maps a mode to its picture, ``reason`` says why one is missing.

    ``photo`` is ``None`` where photos are kept out of scenes, or none can be read.
    """

    sku: str
    name: str
    photo: Pixels | None
    pictures: dict[str, Pixels]
    reason: str = ""


def preview_products(
    home: Home,
    skus: Sequence[str],
    *,
    scene: str | None = None,
    open_sampler: OpenSampler = open_sampler,
) -> tuple[list[ProductStrip], Path]:
    """Render each of ``skus`` alone in every mode, and write the strips as one picture.

    Writes ``reports/preview.png`` under the home and nothing else: no plan, no manifest, no
    archived picture. Card and settings count for nothing but ``anchor_photos``.

    Args:
        home: where the products were learned.
        skus: learned products of the catalog.
        scene: name of a scene of ``generation.yaml``; default the first one.
        open_sampler: opens the model.

    Raises:
        GenerationError: no such scene, or a product that is not learned or not in the catalog.
        ConfigurationError: the base makes no picture of the size that is asked for.
    """
    require_read(home.written, home.words)
    inputs = read_inputs(home, datetime.now(UTC).date())
    template = _find_scene(home.settings.generation, scene)
    check_picture_size(home.settings)
    places = [(inputs.serving.get(sku, ""), sku) for sku in dict.fromkeys(skus)]
    unknown = [sku for collection, sku in places if not collection]
    if unknown:
        known = ", ".join(sorted(inputs.serving)[:10]) or "none"
        raise GenerationError(
            f"{', '.join(unknown)} is no learned product of the catalog; expected some of {known}; "
            "run `catalog-pipeline learn` first"
        )
    book, cutouts = PhotoBook(home, inputs.photos, keep=False), CutoutBook(home)
    allowed = [sku for name, sku in places if inputs.settings.allows_photos(name)]
    photos = dict(each_with_photos(home, allowed, per_sku=1))
    strips = {}
    for collection in sorted({collection for collection, _ in places}):
        version = inputs.versions[collection]
        sampler = open_sampler(home, drawn_by(version))
        concepts = {concept.sku: concept for concept in version.concepts}
        own = [sku for name, sku in places if name == collection]
        jobs = {
            (sku, mode): cutouts.or_learned(
                _job(inputs, concepts[sku], replace(book.find(sku), mode=""), template, mode)
            )
            for sku in own
            for mode in MODES
        }
        pictures = _render(sampler, jobs, concepts, cutouts)
        for sku in own:
            strips[sku] = ProductStrip(
                sku,
                concepts[sku].name,
                next(iter(photos.get(sku, ())), None),
                {mode: pictures[sku, mode] for mode in MODES if (sku, mode) in pictures},
                jobs[sku, "exact"].mode_reason,
            )
    ordered = [strips[sku] for _, sku in places]
    return ordered, write_page(home, "preview.png", _draw(ordered))


def _find_scene(settings: GenerationSettings, name: str | None) -> SceneTemplate:
    known = {template.name: template for template in settings.scenes}
    if name is not None and name not in known:
        raise GenerationError(
            f"there is no scene {name!r}; expected one of {', '.join(known)} (generation.yaml)"
        )
    return known[name] if name is not None else settings.scenes[0]


def _job(
    inputs: NightInputs, concept: Concept, product: ProductPhotos, scene: SceneTemplate, mode: str
) -> RenderJob:
    collection = inputs.serving[concept.sku]
    asked = {"mode": mode, "policies": inputs.settings.policies.model_copy(update={"modes": {}})}
    settings = inputs.settings.model_copy(update=asked)
    slot = Slot((concept.sku,), scene.model_copy(update={"mode": None}), "single", 0, "preview")
    draw = f"{settings.seed}|preview|{collection}"
    version = inputs.versions[collection].version
    job = draft_job(slot, [concept], settings, inputs.day, collection, version, draw)
    return anchor_job(job, slot, [concept], settings, lambda _: product, draw)


def _render(
    sampler: Sampler,
    jobs: Mapping[tuple[str, str], RenderJob],
    concepts: Mapping[str, Concept],
    cutouts: CutoutBook,
) -> dict[tuple[str, str], Pixels]:
    """A picture of each product and mode; modes that fell back to ``learned`` have none."""
    pictures: dict[tuple[str, str], Pixels] = {}
    for mode in MODES:
        made = {key: job for key, job in jobs.items() if key[1] == job.mode == mode}
        asked = list(made.values())
        rendered = sampler.render(asked, concepts, cutouts=cutouts.of(asked))
        pictures.update(zip(made, rendered, strict=True))
    return pictures


def _draw(strips: Sequence[ProductStrip]) -> bytes:
    from catalog_pipeline.evaluation.contact_sheet import contact_sheet, encode_png

    rows, captions = [], []
    for strip in strips:
        shown = {"photo": strip.photo, **strip.pictures}
        rows.append([pixels for pixels in shown.values() if pixels is not None])
        named = " | ".join(name for name, pixels in shown.items() if pixels is not None)
        captions.append(f"{strip.sku}: {named}" + (f" ({strip.reason})" if strip.reason else ""))
    return encode_png(contact_sheet(rows, captions=captions, cell_px=320, square=True))
