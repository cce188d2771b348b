"""The fixed scenes of every evaluation; changing them makes figures incomparable."""

from __future__ import annotations

EVALUATION_SCENES = (
    "on a white background",
    "on a sandy beach",
    "on a wooden table",
    "on green grass",
    "in the snow",
    "on pink fabric",
    "in a living room",
    "on a cobblestone street",
    "on a marble counter",
    "on a gray background",
    "on a stone floor",
    "under a blue sky",
    "in front of a mountain",
    "in a kitchen",
    "in a forest",
    "on a bed",
    "on top of a blue box",
    "beside a window",
    "in a city at night",
    "in the style of a watercolour painting",
)
"""What follows the product in a prompt. An evaluation of n pictures takes the first n."""

_FIRST_SEED = 20_000


def evaluation_scenes(count: int) -> list[tuple[str, int]]:
    """``count`` pairs of scene and seed; every product gets the same ones.

    Scenes repeat after the last one, each time with new seeds.
    """
    return [
        (EVALUATION_SCENES[index % len(EVALUATION_SCENES)], _FIRST_SEED + index)
        for index in range(count)
    ]
