"""The reflection score on studio composites, with the real encoder and the real masker."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.palettes import mean_palette, palette_of
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.reflection.score import Reflection, ReflectionJudge, SkuFinding
from catalog_pipeline.records import Pixels, Region
from catalog_pipeline.studio.backgrounds import paint_background
from catalog_pipeline.studio.scenes import Placement, compose
from catalog_pipeline.studio.sprites import Sprite, product_sprites

HALVES = (Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1))
THIRDS = tuple(Region(i / 3, 0, (i + 1) / 3, 1) for i in range(3))
CLASSES = {"mug-a": "mug", "mug-b": "mug", "backpack": "backpack", "lamp": "lamp"}
FAMILY_SEEDS = {"mug-a": 3, "mug-b": 11, "backpack": 5, "lamp": 8}
PHOTO_SETTINGS = ("on a white background", "on a wooden table", "on green grass")


class Studio:
    """Four products: three views make the photos of each, a fourth stands in the scenes."""

    def __init__(self) -> None:
        self.encoder, self.masker = open_encoder(), ProductMasker()
        self.sprites = {
            sku: list(product_sprites(seed, families=(CLASSES[sku],), views=4))
            for sku, seed in FAMILY_SEEDS.items()
        }
        self.banks = {
            sku: self.encoder.encode(
                [
                    scene([view], setting)
                    for view, setting in zip(views, PHOTO_SETTINGS, strict=False)
                ]
            )
            for sku, views in self.sprites.items()
        }
        self.palettes = {
            sku: mean_palette([palette_of(v.rgba[..., :3], v.rgba[..., 3] > 127) for v in views])
            for sku, views in self.sprites.items()
        }

    def judge(
        self, skus: Sequence[str] = tuple(CLASSES), *, colors: bool = False
    ) -> ReflectionJudge:
        return ReflectionJudge(
            {sku: self.banks[sku] for sku in skus},
            CLASSES,
            self.encoder,
            self.masker,
            palettes=self.palettes if colors else None,
        )

    def picture(self, *skus: str | None, setting: str = "on a gray background") -> Pixels:
        """The products from left to right; ``None`` leaves a place empty."""
        return scene([self.sprites[sku][3] if sku else None for sku in skus], setting)


def scene(sprites: Sequence[Sprite | None], setting: str) -> Pixels:
    count = len(sprites)
    size = {1: 0.7, 2: 0.42, 3: 0.3}[count]
    placed = [
        (sprite, Placement(size, (index + 0.5) / count, 0.85))
        for index, sprite in enumerate(sprites)
        if sprite
    ]
    background = paint_background(setting, 7)
    return compose(background, [s for s, _ in placed], [p for _, p in placed])[0]


def pair(first: str, second: str) -> list[tuple[str, Region]]:
    return [(first, HALVES[0]), (second, HALVES[1])]


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio()


def verdicts(said: Reflection) -> dict[str, str]:
    return {finding.sku: finding.verdict for finding in said.findings}


@pytest.fixture(scope="module")
def pictures(studio: Studio) -> list[tuple[Pixels, list[tuple[str, Region]], dict[str, str]]]:
    """Pictures, what they were to show, and the right verdicts."""
    two = pair("mug-a", "backpack")
    three = list(zip(("mug-a", "backpack", "lamp"), THIRDS, strict=True))
    all_three = dict.fromkeys(("mug-a", "backpack", "lamp"), "found")
    return [
        (studio.picture("mug-a", "backpack"), two, {"mug-a": "found", "backpack": "found"}),
        (studio.picture("mug-a", None), two, {"mug-a": "found", "backpack": "missing"}),
        (studio.picture("backpack", "mug-a"), two, {"mug-a": "swapped", "backpack": "swapped"}),
        (studio.picture("mug-a", "mug-a"), two, {"mug-a": "duplicated", "backpack": "missing"}),
        (studio.picture("mug-b", "backpack"), two, {"mug-a": "missing", "backpack": "found"}),
        (studio.picture("mug-a", "backpack", "lamp"), three, all_three),
        (studio.picture("lamp"), [("lamp", Region(0, 0, 1, 1))], {"lamp": "found"}),
    ]


@pytest.fixture(scope="module")
def judged(studio, pictures) -> list[Reflection]:
    return studio.judge().judge([p for p, *_ in pictures], [named for _, named, _ in pictures])


def test_every_verdict_occurs_and_is_right(pictures, judged):
    assert [verdicts(said) for said in judged] == [truth for *_, truth in pictures]
    assert {v for said in judged for v in verdicts(said).values()} == {
        "found", "missing", "swapped", "duplicated",
    }  # fmt: skip


def test_a_picture_passes_when_all_are_found(pictures, judged):
    for (*_, truth), said in zip(pictures, judged, strict=True):
        assert said.passed == (set(truth.values()) == {"found"})
        found = sum(verdict == "found" for verdict in truth.values())
        assert said.share == pytest.approx(found / len(truth))


def test_a_same_class_neighbour_is_named(judged):
    finding = judged[4].findings[0]
    assert finding.looks_like == "mug-b"
    assert finding.margin < 0


def test_pieces_are_counted(judged):
    assert [said.count_error for said in judged] == [0, -1, 0, 0, 0, 0, 0]


def test_a_second_copy_in_a_single_picture_does_not_pass(studio):
    named = [("mug-a", Region(0, 0, 1, 1))]
    (said,) = studio.judge().judge([studio.picture("mug-a", "mug-a")], [named])
    assert said.share == 1
    assert said.count_error == 1
    assert not said.passed


def test_scores_are_flat_and_finite(judged):
    for said in judged:
        scores = said.to_scores()
        assert all(isinstance(value, float) for value in scores.values())
        assert all(math.isfinite(value) for value in scores.values())
        assert {"reflection", "count_error", "color_swap", "sharpness", "blank"} <= set(scores)
        for finding in said.findings:
            assert scores[f"found/{finding.sku}"] == (finding.verdict == "found")
            assert scores[f"similarity/{finding.sku}"] == finding.similarity
    assert judged[1].to_scores()["reflection"] == 0.5


def test_batch_equals_one_by_one(studio, pictures, judged):
    judge = studio.judge()
    for (picture, named, _), together in zip(pictures[:2], judged[:2], strict=True):
        (alone,) = judge.judge([picture], [named])
        assert verdicts(alone) == verdicts(together)
        assert alone.to_scores() == pytest.approx(together.to_scores(), abs=1e-4)


def test_the_order_of_the_memories_is_of_no_account(studio, pictures, judged):
    picture, named, _ = pictures[0]
    (said,) = studio.judge(tuple(reversed(CLASSES))).judge([picture], [named])
    assert said.to_scores() == pytest.approx(judged[0].to_scores(), abs=1e-4)


def test_a_product_without_a_memory_is_unscored(studio, pictures):
    picture, named, _ = pictures[0]
    (said,) = studio.judge(("mug-a", "mug-b")).judge([picture], [named])
    assert said.unscored == ("backpack",)
    assert verdicts(said) == {"mug-a": "found"}
    assert "found/backpack" not in said.to_scores()
    (nothing,) = studio.judge(()).judge([picture], [named])
    assert nothing.findings == ()
    assert not nothing.passed
    assert "reflection" not in nothing.to_scores()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_shows_nothing(studio, level):
    noise = np.random.default_rng(0).integers(-2, 3, (128, 128, 3))
    picture = np.clip(level + noise, 0, 255).astype(np.uint8)
    (said,) = studio.judge().judge([picture], [pair("mug-a", "backpack")])
    assert said.blank
    assert not said.passed
    assert verdicts(said) == {"mug-a": "missing", "backpack": "missing"}
    assert said.count_error == -2


def test_exchanged_colors_are_seen(studio):
    """The mug in the colours of the backpack and the other way round."""
    picture = studio.picture("mug-a", "backpack")
    painted = exchanged(picture, studio.sprites["mug-a"][3], studio.sprites["backpack"][3])
    judge = studio.judge(colors=True)
    true, false = judge.judge([painted, picture], [pair("mug-a", "backpack")] * 2)
    assert true.color_swap
    assert not true.passed
    assert not false.color_swap
    (blind,) = studio.judge().judge([painted], [pair("mug-a", "backpack")])
    assert not blind.color_swap


def test_a_product_in_colors_that_no_photo_of_it_has_is_not_found(studio):
    """The right shape, in the colours of a product that no one named."""
    mug, backpack = studio.sprites["mug-a"][3], studio.sprites["backpack"][3]
    green = tinted(mug, np.array([40.0, 200.0, 60.0]))
    picture = scene([green, backpack], "on a gray background")
    (said,) = studio.judge(colors=True).judge([picture], [pair("mug-a", "backpack")])
    assert verdicts(said) == {"mug-a": "missing", "backpack": "found"}
    assert not said.color_swap
    mug_colors, backpack_colors = (finding.colors for finding in said.findings)
    assert mug_colors < 0.65 < backpack_colors
    assert said.to_scores()["colors/mug-a"] == mug_colors
    (blind,) = studio.judge().judge([picture], [pair("mug-a", "backpack")])
    assert [finding.colors for finding in blind.findings] == [None, None]
    assert "colors/mug-a" not in blind.to_scores()


def exchanged(picture: Pixels, first: Sprite, second: Sprite) -> Pixels:
    """A scene of two products, each with the other's mean colour at its own shading."""
    means = [s.rgba[s.rgba[..., 3] > 127][:, :3].mean(0) for s in (first, second)]
    assert picture.shape == (128, 128, 3)
    return scene([tinted(first, means[1]), tinted(second, means[0])], "on a gray background")


def tinted(sprite: Sprite, color: np.ndarray) -> Sprite:
    """``sprite`` in shades of one colour."""
    rgba = sprite.rgba.copy()
    shade = rgba[..., :3].mean(2, keepdims=True) / 128
    rgba[..., :3] = np.clip(shade * color, 0, 255).astype(np.uint8)
    return Sprite(rgba, sprite.label)


def test_a_sharper_picture_has_more_sharpness(studio, pictures):
    picture, named, _ = pictures[0]
    small = picture[::4, ::4].repeat(4, 0).repeat(4, 1)
    soft = (small.astype(float) + np.roll(small, 2, 0) + np.roll(small, 2, 1)) / 3
    sharp, blurred = studio.judge().judge([picture, soft.astype(np.uint8)], [named, named])
    assert sharp.sharpness > 0
    assert blurred.sharpness != sharp.sharpness


def test_a_flag_is_enough_to_fail():
    found = (SkuFinding("a", "found", 0.4, 0.2, "a"),)
    assert Reflection(found, 0, False, 100.0, False).passed
    assert not Reflection(found, 0, True, 100.0, False).passed
    assert not Reflection(found, 0, False, 100.0, True).passed
    assert not Reflection((), 0, False, 100.0, False).passed


def test_what_cannot_be_judged_is_refused(studio):
    picture = studio.picture("mug-a", "backpack")
    with pytest.raises(ValueError, match="got 1 pictures and 0 lists"):
        studio.judge().judge([picture], [])
    with pytest.raises(ValueError, match="1 of them empty"):
        studio.judge().judge([picture], [[]])
    with pytest.raises(ValueError, match=r"features of shape \(2, 7\)"):
        ReflectionJudge({"a": np.ones((2, 7), np.float32)}, {}, studio.encoder, studio.masker)
    few = {"mug-a": np.ones(1, np.float32)}
    with pytest.raises(ValueError, match=r"palette of 'mug-a' has shape \(1,\), expected \(144,\)"):
        ReflectionJudge(studio.banks, CLASSES, studio.encoder, studio.masker, palettes=few)
    assert studio.judge().judge([], []) == []
