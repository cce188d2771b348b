"""Joint attention by region against a loop over every position, head and key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from catalog_pipeline.diffusion.joint_attention import joint_attend, joint_masks, text_masks
from catalog_pipeline.diffusion.regional import RegionalContext

BATCH, REGIONS, TOKENS, SIDE, HEADS, WIDTH = 2, 2, 3, 2, 2, 4
TEXTS, PIXELS = REGIONS * TOKENS, SIDE * SIDE
POSITIONS = TEXTS + PIXELS
VALID = torch.tensor([[[1, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 1]]]).bool()


@dataclass
class Watcher:
    """Keeps what it sees, and adds ``added`` to the logits."""

    added: Tensor | None = None
    seen: list[Tensor] = field(default_factory=list)

    def wants(self, pixels: int) -> bool:
        return pixels == PIXELS

    def observe(self, probs: Tensor) -> None:
        self.seen.append(probs)

    def bias(self, pixels: int) -> Tensor | None:
        return self.added


def draw(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, ``(batch, positions, heads, width)``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, BATCH, POSITIONS, HEADS, WIDTH)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype))  # type: ignore[return-value]


def soft_masks() -> Tensor:
    """``(batch, regions, side, side)``, 1 together, with a pixel of one region alone."""
    share = torch.tensor([[0.7, 0.2, 1.0, 0.5], [0.1, 0.9, 0.4, 0.0]]).view(BATCH, SIDE, SIDE)
    return torch.stack([share, 1 - share], 1)


def half_masks() -> Tensor:
    left = torch.tensor([1.0, 0.0]).expand(BATCH, SIDE, SIDE)
    return torch.stack([left, 1 - left], 1)


@contextmanager
def reading(
    masks: Tensor | None, valid: Tensor | None = None, observer: Watcher | None = None
) -> Iterator[RegionalContext]:
    context = RegionalContext()
    context.observer = observer
    with context.reading(torch.zeros(BATCH, REGIONS, TOKENS, 1), masks, valid):
        yield context


def bias_of(
    masks: Tensor, valid: Tensor | None, added: Tensor | None, image: int, query: int, key: int
) -> float:
    """The table of the module's docstring, one query and one key at a time."""

    def log_share(region: int, pixel: int) -> float:
        share = masks[image, region].flatten()[pixel].double()
        return share.log().item()

    padding = valid is not None and key < TEXTS and not valid[image].flatten()[key]
    if padding and key != query:
        return -torch.inf
    if query >= TEXTS and key >= TEXTS:
        return 0.0
    if query >= TEXTS:
        region, token = divmod(key, TOKENS)
        extra = 0.0 if added is None else added[image, region, query - TEXTS, token].item()
        return log_share(region, query - TEXTS) + extra
    if key >= TEXTS:
        return log_share(query // TOKENS, key - TEXTS)
    return 0.0 if query // TOKENS == key // TOKENS else -torch.inf


def slow(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: Tensor,
    valid: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    out = torch.zeros_like(query)
    for image in range(BATCH):
        for head in range(HEADS):
            for q in range(POSITIONS):
                logits = torch.stack(
                    [
                        query[image, q, head] @ key[image, k, head] / WIDTH**0.5
                        + bias_of(masks, valid, added, image, q, k)
                        for k in range(POSITIONS)
                    ]
                )
                out[image, q, head] = logits.softmax(0) @ value[image, :, head]
    return out.flatten(2)


@pytest.mark.parametrize("masks", [soft_masks(), half_masks()], ids=["soft", "halves"])
@pytest.mark.parametrize("valid", [None, VALID], ids=["whole", "padded"])
@pytest.mark.parametrize("adds", [False, True], ids=["as_it_is", "raised"])
def test_it_is_the_softmax_of_the_table_row_by_row(
    masks: Tensor, valid: Tensor | None, adds: bool
) -> None:
    added = None
    if adds:
        generator = torch.Generator().manual_seed(5)
        added = torch.rand(BATCH, REGIONS, PIXELS, TOKENS, generator=generator).double()
    with reading(masks, valid, Watcher(added) if adds else None) as context:
        fast = joint_attend(*draw(), context)
    torch.testing.assert_close(fast, slow(*draw(), masks, valid, added), atol=1e-6, rtol=1e-6)
    assert fast.isfinite().all()


def test_one_text_over_the_whole_image_is_plain_attention() -> None:
    query, key, value = draw()
    context = RegionalContext()
    with context.reading(torch.zeros(BATCH, 1, TEXTS, 1), None):
        fast = joint_attend(query, key, value, context)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value))
    )
    torch.testing.assert_close(fast, theirs.transpose(1, 2).flatten(2))


def test_nobody_reads_padding_and_padding_stays_a_number() -> None:
    query, key, value = draw()
    padding = torch.cat([~VALID.flatten(1), torch.zeros(BATCH, PIXELS).bool()], 1)
    other_key, other_value = key.clone(), value.clone()
    other_key[padding], other_value[padding] = 7.0, -9.0
    with reading(soft_masks(), VALID) as context:
        out = joint_attend(query, key, value, context)
        moved = joint_attend(query, other_key, other_value, context)
    assert torch.equal(out[~padding], moved[~padding])
    assert moved.isfinite().all()


def test_a_pixel_reads_no_text_of_another_region() -> None:
    query, key, value = draw()
    key[:, TOKENS:TEXTS], value[:, TOKENS:TEXTS] = 3.0, 100.0  # the text of region 1
    with reading(half_masks()) as context:
        moved = joint_attend(query, key, value, context)
        plain = joint_attend(*draw(), context)
    left = TEXTS + torch.tensor([0, 2])  # the pixels of region 0, column by column
    assert torch.equal(moved[:, left], plain[:, left])
    assert torch.equal(moved[:, :TOKENS], plain[:, :TOKENS])
    assert (moved[:, left + 1] - plain[:, left + 1]).abs().min() > 1e-3


@pytest.mark.parametrize("valid", [None, VALID], ids=["whole", "padded"])
@pytest.mark.parametrize("adds", [False, True], ids=["as_it_is", "raised"])
def test_the_observer_sees_a_softmax_over_one_text_alone(valid: Tensor | None, adds: bool) -> None:
    query, key, value = draw()
    added = torch.rand(BATCH, REGIONS, PIXELS, TOKENS).double() if adds else None
    watcher = Watcher(added)
    with reading(half_masks(), valid, watcher) as context:
        joint_attend(query, key, value, context)
    (seen,) = watcher.seen
    for image in range(BATCH):
        for region in range(REGIONS):
            text = slice(region * TOKENS, (region + 1) * TOKENS)
            for pixel in range(PIXELS):
                total = torch.zeros(TOKENS).double()
                for head in range(HEADS):
                    logits = key[image, text, head] @ query[image, TEXTS + pixel, head] / WIDTH**0.5
                    if added is not None:
                        logits = logits + added[image, region, pixel]
                    if valid is not None:
                        logits = logits.masked_fill(~valid[image, region], -torch.inf)
                    total += logits.softmax(0) / HEADS
                torch.testing.assert_close(seen[image, region, pixel], total)
    torch.testing.assert_close(seen.sum(-1), torch.ones(BATCH, REGIONS, PIXELS).double())


def test_gradients_are_those_of_the_attention_and_of_the_maps() -> None:
    masks = soft_masks()

    def both(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        watcher = Watcher()
        with reading(masks, VALID, watcher) as context:
            out = joint_attend(query, key, value, context)
        return out, watcher.seen[0]

    inputs = tuple(x.requires_grad_(True) for x in draw())
    assert torch.autograd.gradcheck(both, inputs)


def test_masks_of_the_sequence_are_the_texts_own_and_the_images() -> None:
    masks = soft_masks()
    with reading(masks) as context:
        joint = joint_masks(context, masks, PIXELS)
        own = text_masks(context, masks)
    assert joint.shape == (BATCH, REGIONS, POSITIONS)
    assert torch.equal(joint[..., TEXTS:], masks.flatten(2))
    assert torch.equal(joint[..., :TEXTS], own)
    assert own[0].tolist() == [[1.0] * TOKENS + [0.0] * TOKENS, [0.0] * TOKENS + [1.0] * TOKENS]
    torch.testing.assert_close(joint.sum(1), torch.ones(BATCH, POSITIONS))


def test_two_halves_of_one_text_are_one_text_to_a_pixel_and_not_to_the_text() -> None:
    """``0.5 e^l + 0.5 e^l`` is ``e^l``; but each copy gives pixels half the weight they had."""
    query, key, value = draw()
    for x in (query, key, value):
        x[:, TOKENS:TEXTS] = x[:, :TOKENS]
    with reading(torch.full((BATCH, REGIONS, SIDE, SIDE), 0.5)) as context:
        split = joint_attend(query, key, value, context)
    whole = RegionalContext()
    with whole.reading(torch.zeros(BATCH, 1, TOKENS, 1), None):
        one = joint_attend(query[:, TOKENS:], key[:, TOKENS:], value[:, TOKENS:], whole)
    torch.testing.assert_close(split[:, TEXTS:], one[:, TOKENS:], atol=1e-6, rtol=1e-6)
    assert (split[:, :TOKENS] - one[:, :TOKENS]).abs().max() > 1e-2
