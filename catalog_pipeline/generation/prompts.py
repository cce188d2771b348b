"""What the regions of a scene read: every text that a render job becomes. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_pipeline.records import AttentionControl, Concept


def rendered_prompts(
    concepts: Sequence[Concept], scene: str, control: AttentionControl, steps: int
) -> tuple[str, ...]:
    """Every text that rendering ``concepts`` in ``scene`` encodes, the negative prompt apart."""
    prompts = own_prompts(concepts, scene)
    if len(concepts) > 1:
        if silent_steps(control, steps):
            prompts += region_prompts(concepts, scene)
        if apart_steps(control, steps):
            prompts += (empty_scene(scene),)
    return prompts


def silent_steps(control: AttentionControl, steps: int) -> int:
    """How many of the first steps the base alone composes."""
    return _count(control.silent_share, steps)


def apart_steps(control: AttentionControl, steps: int) -> int:
    """How many of the first steps have a strip of bare background between the regions."""
    return _count(control.apart_share, steps) if control.gap > 0 else 0


def _count(share: float, steps: int) -> int:
    """Steps in ``share`` of them; at least one where the share is not 0."""
    return max(1, round(share * steps)) if share > 0 else 0


def empty_scene(scene: str) -> str:
    """What a strip of bare background reads."""
    return f"an empty scene {scene}"


def own_prompts(concepts: Sequence[Concept], scene: str) -> tuple[str, ...]:
    """The text of each region, which names its own product alone, as in training."""
    return tuple(f"a photo of a {concept.identifier} {scene}".strip() for concept in concepts)


def region_prompts(concepts: Sequence[Concept], scene: str) -> tuple[str, ...]:
    """The text that each region reads: its own product by identifier, the others by class noun.

    Every region knows the whole scene, so the base places all products and keeps
    one background; only its own region names a product's placeholder tokens, so
    no region renders a neighbour's appearance.
    """
    prompts = []
    for own in range(len(concepts)):
        phrases = [
            f"a {concept.identifier}" if index == own else _with_article(concept.class_noun)
            for index, concept in enumerate(concepts)
        ]
        listed = (
            phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
        )
        prefix = "a photo of " if len(phrases) == 1 else ""
        prompts.append(f"{prefix}{listed} {scene}".strip())
    return tuple(prompts)


def _with_article(noun: str) -> str:
    return ("an " if noun[:1] in "aeiou" else "a ") + noun
