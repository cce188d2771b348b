"""One SKU's photos: the usable ones kept, each refused one named with its reason."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.catalog.photo_set import load_photo_set
from catalog_pipeline.catalog.sources import LocalPhotoSource
from catalog_pipeline.errors import CatalogError, ConfigurationError, PhotoSetError
from catalog_pipeline.records import PhotoSet, SkuListing
from catalog_pipeline.settings import CatalogSettings

MakePhoto = Callable[..., Path]


class Shop:
    """A catalog of one SKU, ``mug``."""

    def __init__(self, root: Path, make_photo: MakePhoto) -> None:
        self.root = root
        self.folder = root / "mug"
        self.folder.mkdir(parents=True)
        self.make_photo = make_photo
        self.source = LocalPhotoSource(root)

    def photos(self, count: int) -> list[Path]:
        return [self.make_photo(self.folder / f"{n:02d}.png", seed=n) for n in range(count)]

    def listing(self) -> SkuListing:
        (found,) = self.source.list_skus(only=["mug"]).listings
        return found

    def load(self, **catalog: object) -> PhotoSet:
        return load_photo_set(self.source, self.listing(), CatalogSettings.model_validate(catalog))

    def refused(self, **catalog: object) -> dict[str, str]:
        return {file.key: file.reason for file in self.load(**catalog).refused}


@pytest.fixture
def shop(tmp_path: Path, make_photo: MakePhoto) -> Shop:
    return Shop(tmp_path / "products", make_photo)


def test_a_good_set_is_complete_and_sorted(shop: Shop) -> None:
    paths = shop.photos(4)
    (shop.folder / "sku.yaml").write_text("name: Blue mug\nclass_noun: mug", encoding="utf-8")
    loaded = shop.load()
    assert (loaded.sku.sku, loaded.sku.name, loaded.sku.class_noun) == ("mug", "Blue mug", "mug")
    assert loaded.content_hash == shop.listing().content_hash
    assert loaded.refused == ()
    assert [photo.key for photo in loaded.photos] == [f"mug/{n:02d}.png" for n in range(4)]
    for path, photo in zip(paths, loaded.photos, strict=True):
        assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert photo.pixels.shape == (80, 96, 3)
        assert photo.mask is None


def test_the_same_listing_gives_the_same_set(shop: Shop) -> None:
    shop.photos(3)
    first, second = shop.load(), shop.load()
    assert first.content_hash == second.content_hash
    for one, other in zip(first.photos, second.photos, strict=True):
        assert np.array_equal(one.pixels, other.pixels)


def test_an_empty_folder_is_an_error(shop: Shop) -> None:
    with pytest.raises(PhotoSetError, match="mug: 0 usable photos of 0 listed; expected at least"):
        shop.load()


def test_two_photos_are_too_few_and_three_enough(shop: Shop) -> None:
    shop.photos(2)
    with pytest.raises(PhotoSetError, match="2 usable photos of 2 listed; expected at least 3"):
        shop.load()
    assert len(shop.load(min_photos=2).photos) == 2
    shop.photos(3)
    assert len(shop.load().photos) == 3


def test_every_bad_file_is_named_with_its_reason_and_the_rest_is_kept(shop: Shop) -> None:
    paths = shop.photos(3)
    shop.make_photo(shop.folder / "corrupt.jpg", seed=9)
    corrupt = shop.folder / "corrupt.jpg"
    corrupt.write_bytes(corrupt.read_bytes()[:700])
    (shop.folder / "text.jpg").write_text("remember to take this photo", encoding="utf-8")
    (shop.folder / "empty.jpg").touch()
    shop.make_photo(shop.folder / "icon.png", size=(32, 32))
    shutil.copy(paths[0], shop.folder / "zz-copy.png")
    (shop.folder / "large.jpg").write_bytes(bytes(60_000))
    told = shop.refused(max_bytes=50_000)
    assert list(told) == sorted(told)
    assert "damaged or truncated" in told["mug/corrupt.jpg"]
    assert "is a text file" in told["mug/text.jpg"]
    assert "is empty" in told["mug/empty.jpg"]
    assert "32 x 32 pixels" in told["mug/icon.png"]
    assert "same bytes as 'mug/00.png'" in told["mug/zz-copy.png"]
    assert "has 60,000 bytes; expected at most 50,000" in told["mug/large.jpg"]
    assert len(told) == 6
    assert len(shop.load(max_bytes=50_000).photos) == 3


def test_too_few_usable_photos_name_every_refused_file(shop: Shop) -> None:
    shop.photos(2)
    (shop.folder / "a\nb.jpg").write_text("text", encoding="utf-8")
    (shop.folder / "写真.jpg").touch()
    with pytest.raises(PhotoSetError) as caught:
        shop.load()
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("mug: 2 usable photos of 4 listed")
    assert [line.split(" is ")[0].strip() for line in lines] == [
        r"'mug/a\nb.jpg'",
        "'mug/写真.jpg'",
    ]


def test_of_many_photos_evenly_spaced_ones_are_kept(shop: Shop) -> None:
    shop.photos(9)
    loaded = shop.load(max_photos=5)
    assert [photo.key[-6:-4] for photo in loaded.photos] == ["00", "02", "04", "06", "08"]
    assert {file.key[-6:-4] for file in loaded.refused} == {"01", "03", "05", "07"}
    assert "the folder has 9 photos and 5, evenly spaced by name, are used" in (
        loaded.refused[0].reason
    )


def test_a_bad_photo_among_many_is_replaced(shop: Shop) -> None:
    paths = shop.photos(9)
    paths[4].write_text("no photo", encoding="utf-8")
    loaded = shop.load(max_photos=5)
    assert [photo.key[-6:-4] for photo in loaded.photos] == ["00", "01", "02", "06", "08"]
    assert len(loaded.refused) == 4


@pytest.mark.parametrize("max_photos", [1, 2, 3, 7, 8])
def test_never_more_than_max_photos(shop: Shop, max_photos: int) -> None:
    shop.photos(8)
    assert len(shop.load(min_photos=1, max_photos=max_photos).photos) == max_photos


def test_a_half_copied_photo_is_refused(shop: Shop) -> None:
    paths = shop.photos(4)
    paths[3].write_bytes(paths[3].read_bytes()[:-200])
    assert "damaged or truncated" in shop.refused()["mug/03.png"]


def test_a_photo_that_changed_since_the_listing_asks_for_another_try(shop: Shop) -> None:
    paths = shop.photos(3)
    listing = shop.listing()
    shop.make_photo(paths[1], seed=99)
    with pytest.raises(PhotoSetError, match=r"'mug/01.png' changed while it was read.*try again"):
        load_photo_set(shop.source, listing, CatalogSettings())
    paths[1].unlink()
    with pytest.raises(PhotoSetError, match=r"'mug/01.png' is gone"):
        load_photo_set(shop.source, listing, CatalogSettings())


def test_a_photo_that_grows_while_it_is_read_asks_for_another_try(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = shop.photos(3)
    listing = shop.listing()
    true_read = LocalPhotoSource.read

    def read_while_copied(source: LocalPhotoSource, key: str) -> bytes:
        data = true_read(source, key)
        if key == "mug/02.png":
            with paths[2].open("ab") as file:
                file.write(b"more")
        return data

    monkeypatch.setattr(LocalPhotoSource, "read", read_while_copied)
    with pytest.raises(PhotoSetError, match="changed while it was read"):
        load_photo_set(shop.source, listing, CatalogSettings())


def test_an_unknown_card_key_is_an_error_that_names_the_card(shop: Shop) -> None:
    shop.photos(3)
    (shop.folder / "sku.yaml").write_text("nmae: Blue mug", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mug/sku.yaml: unknown key 'nmae'"):
        shop.load()


def test_the_card_says_which_photos_are_used_and_which_never(shop: Shop) -> None:
    shop.photos(9)
    card = shop.folder / "sku.yaml"
    card.write_text("use_photos: [03.png, '05']\nleave_out: [00.png]", encoding="utf-8")
    loaded = shop.load(max_photos=5)
    assert [photo.key[-6:-4] for photo in loaded.photos] == ["01", "03", "04", "05", "08"]
    assert shop.refused(max_photos=5)["mug/00.png"] == "is left out by the card (leave_out)"
    for key in ("use_photos", "leave_out"):
        card.write_text(f"{key}: [00.png, 0O]", encoding="utf-8")
        with pytest.raises(ConfigurationError, match=f"'{key}' = '0O': the folder has no photo"):
            shop.load()
    for key in ("use_photos", "anchor_photos"):
        card.write_text(f"{key}: ['01']\nleave_out: [01.png]", encoding="utf-8")
        with pytest.raises(
            ConfigurationError,
            match=f"'01.png' is in '{key}' and in 'leave_out'; expected it in one",
        ):
            shop.load()


def test_spare_photos_are_decoded_beyond_those_that_count(shop: Shop) -> None:
    paths = shop.photos(9)
    paths[1].write_text("no photo", encoding="utf-8")
    loaded = load_photo_set(shop.source, shop.listing(), CatalogSettings(max_photos=5), spare=2)
    assert [photo.key[-6:-4] for photo in loaded.photos] == ["00", "02", "04", "06", "08"]
    assert [photo.key[-6:-4] for photo in loaded.spare] == ["03", "05"]
    told = {file.key[-6:-4]: file.reason for file in loaded.refused}
    assert sorted(told) == ["01", "03", "05", "07"]
    assert told["01"].startswith("is a text file")
    assert "5, evenly spaced by name, are used" in told["03"]
    assert shop.load(max_photos=5).spare == ()


def test_a_card_names_photos_that_are_there_however_their_letters_are_composed(shop: Shop) -> None:
    shop.photos(3)
    shop.make_photo(shop.folder / "cafe\u0301.png", seed=9)
    (shop.folder / "front.heic").write_bytes(b"refused, but there")
    card = shop.folder / "sku.yaml"
    card.write_text("anchor_photos: [00.png, caf\u00e9, front.heic]", encoding="utf-8")
    assert shop.load().sku.anchor_photos == ("00.png", "caf\u00e9", "front.heic")
    card.write_text("anchor_photos: [00.png, 0O]", encoding="utf-8")
    with pytest.raises(
        ConfigurationError,
        match=r"^mug/sku.yaml: 'anchor_photos' = '0O': the folder has no photo of this name; "
        r"expected names such as '00.png', '01.png'",
    ):
        shop.load()


def test_a_card_that_is_gone_or_huge_is_an_error(shop: Shop) -> None:
    shop.photos(3)
    card = shop.folder / "sku.yaml"
    card.write_text("name: Blue mug", encoding="utf-8")
    listing = shop.listing()
    card.unlink()
    with pytest.raises(PhotoSetError, match=r"'mug/sku.yaml' is gone"):
        load_photo_set(shop.source, listing, CatalogSettings())
    with card.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CatalogError, match=r"'mug/sku.yaml' is larger than"):
        load_photo_set(shop.source, listing, CatalogSettings())


@pytest.mark.parametrize(
    ("level", "noise"), [(0, 0), (0, 12), (255, 0), (255, 12), (128, 3)], ids=str
)
def test_a_blank_photo_is_refused(shop: Shop, level: int, noise: int) -> None:
    shop.photos(3)
    grain = np.random.default_rng(0).normal(level, noise, (600, 800, 3))
    blank = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    blank.save(shop.folder / "blank.jpg", quality=80)
    assert "is blank" in shop.refused()["mug/blank.jpg"]


def test_three_blank_photos_are_no_product(shop: Shop) -> None:
    for level in (0, 128, 255):
        Image.new("RGB", (96, 80), (level,) * 3).save(shop.folder / f"{level}.png")
    with pytest.raises(PhotoSetError, match="0 usable photos of 3 listed"):
        shop.load()


def test_a_thin_or_a_pale_product_on_white_is_not_blank(shop: Shop) -> None:
    shop.photos(3)
    wire = np.full((512, 512, 3), 255, np.uint8)
    wire[255:257, 100:400] = 30
    Image.fromarray(wire).save(shop.folder / "wire.png")
    plate = np.full((512, 512, 3), 255, np.uint8)
    plate[150:350, 150:350] = 243
    Image.fromarray(plate).save(shop.folder / "plate.png")
    cut_out = np.full((512, 512, 4), 255, np.uint8)
    cut_out[:200, :, 3] = 0
    Image.fromarray(cut_out).save(shop.folder / "white-box.png")
    assert shop.refused() == {}


def test_a_picture_that_was_saved_again_counts_once(shop: Shop) -> None:
    (first, *_) = shop.photos(3)
    large = shop.make_photo(shop.folder / "03.jpg", seed=7, size=(1200, 900), quality=95)
    with Image.open(first) as small, Image.open(large) as picture:
        small.save(shop.folder / "same-pixels.png", compress_level=0)
        picture.save(shop.folder / "low.jpg", quality=50)
        picture.save(shop.folder / "other.webp", quality=80)
        picture.resize((600, 450)).save(shop.folder / "resized.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = picture.transpose(Image.Transpose.ROTATE_90)
        turned.save(shop.folder / "turned.jpg", quality=90, exif=exif)
    told = shop.refused()
    assert "shows the same picture as 'mug/00.png'; delete one" in told["mug/same-pixels.png"]
    again = {"low.jpg", "other.webp", "resized.png", "turned.jpg"}
    assert set(told) == {f"mug/{name}" for name in (*again, "same-pixels.png")}
    assert all("same picture as 'mug/03.jpg'" in told[f"mug/{name}"] for name in again)
    assert len(shop.load().photos) == 4


def test_one_photo_saved_four_times_is_no_product(shop: Shop) -> None:
    picture = Image.open(shop.make_photo(shop.folder / "a.png", size=(400, 300)))
    for quality in (60, 75, 90):
        picture.save(shop.folder / f"{quality}.jpg", quality=quality)
    with pytest.raises(PhotoSetError, match="1 usable photos of 4 listed"):
        shop.load()


def test_views_that_differ_in_a_detail_or_in_colour_are_different(shop: Shop) -> None:
    white = np.full((512, 512, 3), 255, np.uint8)
    white[100:400, 150:350] = (200, 60, 40)
    logo, other_colour = white.copy(), white.copy()
    logo[240:270, 240:270] = 255
    # As light as the first: only the hue tells them apart.
    other_colour[100:400, 150:350] = (40, 126, 116)
    for name, view in (("plain", white), ("logo", logo), ("colour", other_colour)):
        Image.fromarray(view).save(shop.folder / f"{name}.png")
    assert shop.refused() == {}


def test_damaged_files_of_every_kind_leave_the_rest_of_the_set_as_it_is(shop: Shop) -> None:
    good = {path.name for path in shop.photos(3)}
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".webp"):
        whole = shop.make_photo(shop.folder / f"whole{suffix}", seed=50).read_bytes()
        (shop.folder / f"whole{suffix}").unlink()
        for n in range(12):
            data = bytearray(whole)
            for place in rng.integers(0, 60, 4):
                data[place] = rng.integers(0, 256)
            (shop.folder / f"bad{n:02d}{suffix}").write_bytes(data[: rng.integers(8, len(data))])
    loaded = shop.load(max_photos=60)
    assert good <= {photo.key.removeprefix("mug/") for photo in loaded.photos}
    assert all(file.reason.isprintable() for file in loaded.refused)
    assert len(loaded.refused) + len(loaded.photos) == 39


def test_a_cut_out_brings_its_mask(shop: Shop) -> None:
    shop.photos(3)
    rgba = np.zeros((100, 100, 4), np.uint8)
    rgba[20:80, 20:80] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(shop.folder / "cut.webp", lossless=True)
    cut = next(photo for photo in shop.load().photos if photo.key == "mug/cut.webp")
    assert cut.mask is not None
    assert np.array_equal(cut.mask, rgba[..., 3])
    assert (cut.pixels[0, 0] == 255).all()
    assert (cut.pixels[50, 50] == (10, 20, 30)).all()


def test_the_real_photos_are_all_usable(test_data: Path) -> None:
    source = LocalPhotoSource(test_data / "photos")
    settings = CatalogSettings(working_side_px=128)
    result = source.list_skus()
    assert len(result.listings) >= 6
    for listing in result.listings:
        loaded = load_photo_set(source, listing, settings)
        assert loaded.refused == ()
        assert len(loaded.photos) == len(listing.photos) >= 4
        assert {max(photo.pixels.shape) for photo in loaded.photos} == {128}


def test_real_cut_outs_bring_their_masks(test_data: Path, tmp_path: Path) -> None:
    views = sorted((test_data / "household_catalog" / "views").glob("0001_*.webp"))
    folder = tmp_path / "products" / "0001"
    folder.mkdir(parents=True)
    for view in views:
        shutil.copy(view, folder)
    source = LocalPhotoSource(tmp_path / "products")
    loaded = load_photo_set(source, source.list_skus().listings[0], CatalogSettings())
    assert loaded.sku.sku == "0001"
    assert len(loaded.photos) == len(views) == 6
    assert all(photo.mask is not None for photo in loaded.photos)
