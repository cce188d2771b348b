from __future__ import annotations

import pytest
import torch

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.parts import encode_part, install_part, slot_part, token_part
from catalog_pipeline.diffusion.regional import resize_masks
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.settings import AdapterSettings
from tests.tiny_model import fill_slot, open_tiny_engine


def predict(engine: DiffusionEngine, route: Route, masks: torch.Tensor | None = None):
    generator = torch.Generator().manual_seed(1)
    batch, regions = len(route.slots), route.regions
    latents = torch.randn(batch, 4, 4, 4, generator=generator)
    hidden = torch.randn(1, 1, 48, 16, generator=generator).expand(batch, regions, -1, -1)
    with torch.no_grad():
        return engine.predict(latents, torch.full((batch,), 300), hidden, masks, route)


def test_fresh_slot_and_no_slot_leave_the_base_untouched(engine):
    bare = predict(engine, whole_image([None]))
    engine.adapter.add_slot("A", torch.Generator().manual_seed(0))
    assert torch.equal(predict(engine, whole_image(["A"])), bare)
    fill_slot(engine, "B", 3, scale=0.5)
    assert torch.equal(predict(engine, whole_image([None])), bare)
    assert not torch.allclose(predict(engine, whole_image(["B"])), bare, atol=1e-3)


def test_rows_of_a_batch_use_their_own_slots(engine):
    fill_slot(engine, "A", 1, scale=0.5)
    fill_slot(engine, "B", 2, scale=0.5)
    mixed = predict(engine, whole_image(["A", "B", None]))
    for index, slot in enumerate(["A", "B", None]):
        same = predict(engine, whole_image([slot, slot, slot]))
        torch.testing.assert_close(mixed[index], same[index], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gradient", [False, True])
def test_rows_in_front_without_a_slot_are_those_of_the_base(engine, gradient):
    """As with guidance: the negative prompts stand first, and read the bare base."""
    fill_slot(engine, "A", 1, scale=0.5)
    fill_slot(engine, "B", 2, scale=0.5)
    masks = torch.rand(3, 2, 2, 2)
    for layer in engine.adapter.layers_of("A").values():
        rows = 6 if layer.rows == "text" else 3
        hidden = torch.randn(rows, 4, layer.base.in_features)
        slots = ((None, None), ("A", "B"), (None, "A"))
        with torch.set_grad_enabled(gradient), engine.adapter.routed(Route(slots, masks)):
            together = layer(hidden)
        assert torch.equal(together[: rows // 3], layer.base(hidden[: rows // 3]))
        with torch.no_grad(), engine.adapter.routed(Route(slots[1:], masks[1:])):
            behind = layer(hidden[rows // 3 :])
        torch.testing.assert_close(together[rows // 3 :], behind, atol=1e-5, rtol=1e-4)


def test_routed_linear_equals_a_slow_loop(engine):
    fill_slot(engine, "A", 1, scale=0.5)
    fill_slot(engine, "B", 2, scale=0.5)
    name = next(n for n in engine.adapter.layers_of("A") if "attn1" in n and n.endswith("to_q"))
    layer = engine.adapter.layers_of("A")[name]
    masks = torch.rand(1, 2, 2, 2)
    hidden = torch.randn(1, 4, layer.base.in_features)
    with torch.no_grad(), engine.adapter.routed(Route((("A", "B"),), masks)):
        fast = layer(hidden)
    flat = resize_masks(masks, 4)
    for pixel in range(4):
        expected = layer.base(hidden[0, pixel])
        for region, slot in enumerate("AB"):
            tensors = layer.tensors(slot)
            delta = tensors["up"] @ (tensors["down"] @ hidden[0, pixel])
            expected = expected + flat[0, region, pixel] * delta
        torch.testing.assert_close(fast[0, pixel], expected, atol=1e-5, rtol=1e-4)


def test_a_region_mask_of_one_is_the_whole_image(engine):
    fill_slot(engine, "A", 1, scale=0.5)
    masks = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])[None]
    split = predict(engine, Route((("A", None),), masks), masks)
    whole = predict(engine, whole_image(["A"]))
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-4)


def test_parameters_changed_refreshes_packed_weights(engine):
    fill_slot(engine, "A", 1, scale=0.5)
    route = whole_image(["A"])
    before = predict(engine, route)
    with torch.no_grad():
        engine.adapter.parameters_of("A")[1].mul_(3)
    engine.adapter.parameters_changed()
    assert not torch.equal(predict(engine, route), before)


def test_slot_gradients_reach_only_that_slot(engine):
    fill_slot(engine, "A", 1, scale=0.5)
    fill_slot(engine, "B", 2, scale=0.5)
    route, hidden = whole_image(["A"]), torch.randn(1, 1, 48, 16)
    engine.predict(torch.randn(1, 4, 4, 4), torch.tensor([5]), hidden, None, route).sum().backward()
    assert all(p.grad is not None for p in engine.adapter.parameters_of("A"))
    assert all(p.grad is None for p in engine.adapter.parameters_of("B"))
    assert all(p.grad is None for p in engine.base.unet.parameters() if not p.requires_grad)


def test_part_round_trip_restores_slot_and_tokens(engine):
    fill_slot(engine, "SKU.1", 4, scale=0.5)
    engine.text.table.add("<SKU.1:0>", torch.arange(16.0))
    want = predict(engine, whole_image(["SKU.1"]))
    tensors = slot_part(engine, "SKU.1") | token_part(engine, ["<SKU.1:0>"])
    data = encode_part(tensors)
    assert data == encode_part(tensors)
    engine.adapter.drop_slot("SKU.1")
    engine.text.table.add("<SKU.1:0>", torch.zeros(16))
    install_part(engine, data, slot="SKU.1", tokens=["<SKU.1:0>"])
    assert torch.equal(predict(engine, whole_image(["SKU.1"])), want)
    assert torch.equal(engine.text.table.parameter_of("<SKU.1:0>"), torch.arange(16.0))
    assert engine.adapter.slots == {"SKU.1"}


def test_part_of_another_shape_is_refused(engine):
    fill_slot(engine, "A", 4, scale=0.5)
    tensors = slot_part(engine, "A")
    some = next(name for name in tensors if name.endswith(".down"))
    with pytest.raises(ValueError, match="another rank"):
        install_part(engine, encode_part({**tensors, some: torch.zeros(9, 16)}), slot="B")
    with pytest.raises(ValueError, match="expected"):
        install_part(engine, encode_part({**tensors, "slot/else.up": torch.zeros(9)}), slot="B")
    del tensors[some]
    with pytest.raises(ValueError, match="expected"):
        install_part(engine, encode_part(tensors), slot="B")
    with pytest.raises(ValueError, match="token rows"):
        install_part(engine, encode_part({"token/0": torch.zeros(16)}), slot=None, tokens=[])


def test_a_slot_of_fewer_layers_leaves_the_others_as_the_base_has_them(tiny_model_folder):
    """What was learned with attention alone renders as before where more layers are adapted."""
    narrow, wide = (
        open_tiny_engine(tiny_model_folder, adapter=AdapterSettings(rank=2, feed_forward=chosen))
        for chosen in (False, True)
    )
    fill_slot(narrow, "A", 3, scale=0.5)
    assert set(narrow.adapter.layers) < set(wide.adapter.layers)
    extra = set(wide.adapter.layers) - set(narrow.adapter.layers)
    assert all(".ff.net." in name for name in extra)
    install_part(wide, encode_part(slot_part(narrow, "A")), slot="A")
    assert torch.equal(predict(wide, whole_image(["A"])), predict(narrow, whole_image(["A"])))


def test_feed_forward_layers_are_routed_by_region(engine):
    """Of a slot that changes nothing but them, a pixel outside its mask sees no trace."""
    fill_slot(engine, "A", 3, scale=0.5)
    tensors = engine.adapter.slot_tensors("A")
    only = {name: value for name, value in tensors.items() if ".ff.net." in name}
    assert only
    engine.adapter.load_slot("A", only)
    name = next(n for n in engine.adapter.layers_of("A") if n.endswith("ff.net.2"))
    layer = engine.adapter.layers_of("A")[name]
    mask = torch.zeros(1, 2, 4, 4)
    mask[:, 0, :, :2], mask[:, 1, :, 2:] = 1, 1
    hidden = torch.randn(1, 16, layer.base.in_features)
    with engine.adapter.routed(Route((("A", None),), mask)):
        changed = (layer(hidden) - layer.base(hidden)).view(4, 4, -1).abs().sum(-1)
    assert (changed[:, :2] > 0).all()
    assert (changed[:, 2:] == 0).all()


def test_a_new_slot_moves_the_chosen_blocks_and_the_gradient_ends_there(tiny_model_folder):
    engine = open_tiny_engine(tiny_model_folder)
    fill_slot(engine, "A", 1)
    assert {name.partition("_block")[0] for name in engine.adapter.layers} == {"down", "mid", "up"}
    assert {name.partition("_block")[0] for name in engine.adapter.layers_of("A")} == {"mid", "up"}
    reached = []
    engine.base.denoiser.mid_block.register_forward_pre_hook(
        lambda _, args: reached.append(args[0].requires_grad)
    )
    text = torch.randn(1, 1, 48, 16, requires_grad=True)
    latents = torch.randn(1, 4, 4, 4)
    engine.predict(latents, torch.tensor([5]), text, None, whole_image(["A"])).sum().backward()
    assert reached == [False], "the down blocks are no part of the backward pass"
    assert text.grad is not None
    assert bool(text.grad.any())


def test_a_slot_of_other_blocks_is_loaded_and_rendered_as_it_was(tiny_model_folder):
    everywhere = AdapterSettings(rank=2, blocks=("down", "mid", "up"))
    before = open_tiny_engine(tiny_model_folder, adapter=everywhere)
    now = open_tiny_engine(tiny_model_folder)
    fill_slot(before, "A", 3, scale=0.5)
    now.adapter.load_slot("A", before.adapter.slot_tensors("A"))
    with torch.no_grad():
        pictures = [predict(engine, whole_image(["A"])) for engine in (before, now)]
    assert torch.equal(*pictures)
    assert set(now.adapter.layers_of("A")) == set(now.adapter.layers)
