"""``evaluation.yaml``."""

from __future__ import annotations

from pydantic import Field

from catalog_pipeline.settings.values import NotBlank, Strict


class EvaluationSettings(Strict):
    """``evaluation.yaml``: how ``catalog-pipeline evaluate`` measures."""

    encoder: NotBlank = Field(
        "mobilenet_v2",
        description="of the headline figures: mobilenet_v2, efficientnet_lite0, or the folder of "
        "a CLIP or DINO model",
    )
    images_per_sku: int = Field(8, ge=1)
