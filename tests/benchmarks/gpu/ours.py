"""Our side: a step of learning and a picture, by the classes of the product line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.diffusion.sampling import DiffusionEngine, RegionalPrompt, SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.learning.objective import noise_loss
from catalog_pipeline.learning.pool import SizedViews, TrainingPool
from catalog_pipeline.learning.task import LearningTask, Subject
from catalog_pipeline.learning.training_step import TrainingStep
from catalog_pipeline.records import Concept, Pixels
from catalog_pipeline.settings import AdapterSettings, LearningSettings
from tests.benchmarks.gpu.sizes import Size

PROMPT = "a photo of a mug on a wooden table"
OTHER_PROMPT = "a photo of a clock on a wooden table"
_SLOTS = ("mug", "clock")


@dataclass(frozen=True)
class Draw:
    """What one step learns from: everything that is random in it.

    ``latents`` and ``noise`` are ``(batch, channels, h, w)`` fp32, ``timesteps`` ``(batch,)``.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor


class OurSide:
    """An engine with two slots of random contents; the first one is trained."""

    def __init__(self, engine: DiffusionEngine, size: Size, seed: int) -> None:
        self.engine = engine
        self._size = size
        generator = torch.Generator().manual_seed(seed)
        for slot in _SLOTS:
            engine.adapter.add_slot(slot, generator)
            with torch.no_grad():
                for tensor in engine.adapter.parameters_of(slot):
                    tensor.copy_(0.02 * torch.randn(tensor.shape, generator=generator))
        self.parameters = engine.adapter.parameters_of(_SLOTS[0])
        with torch.no_grad():
            self._text = engine.text.encode([PROMPT])[:, None]  # (1, 1 region, tokens, width)

    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``down`` and ``up`` of the trained slot by the path of their layer."""
        slot, adapter = _SLOTS[0], self.engine.adapter
        return {
            name: adapter.factors(layer, slot) for name, layer in adapter.layers_of(slot).items()
        }

    def loss(self, draw: Draw) -> Tensor:
        """The concept's term of :class:`.TrainingStep`, a scalar; the text is encoded before."""
        base, batch = self.engine.base, len(draw.latents)
        noisy_latents = base.add_noise(draw.latents, draw.noise, draw.timesteps)
        target = base.target(draw.latents, draw.noise, draw.timesteps)
        text = self._text.expand(batch, -1, -1, -1)
        route = whole_image([_SLOTS[0]] * batch)
        model_pred = self.engine.predict(noisy_latents, draw.timesteps, text, None, route)
        return noise_loss(model_pred, target).mean()

    def draw(self, latents: Tensor, generator: torch.Generator) -> Draw:
        """As :meth:`.TrainingStep.draw`, on the CPU."""
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = self.engine.base.draw_timesteps(len(latents), generator)
        return Draw(latents, noise.to(latents.device), timesteps.to(latents.device))

    def noise_of(self, seed: int) -> Tensor:
        """What a picture of ``seed`` starts from, ``(1, channels, h, w)``."""
        return self.engine.initial_noise([seed], self.plan())

    def plan(self) -> SamplingPlan:
        """Of every picture."""
        size = self._size
        return SamplingPlan(size.steps, size.guidance, size.side_px, size.side_px, size.sampler)

    def picture(self, seed: int) -> Pixels:
        """From text to pixels, with the trained slot in all of it."""
        return self._picture(RegionalPrompt((PROMPT,), (_SLOTS[0],)), seed)

    def picture_of_two(self, seed: int) -> Pixels:
        """A scene with two products side by side: three texts, two slots, three masks."""
        masks = torch.zeros(3, self._size.side_px // 2, self._size.side_px // 2)
        edge = masks.shape[-1] // 8
        masks[1, edge:-edge, edge : 4 * edge] = masks[2, edge:-edge, 4 * edge : -edge] = 1
        masks[0] = 1 - masks[1] - masks[2]
        scene = "a wooden table"
        prompt = RegionalPrompt((scene, PROMPT, OTHER_PROMPT), (None, *_SLOTS), masks)
        return self._picture(prompt, seed)

    def _picture(self, prompt: RegionalPrompt, seed: int) -> Pixels:
        # Language models keep the texts that they have read; here each picture's are new.
        getattr(self.engine.text, "_encoded", {}).clear()
        return self.engine.decode(self.engine.sample([prompt], [seed], self.plan()))[0]


class ShippedStep:
    """As a task trains: :class:`.TrainingStep` with the rows of a product, drawn on the CPU."""

    def __init__(self, side: OurSide, settings: LearningSettings, batch: int, seed: int) -> None:
        engine = side.engine
        concept = Concept("mug", "mug", "mug", "", placeholder_tokens("mug", 2), "", 0)
        generator = torch.Generator().manual_seed(seed)
        engine.text.start(concept.placeholder_tokens, concept.class_noun, generator)
        subject = Subject(concept, (), _SLOTS[0], fresh_slot=False)
        task = LearningTask((subject,), (), "", seed)
        settings = settings.model_copy(update={"batch_size": batch})
        self._step = TrainingStep(engine, settings, task, (_random_pool(engine, batch, seed),))
        self.rows = engine.text.parameters_of(concept.placeholder_tokens)
        for row in self.rows:
            row.requires_grad_(True)
        self._engine, self._generator, self._taken = engine, generator, 0

    def loss(self) -> Tensor:
        """Of the next step, a scalar."""
        self._taken += 1
        loss, _ = self._step(self._taken, self._generator)
        return loss


def _random_pool(engine: DiffusionEngine, views: int, seed: int) -> TrainingPool:
    """Latents of noise; whole-image views, as four of five steps train on."""
    latents = random_latents(engine, views, seed)
    ones = torch.ones_like(latents[:, :1])
    prompts = ("a photo of a {concept} on a wooden table",) * views
    everything = torch.arange(views)
    whole = SizedViews(latents, ones, ones, prompts, (None,) * views, everything, everything[:0])
    return TrainingPool((whole,))


def random_latents(engine: DiffusionEngine, count: int, seed: int) -> Tensor:
    """``(count, channels, h, w)``, unit normal, of a picture of the base's side."""
    base = engine.base
    side = base.sample_size_px // base.vae_scale_factor
    generator = torch.Generator().manual_seed(seed)
    shape = (count, base.latent_channels, side, side)
    return torch.randn(shape, generator=generator).to(base.device)


def set_trained(parameters: list[nn.Parameter], trained: bool) -> None:
    """Whether gradients of ``parameters`` are wanted."""
    for parameter in parameters:
        parameter.requires_grad_(trained)


def adapter_settings(layers: str) -> AdapterSettings:
    """``ours``: as shipped. ``script``: the layers that diffusers' scripts train by default."""
    if layers == "ours":
        return AdapterSettings()
    return AdapterSettings(feed_forward=False, blocks=("down", "mid", "up"))
