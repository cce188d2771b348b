"""Fixtures for every room: a clean environment, photos, settings, and a real S3 server."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

from catalog_pipeline.settings import S3Settings, Settings
from tests.network_guard import guard
from tests.s3_server import S3Server, running_s3_server

# Examples are judged, not timed: machines are noisy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

LONG_FILES = (
    "test_demo.py",
    "test_families_line.py",
    "test_cli_line.py",
    "test_forgetting.py",
    "test_import_lora.py",
    "test_learn_concepts.py",
    "test_evaluate.py",
    "test_acceleration.py",
    "test_trainer.py",
    "test_verify.py",
    "test_same_bytes.py",
    "test_memory_need.py",
)
"""A third of the suite's time. They start first, so that of two workers none ends long before
the other."""

TEST_DATA_ENV = "CATALOG_PIPELINE_TEST_DATA"

# Dagster's nights begin where the home's do, read once when the definitions load; tests render
# nights of many dates on new homes.
FIRST_DAY_ENV = "CATALOG_PIPELINE_FIRST_DAY"
os.environ[FIRST_DAY_ENV] = "2026-01-01"

_REFUSED: list[str] = []
guard(_REFUSED.append)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; everything else stays in its order."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        if {"defs", "faults"} & set(item.path.parts[len(Path(__file__).parent.parts) :]):
            # Warnings are errors, and Dagster's own code raises these about itself.
            for warning in ("BetaWarning", "PreviewWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::dagster.{warning}"))


MaskMemory = dict[tuple[tuple[int, ...], bytes], np.ndarray]


@pytest.fixture(autouse=True, scope="session")
def masks_are_estimated_once() -> Iterator[MaskMemory]:
    """The same photos return in most tests; one network looks at each once a process."""
    from catalog_pipeline.evaluation.product_mask import ProductMasker

    estimate = ProductMasker._saliency
    masks: MaskMemory = {}

    def remembered(self: ProductMasker, pixels: np.ndarray) -> np.ndarray:
        key = (pixels.shape, pixels.tobytes())
        if key not in masks:
            masks[key] = estimate(self, pixels)
        return masks[key].copy()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ProductMasker, "_saliency", remembered)
        yield masks


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("CATALOG_PIPELINE_") and name not in (TEST_DATA_ENV, FIRST_DAY_ENV):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def refused_connections() -> Iterator[list[str]]:
    """What this process tried to reach beyond this machine; where any is left, the test fails."""
    yield _REFUSED
    found = _REFUSED.copy()
    _REFUSED.clear()
    if found:
        pytest.fail("no test reaches beyond this machine; this one tried: " + "; ".join(found))


@pytest.fixture(scope="session", name="test_data")
def _test_data() -> Path:
    """The folder of real photos; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get(TEST_DATA_ENV, beside))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set {TEST_DATA_ENV} to a folder that has it")
    return folder


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """``make_settings(catalog={"settle_seconds": 0}, ...)``: settings over a scratch home.

    The home is ``tmp_path/home`` and the watched folder ``tmp_path/home/products``;
    both are created. Keyword arguments are the sections of ``Settings``.
    """

    def make(**sections: Any) -> Settings:
        home = tmp_path / "home"
        config_dir = tmp_path / "assets_config"
        config_dir.mkdir(parents=True, exist_ok=True)
        settings = Settings.model_validate({"home": home, "config_dir": config_dir, **sections})
        home.mkdir(parents=True, exist_ok=True)
        settings.catalog_root.mkdir(parents=True, exist_ok=True)
        return settings

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Default settings over a scratch home."""
    return make_settings()


@pytest.fixture
def make_photo() -> Callable[..., Path]:
    """``make_photo(path, seed=0, size=(96, 80))``: a small photo whose pixels follow the seed.

    ``size`` is (width, height) in pixels, ``mode`` the mode of the file; the format
    follows the extension; ``age_seconds`` dates the file that far back.
    """

    def make(
        path: Path,
        *,
        seed: int = 0,
        size: tuple[int, int] = (96, 80),
        mode: str = "RGB",
        age_seconds: float = 3600.0,
        **save_options: Any,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
        picture.save(path, **save_options)
        then = time.time() - age_seconds
        os.utime(path, (then, then))
        return path

    return make


@pytest.fixture
def few_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample products of three photos, the fewest that are learned: a night masks each of them."""
    from catalog_pipeline.studio import sample_catalog

    monkeypatch.setattr(sample_catalog, "PHOTOS_PER_SKU", 3)
    monkeypatch.setattr(sample_catalog, "_AZIMUTHS", sample_catalog._AZIMUTHS[:3])


@pytest.fixture(scope="session", autouse=True)
def _each_mask_is_estimated_once() -> Iterator[None]:
    """What the mask network said of the same pixels is kept: many tests use the same photos."""
    from catalog_pipeline.evaluation.product_mask import ProductMasker

    known: dict[tuple[tuple[int, ...], str], Any] = {}
    estimate = ProductMasker._saliency

    def saliency(masker: ProductMasker, pixels: Any) -> Any:
        key = pixels.shape, hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
        if key not in known:
            known[key] = estimate(masker, pixels)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProductMasker, "_saliency", saliency)
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on 127.0.0.1, one a test session, which it does not outlive."""
    with running_s3_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def s3_settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Settings:
    """An empty prefix of the test bucket, with the credentials in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.settings(prefix=f"test-{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny v-prediction Stable Diffusion folder of real classes with random weights."""
    from tests.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def engine(tiny_model_folder: Path) -> Any:
    """A fresh fp32 engine over the tiny model: rank 2, a slot per concept."""
    from tests.tiny_model import open_tiny_engine

    return open_tiny_engine(tiny_model_folder)
