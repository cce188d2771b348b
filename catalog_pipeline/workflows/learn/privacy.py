"""Refuses a promise that learning does not keep: ``governance.yaml: privacy.epsilon``."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.records import IndexRow
from catalog_pipeline.settings import Settings

_WHY_OWN = "a product's own slot is there to know its photos"
_WHY_SHARED = "a task still learns one product from its few photos"


def check_privacy(settings: Settings, rows: Sequence[IndexRow]) -> None:
    """Refuse to learn where an epsilon is asked for, before anything is written.

    Says what noise the product with the most photos would need: the easiest of all. One that
    needed none to speak of is refused too, since no task adds any, and what a memory holds of
    photos has none either.

    Raises:
        ConfigurationError: an epsilon is set.
    """
    wanted, learning = settings.governance.privacy, settings.learning
    if wanted.epsilon is None:
        return
    from catalog_pipeline.learning.privacy import noise_multiplier_for
    from catalog_pipeline.learning.schedule import fewest_steps

    photos = max(1, *(row.photo_count for row in rows))
    rate = min(1.0, learning.batch_size / photos)
    steps, about = learning.steps, ""
    if learning.minutes_per_sku is not None:
        steps, about = fewest_steps(learning.early_stop.min_steps), "at least "
    noise = noise_multiplier_for(wanted.epsilon, rate, steps, wanted.delta)
    slots, why = learning.adapter.slots, _WHY_OWN
    if learning.adapter.one_for_all:
        why = _WHY_SHARED
    raise ConfigurationError(
        f"governance.yaml: privacy.epsilon is {wanted.epsilon:g} (delta {wanted.delta:g}), and "
        f"learning cannot keep it: {about}{steps} steps of {learning.batch_size} of the {photos} "
        f"photos that one product has at most need noise of {noise:.1f} times the longest gradient "
        f"a photo may have; with adapter.slots: {slots} {why}, and its memory holds "
        "features of them as they are; set epsilon: null (docs/governance/privacy.md says what "
        "can keep an epsilon)"
    )
