"""Does a picture show the scene that its prompt names: recognised by what the base shows for it.

A model that has overfitted its products paints the background of their photos
whatever the prompt says. Fidelity does not see that; it even rewards it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catalog_pipeline.evaluation.retention import Matrix
from catalog_pipeline.records import Features, Pixels

_BORDER = 0.22
"""Of the side: what is left of a picture at each edge when its middle is hidden."""


@dataclass(frozen=True)
class SceneRecogniser:
    """Names the scene of a picture: the one whose prototype is nearest.

    ``prototypes`` ``(scenes, width)`` are the L2-normalised mean features of each
    scene's pictures, less ``centre`` ``(width,)``, which is the mean of those means:
    what all scenes share says nothing about which one it is.
    """

    scenes: tuple[str, ...]
    prototypes: Features
    centre: Features

    @classmethod
    def fit(cls, pictures: Mapping[str, Features]) -> SceneRecogniser:
        """Learn the scenes from pictures of the bare base.

        Args:
            pictures: scene phrase -> features of pictures of it, ``(pictures, width)``,
                made without any learned product.

        Raises:
            ValueError: fewer than two scenes, or a scene without pictures.
        """
        if len(pictures) < 2:
            raise ValueError(
                f"got the scenes {list(pictures)}; expected at least two to tell apart"
            )
        for scene, rows in pictures.items():
            if rows.ndim != 2 or len(rows) == 0:
                raise ValueError(
                    f"scene {scene!r} has features of shape {rows.shape}; expected "
                    "(one or more pictures, width)"
                )
        means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in pictures.values()])
        centre = means.mean(axis=0)
        return cls(
            tuple(pictures),
            _normalised(means - centre).astype(np.float32),
            centre.astype(np.float32),
        )

    @property
    def chance(self) -> float:
        """What guessing scores: one in as many as there are scenes."""
        return 1.0 / len(self.scenes)

    def recognise(self, features: Features) -> list[str]:
        """The scene of each picture: ``argmax_s <normalised(f - centre), prototype_s>``.

        Args:
            features: ``(pictures, width)`` of the encoder that made the prototypes.
        """
        if features.ndim != 2 or features.shape[1] != self.prototypes.shape[1]:
            raise ValueError(
                f"got features of shape {features.shape}; expected (pictures, "
                f"{self.prototypes.shape[1]}) from the encoder of the prototypes"
            )
        nearest = ((features - self.centre) @ self.prototypes.T).argmax(axis=1)
        return [self.scenes[index] for index in nearest]

    def accuracy(self, features: Features, scenes: Sequence[str]) -> float:
        """Share of pictures that show the scene their prompt named; 1 = all of them.

        Args:
            features: ``(pictures, width)``.
            scenes: what each picture's prompt named, one of :attr:`scenes` each.

        Raises:
            ValueError: no pictures, another number of scenes, or a scene that was not fitted.
        """
        if len(features) != len(scenes) or len(scenes) == 0:
            raise ValueError(
                f"got {len(features)} pictures and {len(scenes)} scenes; expected as many of "
                "both, and at least one"
            )
        unknown = sorted(set(scenes) - set(self.scenes))
        if unknown:
            raise ValueError(f"unknown scenes {unknown}; expected some of {list(self.scenes)}")
        found = self.recognise(features)
        return float(np.mean([seen == named for seen, named in zip(found, scenes, strict=True)]))


def surroundings(picture: Pixels) -> Pixels:
    """``picture`` with its middle hidden under the mean colour of its top and bottom edge.

    A learned product fills the middle and looks like nothing that the base shows, which
    draws an encoder's attention from the scene around it.
    """
    height, width = picture.shape[:2]
    top, left = round(_BORDER * height), round(_BORDER * width)
    edges = np.concatenate([picture[:top], picture[height - top :]])
    hidden = picture.copy()
    hidden[top : height - top, left : width - left] = np.rint(edges.mean(axis=(0, 1)))
    return hidden


def scene_part(pictures: Features) -> Features:
    """``f_i - mean_j f_j`` over the pictures of one product, a scene each.

    What a product's pictures share is the product (and, where it was overfitted, the
    room of its photos); what is left is the scene. With this and :func:`surroundings`,
    fitted and asked alike, a recogniser tells far more: docs/evaluation.md.
    """
    part: Features = pictures - pictures.mean(axis=0, keepdims=True)
    return part


def _normalised(rows: Matrix) -> Matrix:
    normalised: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return normalised
