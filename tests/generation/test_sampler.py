from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.parts import encode_part, slot_part, token_part
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.errors import GenerationError, PromptError
from catalog_pipeline.generation.anchored import real_pixels
from catalog_pipeline.generation.prompts import region_prompts
from catalog_pipeline.generation.sampler import SceneSampler
from catalog_pipeline.generation.scene_regions import region_masks
from catalog_pipeline.records import Anchor, AttentionControl, Cutout, Region, RenderJob
from catalog_pipeline.settings import AdapterSettings
from tests.builders import make_concept, make_render_job
from tests.tiny_model import fill_slot

HALVES = (Region(0, 0, 0.5, 1), Region(0.5, 0, 1, 1))
CONCEPTS = {
    sku: make_concept(sku, task, class_noun=noun, placeholder_tokens=placeholder_tokens(sku, 1))
    for task, (sku, noun) in enumerate([("A", "mug"), ("B", "alarm clock")])
}


def job(skus: tuple[str, ...], seed: int = 1) -> RenderJob:
    return make_render_job(*skus, seed=seed)


@pytest.fixture
def parts(engine) -> dict[str, bytes]:
    """Parts of two concepts that change the picture; the engine is left without them."""
    made = {}
    for index, sku in enumerate("AB"):
        generator = fill_slot(engine, sku, index, scale=1.0)
        (token,) = CONCEPTS[sku].placeholder_tokens
        engine.text.table.add(token, torch.randn(16, generator=generator))
        made[f"concept/{sku}"] = encode_part(slot_part(engine, sku) | token_part(engine, [token]))
        engine.adapter.drop_slot(sku)
    return made


def make_sampler(engine, parts, batch_size: int = 2) -> tuple[SceneSampler, list[str]]:
    reads: list[str] = []

    def read(name: str) -> bytes:
        reads.append(name)
        return parts[name]

    return SceneSampler(engine, AdapterSettings(rank=2), read, batch_size), reads


def test_renders_in_order_and_reads_only_the_named_concepts(engine, parts):
    sampler, reads = make_sampler(engine, parts)
    pictures = sampler.render([job(("A",), seed) for seed in (1, 2, 3)], CONCEPTS)
    assert [p.shape for p in pictures] == [(16, 16, 3)] * 3
    assert reads == ["concept/A"]
    assert not np.array_equal(pictures[0], pictures[1])
    assert sampler.render([], CONCEPTS) == []


def assert_same(picture: np.ndarray, other: np.ndarray) -> None:
    """To rounding: slots that differ by row go through another product than one for all rows."""
    assert np.abs(picture.astype(int) - other).max() <= 1


def test_a_picture_is_the_same_alone_and_in_company(engine, parts):
    sampler, _ = make_sampler(engine, parts, batch_size=3)
    alone = sampler.render([job(("A",), 5)], CONCEPTS)[0]
    crowd = sampler.render([job(("B",), 1), job(("A",), 5), job(("B",), 9)], CONCEPTS)
    assert_same(crowd[1], alone)


def test_both_products_of_a_pair_shape_the_picture(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    pair, swapped = sampler.render([job(("A", "B")), job(("B", "A"))], CONCEPTS)
    assert not np.array_equal(pair, swapped)
    changed = encode_part({k: -v for k, v in _tensors(parts["concept/B"]).items()})
    from catalog_pipeline.diffusion.parts import install_part

    install_part(engine, changed, slot="B", tokens=CONCEPTS["B"].placeholder_tokens)
    assert not np.array_equal(sampler.render([job(("A", "B"))], CONCEPTS)[0], pair)


def _tensors(data: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(data)


def test_unlearned_mixed_and_misfitting_jobs_are_refused(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    with pytest.raises(GenerationError, match="has not learned"):
        sampler.render([job(("Z",))], CONCEPTS)
    with pytest.raises(GenerationError, match="different kinds"):
        sampler.render([job(("A",)), job(("A", "B"))], CONCEPTS)
    with pytest.raises(GenerationError, match="different kinds"):
        sampler.render([job(("A",)), replace(job(("A",)), steps=9)], CONCEPTS)
    broken, _ = make_sampler(engine, {"concept/A": encode_part({"token/0": torch.zeros(16)})})
    two = {"A": replace(CONCEPTS["A"], placeholder_tokens=("<A:0>", "<A:1>"))}
    with pytest.raises(GenerationError, match="does not fit"):
        broken.render([job(("A",))], two)
    with pytest.raises(GenerationError, match="token rows only"):
        broken.render([job(("A",))], CONCEPTS)


def test_a_product_may_be_called_as_the_shared_slot_is(engine, parts):
    named = replace(CONCEPTS["A"], sku="shared")
    sampler, reads = make_sampler(engine, {"concept/shared": parts["concept/A"]})
    pictures = sampler.render([job(("shared",))], {"shared": named})
    assert reads == ["concept/shared"]
    as_usual, _ = make_sampler(engine, parts)
    assert np.array_equal(pictures[0], as_usual.render([job(("A",))], CONCEPTS)[0])


def test_every_region_knows_the_scene_but_only_its_own_product():
    prompts = region_prompts(list(CONCEPTS.values()), "in the snow")
    assert prompts == (
        "a <A:0> mug and an alarm clock in the snow",
        "a mug and a <B:0> alarm clock in the snow",
    )
    assert region_prompts([CONCEPTS["A"]], "in the snow") == ("a photo of a <A:0> mug in the snow",)
    three = region_prompts([*CONCEPTS.values(), CONCEPTS["A"]], "")
    assert three[1] == "a mug, a <B:0> alarm clock and a mug"


def test_masks_sum_to_one_everywhere_and_follow_their_boxes():
    masks = region_masks(HALVES, 8, 8)
    assert torch.equal(masks.sum(0), torch.ones(8, 8))
    assert torch.equal(masks[0], torch.tensor([1.0] * 4 + [0.0] * 4).expand(8, 8))
    corner = region_masks((Region(0, 0, 0.25, 0.25), Region(0.75, 0.75, 1, 1)), 8, 8)
    assert torch.allclose(corner.sum(0), torch.ones(8, 8))
    assert corner[0, 0, 0] == 1
    assert corner[1, 7, 7] == 1
    with pytest.raises(GenerationError, match="inside the image"):
        region_masks((Region(0.5, 0, 0.5, 1), Region(0, 0, 1, 1)))


@pytest.mark.parametrize("method", ["none", "reweight", "gradient"])
def test_a_scene_that_would_be_cut_is_refused_whatever_guides_the_attention(engine, parts, method):
    """A stored plan may be older than the check of its prompts."""
    sampler, _ = make_sampler(engine, parts)
    long = replace(
        job(("A", "B")),
        scene="in a " + "very " * 50 + "large room",
        attention=AttentionControl(method=method),
    )
    with pytest.raises(PromptError, match=r"text encoder reads 48; shorten .* class_noun"):
        sampler.render([long], CONCEPTS)
    assert len(sampler.render([job(("A", "B"))], CONCEPTS)) == 1


def test_a_negative_prompt_is_read_whole_too(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    long = replace(job(("A",)), negative_prompt="blurry, " * 60, guidance=3.0)
    with pytest.raises(PromptError, match="or negative_prompt"):
        sampler.render([long], CONCEPTS)


# --- scenes that start from photos ----------------------------------------------------


def anchored(mode: str, skus: tuple[str, ...] = ("A", "B"), seed: int = 1, **changes) -> RenderJob:
    share = 1 / len(skus)
    anchors = tuple(
        Anchor(sku, f"{sku}/0.jpg", sku, Region(i * share + 0.05, 0.2, (i + 0.8) * share, 0.9))
        for i, sku in enumerate(skus)
    )
    fields = {"mode": mode, "anchors": anchors, "strength": 0.5, "backdrop_steps": 1}
    return make_render_job(*skus, seed=seed, **(fields | changes))


def painted(level: int) -> Cutout:
    rgba = np.full((30, 20, 4), 255, np.uint8)
    rgba[..., :3] = level
    return Cutout(rgba)


CUTOUTS = {"A": painted(230), "B": painted(20)}


def test_an_exact_scene_has_the_photos_pixels_at_its_own_size(engine, parts):
    sampler, reads = make_sampler(engine, parts)
    job = anchored("exact", output_scale=4)
    (picture,) = sampler.render([job], CONCEPTS, cutouts=CUTOUTS)
    assert picture.shape == (64, 64, 3)
    assert sorted(reads) == ["concept/A", "concept/B"]
    left, right = picture[30, 14].mean(), picture[30, 44].mean()
    assert 180 <= left <= 255
    assert 15 <= right <= 26
    assert real_pixels(job, CUTOUTS) > 0.9


def test_an_anchored_scene_is_redrawn_at_the_size_of_the_base(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    job = anchored("anchored", output_scale=4)
    (picture,) = sampler.render([job], CONCEPTS, cutouts=CUTOUTS)
    assert picture.shape == (16, 16, 3)
    assert real_pixels(job, CUTOUTS) == 0
    slots = {
        **parts,
        "concept/A": encode_part({k: -v for k, v in _tensors(parts["concept/A"]).items()}),
    }
    engine.adapter.drop_slot("A")
    other, _ = make_sampler(engine, slots)
    assert not np.array_equal(other.render([job], CONCEPTS, cutouts=CUTOUTS)[0], picture)


def test_a_redraw_of_photos_is_guided_in_its_own_first_steps(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    control = AttentionControl(
        method="gradient", guided_share=0.25, step_size=0.1, unmix_weight=1.0
    )
    for mode in ("anchored", "exact"):
        jobs = [anchored(mode, steps=8, attention=c) for c in (AttentionControl(), control)]
        off, on = (sampler.render([job], CONCEPTS, cutouts=CUTOUTS)[0] for job in jobs)
        assert not np.array_equal(off, on)


def test_an_anchored_picture_is_the_same_alone_and_in_company(engine, parts):
    sampler, _ = make_sampler(engine, parts, batch_size=3)
    job = anchored("exact", ("A",), 5)
    alone = sampler.render([job], CONCEPTS, cutouts=CUTOUTS)[0]
    crowd = [anchored("exact", ("B",), 1), job, anchored("exact", ("B",), 9)]
    assert_same(sampler.render(crowd, CONCEPTS, cutouts=CUTOUTS)[1], alone)


def test_jobs_of_two_modes_share_no_batch_and_a_missing_cutout_is_named(engine, parts):
    sampler, _ = make_sampler(engine, parts)
    with pytest.raises(GenerationError, match="2 different kinds"):
        sampler.render([anchored("exact"), anchored("anchored")], CONCEPTS, cutouts=CUTOUTS)
    with pytest.raises(GenerationError, match=r"no cut-out of B/0\.jpg; plan the night again"):
        sampler.render([anchored("exact")], CONCEPTS, cutouts={"A": CUTOUTS["A"]})
