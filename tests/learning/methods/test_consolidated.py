"""The mended shared slot: what it remembers, what it holds still, and how large it gets."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load

from catalog_pipeline.diffusion.adapter import whole_image
from catalog_pipeline.errors import LearningError
from catalog_pipeline.learning.methods.consolidated import Consolidated, input_moments
from catalog_pipeline.learning.methods.l2dm import L2dm
from catalog_pipeline.learning.methods.sequence import TaskSequence
from catalog_pipeline.records import SHARED
from catalog_pipeline.settings import AdapterSettings
from tests.learning.methods.conftest import new_concept


def moments_of(sequence):
    tensors = load(sequence.state()[SHARED]).items()
    return {name: value for name, value in tensors if name.startswith("moments/")}


def predict(sequence, concept):
    """The noise that the shared slot predicts for one fixed latent of ``concept``."""
    engine = sequence.method.engine
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    latents = latents[:, : engine.base.latent_channels]
    with torch.no_grad():
        text = engine.text.encode([f"a photo of a {concept.identifier}"])[:, None]
        timesteps = engine.base.timesteps_at(torch.tensor([0.5]))
        return engine.predict(latents, timesteps, text, None, whole_image([SHARED]))


def test_a_heavy_penalty_holds_what_an_earlier_concept_predicts(news, open_context):
    moved = {}
    for drift_weight in (0.0, 1e4):
        sequence = TaskSequence(
            Consolidated(open_context(steps=12, losses={"drift_weight": drift_weight}))
        )
        sequence.learn(news[0])
        before = predict(sequence, news[0].concept)
        sequence.learn(news[1])
        moved[drift_weight] = float((predict(sequence, news[0].concept) - before).norm())
    assert moved[1e4] < moved[0.0] / 2


def test_moments_are_sums_over_concepts_and_alike_inputs_are_stored_once(news, open_context):
    sequence = TaskSequence(Consolidated(open_context(steps=1)))
    sequence.learn(news[0])
    first = moments_of(sequence)
    sequence.learn(news[1])
    both = moments_of(sequence)
    assert first.keys() == both.keys()
    layers = sequence.method.engine.adapter.layers_of(SHARED)
    assert sorted(name for key in both for name in key[8:].split("|")) == sorted(layers)
    assert len(both) < len(layers)
    for name, moment in both.items():
        assert float(moment.trace()) > float(first[name].trace()) > 0
        assert torch.equal(moment, moment.T)


def test_moments_are_those_of_the_inputs(news, open_context):
    method = Consolidated(open_context(steps=1))
    TaskSequence(method)
    task = method.task(news[0])
    concept = news[0].concept
    method.engine.text.start(concept.placeholder_tokens, concept.class_noun, torch.Generator())
    found = input_moments(method, task, task.subjects[0])
    for name, layer in method.engine.adapter.layers_of(task.subjects[0].slot).items():
        width = layer.base.in_features
        assert found[name].shape == (width, width)
        assert torch.linalg.eigvalsh(found[name]).min() > -1e-4 * found[name].trace()
    assert not any(layer._forward_pre_hooks for layer in method.engine.adapter.layers.values())


def test_the_slot_stops_growing_at_its_rank(news, open_context):
    adapter = {"rank": 2, "consolidated_rank": 3}
    sequence = TaskSequence(Consolidated(open_context(steps=1, adapter=adapter)))
    sizes = []
    for new in (*news, new_concept("D", "hat", 4)):
        sequence.learn(new)
        sizes.append(len(sequence.state()[SHARED]))
    ranks = {len(v) for n, v in load(sequence.state()[SHARED]).items() if n.endswith(".down")}
    assert max(ranks) == 3
    assert sizes[1] == sizes[2] == sizes[3] > sizes[0]


def test_a_cut_that_leaves_nothing_out_changes_no_prediction(news, open_context):
    pictures = []
    for rank in (64, 10_000):
        sequence = TaskSequence(
            Consolidated(open_context(steps=2, adapter={"rank": 2, "consolidated_rank": rank}))
        )
        for new in news[:2]:
            sequence.learn(new)
        pictures.append(predict(sequence, news[0].concept))
    assert torch.equal(*pictures)


def test_what_l2dm_learned_is_not_gone_on_with(news, open_context):
    shared = TaskSequence(L2dm(open_context(prior_images=0, steps=1)))
    shared.learn(news[0])
    with pytest.raises(LearningError, match="without moments of its concepts"):
        TaskSequence(Consolidated(open_context())).restore(shared.state(), news[:1])


def test_other_parametrisations_are_refused():
    with pytest.raises(ValidationError, match="consolidated needs parametrisation: low_rank"):
        AdapterSettings(slots="consolidated", parametrisation="dense")
