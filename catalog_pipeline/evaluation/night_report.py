"""One HTML page of a night for who runs the line: what came of it, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from catalog_pipeline.evaluation.gallery import GalleryProduct, judged_words, mode_words
from catalog_pipeline.evaluation.html_pages import page_templates, picture_uri
from catalog_pipeline.evaluation.night_tables import (
    HELD_SHOWN,
    NEW_SHOWN,
    best_rows,
    forgetting_of,
    product_errors,
    time_spent,
    worst_rows,
)
from catalog_pipeline.evaluation.page_texts import PageTexts
from catalog_pipeline.records import ArchiveRow, LearningRow, Pixels, SkuPassRate

REFUSED_SHOWN = 12
"""Refused products with photos, at most; the others have their reason alone."""

_ACTIONS_SHOWN = 40
_RATES_SHOWN = 60
_THUMBNAIL_PX = 288
_PHOTO_PX = 192
_SHEET_PX = 640
_QUALITY = 80


@dataclass(frozen=True)
class Action:
    """One thing to do: the key of its text under ``next``, and the command that does it.

    ``number`` is for texts that have a form a number; ``values`` fill the others.
    """

    kind: str
    sku: str = ""
    number: int | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class ShownPhoto:
    """A photo of a refused product; ``reason`` says why it was left out, ``pixels`` if readable."""

    key: str
    reason: str = ""
    pixels: Pixels | None = None


@dataclass(frozen=True)
class RefusedProduct:
    """A product that could not be learned; ``candidate`` is what the gate saw of it."""

    sku: str
    reason: str
    photos: tuple[ShownPhoto, ...] = ()
    candidate: Pixels | None = None


@dataclass(frozen=True)
class ServedVersion:
    """A version that rendered pictures of the night; ``created_utc`` is ``None`` once deleted."""

    collection: str
    version: str
    pictures: int
    products: int = 0
    created_utc: datetime | None = None


@dataclass(frozen=True)
class NightReport:
    """Everything the page shows.

    Attributes:
        rows: the published pictures that the plan in force asks for.
        held: those in quarantine; ``faults`` has what is wrong with each, by image id.
        attempts: at learning, since the night before; the newest of each product counts.
        products: name, photo and ceiling of every SKU that is named.
        pictures: image id -> pixels, of ``night_tables.rows_to_show``; ``xmp`` has what each
            says of itself.
        failures: pictures that could not be made: prompt and reason.
        gallery: address of the page of every picture, relative to this one; empty for none.
        price_per_hour: of the machine, 0 when nobody says; ``currency`` goes with it.
    """

    day: date
    rows: Sequence[ArchiveRow]
    held: Sequence[ArchiveRow]
    faults: Mapping[str, Sequence[str]]
    attempts: Sequence[LearningRow]
    refused: Sequence[RefusedProduct]
    actions: Sequence[Action]
    products: Mapping[str, GalleryProduct]
    pictures: Mapping[str, Pixels]
    xmp: Mapping[str, bytes] = field(default_factory=dict)
    rates: Sequence[SkuPassRate] = ()
    failures: Sequence[tuple[str, str]] = ()
    served: Sequence[ServedVersion] = ()
    notes: Sequence[str] = ()
    gallery: str = ""
    price_per_hour: float = 0.0
    currency: str = ""

    @property
    def learned(self) -> list[LearningRow]:
        """The attempts that brought a product, one a product, the newest first."""
        newest = {each.sku: each for each in sorted(self.attempts, key=lambda a: a.ended_utc)}
        found = [each for each in newest.values() if each.status == "learned"]
        return sorted(found, key=lambda each: each.ended_utc, reverse=True)


def render_night_report(report: NightReport, language: str = "en") -> str:
    """A self-contained HTML page without a script; links lead to its neighbours alone."""
    texts = PageTexts(language)
    page = _Page(report, texts)
    template = page_templates().get_template("night_report.html.j2")
    return template.render(
        texts=texts,
        report=report,
        title=texts.say("report.title", day=texts.day(report.day)),
        verdict=page.verdict(),
        actions=[page.action(each) for each in report.actions[:_ACTIONS_SHOWN]],
        more_actions=len(report.actions[_ACTIONS_SHOWN:]),
        new=[page.new_product(each) for each in report.learned[:NEW_SHOWN]],
        more_new=[page.name(each.sku) for each in report.learned[NEW_SHOWN:]],
        refused=[page.refused(n, each) for n, each in enumerate(report.refused)],
        held=[page.held(row) for row in report.held[:HELD_SHOWN]],
        more_held=len(report.held[HELD_SHOWN:]),
        forgetting=forgetting_of(report.attempts),
        rates=report.rates[:_RATES_SHOWN],
        more_rates=len(report.rates[_RATES_SHOWN:]),
        worst=[
            page.picture(row) | {"likeness": value}
            for row, value in worst_rows(report.rows, report.products)
        ],
        errors=product_errors(report.rows),
        steps=page.steps(),
        left_out=[
            (page.name(attempt.sku), use.key, use.reason)
            for attempt in report.learned
            for use in attempt.photos
            if use.reason
        ],
        name=page.name,
    )


@dataclass(frozen=True)
class _Page:
    """Turns what the report knows into what its template shows."""

    report: NightReport
    texts: PageTexts

    def name(self, sku: str) -> str:
        product = self.report.products.get(sku)
        return product.name if product else sku

    def verdict(self) -> str:
        """One sentence of what came of the night, one of whether anything is to be done."""
        report, texts = self.report, self.texts
        counts = (
            ("published", len(report.rows)),
            ("held", len(report.held)),
            ("failed", len(report.failures)),
            ("learned", len(report.learned)),
            ("refused", len(report.refused)),
        )
        parts = [texts.count(f"report.{name}", n) for name, n in counts if n]
        if not (report.rows or report.held or report.failures):
            parts.insert(0, texts.say("report.nothing_made"))
        todo = len(report.actions)
        last = texts.count("report.to_do", todo) if todo else texts.say("report.nothing_to_do")
        end = texts.say("sentence.end")
        return (texts.listed(parts) + end + last + end).rstrip()

    def action(self, action: Action) -> dict[str, str]:
        values = {"name": self.name(action.sku), **action.values}
        key = f"next.{action.kind}"
        number = action.number
        said = self.texts.say(key, **values) if number is None else ""
        words = said or self.texts.count(key, number or 0, **values)
        return {"text": words, "command": action.command, "sku": action.sku}

    def new_product(self, attempt: LearningRow) -> dict[str, Any]:
        products, texts = self.report.products, self.texts
        product = products.get(attempt.sku, GalleryProduct(attempt.sku, attempt.name))
        used = sum(not use.reason for use in attempt.photos)
        left = len(attempt.photos) - used
        facts = [texts.count("new.photos_used", used)] if used else []
        facts += [texts.count("new.left_out", left)] if left else []
        share = attempt.metrics.get("fidelity_share")
        facts += [texts.say("new.share", value=f"{share:.0%}")] if share is not None else []
        facts += [texts.say("new.imported")] if attempt.imported_from else []
        facts += [texts.say("new.took", time=texts.seconds(attempt.seconds))]
        best = best_rows(self.report.rows, attempt.sku, products)
        return {
            "sku": attempt.sku,
            "name": product.name,
            "photo_uri": None if product.photo is None else _uri(product.photo, _THUMBNAIL_PX),
            "pictures": [self.picture(row) for row in best],
            "facts": texts.listed(facts),
            "reason": attempt.reason,
        }

    def refused(self, place: int, product: RefusedProduct) -> dict[str, Any]:
        shown = product.photos if place < REFUSED_SHOWN else ()
        candidate = product.candidate if place < REFUSED_SHOWN else None
        return {
            "sku": product.sku,
            "name": self.name(product.sku),
            "reason": product.reason,
            "photos": [
                {
                    "key": photo.key,
                    "reason": photo.reason,
                    "uri": None if photo.pixels is None else _uri(photo.pixels, _PHOTO_PX),
                }
                for photo in shown
            ],
            "candidate_uri": None if candidate is None else _uri(candidate, _SHEET_PX),
        }

    def picture(self, row: ArchiveRow) -> dict[str, Any]:
        pixels = self.report.pictures.get(row.image_id)
        xmp = self.report.xmp.get(row.image_id, b"")
        return {
            "row": row,
            "uri": None if pixels is None else _uri(pixels, _THUMBNAIL_PX, xmp),
            "names": self.texts.listed([self.name(sku) for sku in row.skus]),
            "mode": mode_words(row, self.texts),
            "judged": judged_words(row, self.texts),
            "likeness": None,
        }

    def held(self, row: ArchiveRow) -> dict[str, Any]:
        return self.picture(row) | {"faults": self.report.faults.get(row.image_id, ())}

    def steps(self) -> list[dict[str, Any]]:
        """What each step took, and all together."""
        report, texts = self.report, self.texts
        spent = time_spent(report.attempts, [*report.rows, *report.held])
        lines = [
            {
                "name": texts.say(
                    "time_spent.per_mode" if step.mode else f"time_spent.{step.step}",
                    mode=texts.term("mode", step.mode),
                ),
                "number": f"{step.number:,}",
                "seconds": step.seconds,
                "each": texts.seconds(step.seconds / step.number),
            }
            for step in spent
        ]
        if len(lines) > 1:
            total = sum(step.seconds for step in spent)
            name = texts.say("time_spent.together")
            lines.append({"name": name, "number": "", "seconds": total, "each": ""})
        for line in lines:
            hours = float(str(line["seconds"])) / 3600
            line["time"] = texts.seconds(hours * 3600)
            line["cost"] = f"{hours * report.price_per_hour:,.2f} {report.currency}".strip()
        return lines


def _uri(pixels: Pixels, side_px: int, xmp: bytes = b"") -> str:
    return picture_uri(pixels, side_px, _QUALITY, xmp)
