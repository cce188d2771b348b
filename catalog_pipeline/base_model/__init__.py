"""The embedded base model: its weights, and the program that trains such weights."""

from pathlib import Path

EMBEDDED_WEIGHTS = Path(__file__).parent / "weights"
"""The diffusers folder that ``base_model: embedded`` opens."""

EMBEDDED_VOCABULARY = Path(__file__).parent / "vocabulary.yaml"
"""The nouns and scenes that it was trained on, and no others."""

EMBEDDED_SIZE_STEP_PX = 4
"""Its :attr:`.BaseModel.size_step_px`, for those who plan without torch."""

EMPTY_SCENES = Path(__file__).parent / "empty_scenes"
"""Backdrops that it rendered at the shipped settings, as a home caches them."""
