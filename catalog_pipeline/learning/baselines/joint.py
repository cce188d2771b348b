"""The upper bound: all concepts at once, with all their photos at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.baselines.finetune import Finetune
from catalog_pipeline.learning.baselines.method import NewConcept, Workshop
from catalog_pipeline.records import Photo


class Joint(Finetune):
    """One shared slot, one task, in which the concepts take turns step by step.

    It breaks the rule of lifelong learning: it keeps every photo. ``n`` concepts
    train for ``n * settings.steps`` steps, so each gets as many as in a sequence.
    """

    name = "joint"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        self._photos: dict[str, tuple[Photo, ...]] = {}

    def learn_all(self, news: Sequence[NewConcept]) -> None:
        """Start the shared slot anew and train it on all of ``news``.

        Raises:
            LearningError: no concept, one named twice or one without photos.
        """
        if not news:
            raise LearningError("got no concept; expected at least one to learn")
        self._learned = []
        for new in news:
            self._check(new)
            self._remember(new)
        self._photos = {new.concept.sku: new.photos for new in news}
        subjects = [self._subject(new, fresh=index == 0) for index, new in enumerate(news)]
        self._train(subjects, self._seed(news[0].concept.sku))

    def learn(self, new: NewConcept) -> None:
        """Learn all concepts so far anew, with ``new`` among them."""
        self._check(new)
        earlier = [
            NewConcept(item.concept, self._photos[item.concept.sku], item.features)
            for item in self._learned
        ]
        self.learn_all([*earlier, new])

    def _extra_state(self) -> dict[str, Tensor]:
        tensors = {}
        for sku, photos in self._photos.items():
            for index, photo in enumerate(photos):
                tensors[f"photo/{sku}/{index}/pixels"] = torch.tensor(photo.pixels)
                if photo.mask is not None:
                    tensors[f"photo/{sku}/{index}/mask"] = torch.tensor(photo.mask)
        return tensors

    def _restore_extra(self, state: Mapping[str, Tensor]) -> None:
        for item in self._learned:
            prefix = f"photo/{item.concept.sku}/"
            count = sum(k.startswith(prefix) and k.endswith("/pixels") for k in state)
            photos = []
            for index in range(count):
                mask = state.get(f"{prefix}{index}/mask")
                pixels = state[f"{prefix}{index}/pixels"].numpy()
                opacity = None if mask is None else mask.numpy()
                photos.append(Photo(f"{item.concept.sku}/{index}", "", pixels, opacity))
            self._photos[item.concept.sku] = tuple(photos)
