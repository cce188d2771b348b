from __future__ import annotations

import numpy as np
import pytest
import torch

from catalog_pipeline.diffusion.sampling import SamplingPlan
from catalog_pipeline.diffusion.text import placeholder_tokens
from catalog_pipeline.learning.augmentation import Backdrop
from catalog_pipeline.learning.memory import (
    RememberedConcept,
    decode_backdrops,
    derive_seed,
    encode_backdrops,
    exemplar_scores,
    recall_exemplars,
    render_prior,
    select_exemplars,
)
from catalog_pipeline.records import Concept

PLAN = SamplingPlan(steps=2, guidance=2.0, width=16, height=16)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_scores_equal_a_slow_loop_eq_5():
    rng = np.random.default_rng(0)
    g, r, o = (unit(rng.normal(size=(n, 6))) for n in (4, 3, 5))
    got = exemplar_scores(g, r, o, fidelity_weight=0.7)
    for i in range(4):
        for j in range(3):
            diversity = -sum(float(g[i] @ o[k]) for k in range(5)) / 5
            assert got[i, j] == pytest.approx(diversity + 0.7 * float(g[i] @ r[j]), abs=1e-6)
    alone = exemplar_scores(g, r, np.zeros((0, 6), np.float32))
    np.testing.assert_allclose(alone, g @ r.T, atol=1e-6)


def test_each_photo_in_turn_takes_its_best_free_candidate():
    scores = np.array([[0.9, 0.8], [0.5, 0.7], [0.1, 0.2]])
    assert select_exemplars(scores, 2) == [0, 1]
    assert select_exemplars(scores, 3) == [0, 1, 2]
    assert select_exemplars(scores, 9) == [0, 1, 2]


def encode(images) -> np.ndarray:
    return unit(np.stack([i.astype(np.float32).mean((0, 1)) + 1 for i in images]))


def remember(engine, sku: str, features: np.ndarray) -> RememberedConcept:
    tokens = placeholder_tokens(sku, 1)
    engine.text.table.add(tokens[0], torch.randn(16, generator=torch.Generator().manual_seed(1)))
    concept = Concept(sku, sku, "mug", "", tokens, "hash", 1)
    return RememberedConcept(concept, "shared", ("a photo of a {concept}",), features)


def test_short_term_bank_is_the_students_own_and_repeatable(engine):
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    features = unit(np.eye(3))
    items = [remember(engine, "A", features), remember(engine, "B", features)]
    banks = [
        recall_exemplars(engine, items, encode, candidates=3, exemplars=2, plan=PLAN, seed=5)
        for _ in range(2)
    ]
    assert len(banks[0]) == 4
    assert banks[0].latents.shape == (4, 4, 4, 4)
    assert banks[0].prompts[0] == "a photo of a <A:0> mug"
    assert banks[0].concepts == ("A", "A", "B", "B")
    assert torch.equal(banks[0].latents, banks[1].latents)
    with pytest.raises(ValueError, match="no remembered"):
        recall_exemplars(engine, [], encode, candidates=1, exemplars=1, plan=PLAN, seed=0)


def test_prior_comes_from_the_bare_base(engine):
    before = render_prior(engine, ["a mug", "a hat"], PLAN, seed=1)
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    assert torch.equal(
        render_prior(engine, ["a mug", "a hat"], PLAN, seed=1).latents, before.latents
    )
    assert before.concepts == (None, None)


def test_backdrop_cache_round_trip():
    drops = (Backdrop(np.full((4, 4, 3), 7, np.uint8), "in the snow"),)
    again = decode_backdrops(encode_backdrops(drops))
    assert again[0].phrase == "in the snow"
    assert np.array_equal(again[0].pixels, drops[0].pixels)


def test_seeds_are_stable_and_spread():
    assert derive_seed(0, "A", 0) == derive_seed(0, "A", 0)
    assert len({derive_seed(s, n, i) for s in (0, 1) for n in "AB" for i in range(9)}) == 36
    assert all(0 <= derive_seed(0, "A", i) < 2**31 for i in range(50))
