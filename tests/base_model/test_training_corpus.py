"""What the base is shown: deterministic, cached, and without what it must not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from catalog_pipeline.base_model.training.corpus import Corpus
from catalog_pipeline.base_model.training.emoji import emoji_noun, list_emoji
from catalog_pipeline.base_model.training.photos import (
    HELD_OUT_GROCERIES,
    list_photos,
    photo_noun,
)
from catalog_pipeline.base_model.training.presets import PRESETS, Preset
from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.studio.patterns import BASE_PATTERNS, UNSEEN_PATTERNS

BuildCorpus = Callable[..., Corpus]


def write_picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (200, 30, 30, 255)[: len(mode)]).save(path)
    return path


def test_unseen_patterns_are_never_in_the_corpus(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path
) -> None:
    many = replace(tiny_preset.corpus, sprite_px=8, sprite_designs=80, views_per_design=1)
    corpus = build(replace(tiny_preset, corpus=many), tmp_path)
    assert {label.pattern for label in corpus.labels} == set(BASE_PATTERNS)
    words = set(" ".join(corpus.captions(600, np.random.default_rng(0))).split())
    assert words.isdisjoint(UNSEEN_PATTERNS)
    assert "striped" in words


def test_equal_settings_give_equal_pixels_and_a_second_call_takes_the_cache(
    tiny_preset: Preset, tiny_corpus: Corpus, build: BuildCorpus, tmp_path: Path
) -> None:
    first = build(tiny_preset, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = build(tiny_preset, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    for corpus in (first, again):
        assert torch.equal(corpus.sprites, tiny_corpus.sprites)
        assert torch.equal(corpus.backgrounds, tiny_corpus.backgrounds)
        assert corpus.labels == tiny_corpus.labels


def test_changed_settings_do_not_take_the_cache(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path
) -> None:
    build(tiny_preset, tmp_path)
    other = replace(tiny_preset.corpus, families=("lamp", "book"))
    corpus = build(replace(tiny_preset, corpus=other), tmp_path)
    assert {label.name for label in corpus.labels} == {"lamp", "book"}


def test_families_are_drawn_evenly_and_emoji_at_their_share(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path
) -> None:
    write_picture(tmp_path / "emoji/assets/1f3b8.webp", "RGBA")
    corpus = build(tiny_preset, tmp_path / "cache", emoji_dir=tmp_path / "emoji")
    rng = np.random.default_rng(0)
    names = [corpus.labels[corpus.pick_sprite(0.5, rng)].name for _ in range(400)]
    assert 160 < names.count("guitar") < 240
    assert abs(names.count("mug") - names.count("book")) < 60


def test_emoji_are_things_named_by_unicode(tmp_path: Path) -> None:
    for name in ("1f3b8", "1f600", "270b", "260e-fe0f", "1f468-200d-1f373", "readme"):
        write_picture(tmp_path / f"{name}.webp", "RGBA")
    assert [emoji.noun for emoji in list_emoji(tmp_path)] == ["telephone", "guitar"]
    assert emoji_noun(0x1F462) == "woman's boots"


def test_a_folder_without_emoji_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat.webp")
    with pytest.raises(ConfigurationError, match=r"no emoji pictures.*1f3b8\.webp"):
        list_emoji(tmp_path)


@pytest.mark.parametrize(
    ("folders", "noun"),
    [
        (("train", "t-shirt"), "t-shirt"),
        (("test", "outwear"), "jacket"),
        (("Garden-Chairs",), "garden chairs"),
        (("train", "Fruit", "Apple", "Royal-Gala"), "royal gala apple"),
        (("train", "Fruit", "Banana"), "banana"),
        (("train", "Vegetables", "Potato", "Sweet-Potato"), "sweet potato"),
        (("train", "Packages", "Juice", "Bravo-Apple-Juice"), "bravo apple juice carton"),
        (("train", "Packages", "Yoghurt", "Arla-Mild-Vanilla"), "arla mild vanilla pack"),
        *(
            (("train", "Packages", "Juice", name), None)
            for name in ("Tropicana-Mandarin-Morning", "God-Morgon-Orange-Red-Grapefruit-Juice")
        ),
    ],
)
def test_photo_folders_name_their_photos(folders: tuple[str, ...], noun: str | None) -> None:
    assert photo_noun(folders) == noun


def test_groceries_that_benchmarks_learn_as_new_are_left_out(tmp_path: Path) -> None:
    for name in (*HELD_OUT_GROCERIES, "Kiwi"):
        write_picture(tmp_path / "train" / "Fruit" / name / "one.jpg")
    assert [photo.noun for photo in list_photos(tmp_path)] == ["kiwi"]


def test_labels_json_renames_and_leaves_out(tmp_path: Path) -> None:
    for name in ("a17", "b2", "lamp"):
        write_picture(tmp_path / name / "0.JPG")
    (tmp_path / "labels.json").write_text(json.dumps({"a17": "garden chair", "b2": None}))
    assert [photo.noun for photo in list_photos(tmp_path)] == ["garden chair", "lamp"]


@pytest.mark.parametrize("text", ['["lamp"]', '{"lamp": 3}', "{"])
def test_a_labels_json_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    write_picture(tmp_path / "lamp" / "0.jpg")
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"labels\.json"):
        list_photos(tmp_path)


def test_photos_are_squared_and_captioned(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path
) -> None:
    write_picture(tmp_path / "photos" / "shoes" / "0.png")
    write_picture(tmp_path / "photos" / "pants" / "1.png")
    corpus = build(tiny_preset, tmp_path / "cache", photo_dirs=(tmp_path / "photos",))
    assert corpus.photos.shape == (2, 3, 34, 34)
    rng = np.random.default_rng(0)
    said = {corpus.photo_caption(photo, rng) for photo in (0, 1) for _ in range(20)}
    assert said == {
        "a photo of pants",
        "a picture of pants",
        "a photo of a pair of shoes",
        "a picture of a pair of shoes",
    }


def test_a_picture_that_cannot_be_decoded_is_named(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path
) -> None:
    broken = tmp_path / "photos" / "lamp" / "broken.jpg"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a picture")
    with pytest.raises(ConfigurationError, match=r"broken\.jpg cannot be decoded"):
        build(tiny_preset, tmp_path / "cache", photo_dirs=(tmp_path / "photos",))


@pytest.mark.parametrize("field", ["families", "background_kinds"])
def test_unknown_names_are_refused(
    tiny_preset: Preset, build: BuildCorpus, tmp_path: Path, field: str
) -> None:
    wrong = replace(tiny_preset.corpus, **{field: ("flying carpet",)})
    with pytest.raises(ConfigurationError, match="flying carpet"):
        build(replace(tiny_preset, corpus=wrong), tmp_path)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_name_what_the_studio_has(name: str, build: BuildCorpus, tmp_path: Path) -> None:
    nothing_rendered = replace(PRESETS[name].corpus, sprite_designs=1, backgrounds_per_kind=1)
    preset = replace(
        PRESETS[name], corpus=replace(nothing_rendered, sprite_px=8, views_per_design=1)
    )
    assert len(build(preset, tmp_path).sprites) == 1
