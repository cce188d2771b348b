"""``evaluation.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catalog_pipeline.settings.values import NotBlank, Strict


class EvaluationSettings(Strict):
    """``evaluation.yaml``: how ``catalog-pipeline evaluate`` measures, and what pages say."""

    encoder: NotBlank = Field(
        "mobilenet_v2",
        description="of the headline figures: mobilenet_v2, efficientnet_lite0, or the folder of "
        "a CLIP or DINO model",
    )
    images_per_sku: int = Field(8, ge=1)
    language: Literal["en", "ja"] = Field(
        "en", description="of gallery, night report and index: en or ja; --lang goes before it"
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="of the machine, for the report; null = times alone"
    )
    currency: str = Field("", max_length=12, description="of price_per_hour, such as EUR")
