"""Whether the base reads every prompt of a product whole, asked before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from catalog_pipeline.errors import ConfigurationError, LearningError
from catalog_pipeline.records import Sku
from catalog_pipeline.settings import Settings

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.prompts import PromptTokenizer


def check_scenes(settings: Settings, prompts: PromptTokenizer) -> None:
    """Refuse scenes of ``learning.yaml`` that are too long beside a product of one plain word.

    Raises:
        ConfigurationError: names the scene, its tokens and what the base reads.
    """
    from catalog_pipeline.workflows.learn.fidelity_gate import PRIOR_NOUNS

    placeholders = settings.learning.adapter.tokens_per_concept - 1
    for scene in settings.learning.scenes:
        # Two words more than a photo takes: "a product shot of a <sku:0> mug in the snow".
        longest = [f"a product shot of a {noun} {scene}" for noun in PRIOR_NOUNS]
        tokens = max(prompts.count(prompt) for prompt in longest) + placeholders
        if tokens > prompts.length:
            raise ConfigurationError(
                f"learning.yaml: scenes: {scene!r} gives prompts of {tokens} tokens, and the "
                f"base's text encoder reads {prompts.length}; shorten it"
            )


def check_class_noun(
    card: Sku, settings: Settings, prompts: PromptTokenizer, tokens_of: Sequence[str] | None = None
) -> None:
    """Refuse a class noun with which the base would read a prompt of the product cut off.

    ``tokens_of`` the product, where they are not as many as the settings say.

    Raises:
        LearningError: names the noun, the longest prompt's tokens and what the base reads.
    """
    tokens, longest = max(
        (prompts.count(prompt), prompt) for prompt in _prompts(card, settings, tokens_of)
    )
    if tokens > prompts.length:
        own = len(prompts.tokens(card.class_noun))
        raise LearningError(
            f"the class_noun {card.class_noun!r} of {card.sku} is too long: with its {own} tokens "
            f"the prompt {longest!r} has {tokens}, and the base's text encoder reads "
            f"{prompts.length}; expected a noun of at most {own - tokens + prompts.length} tokens; "
            "write a few plain words in its card, such as 'coffee mug'"
        )


def _prompts(card: Sku, settings: Settings, tokens_of: Sequence[str] | None) -> list[str]:
    """Of training, memory, gates and evaluation; those of the class alone are shorter."""
    from catalog_pipeline.diffusion.text import placeholder_tokens
    from catalog_pipeline.evaluation.prompts import evaluation_scenes
    from catalog_pipeline.learning.augmentation import PHOTO_TEMPLATES
    from catalog_pipeline.learning.memory import MEMORY_PROMPTS
    from catalog_pipeline.workflows.learn.fidelity_gate import GATE_PROMPTS

    learning = settings.learning
    tokens = tokens_of or placeholder_tokens(card.sku, learning.adapter.tokens_per_concept)
    measured = evaluation_scenes(settings.evaluation.images_per_sku)
    templates = [
        *(f"{template} {scene}" for template in PHOTO_TEMPLATES for scene in learning.scenes),
        *(f"a photo of a {{concept}} {scene}" for scene, _ in measured),
        *MEMORY_PROMPTS,
        *GATE_PROMPTS,
    ]
    name = " ".join((*tokens, card.class_noun))
    return [template.format(concept=name) for template in templates]
