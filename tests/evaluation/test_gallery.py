"""The gallery as text: what is in it, what is escaped, and that nothing leaves the file."""

from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser

from catalog_pipeline.evaluation.gallery import GalleryImage, GalleryProduct, render_gallery
from catalog_pipeline.records import ArchiveRow
from tests.builders import make_archive_row
from tests.evaluation.drawn import photo_of

DAY = date(2025, 3, 14)


def row(image_id: str, *skus: str, **changes) -> ArchiveRow:
    fields = {
        "day": DAY,
        "prompt": f"{' and '.join(skus)} on green grass",
        "scores": {f"fidelity/{sku}": 0.3 for sku in skus},
    }
    return make_archive_row(image_id, *skus, **(fields | changes))


PRODUCTS = {
    "ball": GalleryProduct("ball", "Red ball", photo_of("ball"), ceiling=0.6),
    "00123": GalleryProduct("00123", "星の箱", None, ceiling=None),
}


def page(*rows: ArchiveRow) -> str:
    images = [GalleryImage(r, photo_of(r.skus[0], side=64)) for r in rows]
    return render_gallery(DAY, images, PRODUCTS)


class Collector(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_every_picture_has_its_prompt_products_scores_and_id():
    html = page(row("aa11", "ball"), row("bb22", "ball", "00123"))
    parsed = Collector(html)
    assert parsed.open == []
    cards = parsed.of("article")
    assert [card["data-skus"] for card in cards] == ['["ball"]', '["ball", "00123"]']
    assert [card["data-share"] for card in cards] == ["0.50000", "0.50000"]
    for word in ("aa11", "bb22", "on green grass", "Red ball", "星の箱", "50 %", "guidance 4"):
        assert word in html
    assert "fidelity/00123" in html
    buttons = [b["data-sku"] for b in parsed.of("button") if "data-sku" in b]
    assert buttons == ["00123", "ball"]


def test_a_product_from_a_photo_is_as_alike_as_its_crop_however_small_it_stands():
    scores = {"fidelity/ball": 0.05, "crop_likeness/ball": 0.98, "crop_likeness/00123": 0.75}
    html = page(row("aa11", "ball", "00123", mode="exact", scores=scores))
    assert Collector(html).of("article")[0]["data-share"] == "0.75000"
    assert "98 %" in html
    assert "likeness 0.750 to the photo in the picture" in html


def test_nothing_is_fetched_from_elsewhere():
    parsed = Collector(page(row("aa11", "ball")))
    sources = [img["src"] for img in parsed.of("img") if "src" in img]
    assert sources
    assert all(src is not None and src.startswith("data:image/webp;base64,") for src in sources)
    assert parsed.of("link") == []
    assert [a.get("href") for a in parsed.of("a")] == ["#"]
    assert all("src" not in script for script in parsed.of("script"))
    assert not re.search(r"https?://", page(row("aa11", "ball")))


def test_words_of_people_cannot_become_markup():
    evil = '"><script>alert(1)</script>'
    products = {"ball": GalleryProduct("ball", evil)}
    image = GalleryImage(row("aa11", "ball", prompt=evil), photo_of("ball", side=32))
    html = render_gallery(DAY, [image], products)
    assert evil not in html
    assert len(Collector(html).of("script")) == 1


def test_superseded_pictures_are_kept_hidden_at_the_end():
    html = page(row("aa11", "ball", superseded=True), row("bb22", "ball"))
    cards = Collector(html).of("article")
    assert ["data-old" in card for card in cards] == [False, True]
    assert "1 superseded" in html
    assert '<b class="num">1</b> picture<' in html


def test_chips_count_the_pictures_that_are_current_and_superseded_ones_apart():
    old = {"superseded": True, "reason": "the plan in force no longer asks for it"}
    html = page(row("aa11", "ball"), row("bb22", "ball", **old), row("cc33", "00123", **old))
    chips = re.findall(r'<button class="chip".*?</button>', html, re.DOTALL)
    counts = [re.findall(r'class="quiet num"[^>]*>([^<]*)<', chip) for chip in chips]
    assert counts == [["0", "+1"], ["1", "+1"]]
    shown = [b for b in Collector(html).of("button") if b.get("class") == "chip"]
    assert ["hidden" in chip for chip in shown] == [True, False]
    assert '<b class="num">1</b> product<' in html


def test_no_name_is_cut():
    html = page(row("aa11", "ball"))
    assert "text-overflow" not in html
    assert re.search(r"\.look \.name span:first-child \{ overflow-wrap: anywhere; \}", html)


def test_the_page_in_japanese_translates_what_is_from_a_closed_set():
    held = GalleryImage(row("bb22", "ball", verdict="failed"), photo_of("ball"), "理由")
    gone = row("cc33", "ball", superseded=True, reason="held back: not found: ball")
    images = [GalleryImage(r, photo_of("ball")) for r in (row("aa11", "ball", mode="exact"), gone)]
    html = render_gallery(DAY, [*images, held], PRODUCTS, language="ja")
    assert Collector(html).of("html")[0]["lang"] == "ja"
    for words in (
        "2025年3月14日（金）",
        "写真そのまま",
        "似ていない順",
        "差し替え済み（のちに保留）",
    ):
        assert words in html
    assert "1 商品中 0 商品を確認、試行 1 回" in html
    assert "ball on green grass" in html  # what people typed stays
    assert "superseded by" not in html


def test_a_product_that_nobody_knows_and_a_picture_without_scores():
    html = page(row("aa11", "gone", scores={}))
    assert "gone" in html
    assert Collector(html).of("article")[0]["data-share"] == ""


def test_a_picture_says_how_it_was_made_and_shows_the_photo_that_stands_in_it():
    made = {
        "mode": "exact",
        "photos": {"ball": "c0ffee", "00123": "beef"},
        "boxes": {"ball": (1, 2, 30, 40), "00123": (5, 6, 7, 8)},
        "strength": 0.6,
        "real_pixels": 0.91,
    }
    fell_back = {"mode_reason": "ball: its folder is not in the catalog's index"}
    rows = [row("aa11", "ball", "00123", **made), row("bb22", "ball", **fell_back)]
    images = [GalleryImage(r, photo_of(r.skus[0], side=64)) for r in rows]
    html = render_gallery(DAY, images, PRODUCTS, {"c0ffee": photo_of("ball", 1)})
    parsed = Collector(html)
    made_as = re.findall(r'class="quiet num made">([^<]*)<', html)
    assert made_as == ["learned: ball: its folder is not in the catalog&#39;s index", "exact"]
    photos = [span["class"] for span in parsed.of("span") if "photo" in str(span.get("class"))]
    assert [name for name in photos if name == "photo own a0"] == ["photo own a0"]
    assert html.count(".own.a0 { background-image: url(data:image/webp;base64,") == 1
    assert ".own.a1" not in html
    words = [str(card["data-words"]) for card in parsed.of("article")]
    assert " exact " in words[1]
    for detail in ("c0ffee", "beef", "1, 2 to 30, 40 px", "91%"):
        assert detail in html


def test_no_pictures_is_still_a_page():
    assert "0</b> pictures" in render_gallery(DAY, [], {})
