"""The upper bound: all concepts at once, with all their photos at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from safetensors.torch import load

from catalog_pipeline.diffusion.parts import encode_part
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.shared_slot import SharedSlot
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.records import Concept, Photo


class Joint(SharedSlot):
    """One shared slot, one task, in which the concepts take turns step by step.

    It breaks the rule of lifelong learning: it keeps every photo, and each task trains
    the slot anew on all of them. ``n`` concepts train for ``n * settings.steps`` steps,
    so each gets as many as in a sequence.
    """

    name = "joint"
    at_once = True

    def task(self, *news: NewConcept) -> LearningTask:
        """All concepts so far anew, with ``news`` among them."""
        self._check(news)
        remembered = [self.collection.remembered(concept) for concept in self.learned]
        earlier = [NewConcept(r.concept, self._photos(r.concept), r.features) for r in remembered]
        self.learned = []
        return super().task(*earlier, *news)

    def subjects(self, news: Sequence[NewConcept]) -> tuple[Subject, ...]:
        """All on one fresh slot."""
        together = super().subjects(news)
        return tuple(replace(s, fresh_slot=not index) for index, s in enumerate(together))

    def parts(self, task: LearningTask) -> dict[str, bytes]:
        """Those of the shared slot, and ``photos/<sku>``."""
        return super().parts(task) | {
            f"photos/{subject.concept.sku}": _encode_photos(subject.photos)
            for subject in task.subjects
        }

    def _photos(self, concept: Concept) -> tuple[Photo, ...]:
        stored = load(self.collection.part(f"photos/{concept.sku}") or b"")
        photos = []
        for index in range(sum(name.startswith("pixels/") for name in stored)):
            mask = stored.get(f"mask/{index}")
            pixels = stored[f"pixels/{index}"].numpy()
            opacity = None if mask is None else mask.numpy()
            photos.append(Photo(f"{concept.sku}/{index}", "", pixels, opacity))
        return tuple(photos)


def _encode_photos(photos: Sequence[Photo]) -> bytes:
    tensors = {f"pixels/{index}": torch.tensor(p.pixels) for index, p in enumerate(photos)}
    masks = {
        f"mask/{index}": torch.tensor(photo.mask)
        for index, photo in enumerate(photos)
        if photo.mask is not None
    }
    return encode_part(tensors | masks)
