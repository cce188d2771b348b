"""Pairs of one collection against the same pairs across collections: pictures and found rates.

    python -m tests.benchmarks.across_collections --home HOME --config CONFIG --out FOLDER

Takes a home of learned products in one collection, copies it and its catalog to ``--out``, draws
pairs and judges them as a night's first attempt. Then two thirds of the products move to two
other collections, which take over what was learned, and the same jobs are drawn again. Prints one
JSON object; a picture is ``equal`` when every pixel is.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
import yaml

from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.records import AdapterVersion, Pixels, RenderJob, Source
from catalog_pipeline.settings import PolicySettings, Settings, load_settings
from catalog_pipeline.workflows.catalog.refresh_index import refresh_index
from catalog_pipeline.workflows.home import Home, open_home
from catalog_pipeline.workflows.learn.learn_concepts import learn_concepts
from catalog_pipeline.workflows.models import concepts_of, drawn_by, open_sampler, served_version
from catalog_pipeline.workflows.night.picture_scores import Judgement, PictureScorer, shipped_judge
from tests.generation.plans import plan_night

COLLECTIONS = ("default", "second", "third")


@dataclass(frozen=True)
class Drawn:
    """Pictures of the jobs, and what the judge says of each."""

    pictures: Sequence[Pixels]
    judgements: Sequence[Judgement]

    @property
    def found(self) -> float:
        """Share of the pictures in which every product is found."""
        return float(np.mean([j.scores["reflection"] == 1.0 for j in self.judgements]))

    @property
    def passed(self) -> float:
        """Share of the pictures that the gate passes at once."""
        return float(np.mean([j.verdict == "passed" for j in self.judgements]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("home", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=30)
    options = parser.parse_args()
    settings = copied(load_settings(options.config, options.home), options.out)
    home = open_home(settings)
    refresh_index(home)
    single = served_version(home, "default")
    homes = {
        sku: COLLECTIONS[place % len(COLLECTIONS)]
        for place, sku in enumerate(sorted(concept.sku for concept in single.concepts))
    }
    jobs = drawn_jobs(home.settings, single, homes, options.pairs)
    alone = draw(home, drawn_by(single), jobs)
    move(home, homes)
    versions = {name: served_version(home, name) for name in set(homes.values())}
    drawers = {sku: versions[name] for sku, name in homes.items()}
    across = draw(home, drawers, [across_collections(job, drawers) for job in jobs])
    equal = [np.array_equal(a, b) for a, b in zip(alone.pictures, across.pictures, strict=True)]
    print(
        json.dumps(
            {
                "products": len(homes),
                "pairs": len(jobs),
                "equal": sum(equal),
                "found": {"single": alone.found, "across": across.found},
                "passed": {"single": alone.passed, "across": across.passed},
            }
        )
    )


def copied(settings: Settings, out: Path) -> Settings:
    """The same over a copy of home and catalog, which are left alone."""
    for source, name in ((settings.home, "home"), (settings.catalog_root, "catalog")):
        ignored = shutil.ignore_patterns(".locks", "staging")
        shutil.copytree(source, out / name, ignore=ignored)
    catalog = settings.catalog.model_copy(update={"root": out / "catalog"})
    return settings.model_copy(update={"home": out / "home", "catalog": catalog})


def drawn_jobs(
    settings: Settings, version: AdapterVersion, homes: Mapping[str, str], count: int
) -> list[RenderJob]:
    """Learned pairs as a night draws them, of products that will be of different collections."""
    policies = PolicySettings(singles_per_sku=0, pairs=20 * count)
    generation = settings.generation.model_copy(update={"policies": policies, "mode": "learned"})
    plan = plan_night(
        date(2026, 1, 1),
        version.concepts,
        generation.model_copy(
            update={"budget": generation.budget.model_copy(update={"max_images": None})}
        ),
        collection=version.collection,
        adapter_version=version.version,
    )
    pairs = (job for job in plan.jobs if len({homes[sku] for sku in job.skus}) == len(job.skus))
    return list(islice((job for job in pairs if len(job.skus) == 2), count))


def across_collections(job: RenderJob, drawers: Mapping[str, AdapterVersion]) -> RenderJob:
    """``job`` with the versions that draw its products now."""
    sources = {s: Source(drawers[s].collection, drawers[s].version) for s in job.skus}
    collection, version = sources[job.skus[0]]
    return replace(job, collection=collection, adapter_version=version, sources=sources)


def draw(home: Home, drawers: Mapping[str, AdapterVersion], jobs: Sequence[RenderJob]) -> Drawn:
    """The first attempt of every job, judged as a night does."""
    pictures = open_sampler(home, drawers).render(jobs, concepts_of(drawers))
    scorer = PictureScorer(home, drawers, open_encoder, shipped_judge)
    return Drawn(pictures, scorer.judge(jobs, pictures))


def move(home: Home, homes: Mapping[str, str]) -> None:
    """Put the collections on the products' cards, and let these take over what was learned."""
    for sku, name in homes.items():
        path = home.settings.catalog_root / sku / "sku.yaml"
        card = yaml.safe_load(path.read_text("utf-8")) | {"collection": name}
        path.write_text(yaml.safe_dump(card, allow_unicode=True), "utf-8")
    refresh_index(home)
    moved = [sku for sku, name in homes.items() if name != "default"]
    for outcome in learn_concepts(home, moved):
        if outcome.status != "learned" or "not trained again" not in outcome.reason:
            raise RuntimeError(f"{outcome.sku} was not taken over: {outcome.reason}")


if __name__ == "__main__":
    main()
