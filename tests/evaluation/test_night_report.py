"""The night report and the page of all nights as text: what they say, and that nothing leaks in."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from catalog_pipeline.evaluation.gallery import GalleryProduct
from catalog_pipeline.evaluation.html_pages import page_templates
from catalog_pipeline.evaluation.night_report import (
    Action,
    NightReport,
    RefusedProduct,
    ServedVersion,
    ShownPhoto,
    render_night_report,
)
from catalog_pipeline.evaluation.night_tables import (
    best_rows,
    forgetting_of,
    product_errors,
    time_spent,
    worst_rows,
)
from catalog_pipeline.evaluation.nights_index import NightFigures, render_nights
from catalog_pipeline.records import LearningRow, PhotoUse, SkuPassRate
from tests.builders import MOMENT, make_archive_row
from tests.evaluation.drawn import photo_of
from tests.evaluation.test_gallery import Collector

DAY = date(2026, 3, 1)
OWN = json.dumps({"adapter": {"slots": "per_concept"}})
SHARED = json.dumps({"adapter": {"slots": "shared"}})
EVIL = '"><script>alert(1)</script>&{{ 7 * 7 }}'


def attempt(sku: str, **changes: Any) -> LearningRow:
    fields: dict[str, Any] = {
        "attempt_id": f"{sku}@v",
        "collection": "default",
        "status": "learned",
        "reason": "",
        "version": "v",
        "concept_sha256": "",
        "ended_utc": MOMENT,
        "seconds": 90.0,
        "name": f"The {sku}",
        "class_noun": "mug",
        "content_hash": "",
        "photos_hash": "",
        "config_hash": "",
        "base_model_hash": "",
        "code_version": "",
        "settings": OWN,
        "photos": (PhotoUse("a.jpg", "1"), PhotoUse("b.jpg", "", "is too small")),
        "metrics": {"fidelity_share": 0.7, "forgetting": 0.0, "prior_drift": 0.0},
    }
    return LearningRow(sku=sku, **(fields | changes))


def scored(image_id: str, sku: str, likeness: float, **changes: Any) -> Any:
    scores = {
        f"crop_likeness/{sku}": likeness,
        f"delta_e/{sku}": 10 * (1 - likeness),
        f"found/{sku}": 1.0,
    }
    fields = {"mode": "exact", "verdict": "passed", "render_seconds": 4.0, "scores": scores}
    return make_archive_row(image_id, sku, **(fields | changes))


ROWS = (scored("a1", "ball", 0.9), scored("a2", "ball", 0.6), scored("a3", "crate", 0.8))
HELD = scored("a4", "crate", 0.3, verdict="failed", attempts=3)


def night(**changes: Any) -> NightReport:
    fields: dict[str, Any] = {
        "day": DAY,
        "rows": ROWS,
        "held": [HELD],
        "faults": {"a4": ["not found: crate"]},
        "attempts": [attempt("ball"), attempt("tent", status="failed", reason="blurred")],
        "refused": [
            RefusedProduct(
                "tent",
                "blurred",
                (ShownPhoto("t/1.jpg", "", photo_of("ball")), ShownPhoto("t/2.txt", "is text")),
                photo_of("crate"),
            )
        ],
        "actions": [
            Action("add_photos", "tent", values={"used": 1, "wanted": 3}),
            Action("held_back", number=1, command="catalog-pipeline generate"),
        ],
        "products": {
            "ball": GalleryProduct("ball", "Red ball", photo_of("ball"), 0.6),
            "crate": GalleryProduct("crate", "星の箱", None, None),
        },
        "pictures": {row.image_id: photo_of("ball", side=64) for row in (*ROWS, HELD)},
        "rates": [SkuPassRate("crate", 2, 1, 1), SkuPassRate("ball", 2, 2, 2)],
        "served": [ServedVersion("default", "0123456789abcdef", 4, 2, MOMENT)],
    }
    return NightReport(**(fields | changes))


def section(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', html, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_page_says_what_came_of_the_night_in_the_order_of_an_operator() -> None:
    html = render_night_report(night())
    assert Collector(html).open == []
    assert (
        "3 pictures published, 1 held back, 1 product learned, 1 product refused. 2 things to do."
    ) in html
    ids = [s["id"] for s in Collector(html).of("section")]
    first = ["next", "new", "refused", "held", "forgetting", "rates", "worst", "errors", "time"]
    assert ids == [*first, "served", "left-out"]
    todo = section(html, "next")
    assert "Add photos of tent: 1 can be used, 3 are needed" in todo
    assert "<code>catalog-pipeline generate</code>" in todo
    new = section(html, "new")
    assert len(Collector(new).of("img")) == 3  # a photo, and both of its pictures
    assert "learned from 1 photo, 1 left out, reaches 70% of its photos&#39; own likeness" in new
    refused = section(html, "refused")
    assert "blurred" in refused
    assert "left out: is text" in refused
    assert len(Collector(refused).of("img")) == 2
    assert "<li>not found: crate</li>" in section(html, "held")
    assert "Nothing to see" in section(html, "forgetting")
    assert section(html, "rates").index("星の箱") < section(html, "rates").index("Red ball")
    worst = section(html, "worst")
    assert re.findall(r"likeness (\d+) %", worst) == ["60", "80", "90"]
    assert "0123456789abcdef" in section(html, "served")
    assert "is too small" in section(html, "left-out")


def test_a_night_without_trouble_says_so_and_a_night_without_pictures_too() -> None:
    calm = night(held=(), faults={}, attempts=[], refused=[], actions=[], rates=[])
    html = render_night_report(calm)
    assert "3 pictures published. Nothing to do." in html
    assert "The night went as planned" in html
    for name in ("new", "refused", "held", "forgetting", "rates", "left-out"):
        assert 'class="none"' in section(html, name)
    empty = render_night_report(replace(calm, rows=(), served=()))
    assert "No picture was made. Nothing to do." in empty
    assert Collector(empty).of("img") == []


@pytest.mark.parametrize("language", ["en", "ja"])
def test_nothing_is_fetched_from_elsewhere_and_nothing_runs(language: str) -> None:
    pages = [
        render_night_report(night(gallery="../gallery-2026-03-01.html"), language),
        render_nights([figures(DAY), figures(DAY - timedelta(days=1))], language),
    ]
    for html in pages:
        parsed = Collector(html)
        assert parsed.of("html")[0]["lang"] == language
        assert parsed.of("script") == parsed.of("link") == []
        assert all(str(i["src"]).startswith("data:image/webp;base64,") for i in parsed.of("img"))
        assert all(image["alt"] for image in parsed.of("img"))
        assert not re.search(r"https?://|url\(|@import", html)
        links = [str(a["href"]) for a in parsed.of("a")]
        assert links
        assert all(re.fullmatch(r"(?:\.\./)?[a-z0-9=-]+\.html", link) for link in links)


def test_words_of_people_cannot_become_markup() -> None:
    products = {"ball": GalleryProduct("ball", EVIL, photo_of("ball"))}
    poisoned = night(
        rows=[scored("a1", "ball", 0.9, prompt=EVIL, mode_reason=EVIL)],
        held=[scored("a4", EVIL, 0.1, prompt=EVIL)],
        faults={"a4": [EVIL]},
        attempts=[attempt("ball", reason=EVIL, photos=(PhotoUse(EVIL, "", EVIL),), settings=EVIL)],
        refused=[RefusedProduct(EVIL, EVIL, (ShownPhoto(EVIL, EVIL),))],
        actions=[Action("waiting", values={"names": EVIL}, command=EVIL)],
        products=products,
        rates=[SkuPassRate(EVIL, 1, 1, 1)],
        failures=[(EVIL, EVIL)],
        served=[ServedVersion(EVIL, EVIL, 1)],
        notes=[EVIL],
        gallery=EVIL,
        currency=EVIL,
        price_per_hour=1.0,
    )
    for language in ("en", "ja"):
        html = render_night_report(poisoned, language)
        assert "<script" not in html
        assert Collector(html).of("script") == []
        assert html.count("&lt;script&gt;alert(1)") > 15
        assert "{{ 7 * 7 }}" in html


def test_the_japanese_page_has_no_english_word_of_its_own() -> None:
    html = render_night_report(night(), "ja")
    assert "画像 3 枚を公開、1 枚を保留、1 商品を学習、1 商品を学習できず。" in html
    body = re.sub(r"<style>.*?</style>|<code[^>]*>.*?</code>", "", html, flags=re.DOTALL)
    body = re.sub(r'<(\w+)[^>]* lang="en"[^>]*>.*?</\1>', "", body, flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z]{4,}", re.sub(r"<[^>]*>", " ", body)))
    typed = {"ball", "tent", "crate", "default", "found", "text", "blurred"}
    assert words - typed == {"CIEDE"}


def test_best_and_worst_are_by_likeness_and_unmeasured_pictures_come_last() -> None:
    bare = make_archive_row("a0", "ball", scores={})
    products = night().products
    assert [r.image_id for r in best_rows((bare, *ROWS), "ball", products)] == ["a1", "a2", "a0"]
    assert [r.image_id for r, _ in worst_rows((bare, *ROWS), products)] == ["a2", "a3", "a1"]
    pair = make_archive_row("b0", "ball", "crate", scores={"fidelity/ball": 0.3})
    assert worst_rows([pair], products)[0][1] == pytest.approx(0.5)


def test_colour_and_text_errors_are_means_and_worsts_by_product() -> None:
    texts = {"text_error/ball": 0.5, **ROWS[1].scores}
    ball, crate = product_errors([ROWS[0], replace(ROWS[1], scores=texts), ROWS[2]])
    assert (ball.sku, ball.pictures) == ("ball", 2)
    assert (ball.delta_e, ball.delta_e_worst) == pytest.approx((2.5, 4.0))
    assert (ball.text, ball.text_worst, ball.likeness) == (0.5, 0.5, 0.6)
    assert (crate.text, crate.text_worst) == (None, None)
    assert product_errors([make_archive_row("a0", "ball")]) == []


def test_forgetting_is_a_table_where_anything_could_be_lost() -> None:
    lost = attempt("ball", settings=SHARED, metrics={"forgetting": 0.031, "prior_drift": 0.2})
    quiet = attempt("crate", settings=SHARED, metrics={"forgetting": 0.0, "prior_drift": 0.1})
    html = section(render_night_report(night(attempts=[quiet, lost])), "forgetting")
    assert re.findall(r"<span>(0\.\d{3})</span>", html) == ["0.031", "0.200", "0.000", "0.100"]
    assert [f.nothing for f in forgetting_of([attempt("ball"), lost])] == [False, True]
    imported = attempt("ball", metrics={})
    assert "measured nothing" in render_night_report(night(attempts=[imported]))


def test_times_are_by_step_and_money_only_where_somebody_gave_a_price() -> None:
    spent = time_spent([attempt("ball")], [*ROWS, HELD])
    assert [(s.step, s.mode, s.number, s.seconds) for s in spent] == [
        ("learning", "", 1, 90.0),
        ("rendering", "exact", 4, 16.0),
    ]
    plain = section(render_night_report(night()), "time")
    assert "Cost" not in plain
    assert "4.0 s" in plain
    priced = render_night_report(night(price_per_hour=36.0, currency="EUR"))
    assert "0.16 EUR" in section(priced, "time")  # 16 s
    assert "1.96 EUR" in section(priced, "time")  # 180 + 16 s


def test_a_picture_that_cannot_be_read_says_so() -> None:
    html = render_night_report(night(pictures={}))
    assert "missing or damaged" in section(html, "worst")


def test_a_hundred_pictures_stay_below_three_megabytes() -> None:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)] * 100
    rows = [scored(f"{n:03}", f"sku-{n % 34:02}", 0.5 + n / 300) for n in range(100)]
    products = {f"sku-{n:02}": GalleryProduct(f"sku-{n:02}", "P", coarse[0]) for n in range(34)}
    report = night(
        rows=rows,
        attempts=[attempt(sku) for sku in products],
        products=products,
        pictures={row.image_id: coarse[0] for row in rows},
    )
    assert len(render_night_report(report).encode()) < 3_000_000


def figures(day: date, **changes: Any) -> NightFigures:
    fields: dict[str, Any] = {
        "published": 12,
        "held_back": 1,
        "failed": 0,
        "learned": 2,
        "refused": 1,
        "found": 15,
        "judged": 20,
        "to_do": 2,
        "learning_seconds": 100.0,
        "rendering_seconds": 400.0,
    }
    return NightFigures(day=day, **(fields | changes))


def test_the_page_of_all_nights_has_a_line_each_the_newest_first() -> None:
    days = [DAY - timedelta(days=back) for back in range(1100)]
    html = render_nights([figures(day) for day in sorted(days)])
    parsed = Collector(html)
    links = [str(a["href"]) for a in parsed.of("a")]
    assert links == [f"dt={day.isoformat()}.html" for day in days]
    assert "1,100 nights, the newest first." in html
    assert html.count('class="night"') == 60
    assert html.count("<span>75%</span>") == 1100
    assert len(html) < 1_500_000


def test_a_night_whose_report_is_no_longer_kept_has_its_figures_and_no_link() -> None:
    html = render_nights([figures(DAY), figures(DAY - timedelta(days=1))], "en", [DAY])
    links = [str(a["href"]) for a in Collector(html).of("a")]
    assert links == [f"dt={(DAY - timedelta(days=1)).isoformat()}.html"]
    assert html.count("<span>75%</span>") == 2


def test_the_bars_are_to_scale() -> None:
    nights = [figures(DAY, published=30, held_back=10), figures(DAY - timedelta(days=1))]
    html = render_nights(nights)
    heights = re.findall(r'class="(?:held|published)" style="height:([\d.]+)%"', html)
    assert [float(height) for height in heights] == [2.5, 30.0, 25.0, 75.0]
    assert re.findall(r'style="bottom:([\d.]+)%"', html) == ["0.0", "25.0", "50.0", "75.0", "100.0"]
    assert 'class="chart"' not in render_nights(nights[:1])
    assert "No night has a report yet" in render_nights([])


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_every_ink_of_the_pages_can_be_read_on_their_paper() -> None:
    environment = page_templates()
    css = environment.get_template("page.css.j2").render()
    inks = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", css))
    inks["card"] = "#ffffff"
    inks["link"] = re.findall(
        r"\na \{ color: (#[0-9a-f]{6})", environment.get_template("report.css.j2").render()
    )[0]
    for paper in ("paper", "card"):
        for ink in ("ink", "quiet", "poor", "link"):
            light, dark = luminance(inks[paper]) + 0.05, luminance(inks[ink]) + 0.05
            assert light / dark >= 4.5, (ink, paper)
