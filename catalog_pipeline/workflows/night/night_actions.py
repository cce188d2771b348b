"""What is to be done after a night: one action a problem, the gravest first. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from catalog_pipeline.records import IndexRow, LearningRow, SkuPassRate, SkuStatus

if TYPE_CHECKING:
    from catalog_pipeline.evaluation.night_report import Action, RefusedProduct

_NAMED_AT_MOST = 10
_OF_TOO_MANY = "is left out: the folder has"
"""How the reason begins of a photo that is one too many: nothing is wrong with it."""


def refused_action(product: RefusedProduct, attempt: LearningRow | None, min_photos: int) -> Action:
    """What to do about a product that was not learned; ``attempt`` where one was made."""
    from catalog_pipeline.evaluation.night_report import Action

    sku, again = product.sku, f"catalog-pipeline learn {product.sku}"
    usable = sum(not photo.reason and photo.pixels is not None for photo in product.photos)
    metrics = attempt.metrics if attempt else {}
    if attempt is not None and _forgets(attempt):
        return Action("forgets", sku, command=again)
    if "fidelity_share" in metrics:
        return Action("clearer_photos", sku, command=again)
    if usable < min_photos:
        values = {"used": usable, "wanted": min_photos}
        return Action("add_photos", sku, values=values, command=again)
    return Action("read_reason", sku, command=again)


def picture_actions(
    day: date, held: int, failed: int, retake: Iterable[str], rates: Sequence[SkuPassRate]
) -> list[Action]:
    """About pictures: what could not be made, what is held back, whose photos do not do."""
    from catalog_pipeline.evaluation.night_report import Action

    again = f"catalog-pipeline generate --day {day.isoformat()}"
    found = []
    if failed:
        found.append(Action("failed", number=failed, command=again))
    if held:
        found.append(Action("held_back", number=held, command=f"{again} --retry-quarantined"))
    by_sku = {rate.sku: rate for rate in rates}
    for sku in retake:
        rate = by_sku[sku]
        values = {"found": rate.found, "pictures": rate.pictures}
        found.append(Action("retake", sku, values=values))
    return found


def photo_actions(learned: Sequence[LearningRow]) -> list[Action]:
    """About photos of learned products that were left out, where something is wrong with them."""
    from catalog_pipeline.evaluation.night_report import Action

    found = []
    for attempt in learned:
        wrong = [
            use for use in attempt.photos if use.reason and not use.reason.startswith(_OF_TOO_MANY)
        ]
        if wrong:
            names = _shortened([use.key for use in wrong])
            values = {"photos": names}
            found.append(Action("left_out", attempt.sku, number=len(wrong), values=values))
    return found


def waiting_action(index: Iterable[IndexRow]) -> list[Action]:
    """One action for every product that is new or has changed since it was learned."""
    from catalog_pipeline.evaluation.night_report import Action

    waiting = (SkuStatus.NEW, SkuStatus.CHANGED)
    skus = sorted(row.sku for row in index if row.status in waiting)
    if not skus:
        return []
    values = {"names": _shortened(skus)}
    return [Action("waiting", values=values, command="catalog-pipeline learn")]


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" (+{more})" if more > 0 else "")


def _forgets(attempt: LearningRow) -> bool:
    """Whether the gate refused it for what earlier products or the base would lose."""
    try:
        settings = json.loads(attempt.settings)
        exact = settings["adapter"]["slots"] == "per_concept"
        limits = (
            ("forgetting", 0.0 if exact else float(settings["gate_max_forgetting"])),
            ("prior_drift", 0.0 if exact else float(settings["gate_max_prior_drift"])),
        )
    except (ValueError, KeyError, TypeError):
        return False
    return any(attempt.metrics.get(name, 0.0) > limit for name, limit in limits)
