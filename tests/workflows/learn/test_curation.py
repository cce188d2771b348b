"""From usable photos to picked ones, and what learning makes of the choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from catalog_pipeline.errors import PhotoSetError
from catalog_pipeline.records import Photo, PhotoSet, Pixels, RefusedFile, Sku
from catalog_pipeline.settings import CatalogSettings, Settings
from catalog_pipeline.workflows.catalog.refresh_index import DIGESTS_KEY, refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.curation import curate, told_of_shared
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.learn.learning_inputs import photos_hash
from tests.evaluation.drawn import BACKGROUNDS, photo_of
from tests.workflows.tiny_catalog import learn_all, tiny_settings

SIDE = 128


def cut_out(product: str, index: int) -> tuple[Pixels, np.ndarray]:
    """A drawn product and its exact outline: no mask has to be estimated."""
    pixels = photo_of(product, index, SIDE)
    ground = np.array(Image.new("RGB", (1, 1), BACKGROUNDS[index % len(BACKGROUNDS)]))[0, 0]
    return pixels, np.where((pixels != ground).any(-1), 255, 0).astype(np.uint8)


def photo(name: str, product: str = "crate", index: int = 0) -> Photo:
    pixels, mask = cut_out(product, index)
    return Photo(f"crate/{name}", name.ljust(64, "0"), pixels, mask)


def blurred(one: Photo, name: str, radius: float = 6) -> Photo:
    soft = Image.fromarray(one.pixels).filter(ImageFilter.GaussianBlur(radius))
    return replace(one, key=f"crate/{name}", sha256=name, pixels=np.asarray(soft))


def photo_set(*photos: Photo, **card: object) -> PhotoSet:
    sku = Sku("crate", "crate", "crate", **card)  # type: ignore[arg-type]
    return PhotoSet(sku, "hash", tuple(sorted(photos, key=lambda one: one.key)))


@pytest.fixture(scope="module")
def crates() -> list[Photo]:
    return [photo(f"0{index}.png", index=index) for index in range(3)]


@pytest.fixture(scope="module")
def polluted(crates) -> PhotoSet:
    return photo_set(*crates, blurred(crates[2], "blurred.png"), photo("stranger.png", "ball", 0))


def keys(chosen: PhotoSet) -> list[str]:
    return [one.key.rpartition("/")[2] for one in chosen.photos]


def reasons(chosen: PhotoSet) -> dict[str, str]:
    return {file.key.rpartition("/")[2]: file.reason for file in chosen.refused}


def settings(**changes: object) -> CatalogSettings:
    return CatalogSettings.model_validate(changes)


def test_bad_photos_are_left_out_each_with_its_reason(polluted, crates) -> None:
    chosen = curate(polluted, settings())
    assert keys(chosen) == ["00.png", "01.png", "02.png"]
    assert reasons(chosen)["blurred.png"].startswith("is blurred (")
    assert reasons(chosen)["stranger.png"].startswith("shows something unlike all other photos")
    assert not chosen.warnings
    assert photos_hash(chosen) == photos_hash(photo_set(*crates)) != photos_hash(polluted)


def test_switched_off_every_usable_photo_is_learned_from(polluted) -> None:
    assert curate(polluted, settings(curation={"enabled": False})) == polluted


def test_the_least_bad_come_back_with_a_warning_and_a_stranger_never(polluted) -> None:
    chosen = curate(polluted, settings(min_photos=4))
    assert keys(chosen) == ["00.png", "01.png", "02.png", "blurred.png"]
    (warning,) = chosen.warnings
    assert warning.startswith("'crate/blurred.png' is used although it is blurred")
    assert warning.endswith("(min_photos: 4)")
    with pytest.raises(PhotoSetError) as caught:
        curate(polluted, settings(min_photos=5))
    head, line = str(caught.value).splitlines()
    assert head.startswith("crate: 4 photos to learn from, of 5; expected at least 5; add photos")
    assert line.startswith("  'crate/stranger.png' shows something unlike")


def test_a_person_overrules_by_the_card(polluted) -> None:
    named = replace(polluted, sku=replace(polluted.sku, use_photos=("blurred", "stranger.png")))
    chosen = curate(named, settings())
    assert keys(chosen) == ["00.png", "01.png", "02.png", "blurred.png", "stranger.png"]
    assert not chosen.refused


def test_of_more_than_max_photos_the_most_different_are_taken_and_the_rest_is_named(crates) -> None:
    twin = blurred(crates[0], "03.png", 0.4)
    spare = RefusedFile("crate/03.png", "is left out: evenly spaced")
    given = replace(photo_set(*crates), spare=(twin,), refused=(spare,))
    chosen = curate(given, settings(max_photos=3))
    assert keys(chosen) == ["00.png", "01.png", "02.png"]
    assert reasons(chosen)["03.png"].startswith("is nearly the same picture as 00.png")
    chosen = curate(given, settings(max_photos=2, min_photos=2))
    assert len(chosen.photos) == 2
    assert sum("that differ most are used (max_photos)" in r for r in reasons(chosen).values()) == 1


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    return tiny_settings(make_settings, tiny_model_folder)


def write_crates(root: Path, sku: str, bad: bool = True) -> None:
    folder = root / sku
    folder.mkdir(parents=True)
    for index in range(3):
        pixels, mask = cut_out("crate", index)
        Image.fromarray(np.dstack([pixels, mask])).save(folder / f"0{index}.png")
    if bad:
        pixels, mask = cut_out("ball", 0)
        Image.fromarray(np.dstack([pixels, mask])).save(folder / "stranger.png")


def with_curation(settings: Settings, enabled: bool) -> Settings:
    curation = settings.catalog.curation.model_copy(update={"enabled": enabled})
    catalog = settings.catalog.model_copy(update={"curation": curation})
    return settings.model_copy(update={"catalog": catalog})


def test_a_product_is_learned_from_the_picked_photos_and_stays_so(tiny) -> None:
    write_crates(tiny.catalog_root, "crate")
    refresh_index(open_home(tiny))
    told: list[PhotoSet] = []
    (outcome,) = learn_concepts(open_home(tiny), on_photo_set=told.append)
    assert outcome.status == "learned"
    assert outcome.metrics["photos"] == 3
    assert list(reasons(told[0])) == ["stranger.png"]
    concept = open_home(tiny).adapters("default").current().concept("crate")  # type: ignore[union-attr]
    assert concept is not None
    assert concept.photos_hash == photos_hash(told[0])
    assert learn_all(tiny, ["crate"])["crate"].status == "unchanged"
    # The stranger goes, and nothing is learned anew: it was not learned from.
    (tiny.catalog_root / "crate" / "stranger.png").unlink()
    assert learn_all(tiny)["crate"].status == "unchanged"


def test_what_was_learned_from_every_photo_is_not_learned_again(tiny) -> None:
    write_crates(tiny.catalog_root, "crate")
    assert learn_all(with_curation(tiny, enabled=False))["crate"].metrics["photos"] == 4
    told: list[PhotoSet] = []
    home = open_home(tiny)
    (outcome,) = learn_concepts(home, ["crate"], on_photo_set=told.append)
    assert outcome.status == "unchanged"
    assert len(told[0].photos) == 4
    (outcome,) = learn_concepts(home, ["crate"], force=True)
    assert outcome.status == "learned"
    assert outcome.metrics["photos"] == 3


def test_the_cards_leave_out_is_learned_from_a_change_of_it(tiny) -> None:
    write_crates(tiny.catalog_root, "crate")
    off = with_curation(tiny, enabled=False)
    learn_all(off)
    (tiny.catalog_root / "crate" / "sku.yaml").write_text("leave_out: [stranger]\n")
    again = learn_all(off)["crate"]
    assert (again.status, again.metrics["photos"]) == ("learned", 3)


def test_the_same_file_in_another_product_is_said(tiny) -> None:
    home = open_home(tiny)
    listed = {"crate/z.png": ["etag", "d"], "mug/0.png": ["etag", "d"], "mug/1.png": ["etag", "e"]}
    home.objects.put(DIGESTS_KEY, json.dumps({"schema_version": 1, "digests": listed}).encode())
    kept = photo_set(Photo("crate/z.png", "d", np.zeros((80, 96, 3), np.uint8)))
    (warning,) = told_of_shared(home, kept).warnings
    assert warning.startswith("'crate/z.png' is the same file as 'mug/0.png'; expected another")
    left = replace(photo_set(), refused=(RefusedFile("crate/z.png", "is unlike the others"),))
    (file,) = told_of_shared(home, left).refused
    assert file.reason == "is unlike the others; it is the same file as 'mug/0.png'"
    home.objects.put(DIGESTS_KEY, b"damaged")
    assert told_of_shared(home, kept) == kept
