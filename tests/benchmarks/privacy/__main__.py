"""What DP-SGD costs a shared slot over a catalog, and what it hides.

One slot for all of a few hundred household products is trained by the product line's own step,
plainly and with DP-SGD; then it is asked of every product whether it was trained on. Writes
``privacy.{md,json}``.

    python -m tests.benchmarks.privacy --data DIR [--quick] [--members 160] [--steps 150]
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from catalog_pipeline.diffusion.base import load_base_model
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.learning.memory import derive_seed
from catalog_pipeline.learning.privacy import epsilon_of, noise_multiplier_for
from catalog_pipeline.records import SHARED, Pixels
from catalog_pipeline.settings import AdapterSettings, BaseModelSettings, LearningSettings
from tests.benchmarks.harness.attacks import auc, auc_interval, hits_at
from tests.benchmarks.harness.home import add_report_options, log_to_stdout, make_parser
from tests.benchmarks.harness.report import machine, today, write_json, write_page
from tests.benchmarks.privacy.catalog import PROMPT, load_records
from tests.benchmarks.privacy.training import Recipe, SharedSlot

TEMPLATE = Path(__file__).with_name("privacy.md.j2")
ATTACKS = ("loss", "against the base", "against a reference")
FALSE_ALARMS = 0.05
TASKS = ((8, 1), (8, 3), (8, 8), (30, 3), (1000, 3), (10_000, 3))
"""Photos of one task, and epsilon: what noise a task of the product line would need."""

log = logging.getLogger("bench")


class Bench:
    """Records in three parts: members, others, and those of the attacker's reference."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.learning = LearningSettings(adapter=AdapterSettings(slots="shared", rank=options.rank))
        engine = self.open()
        count = 3 * options.members
        log.info("encoding %d products", count)
        self.records = load_records(options.data, engine, count, options.views, seed=0)
        thirds = torch.arange(count).chunk(3)
        self.members, self.others, self.third = (part.tolist() for part in thirds)
        self.asked = [*self.members, *self.others]
        slot = SharedSlot(engine, self.learning, 0)
        self.numbers = slot.numbers
        log.info("losses of the base")
        self.base = slot.losses(self.records, self.asked, options.draws, seed=1)
        self.judge = open_encoder("efficientnet_lite0")
        self.base_likeness = self.likeness(self.drawn_of(engine))

    def open(self) -> DiffusionEngine:
        """A fresh one: slots of one recipe are none of another's."""
        return DiffusionEngine(load_base_model(BaseModelSettings()), self.learning.adapter)

    def run(self, recipe: Recipe, members: Sequence[int]) -> tuple[Tensor, float, float]:
        """The losses of members and others after training on ``members``; likeness; minutes."""
        engine, started = self.open(), time.monotonic()
        slot = SharedSlot(engine, self.learning, 0)
        slot.train(self.records, members, recipe)
        minutes = (time.monotonic() - started) / 60
        losses = slot.losses(self.records, self.asked, self.options.draws, seed=1)
        return losses, self.likeness(self.drawn_of(engine)), minutes

    def drawn_of(self, engine: DiffusionEngine) -> list[Pixels]:
        """A picture of the noun of some of the others each."""
        side = engine.base.sample_size_px
        plan = SamplingPlan(self.options.sampler_steps, 3.0, side, side)
        nouns = [self.records.nouns[i] for i in self.others[: self.options.pictures]]
        drawn: list[Pixels] = []
        for start in range(0, len(nouns), 4):
            some = nouns[start : start + 4]
            prompts = [RegionalPrompt((PROMPT + noun,), (SHARED,)) for noun in some]
            seeds = [derive_seed(2, noun, start) for noun in some]
            drawn += engine.decode(engine.sample(prompts, seeds, plan))
        return drawn

    def likeness(self, drawn: list[Pixels]) -> float:
        """Of each picture to the views of the product whose noun it was asked for."""
        views = [
            self.records.pictures[row]
            for i in self.others[: len(drawn)]
            for row in self.records.rows(i)
        ]
        one, two = self.judge.encode(drawn), self.judge.encode(views)
        return float((one @ two.reshape(len(drawn), -1, one.shape[1]).mean(1).T).diagonal().mean())

    def figures(self, losses: Tensor, reference: Tensor) -> dict[str, Any]:
        """What was learned, and what three attacks tell of membership."""
        gain = 1 - losses / self.base
        members, others = (fmean(half.tolist()) for half in gain.chunk(2))
        scores = {
            "loss": -losses,
            "against the base": gain,
            "against a reference": 1 - losses / reference,
        }
        attacks = {}
        for name, score in scores.items():
            one, two = (half.tolist() for half in score.chunk(2))
            attacks[name] = {
                "auc": auc(one, two),
                "interval": auc_interval(one, two),
                "hits": hits_at(one, two, FALSE_ALARMS),
            }
        return {
            "gain_of_members": members,
            "gain_of_others": others,
            "attacks": attacks,
        }


def recipes(options: Any) -> list[Recipe]:
    """Without DP-SGD, and with it for every epsilon asked for."""
    plain = Recipe("plain", None, options.steps, options.batch, options.plain_rate)
    private = [
        replace(
            plain,
            name=f"epsilon {epsilon:g}",
            epsilon=epsilon,
            learning_rate=options.private_rate,
            max_grad_norm=options.max_grad_norm,
        )
        for epsilon in options.epsilons
    ]
    return [plain, *private]


def main() -> None:
    parser = make_parser("privacy", __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--members", type=int, default=160)
    parser.add_argument("--views", type=int, default=4, help="of a product")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=16, help="records a step, in the mean")
    parser.add_argument("--draws", type=int, default=3, help="noise levels a view in an attack")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--plain-rate", type=float, default=1e-3)
    parser.add_argument("--private-rate", type=float, default=1e-3)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 3.0, 1.0])
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--sampler-steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    add_report_options(parser)
    options = parser.parse_args()
    if options.quick:
        small = {"members": 4, "views": 1, "steps": 2, "batch": 2, "draws": 1, "pictures": 2}
        vars(options).update(small, sampler_steps=2, epsilons=[8.0])
    log_to_stdout()
    torch.set_num_threads(1)
    started = time.monotonic()
    bench = Bench(options)
    chosen = recipes(options)
    log.info("the attacker's reference")
    reference, _, _ = bench.run(replace(chosen[0], name="reference"), bench.third)
    rows = []
    for recipe in chosen:
        sigma = recipe.noise_multiplier(options.members)
        log.info("%s: noise multiplier %.2f", recipe.name, sigma)
        losses, likeness, minutes = bench.run(recipe, bench.members)
        kept = epsilon_of(sigma, recipe.rate(options.members), recipe.steps, recipe.delta)
        rows.append(
            {
                **asdict(recipe),
                **{"noise_multiplier": sigma, "kept_epsilon": kept if sigma else None},
                **{"likeness": likeness, "minutes": minutes},
                **bench.figures(losses, reference),
            }
        )
        log.info("%s", rows[-1])
    steps, batch = LearningSettings().steps, LearningSettings().batch_size
    facts = {
        **{"date": today(), "machine": machine(), "note": options.note},
        **{"members": options.members, "views": options.views, "draws": options.draws},
        **{"rank": options.rank, "numbers": bench.numbers, "pictures": options.pictures},
        **{"base_likeness": bench.base_likeness, "rows": rows, "false_alarms": FALSE_ALARMS},
        "tasks": [
            {
                **{"photos": photos, "epsilon": epsilon, "steps": steps, "batch": batch},
                "noise": noise_multiplier_for(epsilon, min(1, batch / photos), steps, 1e-5),
            }
            for photos, epsilon in TASKS
        ],
        "minutes": (time.monotonic() - started) / 60,
    }
    write_json(options.out / "privacy.json", facts, digits=4)
    write_page(options.out, TEMPLATE, attacks=ATTACKS, **facts)


if __name__ == "__main__":
    main()
