"""Several products of a night as one task, each in a slot of its own."""

from __future__ import annotations

from catalog_pipeline.learning.methods.own_slots import OwnSlots


class Together(OwnSlots):
    """As ``ours``, but the concepts take turns step by step within one task.

    ``n`` concepts train for ``n * settings.steps`` steps: as many each as one by one.
    """

    name = "together"
    at_once = True
