"""The gallery of a published night, from a real home."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.errors import GenerationError
from catalog_pipeline.evaluation.contact_sheet import encode_png
from catalog_pipeline.provenance.picture_files import read_picture
from catalog_pipeline.provenance.xmp import read_origin
from catalog_pipeline.settings import Settings
from catalog_pipeline.settings.governance import ProvenanceSettings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.night.gallery import write_gallery
from tests.builders import make_adapter_version, make_concept
from tests.evaluation.drawn import photo_of, photos_of
from tests.evaluation.test_gallery import Collector, row

DAY = date(2025, 3, 14)


def publish_version(settings: Settings) -> str:
    concepts = [
        make_concept(sku, name=f"The {sku}", metrics={"ceiling": 0.6}) for sku in ("ball", "crate")
    ]
    version = make_adapter_version(*concepts)
    open_home(settings).adapters("default").publish(version)
    return version.version


@pytest.fixture
def night(settings: Settings) -> Settings:
    for sku in ("ball", "crate"):
        folder = settings.catalog_root / sku
        folder.mkdir()
        for index, photo in enumerate(photos_of(sku)):
            Image.fromarray(photo).save(folder / f"{index}.png")
    (settings.catalog_root / "ball" / "0.png").write_bytes(b"not a picture")
    home = open_home(settings)
    version = publish_version(settings)
    rows = []
    for index, skus in enumerate([("ball",), ("crate",), ("ball", "crate")]):
        path, sha256 = home.archive.put_image(encode_png(photo_of(skus[0], index, side=64)))
        changes = {"path": path, "sha256": sha256, "adapter_version": version}
        rows.append(row(f"{index:032x}", *skus, **changes))
    home.archive.publish_day(DAY, rows, [r.job_id for r in rows])
    return settings


def test_a_published_night_becomes_one_page(night):
    path = write_gallery(open_home(night), DAY)
    assert path == night.home / "reports" / "gallery-2025-03-14.html"
    html = path.read_text(encoding="utf-8")
    parsed = Collector(html)
    assert len(parsed.of("article")) == 3
    assert "The ball" in html
    assert "50 %" in html
    assert html.count("background-image") == 2
    assert write_gallery(open_home(night), DAY) == path
    assert path.read_text(encoding="utf-8") == html


def test_a_page_calls_products_as_their_cards_do_in_its_language(night):
    card = night.catalog_root / "ball" / "sku.yaml"
    card.write_text("name: Ball\nnames: {ja: 赤いボール}\n", encoding="utf-8")
    html = write_gallery(open_home(night), DAY, language="ja").read_text(encoding="utf-8")
    assert "赤いボール" in html
    assert "The ball" not in html
    assert "The crate" in html  # its card has no name in Japanese
    assert "赤いボール" not in write_gallery(open_home(night), DAY).read_text(encoding="utf-8")


def test_products_that_left_the_catalog_are_shown_without_a_photo(night):
    shutil.rmtree(night.catalog_root / "crate")
    html = write_gallery(open_home(night), DAY).read_text(encoding="utf-8")
    assert html.count("background-image") == 1
    assert "The crate" in html
    shutil.rmtree(night.catalog_root)
    assert "The ball" in write_gallery(open_home(night), DAY).read_text(encoding="utf-8")


def test_the_photo_in_a_picture_is_shown_while_it_is_there_and_may_be(night):
    crate = night.catalog_root / "crate"
    photo = crate / "1.png"
    home = open_home(night)
    (single, *_) = [r for r in home.archive.read_day(DAY) if r.skus == ("crate",)]
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    anchored = replace(
        single, mode="exact", photos={"crate": digest}, boxes={"crate": (0, 0, 9, 9)}
    )
    home.archive.publish_day(DAY, [anchored], [anchored.image_id])

    def shown(settings: Settings) -> int:
        return write_gallery(open_home(settings), DAY).read_text("utf-8").count(".own.a0 {")

    def switched(anchor_photos: bool | dict[str, bool]) -> Settings:
        generation = night.generation.model_copy(update={"anchor_photos": anchor_photos})
        return night.model_copy(update={"generation": generation})

    assert shown(night) == 1
    refresh_index(home)  # from now on the digest is known
    assert shown(night) == 1
    assert shown(switched(False)) == shown(switched({"default": False})) == 0
    (crate / "sku.yaml").write_text("anchor_photos: false", encoding="utf-8")
    assert shown(night) == 0
    (crate / "sku.yaml").write_text("anchor_photos: ['1']", encoding="utf-8")
    assert shown(night) == 1
    (crate / "sku.yaml").unlink()
    Image.fromarray(photo_of("ball")).save(photo)
    assert shown(night) == 0


def test_a_deleted_version_costs_the_names_only(night):
    shutil.rmtree(night.home / "collections")
    html = write_gallery(open_home(night), DAY).read_text(encoding="utf-8")
    assert "The ball" not in html
    assert len(Collector(html).of("article")) == 3


def test_a_night_that_was_never_published_names_those_that_were(night):
    with pytest.raises(GenerationError, match=r"2025-03-15 is .*; latest nights: 2025-03-14"):
        write_gallery(open_home(night), date(2025, 3, 15))


def test_five_hundred_pictures_are_one_page(settings):
    home = open_home(settings)
    rng = np.random.default_rng(0)
    rows = []
    flats = [np.full((16, 16, 3), rng.integers(0, 256, 3), dtype=np.uint8) for _ in range(9)]
    stored = [home.archive.put_image(encode_png(flat)) for flat in flats]
    for index in range(500):
        path, sha256 = stored[index % len(stored)]
        rows.append(row(f"{index:032x}", "ball", path=path, sha256=sha256))
    home.archive.publish_day(DAY, rows, [r.job_id for r in rows])
    html = write_gallery(open_home(settings), DAY).read_text(encoding="utf-8")
    assert len(Collector(html).of("article")) == 500


@pytest.mark.parametrize("metadata", [True, False])
def test_a_picture_saved_from_the_page_says_what_it_is(night, metadata):
    part = ProvenanceSettings(metadata=metadata)
    governance = night.governance.model_copy(update={"provenance": part})
    home = open_home(night.model_copy(update={"governance": governance}))
    html = write_gallery(home, DAY).read_text(encoding="utf-8")
    said = []
    for address in re.findall(r'src="data:image/webp;base64,([^"]+)"', html):
        packet = read_picture(base64.b64decode(address)).xmp
        said += [origin.job_id] if (origin := read_origin(packet)) else []
    jobs = [row.job_id for row in home.archive.read_day(DAY)]
    assert sorted(said) == (jobs if metadata else [])
