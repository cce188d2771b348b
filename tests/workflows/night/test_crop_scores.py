"""A picture's products are held against their photos, and what is wrong is said in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from catalog_pipeline.evaluation import text_reading
from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.generation.anchored import output_size, place_anchors, place_in
from catalog_pipeline.records import Anchor, Cutout, Pixels, Region, RenderJob
from catalog_pipeline.settings import QualitySettings
from catalog_pipeline.workflows.night.crop_scores import CropScorer, crop_faults
from tests.builders import make_render_job

SIZE = 128
SCENE = np.full((SIZE, SIZE, 3), (205, 190, 165), np.uint8)
LEFT, RIGHT = Region(0.05, 0.3, 0.45, 0.9), Region(0.55, 0.3, 0.95, 0.9)
QUALITY = QualitySettings()


def crop_complaints(
    skus: tuple[str, ...], scores: Mapping[str, float], quality: QualitySettings
) -> list[str]:
    return [str(fault) for fault in crop_faults(skus, scores, quality)]


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return open_encoder()


@pytest.fixture
def scorer(encoder: FeatureEncoder, monkeypatch: pytest.MonkeyPatch) -> CropScorer:
    """Without a text reader."""
    monkeypatch.setattr(text_reading, "find_spec", lambda name: None)
    return CropScorer(lambda: encoder)


LAWN = (60, 140, 60)


def cropped(product: str) -> Cutout:
    """A ball with a wedge or a striped crate, cut out of a lawn."""
    image = Image.new("RGBA", (160, 160))
    draw = ImageDraw.Draw(image)
    if product == "ball":
        draw.ellipse((0, 0, 159, 159), fill="#c8281e")
        draw.pieslice((30, 30, 130, 130), 20, 80, fill="#f5e9d0")
    else:
        draw.rectangle((0, 0, 159, 159), fill="#2b4fa8")
        for top in (30, 70, 110):
            draw.rectangle((20, top, 139, top + 15), fill="#f2c200")
    return Cutout(np.asarray(image), np.full((160, 160, 3), LAWN, np.uint8))


CUTOUTS = {sku: cropped(sku) for sku in ("ball", "crate")}


def pair(*boxes: Region, mode: str = "exact") -> RenderJob:
    anchors = tuple(
        Anchor(sku, f"{sku}/1.png", sku, box)
        for sku, box in zip(("ball", "crate"), boxes, strict=True)
    )
    return make_render_job(
        "ball", "crate", mode=mode, anchors=anchors, width=SIZE, height=SIZE, output_scale=2
    )


SIDE_BY_SIDE = pair(LEFT, RIGHT)


def exact(job: RenderJob, cutouts: Mapping[str, Cutout] = CUTOUTS, warmth: int = 6) -> Pixels:
    """The picture of ``job`` when the redraw finds every product a little lighter and warmer."""
    placed = place_in(SCENE, job, cutouts)
    warmed = placed.start + np.array((warmth, 2, 0))
    return placed.finish(np.clip(warmed, 0, 255).astype(np.uint8), placed.start)


def inside(job: RenderJob, place: int, cutouts: Mapping[str, Cutout] = CUTOUTS) -> np.ndarray:
    """Where a product of ``job`` stands, ``(height, width)``."""
    return place_anchors(job, cutouts, *output_size(job))[place].opacity > 0.5


def spoilt(job: RenderJob, place: int, pixels: np.ndarray) -> Pixels:
    """The picture of ``job``, with ``pixels`` where one of its products stands."""
    return np.where(inside(job, place)[..., None], pixels, exact(job)).astype(np.uint8)


def scene_of(job: RenderJob) -> Pixels:
    return np.asarray(Image.fromarray(SCENE).resize(output_size(job)))


# --- good pictures -----------------------------------------------------------


def test_an_exact_picture_has_every_figure_and_no_complaint(scorer: CropScorer) -> None:
    scores = scorer.score(SIDE_BY_SIDE, exact(SIDE_BY_SIDE), CUTOUTS)
    names = ("visible", "delta_e", "crop_likeness", "halo")
    assert set(scores) == {f"{name}/{sku}" for name in names for sku in ("ball", "crate")}
    assert crop_complaints(SIDE_BY_SIDE.skus, scores, QUALITY) == []
    for sku in ("ball", "crate"):
        assert scores[f"visible/{sku}"] == pytest.approx(1, abs=0.01)
        assert 0 < scores[f"delta_e/{sku}"] < 3
        assert scores[f"crop_likeness/{sku}"] > 0.95
        assert scores[f"halo/{sku}"] < 1.5


def test_an_anchored_picture_is_measured_at_the_size_of_the_base(scorer: CropScorer) -> None:
    job = replace(SIDE_BY_SIDE, mode="anchored")
    picture = exact(job)
    assert picture.shape == (SIZE, SIZE, 3)
    scores = scorer.score(job, picture, CUTOUTS)
    names = ("visible", "delta_e", "crop_likeness")  # a redraw has no pixel of the old room
    assert set(scores) == {f"{name}/{sku}" for name in names for sku in ("ball", "crate")}
    assert crop_complaints(job.skus, scores, QUALITY) == []


# --- bad ones ----------------------------------------------------------------


def test_a_product_that_is_missing_is_complained_about_and_its_neighbour_is_not(
    scorer: CropScorer,
) -> None:
    picture = spoilt(SIDE_BY_SIDE, 0, scene_of(SIDE_BY_SIDE))
    scores = scorer.score(SIDE_BY_SIDE, picture, CUTOUTS)
    complaints = crop_complaints(SIDE_BY_SIDE.skus, scores, QUALITY)
    assert scores["delta_e/ball"] > 20
    assert scores["crop_likeness/ball"] < 0.7
    assert complaints == [f"ball: colours {scores['delta_e/ball']:.1f} from its photo's, 10.0"]
    strict = QUALITY.model_copy(update={"min_crop_likeness": 0.7})
    assert crop_complaints(SIDE_BY_SIDE.skus, scores, strict)[0] == (
        f"ball: likeness {scores['crop_likeness/ball']:.2f} to its photo, 0.70"
    )


def test_another_product_in_its_place_is_complained_about(scorer: CropScorer) -> None:
    job = pair(LEFT, RIGHT)
    swapped = exact(job, {"ball": CUTOUTS["crate"], "crate": CUTOUTS["ball"]})
    scores = scorer.score(job, swapped, CUTOUTS)
    complaints = crop_complaints(job.skus, scores, QUALITY)
    assert {line.partition(":")[0] for line in complaints} == {"ball", "crate"}


def test_other_colours_are_complained_about_by_their_distance(scorer: CropScorer) -> None:
    picture = spoilt(SIDE_BY_SIDE, 1, exact(SIDE_BY_SIDE)[..., ::-1])
    scores = scorer.score(SIDE_BY_SIDE, picture, CUTOUTS)
    lines = crop_complaints(SIDE_BY_SIDE.skus, scores, QUALITY)
    assert f"crate: colours {scores['delta_e/crate']:.1f} from its photo's, 10.0" in lines
    assert all(line.startswith("crate") for line in lines)


def test_a_product_behind_another_is_complained_about_by_its_share(scorer: CropScorer) -> None:
    job = pair(Region(0.1, 0.3, 0.5, 0.9), Region(0.22, 0.3, 0.62, 0.9))
    scores = scorer.score(job, exact(job), CUTOUTS)
    assert scores["visible/ball"] < 0.4
    assert scores["visible/crate"] == pytest.approx(1, abs=0.01)
    (complaint,) = crop_complaints(job.skus, scores, QUALITY)
    assert complaint == f"ball: {scores['visible/ball']:.0%} to be seen, 60% expected"


def test_a_product_that_is_hidden_whole_has_no_other_figure(scorer: CropScorer) -> None:
    job = pair(Region(0.3, 0.45, 0.5, 0.65), Region(0.2, 0.3, 0.7, 0.9))
    scores = scorer.score(job, exact(job), CUTOUTS)
    assert [name for name in scores if name.endswith("/ball")] == ["visible/ball"]
    assert crop_complaints(job.skus, scores, QUALITY) == ["ball: 0% to be seen, 60% expected"]


def test_a_rim_of_its_old_room_is_complained_about(scorer: CropScorer) -> None:
    rgba = np.pad(CUTOUTS["ball"].rgba, ((7, 7), (7, 7), (0, 0)))
    grown = Image.fromarray(rgba[..., 3]).filter(ImageFilter.MaxFilter(13))
    rgba[..., :3] = np.where(rgba[..., 3:] > 0, rgba[..., :3], LAWN)
    rgba[..., 3] = np.asarray(grown)
    room = np.full((*rgba.shape[:2], 3), LAWN, np.uint8)
    cutouts = {**CUTOUTS, "ball": Cutout(rgba, room)}
    scores = scorer.score(SIDE_BY_SIDE, exact(SIDE_BY_SIDE, cutouts), cutouts)
    (complaint,) = crop_complaints(SIDE_BY_SIDE.skus, scores, QUALITY)
    assert complaint == f"ball: a rim of its old background, {scores['halo/ball']:.1f}, 3.0"


def test_a_figure_that_is_missing_or_on_its_bound_is_no_complaint() -> None:
    assert crop_complaints(SIDE_BY_SIDE.skus, {}, QUALITY) == []
    bounds = {"visible": 0.6, "crop_likeness": 0.55, "delta_e": 10, "halo": 3, "text_error": 0.5}
    on_it = {f"{name}/ball": float(bound) for name, bound in bounds.items()}
    assert crop_complaints(SIDE_BY_SIDE.skus, on_it, QUALITY) == []
    beyond = {
        name: value - 0.01 if name.startswith(("visible", "crop")) else value + 0.01
        for name, value in on_it.items()
    }
    assert len(crop_complaints(SIDE_BY_SIDE.skus, beyond, QUALITY)) == len(bounds)


# --- text --------------------------------------------------------------------


def carton() -> Cutout:
    image = Image.new("RGBA", (230, 300), "#f4efe2")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(("Oat Drink", "1 LITRE")):
        draw.text((20, 50 + 70 * row), line, fill="#20307a", font=ImageFont.load_default(34))
    return Cutout(np.asarray(image))


def test_text_is_read_where_a_photo_has_some(encoder: FeatureEncoder) -> None:
    pytest.importorskip("rapidocr", reason="text is read by the package rapidocr")
    scorer = CropScorer(lambda: encoder)
    cutouts = {"ball": CUTOUTS["ball"], "crate": carton()}
    job = pair(LEFT, Region(0.5, 0.2, 0.95, 0.9))
    good = exact(job, cutouts)
    scores = scorer.score(job, good, cutouts)
    assert scores["text_error/crate"] == 0
    assert "text_error/ball" not in scores
    melted = np.asarray(Image.fromarray(good).filter(ImageFilter.GaussianBlur(4)))
    scores = scorer.score(job, melted, cutouts)
    error = scores["text_error/crate"]
    assert error > 0.5
    assert f"crate: {error:.0%} of its text wrong, 50%" in crop_complaints(
        job.skus, scores, QUALITY
    )
    # Half of what was printed stands behind the ball: what is left of it is right.
    hidden = replace(
        job,
        skus=job.skus[::-1],
        anchors=(job.anchors[1], replace(job.anchors[0], box=Region(0.3, 0.2, 0.68, 0.8))),
    )
    scores = scorer.score(hidden, exact(hidden, cutouts), cutouts)
    assert scores["visible/crate"] < 0.8
    assert scores.get("text_error/crate", 0.0) <= 0.1
