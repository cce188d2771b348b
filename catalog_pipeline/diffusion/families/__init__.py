"""The families of base models that can be opened.

To add one: its file beside :mod:`.stable_diffusion`, and its class in the line below.
"""

from __future__ import annotations

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion

FAMILIES: dict[str, type[BaseModel]] = {
    pipeline: family for family in (StableDiffusion,) for pipeline in family.pipelines
}
"""``_class_name`` of a ``model_index.json`` -> the family that opens such a folder."""
