"""What learning leaves behind: where photos are shown, and that nothing else decodes to one.

docs/governance/data.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError
from safetensors.numpy import load
from safetensors.torch import save

from catalog_pipeline.learning import trainer
from catalog_pipeline.learning.pool import TrainingPool
from catalog_pipeline.settings import Settings
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.progress import SilentProgress
from tests.workflows.tiny_catalog import learn_all, tiny_settings, with_learning, write_photos

SNIPPET_BYTES = 48
"""So many bytes in a row are no chance."""


class PowerCutError(BaseException):
    """The process is gone."""


class CutAt(SilentProgress):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self.left -= count
        if self.left <= 0:
            raise PowerCutError


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[TrainingPool]:
    """The latents of every photo that is trained on, as they are made."""
    made: list[TrainingPool] = []
    make = trainer.training_pool

    def noted(*arguments, **options) -> TrainingPool:
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(trainer, "training_pool", noted)
    return made


@pytest.fixture
def tiny(make_settings, tiny_model_folder) -> Settings:
    settings = tiny_settings(make_settings, tiny_model_folder)
    write_photos(settings, "A", 1)
    return settings


def stored(objects: ObjectStore) -> dict[str, bytes]:
    """Everything but the watched folder, which holds the photos themselves."""
    keys = [key for key in objects.list("") if not key.startswith("products/")]
    return {key: objects.read(key).data for key in keys}


def pictures(objects: ObjectStore) -> list[str]:
    """The keys whose bytes open as a picture, or hold one in text."""
    return [key for key, data in stored(objects).items() if _is_picture(data)]


def _is_picture(data: bytes) -> bool:
    if b"data:image" in data:
        return True
    try:
        Image.open(BytesIO(data)).load()
    except (UnidentifiedImageError, OSError):
        return False
    return True


def holding(objects: ObjectStore, settings: Settings, pools: list[TrainingPool]) -> list[str]:
    """The keys whose bytes hold a piece of a photo, as file, pixels or latents."""
    pieces = list(_pieces(settings, pools))
    return [k for k, data in stored(objects).items() if any(piece in data for piece in pieces)]


def _pieces(settings: Settings, pools: list[TrainingPool]) -> Iterator[bytes]:
    for path in settings.catalog_root.glob("*/*.png"):
        data = path.read_bytes()
        yield data[len(data) // 2 :][:SNIPPET_BYTES]
        pixels = np.asarray(Image.open(path).convert("RGB"))
        yield pixels[40, 26:].tobytes()[:SNIPPET_BYTES]  # across the edge of the product
    for latents in (views.latents for pool in pools for views in pool.sizes):
        for latent in latents:
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                row = latent.flatten().to(dtype).view(torch.uint8)
                yield row.numpy().tobytes()[:SNIPPET_BYTES]


def test_a_learned_product_leaves_no_photo(tiny, pools):
    objects = open_home(tiny).objects
    assert learn_all(tiny)["A"].status == "learned"
    assert pools
    assert pictures(objects) == []
    assert holding(objects, tiny, pools) == []
    (latents,) = {views.latents for views in pools[0].sizes[:1]}
    objects.put("collections/default/staging/latents", save({"x": latents.contiguous()}))
    objects.put("catalog/photo", next(tiny.catalog_root.glob("A/*.png")).read_bytes())
    assert holding(objects, tiny, pools) == ["catalog/photo", "collections/default/staging/latents"]
    assert pictures(objects) == ["catalog/photo"]


def test_a_checkpoint_holds_weights_and_moments_and_no_latent(tiny, pools):
    home = open_home(tiny)
    refresh_index(home)
    with pytest.raises(PowerCutError):
        list(learn_concepts(home, progress=CutAt(3)))
    (key,) = home.objects.list("collections/default/staging/")
    names = load(home.objects.read(key).data)
    assert {name.partition("/")[0] for name in names} == {"parameter", "optimizer", "extra"}
    assert {name for name in names if name.startswith("extra/")} == {
        "extra/schedule",
        "extra/elastic",
        "extra/recent",
    }
    assert holding(home.objects, tiny, pools) == []
    assert pictures(home.objects) == []


def test_a_refused_candidate_shows_photos_in_one_place(tiny, pools):
    objects = open_home(tiny).objects
    assert (
        learn_all(with_learning(tiny, gate_max_color_shift=0.0, gate_min_fidelity_share=1.0))[
            "A"
        ].status
        == "failed"
    )
    (shown,) = pictures(objects)
    assert shown.startswith("collections/default/quarantine/A-")
    assert shown.endswith("/pictures.png")
    assert holding(objects, tiny, pools) == []
