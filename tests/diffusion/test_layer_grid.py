"""The rows and columns of a denoiser's layers, at sizes that do not halve evenly."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st

from catalog_pipeline.diffusion.regional import (
    RegionalContext,
    install_regional_attention,
    layer_grid,
    resize_masks,
)

sides = st.integers(1, 200)


@given(sides, sides, st.sampled_from([1, 2, 4, 8]), st.integers(0, 4))
def test_every_level_of_every_size_is_found(
    height: int, width: int, finer: int, level: int
) -> None:
    rows, columns = height, width
    for _ in range(level):
        rows, columns = -(-rows // 2), -(-columns // 2)
    assert layer_grid(rows * columns, finer * height, finer * width) == (rows, columns)


def test_another_raster_gives_the_ratio_of_its_sides() -> None:
    assert layer_grid(24, 2, 3) == (4, 6)
    assert layer_grid(16, 1, 1) == (4, 4)


def test_masks_keep_their_sum_and_their_place() -> None:
    masks = torch.zeros(1, 2, 128, 66)
    masks[:, 0, :64] = 1
    masks[:, 1] = 1 - masks[:, 0]
    for rows, columns in ((32, 17), (16, 9), (8, 5)):
        flat = resize_masks(masks, rows * columns)
        torch.testing.assert_close(flat.sum(1), torch.ones(1, rows * columns))
        assert torch.equal(flat[0, 0].unflatten(0, (rows, columns))[: rows // 2].min(), flat.max())


@pytest.mark.parametrize(("height", "width"), [(64, 33), (33, 64), (15, 9), (20, 13), (24, 17)])
def test_a_unet_of_four_levels_reads_regions_at_odd_sizes(height: int, width: int) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    context = RegionalContext()
    install_regional_attention(unet, context)
    texts = torch.randn(1, 1, 5, 8)
    masks = torch.zeros(1, 2, 4 * height, 4 * width)
    masks[:, 0, :, : 2 * width] = 1
    masks[:, 1] = 1 - masks[:, 0]
    latents, timestep = torch.randn(1, 4, height, width), torch.tensor([500])
    with torch.no_grad():
        with context.reading(texts, None):
            whole = unet(latents, timestep, texts[:, 0]).sample
        with context.reading(texts.expand(-1, 2, -1, -1), masks):
            split = unet(latents, timestep, texts[:, 0]).sample
    torch.testing.assert_close(split, whole, atol=1e-4, rtol=1e-3)
