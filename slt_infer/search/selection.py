"""Which free weights are kept: the largest |score|, an exact number of them, the same on every device.

Rule (edge-popup of Ramanujan et al. 2020 on |score|; global threshold of Sreenivasan et al. 2022): of N
weights exactly N - floor(sparsity * N) are kept, locked ones among them. Of equal |scores| the one that comes
first in (layer, row-major) order is kept. Found by selection, never by a sort.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from slt_infer.errors import SltError
from slt_infer.freeze import weights_kept


def kept_count(weights: int, pruned: int, locked: int, sparsity: float, where: str = "the network") -> int:
    """N - floor(sparsity * N), clamped to [locked, N - pruned] with a warning."""
    wanted = weights_kept(weights, sparsity)
    kept = min(max(wanted, locked), weights - pruned)
    if kept != wanted:
        warnings.warn(
            f"{where} keeps {kept} of {weights} weights instead of {wanted}: {locked} are locked, "
            f"{pruned} pruned",
            stacklevel=2,
        )
    return kept


def select(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Booleans [n] with exactly `count` set, where |scores| (float32 [n]) is largest; ties: the lowest index.

    Raises SltError (`nan-score`) if any score is NaN, ValueError if count is not in [0, n].
    """
    if not 0 <= count <= len(scores):
        raise ValueError(f"{count} of {len(scores)} scores")
    if scores.dtype != torch.float32:
        raise ValueError(f"scores are {scores.dtype}, not float32")
    scores = scores.detach()
    on_cpu = scores.device.type == "cpu"
    return _select_numpy(scores, count) if on_cpu else _select_bits(scores, count)


def _select_numpy(scores: torch.Tensor, count: int) -> torch.Tensor:
    size = np.abs(scores.numpy())
    if np.isnan(size).any():
        raise _nan(int(np.isnan(size).sum()))
    if count in (0, len(size)):
        return torch.full((len(size),), count > 0)
    threshold = np.partition(size, len(size) - count)[len(size) - count]
    mask = size > threshold
    missing = count - int(np.count_nonzero(mask))
    mask[np.flatnonzero(size == threshold)[:missing]] = True
    return torch.from_numpy(mask)


def _select_bits(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The same on any device: a radix selection on the bits of |score|, which order as the numbers do.

    A selection in three histograms, because torch.kthvalue runs in a single thread block on a GPU.
    """
    size = scores.abs().view(torch.int32)
    nan = int((size > 0x7F800000).sum())
    if nan:
        raise _nan(nan)
    if count in (0, len(size)):
        return torch.full((len(size),), count > 0, device=scores.device)
    threshold, rest, candidates = 0, count, size  # rest: how many of the candidates are kept
    for shift, bits in ((20, 11), (10, 10), (0, 10)):
        digits = (candidates >> shift) & ((1 << bits) - 1)
        above = torch.bincount(digits, minlength=1 << bits).flip(0).cumsum(0)  # by descending digit
        step = int((above < rest).sum())
        digit = (1 << bits) - 1 - step
        rest -= int(above[step - 1]) if step else 0
        threshold |= digit << shift
        candidates = candidates[digits == digit]
    mask = size > threshold
    mask[(size == threshold).nonzero()[:rest, 0]] = True
    return mask


def _nan(count: int) -> SltError:
    return SltError(
        "nan-score", f"{count} scores are NaN: the search diverged; lower the learning rate", "scores"
    )
