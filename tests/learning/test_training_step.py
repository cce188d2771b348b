"""One training step, Eqs. (3), (4), (6) and (7) of arXiv:2309.04430, image by image.

The reference draws the same random numbers and asks the network one image at a time.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from catalog_pipeline.diffusion.adapter import Route, whole_image
from catalog_pipeline.diffusion.sampling import DiffusionEngine
from catalog_pipeline.learning.memory import LatentBank
from catalog_pipeline.learning.pool import SizedViews, TrainingPool
from catalog_pipeline.learning.regulariser import StepContext
from catalog_pipeline.learning.task import TEACHER_SLOT, LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.settings import LearningSettings, LossSettings
from tests.builders import make_concept
from tests.tiny_model import fill_slot

LOSSES = LossSettings(prior_weight=0.5, replay_weight=0.25, distillation_weight=2.0, elasticity=1.0)
SETTINGS = LearningSettings(batch_size=3, prior_batch_size=2, replay_batch_size=2)


def latents(count: int, seed: int) -> Tensor:
    return torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(name="shared")
def _shared(engine: DiffusionEngine) -> DiffusionEngine:
    """A student and a teacher that differ, and the tokens of three concepts."""
    for seed, slot in enumerate(("shared", TEACHER_SLOT)):
        fill_slot(engine, slot, seed, scale=0.2)
    for seed, name in enumerate("NAB"):
        vector = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        engine.text.table.add(f"<{name}:0>", vector)
    return engine


BACKDROPS = ("a photo in the snow", "a photo on a table")


def some_views() -> SizedViews:
    """Two views of a whole picture and two with a backdrop region."""
    weights = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(5)) + 0.1
    regions = torch.zeros(4, 1, 4, 4)
    regions[..., :2] = 1
    return SizedViews(
        latents=latents(4, 1),
        weights=weights,
        regions=regions,
        instance_prompts=("a photo of a {concept}",) * 4,
        backdrop_prompts=(None, None, *BACKDROPS),
        whole=torch.tensor([0, 1]),
        split=torch.tensor([2, 3]),
    )


CONCEPT = make_concept("N", 3, placeholder_tokens=("<N:0>",))
SUBJECT = Subject(CONCEPT, (), "shared", fresh_slot=False)
PRIOR = LatentBank(latents(3, 2), ("a mug", "a hat", "a photo in the snow"), (None,) * 3)
EXEMPLARS = LatentBank(
    latents(4, 3),
    ("a <A:0> mug", "a <A:0> mug", "a <B:0> hat", "a <B:0> hat"),
    ("A", "A", "B", "B"),
)


def a_task(losses: LossSettings = LOSSES, **banks: LatentBank | None) -> LearningTask:
    banks = {"prior": PRIOR, "exemplars": EXEMPLARS, **banks}
    return LearningTask((SUBJECT,), (), "f", 0, losses, **banks)


class Reference:
    """One step in slow motion."""

    def __init__(self, engine: DiffusionEngine, seed: int) -> None:
        self.engine = engine
        self.generator = torch.Generator().manual_seed(seed)
        self.scheduler = DDIMScheduler.from_config(engine.base.scheduler_config)

    def choose(self, among: list[int], count: int) -> list[int]:
        drawn = torch.randint(len(among), (count,), generator=self.generator)
        return [among[int(i)] for i in drawn]

    def noised(self, rows: Tensor) -> list[tuple[Tensor, Tensor, int]]:
        """``sqrt(a) z + sqrt(1 - a) eps``, the velocity, and ``t`` of each image."""
        noise = torch.randn(rows.shape, generator=self.generator)
        parts = torch.arange(len(rows)) + torch.rand(len(rows), generator=self.generator)
        order = torch.randperm(len(rows), generator=self.generator)
        times = (parts[order] / len(rows) * 1000).long()
        found = []
        for z, eps, t in zip(rows, noise, times.tolist(), strict=True):
            a = float(self.scheduler.alphas_cumprod[t])
            noisy = a**0.5 * z + (1 - a) ** 0.5 * eps
            found.append((noisy, a**0.5 * eps - (1 - a) ** 0.5 * z, t))
        return found

    @torch.no_grad()
    def ask(
        self, noisy: Tensor, t: int, slot: str | None, prompt: str, split: tuple | None = None
    ) -> Tensor:
        """The network's answer for one image alone."""
        times = torch.tensor([t])
        if split is None:
            hidden = self.engine.text.encode([prompt])[:, None]
            route, masks = whole_image([slot]), None
        else:
            backdrop, region = split
            hidden = self.engine.text.encode([prompt, backdrop])[None]
            masks = torch.cat([region, 1 - region])[None]
            route = Route(((slot, None),), masks)
        return self.engine.predict(noisy[None], times, hidden, masks, route)[0]


def slow_error(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """The weighed mean of squares over channels, rows and columns."""
    total = norm = 0.0
    for c in range(4):
        for y in range(4):
            for x in range(4):
                w = 1.0 if weight is None else float(weight[0, y, x])
                total += w * float(pred[c, y, x] - target[c, y, x]) ** 2
                norm += w
    return total / norm


@pytest.mark.parametrize("step", [0, 4])  # every fifth step has a backdrop region
def test_a_step_equals_a_slow_loop_eqs_3_4_6_7(shared: DiffusionEngine, step: int) -> None:
    pool, reference = some_views(), Reference(shared, 7)
    training_step = TrainingStep(shared, SETTINGS, a_task(), (TrainingPool((pool,)),))
    for concept, drift in (("A", 3.0), ("B", 1.0)):  # so that the elastic weights are not 1
        training_step.elastic.weigh([concept], torch.tensor([drift]))
    loss, got = training_step(step, torch.Generator().manual_seed(7))

    group = [2, 3] if step == 4 else [0, 1]
    chosen = reference.choose(group, 3)
    concept = []
    for row, (noisy, target, t) in zip(chosen, reference.noised(pool.latents[chosen]), strict=True):
        backdrop = pool.backdrop_prompts[row]
        split = None if backdrop is None else (backdrop, pool.regions[row])
        pred = reference.ask(noisy, t, "shared", "a photo of a <N:0> mug", split)
        concept.append(slow_error(pred, target, pool.weights[row]))

    chosen = reference.choose([0, 1, 2], 2)
    prior = [
        slow_error(reference.ask(noisy, t, "shared", PRIOR.prompts[row]), target)
        for row, (noisy, target, t) in zip(
            chosen, reference.noised(PRIOR.latents[chosen]), strict=True
        )
    ]

    chosen = reference.choose([0, 1, 2, 3], 2)
    elastic = {"A": 3.0 / 2.0, "B": 1.0 / 2.0}
    replay, distillation = [], []
    for row, (noisy, target, t) in zip(
        chosen, reference.noised(EXEMPLARS.latents[chosen]), strict=True
    ):
        student = reference.ask(noisy, t, "shared", EXEMPLARS.prompts[row])
        teacher = reference.ask(noisy, t, TEACHER_SLOT, EXEMPLARS.prompts[row])
        replay.append(slow_error(student, target))
        distillation.append(elastic[str(EXEMPLARS.concepts[row])] * slow_error(student, teacher))

    want = {"concept": concept, "prior": prior, "replay": replay, "distillation": distillation}
    assert got.keys() == want.keys()
    for name, values in want.items():
        torch.testing.assert_close(
            got[name].detach(), torch.tensor(values), atol=1e-4, rtol=1e-3, msg=name
        )
    mean = {name: sum(values) / len(values) for name, values in want.items()}
    total = mean["concept"] + 0.5 * mean["prior"] + 0.25 * mean["replay"] + 2 * mean["distillation"]
    assert loss.item() == pytest.approx(total, rel=1e-3)


def one_step(
    engine: DiffusionEngine, task: LearningTask | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The first step: its loss and its terms."""
    step = TrainingStep(engine, SETTINGS, task or a_task(), (TrainingPool((some_views(),)),))
    return step(0, torch.Generator().manual_seed(1))


def test_gradients_reach_the_student_and_new_tokens_only(shared: DiffusionEngine) -> None:
    loss, _ = one_step(shared)
    loss.backward()
    assert all(p.grad is not None for p in shared.adapter.parameters_of("shared"))
    assert all(p.grad is None for p in shared.adapter.parameters_of(TEACHER_SLOT))
    rows = {name: shared.text.table.parameter_of(f"<{name}:0>").grad for name in "NAB"}
    assert {n for n, g in rows.items() if g is not None and bool(g.any())} == {"N"}
    assert all(p.grad is None for p in shared.base.unet.parameters() if not p.requires_grad)


def test_a_student_like_its_teacher_has_nothing_to_distil(shared: DiffusionEngine) -> None:
    shared.adapter.copy_slot("shared", TEACHER_SLOT)
    _, found = one_step(shared)
    assert torch.equal(found["distillation"], torch.zeros(2))
    assert bool((found["replay"] > 0).all())


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"prior_weight": 0.0}, {"concept", "replay", "distillation"}),
        ({"replay_weight": 0.0}, {"concept", "prior", "distillation"}),
        ({"distillation_weight": 0.0}, {"concept", "prior", "replay"}),
    ],
)
def test_a_weight_of_zero_switches_its_term_off(
    shared: DiffusionEngine, changes: dict[str, float], left: set[str]
) -> None:
    _, found = one_step(shared, a_task(LOSSES.model_copy(update=changes)))
    assert set(found) == left


def test_a_first_task_has_the_losses_of_eq_3_alone(shared: DiffusionEngine) -> None:
    _, found = one_step(shared, a_task(exemplars=None))
    assert set(found) == {"concept", "prior"}


class Drift:
    """A rival's term: how far the prediction is from zero."""

    weight = 0.5

    def loss(self, context: StepContext) -> Tensor:
        return context.model_pred.square().mean((1, 2, 3))


def test_a_regulariser_comes_weighed_and_counts_as_it_is(shared: DiffusionEngine) -> None:
    task = LearningTask((SUBJECT,), (), "f", 0, regularisers=(Drift(),))
    loss, found = one_step(shared, task)
    assert set(found) == {"concept", "regulariser/0"}
    pool, reference = some_views(), Reference(shared, 1)
    chosen = reference.choose([0, 1], 3)
    want = [
        0.5 * slow_error(reference.ask(noisy, t, "shared", "a photo of a <N:0> mug"), 0 * noisy)
        for noisy, _, t in reference.noised(pool.latents[chosen])
    ]
    got = found["regulariser/0"].detach()
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-4, rtol=1e-3)
    total = (found["concept"].mean() + got.mean()).item()
    assert loss.item() == pytest.approx(total)


def test_a_text_that_is_not_trained_is_encoded_once(shared: DiffusionEngine, monkeypatch) -> None:
    encoded: list[str] = []
    encode = shared.text.encode
    monkeypatch.setattr(shared.text, "encode", lambda p: encoded.extend(p) or encode(p))
    step = TrainingStep(shared, SETTINGS, a_task(), (TrainingPool((some_views(),)),))
    for number in range(10):
        step(number, torch.Generator().manual_seed(number))
    trained = [prompt for prompt in encoded if "<N:0>" in prompt]
    assert len(trained) == 10 * SETTINGS.batch_size
    frozen = [prompt for prompt in encoded if "<N:0>" not in prompt]
    assert sorted(frozen) == sorted({*PRIOR.prompts, *EXEMPLARS.prompts, *BACKDROPS})
