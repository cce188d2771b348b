"""``base_model.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from catalog_pipeline.settings.values import NotBlank, Strict


class BaseModelSettings(Strict):
    """``base_model.yaml``: which diffusion model is the frozen base."""

    base_model: NotBlank = Field(
        "embedded", description="'embedded', a diffusers folder, or a hub id (offline: false)"
    )
    offline: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of UNet and VAE; auto = bfloat16 where the processor multiplies in it"
    )
    device: NotBlank = "auto"
    threads: int = Field(0, ge=0, le=4096, description="CPU threads of torch; 0 = every core")
    side_px: int | None = Field(
        None, ge=16, le=4096, description="side of training views; null = the base's own"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice instead of keeping them for the gradient"
    )
    quantise: Literal["none", "int8", "nf4"] = Field(
        "none", description="the frozen linear layers of the denoiser's blocks; nf4 = 4 bits"
    )
    offload: Literal["none", "text_encoder", "groups"] = Field(
        "none", description="what waits in CPU memory while it is not used"
    )
    compile: bool = Field(False, description="torch.compile of the denoiser's repeated blocks")

    @model_validator(mode="after")
    def _layers_that_move_are_not_compiled(self) -> BaseModelSettings:
        if self.compile and self.offload == "groups":
            raise ValueError(
                "compile and offload: groups do not go together, since a layer that is fetched "
                "cannot be compiled into its neighbours; set compile: false or offload: "
                "text_encoder"
            )
        return self
