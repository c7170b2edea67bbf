"""Rate-aware search: single steps in closed form, never past the start, and what a mask costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slt_infer import reference
from slt_infer.search.cost import BINS, mask_bits, score_bins
from slt_infer.search.rate import Anchor
from slt_infer.search.source import initial_scores, score_bound
from slt_infer.ticket import LayerShape, Source

LAYERS = [(slice(0, 4), 0.5), (slice(4, 6), 2.0)]


def test_a_step_in_closed_form() -> None:
    """lr * rate * deviation is 1/8 in the first layer and 1/2 in the second; all numbers are exact."""
    start = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0, 3.0])
    scores = torch.tensor([2.0, 0.9375, -1.0, 1.0, -4.0, 3.25])
    anchor = Anchor(start.clone(), LAYERS, rate=0.5, pull=0.0)
    anchor.draw_back(scores, lr=0.5)
    assert scores.tolist() == [1.875, 1.0, -1.0, 0.875, -3.5, 3.0]
    assert torch.equal(anchor.start, start)


def test_decay_in_closed_form() -> None:
    start, scores = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 0.0, 0.5])
    gradient = torch.tensor([0.25, 0.25, 0.25])
    Anchor(start, [], rate=0.0, pull=0.125).add_decay(scores, gradient)
    assert gradient.tolist() == [0.5, 0.5, 0.25]
    assert scores.tolist() == [3.0, 0.0, 0.5]


def test_without_strength_nothing_changes() -> None:
    start, scores, gradient = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)).unbind()
    before = [scores.clone(), gradient.clone()]
    anchor = Anchor(start, LAYERS, rate=0.0, pull=0.0)
    anchor.add_decay(scores, gradient)
    anchor.draw_back(scores, 0.1)
    assert torch.equal(scores, before[0])
    assert torch.equal(gradient, before[1])


finite = st.floats(-1e6, 1e6, width=32)


@given(finite, finite, st.floats(0, 10), st.floats(1e-6, 1.0))
def test_never_past_the_start_and_never_away_from_it(
    start: float, score: float, rate: float, lr: float
) -> None:
    moved = torch.tensor([score])
    Anchor(torch.tensor([start]), [(slice(0, 1), 1.0)], rate, 0.0).draw_back(moved, lr)
    assert min(start, score) <= moved.item() <= max(start, score)
    if score == start:
        assert moved.item() == start


def test_enough_steps_end_at_the_start_to_the_bit() -> None:
    shape = LayerShape("a", 64, 32)
    start = torch.from_numpy(initial_scores(Source(seed=5), 0, shape, shape.weights))
    scores = start + torch.linspace(-0.3, 0.3, len(start))
    anchor = Anchor(start, [(slice(None), 0.25)], rate=1.0, pull=0.0)
    for _ in range(13):  # 13 * 0.1 * 0.25 > 0.3
        anchor.draw_back(scores, 0.1)
    assert torch.equal(scores, start)


@pytest.mark.parametrize("scale", [1.0, 0.3, 7.0])
def test_bins_are_the_four_highest_planes(scale: float) -> None:
    source, shape = Source(seed=9), LayerShape("a", 100, 37, (3, 3))
    initial = initial_scores(source, 3, shape, shape.weights, scale)
    expected = reference.plane_numbers(source, 2, 3, 4, shape.weights)
    np.testing.assert_array_equal(score_bins(initial, score_bound(shape, scale)), expected)


def test_the_law_has_the_deviation_that_the_rate_counts_in() -> None:
    shape = LayerShape("a", 500, 400)
    scores = initial_scores(Source(), 0, shape, shape.weights, 2.0)
    assert scores.std() == pytest.approx(score_bound(shape, 2.0) / math.sqrt(3), rel=0.01)


def test_cost_of_a_mask() -> None:
    """16 weights a bin: h(1/4) in bin 0, certain in bins 1 and 2, h(1/2) in bin 3."""
    bins = np.repeat(np.arange(4, dtype=np.uint8), 16)
    mask = np.concatenate([np.arange(16) < 4, np.zeros(16), np.ones(16), np.arange(16) % 2]).astype(bool)
    quarter = 2 - 0.75 * math.log2(3)
    prior, iid = mask_bits(mask, bins)
    assert prior == pytest.approx(16 * quarter + 16)
    p = 28 / 64
    assert iid == pytest.approx(64 * (-p * math.log2(p) - (1 - p) * math.log2(1 - p)))


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("free", [0, 5])
def test_a_constant_mask_costs_nothing(free: int, value: bool) -> None:
    assert mask_bits(np.full(free, value), np.zeros(free, np.uint8)) == (0.0, 0.0)


def test_the_start_alone_predicts_its_mask() -> None:
    """A mask of untouched scores costs at most the one bin that the threshold cuts."""
    shape = LayerShape("a", 200, 100)
    initial = initial_scores(Source(seed=2), 0, shape, shape.weights)
    bins = score_bins(initial, score_bound(shape))
    prior, iid = mask_bits(np.abs(initial) > 0.52 * score_bound(shape), bins)
    assert prior <= np.bincount(bins, minlength=BINS)[8]
    assert iid > 0.99 * shape.weights
