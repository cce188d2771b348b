"""LoRA files of other programs: what is written they read, and what they write is read."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from catalog_pipeline.diffusion.export import kohya_state_dict, layer_factors, lora_state_dict
from catalog_pipeline.diffusion.families.interchange import Interchange
from catalog_pipeline.diffusion.lora_files import read_embeddings, read_lora_file
from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
from tests.diffusion.families.test_parity import FAMILIES as PARITY
from tests.diffusion.families.test_parity import PROMPT, SIDE, STEPS, Family, ours
from tests.tiny_model import fill_slot, open_tiny_engine, write_tiny_model

UNGUIDED = SamplingPlan(STEPS, 1.0, SIDE, SIDE, "euler")
DDIM = SamplingPlan(STEPS, 1.0, SIDE, SIDE, "ddim")
LORA = "lora.safetensors"


def sd_picture(pipeline: Any, prompt: str, noise: Tensor, guidance: float) -> Tensor:
    return pipeline(
        prompt, height=SIDE, width=SIDE, num_inference_steps=STEPS,
        guidance_scale=guidance, latents=noise, output_type="pt",
    ).images  # fmt: skip


FAMILIES = {
    "sd": Family(write_tiny_model, StableDiffusionPipeline, sd_picture, rows=True),
    **PARITY,
    "sd3": replace(PARITY["sd3"], rows=True),
}
KOHYA = [name for name in FAMILIES if name != "sd3"]
"""Of Stable Diffusion 3.5 no tool reads kohya's names."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny folder a family, written when first asked for."""

    @cache
    def folder(name: str) -> Path:
        return FAMILIES[name].write(tmp_path_factory.mktemp(name) / "model")

    return folder


@pytest.fixture(scope="module")
def engines(folders: Callable[[str], Path]) -> Callable[[str], DiffusionEngine]:
    """An engine a family, opened once; a test takes it without slots."""

    @cache
    def opened(name: str) -> DiffusionEngine:
        return open_tiny_engine(folders(name))

    def engine(name: str) -> DiffusionEngine:
        for slot in opened(name).adapter.slots:
            opened(name).adapter.drop_slot(slot)
        return opened(name)

    return engine


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def family(name: str) -> Family:
    return FAMILIES[name]


@pytest.fixture
def folder(name: str, folders: Callable[[str], Path]) -> Path:
    return folders(name)


@pytest.fixture
def engine(name: str, engines: Callable[[str], DiffusionEngine]) -> DiffusionEngine:
    return engines(name)


@pytest.fixture
def sd_folder(folders: Callable[[str], Path]) -> Path:
    return folders("sd")


@pytest.fixture
def sd(engines: Callable[[str], DiffusionEngine]) -> DiffusionEngine:
    return engines("sd")


def plan_of(family: Family) -> SamplingPlan:
    return DDIM if family is FAMILIES["sd"] else UNGUIDED


def factors_of(engine: DiffusionEngine, slot: str = "mug") -> dict[str, tuple[Tensor, Tensor]]:
    return {
        layer: tuple(factor.detach() for factor in engine.adapter.factors(routed, slot))
        for layer, routed in engine.adapter.layers_of(slot).items()
    }


def written(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata={"format": "pt", **metadata})
    return path


def read(engine: DiffusionEngine, path: Path):
    return read_lora_file(path, engine.base, engine.adapter.layers)


def deltas(factors: Any) -> dict[str, Tensor]:
    return {layer: up @ down for layer, (down, up) in factors.items()}


def assert_same_change(got: Any, want: Any) -> None:
    assert got.keys() == want.keys()
    for layer, delta in deltas(want).items():
        torch.testing.assert_close(deltas(got)[layer], delta, atol=1e-6, rtol=1e-5)


# --- kohya's names -----------------------------------------------------------


@pytest.mark.parametrize("name", KOHYA)
def test_a_kohya_file_gives_our_picture_in_diffusers(
    family: Family, folder: Path, engine: DiffusionEngine, tmp_path: Path
) -> None:
    plan = plan_of(family)
    fill_slot(engine, "mug", seed=1, scale=0.5)
    written(tmp_path / LORA, kohya_state_dict(factors_of(engine), engine.base.kohya_place))
    pipeline: Any = family.pipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = engine.initial_noise([7], plan)
    before = family.picture(pipeline, PROMPT, noise, 1.0)
    pipeline.load_lora_weights(tmp_path, weight_name=LORA)
    after = family.picture(pipeline, PROMPT, noise, 1.0)
    torch.testing.assert_close(ours(engine, "mug", plan), after, atol=5e-5, rtol=1e-3)
    assert (after - before).abs().max() > 3e-3


def test_what_is_written_in_either_naming_is_read_again(
    name: str, folder: Path, engine: DiffusionEngine, tmp_path: Path
) -> None:
    fill_slot(engine, "mug", seed=1, scale=0.5)
    want = factors_of(engine)
    part = engine.base.denoiser_part
    files = [lora_state_dict(want, part)]
    if name in KOHYA:
        files.append(kohya_state_dict(want, engine.base.kohya_place))
    for number, tensors in enumerate(files):
        found = read(engine, written(tmp_path / f"{number}.safetensors", tensors))
        assert_same_change(found.factors, want)
        assert (found.text_encoder, found.others) == ((), ())
        engine.adapter.load_slot("read", found.slot())
        got = engine.adapter.slot_tensors("read")
        assert_same_change(layer_factors(got, _bare(folder, engine)), want)


def _bare(folder: Path, engine: DiffusionEngine) -> Any:
    kind = engine.base.part_classes[engine.base.denoiser_part]
    return kind.from_pretrained(folder / engine.base.denoiser_part)


def test_files_of_peft_itself_are_scaled_by_their_configuration(
    engine: DiffusionEngine, tmp_path: Path
) -> None:
    """``lora_alpha / r``; another alpha where a pattern says so."""
    fill_slot(engine, "mug", seed=1, scale=0.5)
    want = factors_of(engine)
    one = next(iter(want))
    tensors = {
        name.replace(f"{engine.base.denoiser_part}.", "base_model.model.", 1): value
        for name, value in lora_state_dict(want, engine.base.denoiser_part).items()
    }
    path = written(tmp_path / "adapter_model.safetensors", tensors)
    with pytest.raises(ValueError, match=r"expected that file beside it"):
        read(engine, path)
    config = {"r": 2, "lora_alpha": 8, "alpha_pattern": {one: 2}, "use_dora": False}
    path.with_name("adapter_config.json").write_text(json.dumps(config))
    scaled = {layer: (down * (1 if layer == one else 4), up) for layer, (down, up) in want.items()}
    assert_same_change(read(engine, path).factors, scaled)


def test_learned_rows_are_what_the_family_says(family: Family, engine: DiffusionEngine) -> None:
    assert engine.base.learns_rows is family.rows
    assert engine.text.rows_of(2) == (2 if family.rows else 0)
    assert bool(engine.text.rows_of_words("red mug")) is family.rows


def test_the_call_in_a_readme_is_one_of_the_pipeline(
    name: str, family: Family, engine: DiffusionEngine
) -> None:
    base = engine.base
    taken = inspect.signature(family.pipeline.__call__).parameters
    for guidance in (1.0, 4.0):
        (call,) = ast.parse(f"pipe({base.call_arguments(20, guidance)}, {base.noise_code})").body
        named = {keyword.arg: keyword.value for keyword in call.value.keywords}
        assert named.keys() <= taken.keys()
        assert named[base.guidance_argument].value == guidance
        # A pipeline with such a scale guides where it has a negative prompt, and only there.
        by_prompt = base.guidance_argument == "true_cfg_scale" and guidance > 1
        assert ("negative_prompt" in named) is by_prompt
    sampler = "dpmsolver++" if name in ("sd", "xl") else "euler"
    assert base.pipeline_sampler("dpmsolver++") == sampler


def test_a_family_without_kohya_names_says_so() -> None:
    class Other(Interchange):
        title = "Some Other"

    with pytest.raises(ValueError, match=r"Some Other has no kohya names.*--format lora"):
        Other().kohya_place("blocks.0.to_q")


def test_fused_layers_without_a_change_are_zeros(
    engines: Callable[[str], DiffusionEngine], tmp_path: Path
) -> None:
    engine = engines("klein")
    fill_slot(engine, "mug", seed=1, scale=0.5)
    want = {k: v for k, v in factors_of(engine).items() if not k.endswith(("to_k", "add_q_proj"))}
    tensors = kohya_state_dict(want, engine.base.kohya_place)
    assert tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"].shape[0] == 6
    assert float(tensors["lora_unet_double_blocks_0_img_attn_qkv.alpha"]) == 6.0
    assert_same_change(read(engine, written(tmp_path / LORA, tensors)).factors, want)


def test_every_layer_that_kohya_trains_in_an_xl_is_read(
    engines: Callable[[str], DiffusionEngine], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """All linear layers of its attention stacks, those of the way down and around them too."""
    engine, xl = engines("xl"), FAMILIES["xl"]
    layers = [
        name
        for name, module in _bare(folders("xl"), engine).named_modules()
        if ".attentions." in name and isinstance(module, nn.Linear)
    ]
    assert any(name.startswith("down_blocks") and name.endswith("proj_in") for name in layers)
    generator, want = torch.Generator().manual_seed(0), {}
    for layer in layers:
        out_width, in_width = engine.adapter.layers[layer].base.weight.shape
        down = 0.3 * torch.randn(3, in_width, generator=generator)
        want[layer] = (down, 0.3 * torch.randn(out_width, 3, generator=generator))
    path = written(tmp_path / LORA, kohya_state_dict(want, engine.base.kohya_place))
    found = read(engine, path)
    assert found.others == ()
    assert_same_change(found.factors, want)
    engine.adapter.load_slot("mug", found.slot())
    pipeline: Any = xl.pipeline.from_pretrained(folders("xl"), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(tmp_path, weight_name=LORA)
    theirs = xl.picture(pipeline, PROMPT, engine.initial_noise([7], UNGUIDED), 1.0)
    torch.testing.assert_close(ours(engine, "mug", UNGUIDED), theirs, atol=5e-4, rtol=1e-3)


# --- scales and ranks --------------------------------------------------------


@pytest.mark.parametrize("alphas", [(3.0, 3.0), (0.5, 4.0)])
def test_alphas_are_multiplied_in_and_every_layer_keeps_its_rank(
    sd: DiffusionEngine, sd_folder: Path, tmp_path: Path, alphas: tuple[float, float]
) -> None:
    """As a slow loop has it; where all alphas are one, as diffusers renders the same file.

    Of several alphas diffusers 0.42 finds those of a UNet's attention under no name, and warns.
    """
    generator = torch.Generator().manual_seed(0)
    tensors, want = {}, {}
    for number, (layer, routed) in enumerate(sd.adapter.layers.items()):
        out_width, in_width = routed.base.weight.shape
        rank, alpha = 1 + number % 3, alphas[number % 2]
        down = 0.4 * torch.randn(rank, in_width, generator=generator)
        up = 0.4 * torch.randn(out_width, rank, generator=generator)
        name = f"lora_unet_{layer.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = down, up
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
        want[layer] = (down * alpha / rank, up)
    path = written(tmp_path / LORA, tensors)
    found = read(sd, path)
    assert_same_change(found.factors, want)
    if len(set(alphas)) > 1:
        return
    sd.adapter.load_slot("mug", found.slot())
    pipeline: Any = StableDiffusionPipeline.from_pretrained(sd_folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(tmp_path, weight_name=LORA)
    noise = sd.initial_noise([7], DDIM)
    theirs = sd_picture(pipeline, PROMPT, noise, 1.0)
    torch.testing.assert_close(ours(sd, "mug", DDIM), theirs, atol=5e-4, rtol=1e-3)


def test_the_metadata_of_diffusers_scales_as_it_does_there(
    sd: DiffusionEngine, sd_folder: Path, tmp_path: Path
) -> None:
    fill_slot(sd, "mug", seed=1, scale=0.5)
    tensors = lora_state_dict(factors_of(sd))
    targets = sorted({layer.removeprefix("unet.") for layer in factors_of(sd)})
    metadata = {"unet.r": 2, "unet.lora_alpha": 3, "unet.target_modules": targets}
    path = written(tmp_path / LORA, tensors, lora_adapter_metadata=json.dumps(metadata))
    found = read(sd, path)
    scaled = {layer: (down * 1.5, up) for layer, (down, up) in factors_of(sd).items()}
    assert_same_change(found.factors, scaled)
    sd.adapter.load_slot("read", found.slot())
    pipeline: Any = StableDiffusionPipeline.from_pretrained(sd_folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(tmp_path, weight_name=LORA)
    theirs = sd_picture(pipeline, PROMPT, sd.initial_noise([7], DDIM), 1.0)
    torch.testing.assert_close(ours(sd, "read", DDIM), theirs, atol=5e-4, rtol=1e-3)
    rank_stable = metadata | {"unet.use_rslora": True}
    path = written(tmp_path / LORA, tensors, lora_adapter_metadata=json.dumps(rank_stable))
    scaled = {layer: (down * 3 / 2**0.5, up) for layer, (down, up) in factors_of(sd).items()}
    assert_same_change(read(sd, path).factors, scaled)


def test_slots_of_any_rank_are_loaded_and_share_a_picture(sd: DiffusionEngine) -> None:
    fill_slot(sd, "A", seed=1)
    wide = slot_of_rank(sd, 5)
    sd.adapter.load_slot("B", wide)
    assert not sd.adapter.is_as_set("B")
    assert sd.adapter.is_as_set("A")
    alone = [ours(sd, slot, DDIM) for slot in ("A", "B")]
    assert not torch.allclose(*alone, atol=1e-3)
    assert sd.adapter.slot_tensors("B").keys() == wide.keys()
    broken = dict(wide)
    broken[next(iter(broken))] = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="has shape"):
        sd.adapter.load_slot("C", broken)


def slot_of_rank(engine: DiffusionEngine, rank: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    tensors = {}
    for layer, routed in engine.adapter.layers_of("A").items():
        out_width, in_width = routed.base.weight.shape
        tensors[f"{layer}.down"] = torch.randn(rank, in_width, generator=generator) * 0.3
        tensors[f"{layer}.up"] = torch.randn(out_width, rank, generator=generator) * 0.3
    return tensors


def test_the_factors_of_a_slot_are_of_one_size(sd: DiffusionEngine, tmp_path: Path) -> None:
    """A scale in one factor alone would be lost in the half precision of a stored slot."""
    fill_slot(sd, "mug", seed=1, scale=0.5)
    want = {layer: (down * 1e-7, up) for layer, (down, up) in factors_of(sd).items()}
    slot = read(sd, written(tmp_path / LORA, lora_state_dict(want))).slot()
    halves = {name: value.half().float() for name, value in slot.items()}
    for layer, (down, up) in want.items():
        got = halves[f"{layer}.up"] @ halves[f"{layer}.down"]
        torch.testing.assert_close(got, up @ down, atol=2e-10, rtol=5e-2)


# --- what is refused, and what is left ---------------------------------------


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("lora_unet_x.dora_scale", "it is DoRA"),
        ("unet.x.lora_magnitude_vector.weight", "it is DoRA"),
        ("lora_unet_x.lokr_w1", "it is LoKr"),
        ("lora_unet_x.hada_w1_a", "it is LoHa"),
        ("lora_unet_x.lora_mid.weight", "Tucker"),
        ("diffusion_model.x.diff_b", "it is whole weights"),
        ("unet.conv_in.weight", "1 of its 1 tensors are none of a LoRA, such as unet.conv_in"),
    ],
)
def test_other_kinds_of_change_are_named(
    sd: DiffusionEngine, tmp_path: Path, tensor: str, kind: str
) -> None:
    with pytest.raises(ValueError, match=kind):
        read(sd, written(tmp_path / LORA, {tensor: torch.ones(2, 2)}))


def test_no_pickle_is_opened_and_no_part_of_a_file(sd: DiffusionEngine, tmp_path: Path) -> None:
    pickled = tmp_path / "lora.pt"
    pickled.write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="pickled weights are never opened"):
        read(sd, pickled)
    with pytest.raises(ValueError, match="pickled weights are never opened"):
        read_embeddings(pickled, sd.base)
    cut = tmp_path / LORA
    cut.write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read(sd, cut)


def test_a_lora_of_another_base_is_refused(
    sd: DiffusionEngine, engines: Callable[[str], DiffusionEngine], tmp_path: Path
) -> None:
    for kind, words in (("klein", "of its 14 layers none"), ("xl", "was it trained on another")):
        other = engines(kind)
        fill_slot(other, "mug", seed=1)
        tensors = lora_state_dict(factors_of(other), other.base.denoiser_part)
        with pytest.raises(ValueError, match=words):
            read(sd, written(tmp_path / LORA, tensors))


def test_half_a_layer_and_numbers_that_are_none_are_refused(
    sd: DiffusionEngine, tmp_path: Path
) -> None:
    fill_slot(sd, "mug", seed=1)
    tensors = lora_state_dict(factors_of(sd))
    name = next(name for name in tensors if "lora_B" in name)
    with pytest.raises(ValueError, match="not finite"):
        read(sd, written(tmp_path / LORA, {**tensors, name: tensors[name] / 0}))
    del tensors[name]
    with pytest.raises(ValueError, match="one of the two factors"):
        read(sd, written(tmp_path / LORA, tensors))


def test_layers_that_the_adapter_lacks_are_counted(sd: DiffusionEngine, tmp_path: Path) -> None:
    """Text encoders, convolutions, unknown names; a layer whose change is zero does not count."""
    fill_slot(sd, "mug", seed=1)
    tensors = kohya_state_dict(factors_of(sd), sd.base.kohya_place)
    more = {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (2, 16),
        "lora_unet_down_blocks_1_attentions_0_proj_in": (2, 16, 1, 1),
        "lora_unet_somewhere_else": (2, 16),
    }
    for name, shape in more.items():
        tensors[f"{name}.lora_down.weight"] = torch.ones(shape)
        tensors[f"{name}.lora_up.weight"] = torch.ones(16, 2, *shape[2:])
    silent = "lora_unet_mid_block_attentions_0_proj_out"
    tensors[f"{silent}.lora_down.weight"] = torch.ones(2, 16, 1, 1)
    tensors[f"{silent}.lora_up.weight"] = torch.zeros(16, 2, 1, 1)
    found = read(sd, written(tmp_path / LORA, tensors))
    assert_same_change(found.factors, factors_of(sd))
    assert found.text_encoder == ("lora_te_text_model_encoder_layers_0_self_attn_q_proj",)
    assert len(found.others) == 2
    assert found.others[0] == "down_blocks.1.attentions.0.proj_in"


# --- what names a product ----------------------------------------------------


def test_embeddings_are_read_as_they_are_written(
    engines: Callable[[str], DiffusionEngine], tmp_path: Path
) -> None:
    for kind, width in (("sd", 16), ("xl", 40)):
        base = engines(kind).base
        rows = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
        path = written(tmp_path / "rows.safetensors", base.inversion_state_dict("<mug>", rows))
        assert torch.equal(read_embeddings(path, base), rows)
        path = written(tmp_path / "rows.safetensors", {"emb_params": torch.ones(2, 7)})
        with pytest.raises(ValueError, match=r"emb_params.*expected \(tokens, 16\)"):
            read_embeddings(path, base)
    with pytest.raises(ValueError, match="learns no rows"):
        read_embeddings(path, engines("klein").base)


def test_rows_of_a_trigger_read_as_its_words(engines: Callable[[str], DiffusionEngine]) -> None:
    for kind in ("sd", "xl"):
        text = engines(kind).text
        rows = text.rows_of_words("red clock")
        tokens = [f"<mug:{number}>" for number in range(len(rows))]
        text.load(dict(zip(tokens, rows, strict=True)))
        plain = text.encode(["a photo of a red clock mug"])
        assert torch.equal(text.encode([f"a photo of a {' '.join(tokens)} mug"]), plain)
