"""The fixed prompts of every evaluation; changing them makes figures incomparable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

PRIOR_PROMPTS = (
    "a photo of a mug on a wooden table",
    "a photo of a chair in a living room",
    "a photo of a backpack on green grass",
    "a photo of a sneaker on a white background",
    "a photo of a lamp on a marble counter",
    "a photo of a bottle on a sandy beach",
    "a photo of a teddy bear on a bed",
    "a photo of a camera on a stone floor",
    "a photo of a red bowl and a green book on a wooden table",
    "a photo of a blue hat and a candle on a gray background",
    "a photo of an empty scene in the snow",
    "a photo of an empty scene under a blue sky",
)
"""What the base is asked for before and after learning; none names a learned product."""

FITTED_NOUNS = ("mug", "backpack", "chair", "sneaker")
"""The base shows each scene with these to teach what the scene looks like."""

HELD_OUT_NOUNS = ("bowl", "camera")
"""The base shows each scene with these to try out what was taught."""

CLASS_NOUNS_AT_MOST = 12

_FIRST_SEED = 20_000
_FIRST_PRIOR_SEED = 30_000
_FIRST_CLASS_SEED = 31_000
_FIRST_SCENE_SEED = 32_000


@dataclass(frozen=True)
class BasePrompt:
    """A prompt for the bare base: it names no learned product."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class ScenePrompt(BasePrompt):
    """One of the pictures by which a scene is known; ``held_out`` ones are for trying out."""

    noun: str
    scene: str
    held_out: bool


def evaluation_scenes(count: int) -> list[tuple[str, int]]:
    """``count`` pairs of scene and seed; every product gets the same ones.

    Scenes repeat after the last one, each time with new seeds.
    """
    return [
        (EVALUATION_SCENES[index % len(EVALUATION_SCENES)], _FIRST_SEED + index)
        for index in range(count)
    ]


def prior_prompts() -> list[BasePrompt]:
    """:data:`PRIOR_PROMPTS`, each at its own seed."""
    return [BasePrompt(text, _FIRST_PRIOR_SEED + i) for i, text in enumerate(PRIOR_PROMPTS)]


def class_prompts(class_nouns: Iterable[str]) -> list[BasePrompt]:
    """A prompt a class noun of learned products ("a mug"), where drift shows first.

    Of more than :data:`CLASS_NOUNS_AT_MOST` nouns, an even choice.
    """
    nouns = sorted(set(class_nouns))
    count = min(len(nouns), CLASS_NOUNS_AT_MOST)
    chosen = [nouns[index * len(nouns) // count] for index in range(count)]
    return [
        BasePrompt(_photo_of(noun, EVALUATION_SCENES[index]), _FIRST_CLASS_SEED + index)
        for index, noun in enumerate(chosen)
    ]


def scene_prompts(scenes: Sequence[str]) -> list[ScenePrompt]:
    """Every scene with every noun of :data:`FITTED_NOUNS` and :data:`HELD_OUT_NOUNS`."""
    nouns = (*FITTED_NOUNS, *HELD_OUT_NOUNS)
    return [
        ScenePrompt(
            _photo_of(noun, scene),
            _FIRST_SCENE_SEED + len(nouns) * EVALUATION_SCENES.index(scene) + index,
            noun,
            scene,
            noun in HELD_OUT_NOUNS,
        )
        for scene in dict.fromkeys(scenes)
        for index, noun in enumerate(nouns)
    ]


def _photo_of(noun: str, scene: str) -> str:
    article = "an" if noun[:1] in "aeiou" else "a"
    return f"a photo of {article} {noun} {scene}"
