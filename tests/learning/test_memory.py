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
    prior_prompts,
    recall_exemplars,
    render_prior,
    select_exemplars,
)
from tests.builders import make_concept

PLAN = SamplingPlan(steps=2, guidance=2.0, width=16, height=16)
HOW = {"slot": "shared", "plan": PLAN, "seed": 5}


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


def test_orthogonal_neighbours_leave_the_likeness_alone_eq_5():
    axes = np.eye(8, dtype=np.float32)
    generated, real, others = axes[:2], axes[:2], axes[4:7]
    np.testing.assert_array_equal(exemplar_scores(generated, real, others), np.eye(2))
    np.testing.assert_array_equal(exemplar_scores(generated, real, others, 0.0), np.zeros((2, 2)))


def test_a_candidate_like_another_concept_loses_eq_5():
    axes = np.eye(4, dtype=np.float32)
    alike = unit(np.stack([axes[0] + axes[1], axes[0] + axes[2]]))
    scores = exemplar_scores(alike, axes[:1], axes[1:2])
    assert scores[0, 0] < scores[1, 0], "both show the concept; the first its neighbour too"


def test_scores_do_not_depend_on_the_order_of_the_others_eq_5():
    rng = np.random.default_rng(1)
    g, r, o = (unit(rng.normal(size=(n, 6))) for n in (4, 3, 5))
    want = exemplar_scores(g, r, o)
    np.testing.assert_allclose(exemplar_scores(g, r, o[::-1]), want, atol=1e-6)
    np.testing.assert_allclose(exemplar_scores(g, r, np.repeat(o, 2, 0)), want, atol=1e-6)
    order = np.array([3, 0, 2, 1])
    np.testing.assert_allclose(exemplar_scores(g[order], r, o), want[order], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_chosen_candidates_are_distinct_and_the_best_left_for_their_photo(count):
    scores = np.random.default_rng(2).normal(size=(5, 2))
    chosen = select_exemplars(scores, count)
    assert len(set(chosen)) == len(chosen) == count
    for turn, candidate in enumerate(chosen):
        free = [i for i in range(5) if i not in chosen[:turn]]
        assert candidate == max(free, key=lambda i: scores[i, turn % 2])


def encode(images) -> np.ndarray:
    return unit(np.stack([i.astype(np.float32).mean((0, 1)) + 1 for i in images]))


def remember(engine, sku: str, features: np.ndarray) -> RememberedConcept:
    tokens = placeholder_tokens(sku, 1)
    engine.text.table.add(tokens[0], torch.randn(16, generator=torch.Generator().manual_seed(1)))
    concept = make_concept(sku, 1, placeholder_tokens=tokens)
    return RememberedConcept(concept, ("a photo of a {concept}",), features)


def test_short_term_bank_is_the_students_own_and_repeatable(engine):
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    features = unit(np.eye(3))
    items = [remember(engine, "A", features), remember(engine, "B", features)]
    banks = [
        recall_exemplars(engine, items, encode, candidates=3, exemplars=2, **HOW) for _ in range(2)
    ]
    assert len(banks[0]) == 4
    assert banks[0].latents.shape == (4, 4, 4, 4)
    assert banks[0].prompts[0] == "a photo of a <A:0> mug"
    assert banks[0].concepts == ("A", "A", "B", "B")
    assert torch.equal(banks[0].latents, banks[1].latents)
    with pytest.raises(ValueError, match="no remembered"):
        recall_exemplars(engine, [], encode, candidates=1, exemplars=1, **HOW)


def recalled(engine, items, selection: str, **changes):
    asked = []

    def watching(images):
        asked.append(len(images))
        return encode(images)

    counts = {"candidates": 4, "exemplars": 2, **changes}
    bank = recall_exemplars(engine, items, watching, selection=selection, **counts, **HOW)
    return bank, asked


def test_random_selection_renders_what_it_keeps_and_scores_nothing(engine, monkeypatch):
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    items = [remember(engine, sku, unit(np.eye(3))) for sku in "AB"]
    rendered = []
    sample = engine.sample
    monkeypatch.setattr(
        engine, "sample", lambda batch, *rest: rendered.append(len(batch)) or sample(batch, *rest)
    )
    bank, asked = recalled(engine, items, "random")
    assert (rendered, asked) == ([2, 2], [])
    assert bank.concepts == ("A", "A", "B", "B")
    rendered.clear()
    rainbow, asked = recalled(engine, items, "rainbow")
    assert (rendered, asked) == ([4, 4], [4, 4])
    assert bank.latents.shape == rainbow.latents.shape
    again, _ = recalled(engine, items, "random")
    assert torch.equal(bank.latents, again.latents)


def test_rainbow_keeps_the_candidates_of_the_best_scores(engine):
    """Against brute force over the same candidates, which are those of ``exemplars=candidates``."""
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    rng = np.random.default_rng(3)
    items = [remember(engine, sku, unit(rng.normal(size=(2, 3)))) for sku in "AB"]
    kept, _ = recalled(engine, items, "rainbow")
    everything, _ = recalled(engine, items, "random", exemplars=4)
    features = [encode(engine.decode(part)) for part in everything.latents.split(4)]
    for number, item in enumerate(items):
        scores = exemplar_scores(features[number], item.features, features[1 - number])
        best = select_exemplars(scores, 2)
        want = everything.latents[4 * number : 4 * number + 4][best]
        torch.testing.assert_close(kept.latents[2 * number : 2 * number + 2], want)


def test_a_single_remembered_concept_is_recalled_by_likeness_alone(engine):
    engine.adapter.add_slot("shared", torch.Generator().manual_seed(0))
    bank, asked = recalled(engine, [remember(engine, "A", unit(np.eye(3)))], "rainbow")
    assert (len(bank), asked) == (2, [4])


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


def test_prior_prompts_go_through_the_scenes_and_name_the_class_every_other_time():
    assert prior_prompts(("in snow", "on grass"), "mug", 3) == [
        "a photo in snow",
        "a photo of a mug on grass",
        "a photo in snow",
    ]
