"""The gate's pictures, and fidelity to the photos: a tiny real model, the real encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.l2dm import L2dm
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.workflows.learn.fidelity_gate import (
    FidelityReport,
    base_only_prompts,
    cached_base_only,
    fidelity_complaint,
    judge_new_concept,
    render_base_only,
    render_samples,
)
from catalog_pipeline.workflows.learn.learning_inputs import LearningTools
from tests.builders import make_concept

SETTINGS = LearningSettings(gate_images=2, gate_prior_images=3)
CONCEPT = make_concept("A", 1, placeholder_tokens=("<A:0>",))


@pytest.fixture
def tools(engine) -> LearningTools:
    return LearningTools(engine, open_encoder(), ProductMasker(), SamplingPlan(2, 2.0, 16, 16))


@pytest.fixture
def method(tools) -> L2dm:
    """A shared slot that has learned one concept."""
    encode = tools.encoder.encode
    method = L2dm(LearningContext(tools.engine, SETTINGS, encode, (), tools.plan))
    tools.engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    tools.engine.text.table.add("<A:0>", torch.ones(16))
    method.learned.append(CONCEPT)
    return method


def test_fidelity_is_measured_against_the_photos(tools, method):
    samples = render_samples(tools, method, CONCEPT, 2, SETTINGS.seed)
    same = tools.encoder.encode(samples)
    alike, other = (
        judge_new_concept(tools, method, NewConcept(CONCEPT, (), features), SETTINGS)
        for features in (same, -same)
    )
    assert alike.metrics["fidelity"] == pytest.approx(-other.metrics["fidelity"], abs=1e-5)
    assert alike.metrics["fidelity"] > 0.5
    assert all(np.array_equal(a, b) for a, b in zip(alike.samples, samples, strict=True))


def test_a_complaint_says_got_and_expected():
    settings = LearningSettings(gate_min_fidelity_share=0.5)
    assert fidelity_complaint(FidelityReport({"fidelity_share": 0.5}), settings) == ""
    text = fidelity_complaint(FidelityReport({"fidelity_share": 0.49}), settings)
    assert "49%" in text
    assert "at least 50%" in text


def test_base_only_prompts_name_no_product_and_are_the_same_for_every_task():
    prompts = base_only_prompts(SETTINGS, 20)
    assert prompts == base_only_prompts(SETTINGS, 20)
    assert len(set(prompts)) == 20
    assert not any("<" in prompt for prompt in prompts)


def test_pictures_of_the_bare_base_are_rendered_once(tools, tmp_path, monkeypatch):
    objects = LocalObjectStore(tmp_path)
    first = cached_base_only(tools, SETTINGS, objects)
    assert len(first) == 3
    fresh = render_base_only(tools, SETTINGS, 3, None, tools.plan)
    assert all(np.array_equal(a, b) for a, b in zip(first, fresh, strict=True))
    monkeypatch.setattr(tools.engine, "sample", None)
    again = cached_base_only(tools, SETTINGS, objects)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    none = SETTINGS.model_copy(update={"gate_prior_images": 0})
    assert cached_base_only(tools, none, objects) == ()
