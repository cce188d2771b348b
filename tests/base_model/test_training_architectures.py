"""The program builds exactly the networks whose weights are shipped."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors import safe_open

from catalog_pipeline.base_model import EMBEDDED_WEIGHTS
from catalog_pipeline.base_model.training import architectures
from catalog_pipeline.base_model.training.presets import Architecture

WRITTEN_BY = {"_class_name", "_diffusers_version", "architectures", "dtype", "transformers_version"}


def shipped_config(part: str, file: str = "config.json") -> dict[str, Any]:
    config: dict[str, Any] = json.loads((EMBEDDED_WEIGHTS / part / file).read_text())
    return {key: value for key, value in config.items() if key not in WRITTEN_BY}


def shipped_shapes(part: str, file: str) -> dict[str, list[int]]:
    with safe_open(EMBEDDED_WEIGHTS / part / file, framework="pt") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    text = shipped_config("text_encoder")
    with torch.device("meta"):
        unet = architectures.unet()
    return {
        "vae": architectures.vae(),
        "unet": unet,
        "text_encoder": architectures.text_encoder(
            text["vocab_size"], text["bos_token_id"], text["eos_token_id"]
        ),
    }


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_configs_are_those_of_the_shipped_weights(networks: dict[str, Any], part: str) -> None:
    built = json.loads(networks[part].to_json_string())
    expected = shipped_config(part)
    built["scaling_factor"] = expected.get("scaling_factor")  # measured on the bank
    assert {key: built.get(key) for key in expected} == expected


def test_text_config_is_that_of_the_shipped_weights(networks: dict[str, Any]) -> None:
    built = networks["text_encoder"].config.to_dict()
    expected = shipped_config("text_encoder")
    assert {key: built.get(key) for key in expected} == expected


def test_scheduler_config_is_the_shipped_one() -> None:
    built = json.loads(architectures.scheduler().to_json_string())
    expected = shipped_config("scheduler", "scheduler_config.json")
    assert {key: built.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ],
)
def test_weights_have_the_shipped_names_and_shapes(
    networks: dict[str, Any], part: str, file: str
) -> None:
    built = {name: list(value.shape) for name, value in networks[part].state_dict().items()}
    assert built == shipped_shapes(part, file)


def test_posterior_has_one_small_spread_whatever_the_picture(networks: dict[str, Any]) -> None:
    with torch.no_grad():
        posterior = networks["vae"].encode(torch.rand(1, 3, 32, 32) * 2 - 1).latent_dist
    spread = torch.full_like(posterior.std, architectures.POSTERIOR_STD)
    torch.testing.assert_close(posterior.std, spread)


def test_a_narrow_autoencoder_can_still_answer_with_the_tone_it_was_given() -> None:
    torch.manual_seed(0)
    narrow = architectures.vae(Architecture(image_px=32, vae_channels=(16, 16, 16)))
    with torch.no_grad():
        latents = torch.randn(2, 4, 1, 1).expand(2, 4, 8, 8)
        dark, bright = narrow.decode(latents).sample.mean((2, 3))
    # With this seed: 0.025; with one channel a normalisation group 0.007.
    assert (dark - bright).abs().max() > 0.015
