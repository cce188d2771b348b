"""The quality gate on a tiny real model and the real encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.errors import QualityGateError
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.learning.memory import RememberedConcept
from catalog_pipeline.records import Concept
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.workflows.gate import (
    GateResult,
    judge_new_concept,
    render_samples,
    require_fidelity,
    require_retention,
)
from catalog_pipeline.workflows.learning_inputs import LearningTools

SETTINGS = LearningSettings(gate_images=2, gate_max_forgetting=0.05)


@pytest.fixture
def tools(engine) -> LearningTools:
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    engine.text.table.add("<A:0>", torch.ones(16))
    plan = SamplingPlan(2, 2.0, 16, 16)
    return LearningTools(engine, open_encoder(), ProductMasker(), plan)


def concept(fidelity: float) -> Concept:
    return Concept("A", "A", "mug", "", ("<A:0>",), "hash", 1, metrics={"fidelity": fidelity})


def remembered(tools: LearningTools, recorded: float) -> RememberedConcept:
    samples = render_samples(tools, concept(0), "shared", 2, SETTINGS.seed)
    return RememberedConcept(concept(recorded), "shared", (), tools.encoder.encode(samples))


def test_a_concept_that_still_looks_like_its_memory_passes(tools):
    item = remembered(tools, 0.0)
    first = require_retention(tools, [item], SETTINGS)
    # The features are those of the very pictures that the gate renders again.
    assert first["forgetting"] < -0.5


def test_a_fall_beyond_the_tolerance_names_the_concept(tools):
    now = -require_retention(tools, [remembered(tools, 0.0)], SETTINGS)["forgetting"]
    kept = require_retention(tools, [remembered(tools, now + 0.04)], SETTINGS)
    assert kept["forgetting"] == pytest.approx(0.04, abs=1e-5)
    with pytest.raises(QualityGateError, match=r"forgets A \(-0\.060\)"):
        require_retention(tools, [remembered(tools, now + 0.06)], SETTINGS)


def test_fidelity_is_measured_against_the_photos(tools):
    samples = render_samples(tools, concept(0), "shared", 2, SETTINGS.seed)
    same = tools.encoder.encode(samples)
    alike = judge_new_concept(tools, concept(0), "shared", same, SETTINGS, ())
    other = judge_new_concept(tools, concept(0), "shared", -same, SETTINGS, ())
    assert alike.metrics["fidelity"] == pytest.approx(-other.metrics["fidelity"], abs=1e-5)
    assert alike.metrics["fidelity"] > 0.5
    assert all(np.array_equal(a, b) for a, b in zip(alike.samples, samples, strict=True))


def test_the_fidelity_gate_says_got_and_expected():
    settings = LearningSettings(gate_min_fidelity_share=0.5)
    require_fidelity("A", GateResult({"fidelity_share": 0.5}), settings)
    with pytest.raises(QualityGateError, match=r"A: .* 49%.* at least 50%"):
        require_fidelity("A", GateResult({"fidelity_share": 0.49}), settings)
