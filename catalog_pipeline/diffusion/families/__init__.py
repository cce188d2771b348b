"""The families of base models that can be opened.

To add one: its file beside :mod:`.stable_diffusion`, and its class in the lines below.
"""

from __future__ import annotations

from catalog_pipeline.diffusion.families.family import BaseModel
from catalog_pipeline.diffusion.families.flux2_klein import Flux2Klein
from catalog_pipeline.diffusion.families.qwen_image import QwenImage
from catalog_pipeline.diffusion.families.stable_diffusion import StableDiffusion
from catalog_pipeline.diffusion.families.stable_diffusion_3 import StableDiffusion3
from catalog_pipeline.diffusion.families.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, type[BaseModel]] = {
    pipeline: family
    for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux2Klein, QwenImage)
    for pipeline in family.pipelines
}
"""``_class_name`` of a ``model_index.json`` -> the family that opens such a folder."""
