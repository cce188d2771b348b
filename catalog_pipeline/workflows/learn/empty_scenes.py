"""Empty scenes of the base, onto which cut-out products are placed for training.

Rendering them takes as long as learning a product, and they depend on the base and the
settings alone. So they are rendered once a home, and those of the embedded base at the
shipped settings come with the package (``make empty-scenes`` renders them anew).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from catalog_pipeline.base_model import EMPTY_SCENES
from catalog_pipeline.canonical_json import canonical_sha256
from catalog_pipeline.settings import LearningSettings, load_settings

if TYPE_CHECKING:
    from catalog_pipeline.diffusion.sampling import DiffusionEngine, SamplingPlan
    from catalog_pipeline.learning.augmentation import Backdrop
    from catalog_pipeline.stores.objects import ObjectStore


def load_backdrops(
    engine: DiffusionEngine, plan: SamplingPlan, settings: LearningSettings, objects: ObjectStore
) -> tuple[Backdrop, ...]:
    """``backdrops_per_scene`` pictures of each of ``scenes``: shipped, cached, or rendered now."""
    from catalog_pipeline.learning.memory import decode_backdrops, encode_backdrops

    if not _phrases(settings):
        return ()
    key = backdrops_key(engine.base.content_hash, plan, settings)
    shipped = EMPTY_SCENES / key
    if shipped.exists():
        return decode_backdrops(shipped.read_bytes())
    if objects.exists(key):
        return decode_backdrops(objects.read(key).data)
    backdrops = render(engine, plan, settings)
    objects.put(key, encode_backdrops(backdrops))
    return backdrops


def backdrops_key(base_hash: str, plan: SamplingPlan, settings: LearningSettings) -> str:
    """Where they are kept, in a home and in the package: names all that they depend on."""
    asked = canonical_sha256(
        {"phrases": _phrases(settings), "seed": settings.seed, "plan": repr(plan)}
    )
    return f"base/{base_hash[:16]}/backdrops-{asked[:16]}.safetensors"


def render(
    engine: DiffusionEngine, plan: SamplingPlan, settings: LearningSettings
) -> tuple[Backdrop, ...]:
    """Render all of them, whatever is shipped or cached."""
    from catalog_pipeline.learning.memory import render_backdrops

    return render_backdrops(engine, _phrases(settings), plan, settings.seed)


def _phrases(settings: LearningSettings) -> list[str]:
    return [phrase for phrase in settings.scenes for _ in range(settings.backdrops_per_scene)]


def ship(config: Path) -> Path:
    """Render the scenes of ``config`` into the package, in place of those that it has."""
    from catalog_pipeline.learning.memory import encode_backdrops
    from catalog_pipeline.workflows.models import base_size_plan, open_engine

    settings = load_settings(config)
    base = settings.base_model.model_copy(update={"dtype": "float32"})
    engine = open_engine(settings.model_copy(update={"base_model": base}))
    plan = base_size_plan(engine, settings.generation)
    for old in EMPTY_SCENES.rglob("*.safetensors"):
        old.unlink()
    key = backdrops_key(engine.base.content_hash, plan, settings.learning)
    target = EMPTY_SCENES / key
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encode_backdrops(render(engine, plan, settings.learning)))
    return target


if __name__ == "__main__":
    print(ship(Path("assets_config")))
