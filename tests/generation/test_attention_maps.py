from __future__ import annotations

import pytest
import torch

from catalog_pipeline.generation.attention_maps import (
    MapRecorder,
    NamedConcept,
    found_regions,
    select_tokens,
    smooth,
)


def test_tokens_of_a_concept_are_found_in_its_own_prompt(engine):
    engine.text.table.add("<A:0>", torch.zeros(16))
    prompts = ("a <A:0> mug and a clock on grass", "a mug and a red clock on grass")
    named = [NamedConcept("<A:0>", "mug"), NamedConcept("red", "clock")]
    weights = select_tokens(engine.text, [prompts], [named])
    assert weights.shape == (1, 2, 2, engine.text.length)
    assert weights.sum(-1).tolist() == [[[1, 1], [1, 1]]]
    for prompt, concept, rows in zip(prompts, named, weights[0], strict=True):
        places = engine.text.positions(prompt, concept.phrase)
        assert rows[0, list(places[:-1])].sum() == 1  # the attribute, and after it the noun
        assert rows[1, places[-1]] == 1


def test_a_concept_without_attribute_has_its_noun_twice(engine):
    weights = select_tokens(engine.text, [("a mug",)], [[NamedConcept("", "mug")]])
    assert torch.equal(weights[0, 0, 0], weights[0, 0, 1])


def test_a_concept_that_is_not_in_its_prompt_is_an_error(engine):
    with pytest.raises(ValueError, match="'a mug' does not hold 'red mug'"):
        select_tokens(engine.text, [("a mug",)], [[NamedConcept("red", "mug")]])


def selection() -> torch.Tensor:
    """One image, two concepts, of five tokens: 1 | 2 and 3 | 4."""
    weights = torch.zeros(1, 2, 2, 5)
    for concept, (attribute, noun) in enumerate([(1, 2), (3, 4)]):
        weights[0, concept, 0, attribute] = weights[0, concept, 1, noun] = 1
    return weights


def test_maps_are_the_mean_over_layers_and_resolutions():
    generator = torch.Generator().manual_seed(0)
    fine = [torch.rand(1, 2, 16, 5, generator=generator) for _ in range(2)]
    coarse = torch.full((1, 2, 4, 5), 0.5)
    recorder = MapRecorder(selection(), max_pixels=16)
    for probs in (*fine, coarse):
        recorder.observe(probs)
    maps = recorder.maps()
    assert maps.shape == (1, 2, 2, 4, 4)
    for concept, tokens in enumerate([(1, 2), (3, 4)]):
        for group, token in enumerate(tokens):
            mean = (fine[0] + fine[1])[0, concept, :, token].view(4, 4) / 2
            expected = (mean + 0.5) / 2
            assert torch.allclose(maps[0, concept, group], expected, atol=1e-6)


def test_one_prompt_for_all_and_a_background_region_are_understood():
    one = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    joint = MapRecorder(selection(), 16)
    joint.observe(one)
    regions = MapRecorder(selection(), 16)
    regions.observe(
        torch.cat([one, one, torch.zeros_like(one)], 1)
    )  # two concepts, then background
    assert torch.equal(joint.maps(), regions.maps())


def test_a_unet_without_coarse_attention_is_told_so():
    with pytest.raises(ValueError, match="no cross-attention of at most 16 pixels"):
        MapRecorder(selection(), 16).maps()


def test_maps_of_a_wide_picture_keep_its_shape():
    recorder = MapRecorder(selection(), 24)
    recorder.observe(torch.rand(1, 2, 24, 5, generator=torch.Generator().manual_seed(0)))
    recorder.observe(torch.rand(1, 2, 6, 5, generator=torch.Generator().manual_seed(1)))
    assert recorder.maps(4, 6).shape == (1, 2, 2, 4, 6)


def test_smoothing_keeps_a_constant_and_spreads_a_point():
    assert torch.allclose(smooth(torch.full((2, 3, 4, 4), 0.3)), torch.tensor(0.3))
    point = torch.zeros(5, 5)
    point[2, 2] = 1
    spread = smooth(point[None])[0]
    assert spread.sum().item() == pytest.approx(1)
    assert spread[2, 2] > spread[2, 1] == spread[1, 2] > spread[1, 1] > 0


def test_regions_are_found_where_each_concept_is_attended_most():
    maps = torch.zeros(1, 2, 2, 4, 4)
    maps[0, 0, :, :, 0] = 0.5
    maps[0, 1, :, :, 3] = 0.1  # weaker, and still the ruler of its side
    regions = found_regions(maps)
    assert torch.allclose(regions.sum(1), torch.tensor(1.0))
    assert regions[0, 0, :, 0].min() > 0.9
    assert regions[0, 1, :, 3].min() > 0.9
