"""The gate's pictures, and fidelity to the photos: a tiny real model, the real encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.evaluation.features import open_encoder
from catalog_pipeline.evaluation.learned_looks import compare_looks
from catalog_pipeline.evaluation.product_mask import ProductMasker
from catalog_pipeline.evaluation.retention import cosine_to_photos, photo_ceiling
from catalog_pipeline.learning.methods.collection import NewConcept
from catalog_pipeline.learning.methods.l2dm import L2dm
from catalog_pipeline.learning.methods.method import LearningContext
from catalog_pipeline.settings import LearningSettings
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.studio.sample_catalog import write_sample_catalog
from catalog_pipeline.workflows.home import open_home
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
from tests.builders import make_concept, make_photos
from tests.workflows.tiny_catalog import learn_all

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


def test_what_the_gate_asks_is_measured_on_the_product_alone(tools, method):
    photos = make_photos(3, 32, masked=True)
    new = NewConcept(CONCEPT, photos, tools.encoder.encode([photo.pixels for photo in photos]))
    report = judge_new_concept(tools, method, new, SETTINGS)
    looks = compare_looks(report.samples, photos, tools.masker, tools.encoder)
    assert looks is not None
    whole = cosine_to_photos(tools.encoder.encode(report.samples), new.features)
    assert report.metrics == {
        "fidelity": pytest.approx(whole, abs=1e-6),
        "ceiling": pytest.approx(photo_ceiling(new.features), abs=1e-6),
        "fidelity_share": looks.share,
        "crop_likeness": looks.likeness,
        "crop_ceiling": looks.ceiling,
        "color_difference": looks.color_difference,
        "color_spread": looks.color_spread,
        "photos": 3.0,
    }


GATE = LearningSettings(gate_min_fidelity_share=0.5, gate_max_color_shift=10.0)


def test_a_complaint_says_got_and_expected():
    assert fidelity_complaint(FidelityReport({"fidelity_share": 0.5}), GATE) == ""
    text = fidelity_complaint(FidelityReport({"fidelity_share": 0.49}), GATE)
    assert "49%" in text
    assert "at least 50%" in text
    assert "colours" not in text


@pytest.mark.parametrize(
    ("difference", "spread", "refused"),
    [(11.9, 2.0, False), (12.2, 2.0, True), (24.0, 14.5, False), (25.0, 14.5, True)],
)
def test_photos_that_differ_allow_more_colour(difference, spread, refused):
    figures = {"fidelity_share": 0.7, "color_difference": difference, "color_spread": spread}
    text = fidelity_complaint(FidelityReport(figures), GATE)
    assert bool(text) is refused
    if refused:
        for said in (f"{difference:.1f}", f"at most {spread + 10:.1f}", f"{spread:.1f} from each"):
            assert said in text


def test_likeness_and_colours_are_complained_of_together():
    figures = {"fidelity_share": 0.1, "color_difference": 50.0, "color_spread": 2.0}
    text = fidelity_complaint(FidelityReport(figures), GATE)
    assert "at least 50%" in text
    assert "at most 12.0" in text


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


@pytest.mark.slow
def test_a_robot_that_was_hardly_learned_is_refused_for_its_colours(make_settings):
    settings = make_settings(catalog={"settle_seconds": 0}, learning={"steps": 4})
    write_sample_catalog(settings.catalog_root, ["ROBOT-STAR-01"])
    outcome = learn_all(settings)["ROBOT-STAR-01"]
    assert outcome.status == "failed"
    assert "its colours are" in outcome.reason
    shift = outcome.metrics["color_difference"] - outcome.metrics["color_spread"]
    assert shift > settings.learning.gate_max_color_shift
    assert open_home(settings).adapters("default").head() is None
