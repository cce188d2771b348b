"""What the headers of a part's weights tell: tiny real networks of every kind of base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    Flux2Transformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from catalog_pipeline.diffusion.base_weights import find_weights_fault
from tests.tiny_model import write_tiny_model

TEXT = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 8} | {
    f"num_{name}": 2 for name in ("hidden_layers", "attention_heads")
}
CLIP = {**TEXT, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
QWEN = {**TEXT, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32}
SEES = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 16}


def qwen_vl() -> nn.Module:
    reads = {**QWEN, "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]}}
    config = Qwen2_5_VLConfig(text_config=reads, vision_config={**SEES, "intermediate_size": 8})
    return Qwen2_5_VLForConditionalGeneration(config)


NETWORKS: dict[str, Callable[[], Any]] = {
    "UNet": lambda: UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=2,
    ),
    "VAE": lambda: AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, sample_size=8),
    "SD3": lambda: SD3Transformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
    ),
    "FLUX.2": lambda: Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ),
    "FLUX.2 VAE": lambda: AutoencoderKLFlux2(
        block_out_channels=(4,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=8,
    ),
    "Qwen-Image": lambda: QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    ),
    "Qwen-Image VAE": lambda: AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False]
    ),
    "CLIP": lambda: CLIPTextModel(CLIPTextConfig(**CLIP)),
    "CLIP with projection": lambda: CLIPTextModelWithProjection(
        CLIPTextConfig(**CLIP, projection_dim=4)
    ),
    "T5": lambda: T5EncoderModel(T5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=8, num_layers=1)),
    "Qwen3, tied": lambda: Qwen3ForCausalLM(Qwen3Config(**QWEN, tie_word_embeddings=True)),
    "Qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**QWEN, tie_word_embeddings=False)),
    "Qwen2.5-VL": qwen_vl,
}


def fault(part: Path, kind: type[nn.Module]) -> str | None:
    return find_weights_fault(part, kind, json.loads((part / "config.json").read_text()))


def change(part: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    (path,) = part.glob("*.safetensors")
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture(params=NETWORKS, name="network")
def _network(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, type[nn.Module]]:
    """A part's folder and its class."""
    torch.manual_seed(0)
    made = NETWORKS[request.param]()
    made.save_pretrained(tmp_path / "part")
    return tmp_path / "part", type(made)


def test_what_the_library_wrote_is_sound_and_less_is_not(network) -> None:
    part, kind = network
    assert fault(part, kind) is None
    (path,) = part.glob("*.safetensors")
    name = max(load_file(path), key=len)

    change(part, lambda tensors: tensors.update({name: torch.zeros(3, 5)}))
    assert f"{name} has the shape (3, 5), expected (" in fault(part, kind)
    change(part, lambda tensors: tensors.pop(name))
    said = fault(part, kind)
    assert said.startswith("no file holds ")
    # The network may call it by a newer name.
    assert f"{'.'.join(name.split('.')[-2:])}: the weights of part are not those of its" in said


def test_shards_are_sound_and_a_shard_of_another_model_is_not(network) -> None:
    part, kind = network
    (path,) = part.glob("*.safetensors")
    tensors = load_file(path)
    path.unlink()
    # By hand, as neither library cuts so small a network in two.
    first, last = (f"{path.stem}-0000{n}-of-00002.safetensors" for n in (1, 2))
    told = {name: (first, last)[n % 2] for n, name in enumerate(tensors)}
    for shard in (first, last):
        held = {name: tensor for name, tensor in tensors.items() if told[name] == shard}
        save_file(held, part / shard, metadata={"format": "pt"})
    index = part / f"{path.name}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": told}))
    assert fault(part, kind) is None

    save_file({"other.weight": torch.zeros(1)}, part / last)
    lost = [name for name, shard in told.items() if shard == last]
    said = fault(part, kind)
    assert said.startswith(f"part/{last} does not hold {lost[0]}")
    assert "a file of another model" in said
    (part / last).unlink()
    assert fault(part, kind).startswith(f"part lacks the weights {last} and holds {first}")
    for garbled in ({}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}):
        index.write_text(json.dumps(garbled))
        assert "has no weight_map of tensors" in fault(part, kind)


def test_of_one_file_and_an_index_that_is_read_which_the_library_reads(tmp_path: Path) -> None:
    for name, told in (("CLIP", None), ("UNet", "lacks the weights gone.safetensors")):
        made = NETWORKS[name]()
        made.save_pretrained(tmp_path / name)
        (path,) = (tmp_path / name).glob("*.safetensors")
        index = path.with_name(f"{path.name}.index.json")
        index.write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
        said = fault(tmp_path / name, type(made))
        assert said is None if told is None else told in said


def test_looking_draws_no_random_number(network) -> None:
    part, kind = network
    before = torch.get_rng_state()
    fault(part, kind)
    assert torch.equal(torch.get_rng_state(), before)


def rename(tensors: dict[str, Tensor], pairs: dict[str, str]) -> None:
    for name in list(tensors):
        new = name
        for ours, theirs in pairs.items():
            new = new.replace(ours, theirs)
        tensors[new] = tensors.pop(name)


def test_the_names_of_older_folders_are_known(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    change(folder / "vae", lambda tensors: rename(tensors, older))
    change(
        folder / "text_encoder",
        lambda tensors: rename(
            tensors,
            {
                "embeddings.": "text_model.embeddings.",
                "encoder.layers": "text_model.encoder.layers",
                "final_layer": "text_model.final_layer",
            },
        ),
    )
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    change(folder / "text_encoder", lambda tensors: tensors.update(positions))
    assert fault(folder / "vae", AutoencoderKL) is None
    assert fault(folder / "text_encoder", CLIPTextModel) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floating_weights_open_in_every_width(tmp_path: Path, dtype: torch.dtype) -> None:
    part = tmp_path / "part"
    NETWORKS["UNet"]().to(dtype).save_pretrained(part)
    assert fault(part, UNet2DConditionModel) is None
    opened = UNet2DConditionModel.from_pretrained(part, torch_dtype=torch.float32)
    assert {tensor.dtype for tensor in opened.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("dtype", "called"),
    [
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
        (torch.int8, "I8"),
        (torch.uint8, "U8"),
    ],
)
@pytest.mark.parametrize("name", ["UNet", "T5"])
def test_numbers_of_eight_bits_are_refused(tmp_path, name, dtype, called) -> None:
    made = NETWORKS[name]()
    made.save_pretrained(tmp_path / "part")
    change(
        tmp_path / "part",
        lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items() if t.ndim > 1}),
    )
    said = fault(tmp_path / "part", type(made))
    assert f"as {called}; expected F32, F16 or BF16" in said
    assert "use the model's folder in bf16, fp16 or fp32" in said


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ("torchao", "torchao"),
    ],
)
def test_a_quantised_part_is_named(tmp_path, written, called) -> None:
    made = NETWORKS["FLUX.2"]()
    made.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": written}))
    assert f"has a quantization_config ({called})" in fault(tmp_path, type(made))


def test_more_layers_than_the_configuration_has_are_not_lost_in_silence(tmp_path) -> None:
    made = NETWORKS["Qwen-Image"]()
    made.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 1}))
    said = fault(tmp_path, type(made))
    assert said.startswith("transformer_blocks.1.")
    assert "more belongs to no layer: the weights" in said


def test_the_part_of_another_class_is_named(tmp_path) -> None:
    NETWORKS["Qwen-Image VAE"]().save_pretrained(tmp_path)
    assert "(it says AutoencoderKLQwenImage, not AutoencoderKL)" in fault(tmp_path, AutoencoderKL)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("UNet", "block_out_channels", "x"),
        ("UNet", "down_block_types", ["OtherBlock"]),
        ("CLIP", "num_attention_heads", 3),
        ("CLIP", "hidden_size", "x"),
        ("Qwen2.5-VL", "text_config", []),
    ],
)
def test_a_configuration_that_makes_no_network_is_refused(tmp_path, name, key, value) -> None:
    made = NETWORKS[name]()
    made.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert f"config.json does not describe a {type(made).__name__}" in fault(tmp_path, type(made))
