"""The selection against a plain stable sort, and the number kept against exact arithmetic."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slt_infer.errors import SltError
from slt_infer.search.selection import _select_bits, _select_numpy, kept_count, select

BOTH = pytest.mark.parametrize("way", [_select_numpy, _select_bits], ids=["partition", "radix"])


def oracle(scores: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """Largest |score| first; a stable sort puts the lowest index first among equals."""
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-np.abs(scores), kind="stable")[:count]] = True
    return mask


few_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 0.5, -0.5, 1e-45, -1e-45, 3e38, float("inf")])
any_value = st.floats(width=32, allow_nan=False)


@BOTH
@given(data=st.data())
def test_the_same_mask_as_a_stable_sort(way, data) -> None:
    values = data.draw(st.lists(st.one_of(few_values, any_value), min_size=1, max_size=200))
    count = data.draw(st.integers(0, len(values)))
    scores = np.array(values, dtype=np.float32)
    mask = way(torch.from_numpy(scores), count).numpy()
    assert mask.sum() == count
    np.testing.assert_array_equal(mask, oracle(scores, count))


@BOTH
@pytest.mark.parametrize("levels", [1, 2, 50, 2**20])
def test_large_with_ties(way, levels: int) -> None:
    random = np.random.Generator(np.random.PCG64(levels))
    scores = ((random.integers(0, levels, 100_003) - levels // 2) / levels).astype(np.float32)
    for count in (1, 10_000, 50_001, 100_002):
        np.testing.assert_array_equal(way(torch.from_numpy(scores), count).numpy(), oracle(scores, count))


@BOTH
@pytest.mark.parametrize("count", [0, 1, 3])
def test_nan_is_refused(way, count: int) -> None:
    with pytest.raises(SltError) as caught:
        way(torch.tensor([1.0, float("nan"), -2.0]), count)
    assert caught.value.code == "nan-score"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_agree() -> None:
    random = np.random.Generator(np.random.PCG64(3))
    scores = torch.from_numpy(random.integers(-50, 50, 200_000).astype(np.float32))
    for count in (0, 1, 77_777, 200_000):
        assert torch.equal(select(scores, count), select(scores.cuda(), count).cpu())


def test_refuses_what_is_not_a_selection() -> None:
    with pytest.raises(ValueError):
        select(torch.zeros(3), 4)
    with pytest.raises(ValueError):
        select(torch.zeros(3, dtype=torch.float64), 1)


@pytest.mark.parametrize(
    ("weights", "sparsity", "kept"),
    [
        (100, 0.29, 71),  # 0.29 * 100 = 28.999999999999996 in float64
        (1000, 0.007, 993),
        (10, 0.7, 3),
        (10, 0.75, 3),
        (266_200, 0.5, 133_100),
        (11_164_352, 0.9, 1_116_436),
        (7, 0.0, 7),
    ],
)
def test_number_kept(weights: int, sparsity: float, kept: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kept_count(weights, 0, 0, sparsity) == kept


@given(weights=st.integers(1, 10**9), thousandths=st.integers(0, 1000))
def test_number_kept_is_exact(weights: int, thousandths: int) -> None:
    exact = weights - int(Decimal(thousandths) * weights / 1000)
    assert kept_count(weights, 0, 0, thousandths / 1000) == exact


def test_number_kept_is_clamped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="keeps 40 of 100 weights instead of 50"):
        assert kept_count(100, 60, 10, 0.5) == 40
    with pytest.warns(UserWarning, match="layer fc1 keeps 60 of 100 weights instead of 50"):
        assert kept_count(100, 10, 60, 0.5, "layer fc1") == 60
