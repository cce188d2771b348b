"""Export in tensors: LoRA keys as diffusers converts them, exact factors, vocabulary."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from catalog_pipeline.diffusion.export import (
    inversion_token,
    layer_factors,
    lora_state_dict,
    merge_factors,
)
from catalog_pipeline.diffusion.parts import encode_part, stored_slot, stored_tokens
from catalog_pipeline.diffusion.text import add_tokens


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(6, 4, bias=False)
        self.tall = nn.Linear(5, 9, bias=False)
        self.requires_grad_(False)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_stored_part_is_read_by_its_names() -> None:
    tensors = {"slot/wide.down": random(2, 6).half(), "token/1": random(3), "token/0": random(3)}
    data = encode_part(tensors)
    assert stored_slot(data).keys() == {"wide.down"}
    assert stored_slot(data)["wide.down"].dtype == torch.float32
    for index, row in enumerate(stored_tokens(data, 2)):
        assert torch.equal(row, tensors[f"token/{index}"])
    with pytest.raises(ValueError, match="0 token rows, expected 1"):
        stored_tokens(encode_part({"slot/wide.down": random(2, 6)}), 1)


@pytest.mark.parametrize("kind", ["low_rank", "dense", "spectral_shift"])
def test_merging_adds_the_change_of_a_slow_loop(kind: str) -> None:
    unet = TwoLayers()
    before = {"wide": unet.wide.weight.clone(), "tall": unet.tall.weight.clone()}
    slot, want = {}, {}
    for layer, weight in before.items():
        out, inner = weight.shape
        if kind == "low_rank":
            down, up = random(2, inner), random(out, 2, seed=1)
            slot |= {f"{layer}.down": down, f"{layer}.up": up}
            want[layer] = weight + sum(torch.outer(up[:, i], down[i]) for i in range(2))
        elif kind == "dense":
            slot[f"{layer}.delta"] = random(out, inner)
            want[layer] = weight + random(out, inner)
        else:
            shift = random(min(out, inner))
            slot[f"{layer}.shift"] = shift
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            moved = (values + shift).clamp(min=0)
            want[layer] = sum(
                moved[i] * torch.outer(left[:, i], right[i]) for i in range(len(values))
            )
    merge_factors(unet, layer_factors(slot, unet))
    torch.testing.assert_close(unet.wide.weight, want["wide"])
    torch.testing.assert_close(unet.tall.weight, want["tall"])


def test_a_slot_of_another_base_or_kind_is_refused() -> None:
    unet = TwoLayers()
    with pytest.raises(ValueError, match="no layer other"):
        layer_factors({"other.delta": random(4, 6)}, unet)
    with pytest.raises(ValueError, match="expected"):
        layer_factors({"wide.delta": random(6, 4)}, unet)
    with pytest.raises(ValueError, match="holds the tensors scale"):
        layer_factors({"wide.scale": random(4)}, unet)


def products(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``lora_B @ lora_A`` of every layer: what a reader adds to the weight at scale 1."""
    layers = {name.partition(".lora_")[0].removeprefix("unet.") for name in state}
    return {
        layer: state[f"unet.{layer}.lora_B.weight"] @ state[f"unet.{layer}.lora_A.weight"]
        for layer in layers
    }


def test_low_rank_factors_are_written_as_they_are() -> None:
    down, up = random(2, 6), random(4, 2, seed=1)
    state = lora_state_dict({"wide": (down, up)})
    assert torch.equal(state["unet.wide.lora_A.weight"], down)
    assert torch.equal(state["unet.wide.lora_B.weight"], up)


def test_a_dense_change_of_low_rank_becomes_an_exact_lora() -> None:
    unet = TwoLayers()
    delta = {
        "wide.delta": random(4, 1) @ random(1, 6, seed=1),
        "tall.delta": random(9, 3, seed=2) @ random(3, 5, seed=3),
    }
    state = lora_state_dict(layer_factors(delta, unet))
    assert {t.shape[0] for n, t in state.items() if "lora_A" in n} == {3}, "one rank for all layers"
    for layer, product in products(state).items():
        torch.testing.assert_close(product, delta[f"{layer}.delta"], atol=1e-5, rtol=1e-5)


def test_a_spectral_shift_of_few_values_becomes_an_exact_lora() -> None:
    unet = TwoLayers()
    shift = torch.tensor([0.0, 0.3, 0.0, -9.0])
    state = lora_state_dict(layer_factors({"wide.shift": shift}, unet))
    assert state["unet.wide.lora_A.weight"].shape == (2, 6)
    left, values, right = torch.linalg.svd(unet.wide.weight, full_matrices=False)
    want = left @ torch.diag(torch.relu(values + shift) - values) @ right
    torch.testing.assert_close(products(state)["wide"], want, atol=1e-5, rtol=1e-5)


def test_a_change_whose_lora_would_be_larger_than_itself_is_refused() -> None:
    unet = TwoLayers()
    factors = layer_factors({"wide.delta": random(4, 3) @ random(3, 6, seed=1)}, unet)
    with pytest.raises(ValueError, match=r"wide \(4 x 6\) has rank 3; a LoRA of rank above 2 "):
        lora_state_dict(factors)


def test_diffusers_reads_the_keys_as_a_lora_of_the_unet(engine, tmp_path) -> None:
    """Its own reader, with or without peft in the environment."""
    slot = {
        f"{name}.{key}": random(*shape)
        for name, layer in engine.adapter.layers.items()
        for key, shape in engine.adapter.parametrisation.shapes(layer.base.weight).items()
    }
    bare = type(engine.base.unet).from_config(engine.base.unet.config)
    state = lora_state_dict(layer_factors(slot, bare))
    save_file(state, tmp_path / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
    read, alphas = StableDiffusionPipeline.lora_state_dict(
        tmp_path, weight_name="pytorch_lora_weights.safetensors"
    )
    assert not alphas
    assert read.keys() == state.keys()
    paths = {name.partition(".lora_")[0].removeprefix("unet.") for name in read}
    assert paths == set(engine.adapter.layers)
    assert all(isinstance(bare.get_submodule(path), nn.Linear) for path in paths)


def test_tokens_join_the_vocabulary_as_they_are_written(tiny_model_folder, tmp_path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tiny_model_folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(tiny_model_folder / "text_encoder")
    table = encoder.get_input_embeddings().weight.detach().clone()
    rows = {f"<{name}:0>": random(16, seed=i) for i, name in enumerate(["A.1", "a.1", "B-2"])}
    add_tokens(tokenizer, encoder, rows)
    after = encoder.get_input_embeddings().weight
    assert torch.equal(after[: len(table)], table)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    ids = again("a <A.1:0> mug, <B-2:0><a.1:0>", add_special_tokens=False).input_ids
    plain = again("a mug,", add_special_tokens=False).input_ids
    assert [i for i in ids if i < len(table)] == plain
    found = [after[i] for i in ids if i >= len(table)]
    for row, token in zip(found, ["<A.1:0>", "<B-2:0>", "<a.1:0>"], strict=True):
        assert torch.equal(row, rows[token])
    with pytest.raises(ValueError, match=r"already holds <A\.1:0>"):
        add_tokens(tokenizer, encoder, rows)


def test_a_token_table_larger_than_the_vocabulary_keeps_its_size(tiny_model_folder) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tiny_model_folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(tiny_model_folder / "text_encoder")
    encoder.resize_token_embeddings(4000, mean_resizing=False)
    add_tokens(tokenizer, encoder, {"<A:0>": random(16)})
    table = encoder.get_input_embeddings().weight
    assert len(table) == 4000
    assert torch.equal(table[tokenizer.convert_tokens_to_ids("<A:0>")], random(16))


def test_an_inversion_is_one_tensor_of_all_rows_in_lower_case(engine) -> None:
    rows = random(2, 16)
    state = engine.base.inversion_state_dict(inversion_token("Mug.1"), rows)
    assert state.keys() == {"<mug.1>"}
    assert torch.equal(state["<mug.1>"], rows)
