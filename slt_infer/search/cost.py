"""What a mask costs in bits, to a reader who knows where its scores began and to one who does not. No torch.

An estimate by entropies, to steer a search by: the file's tables, tiles and choice of bins are the codec's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 16  # equal ones of |initial score|: what its four highest planes say


def score_bins(initial: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    """Bin of each initial score [free] of a layer, 0 .. BINS - 1. bound: see `source.score_bound`.

    float32 moves no score into another bin: magnitudes are odd multiples of bound / 2^17, edges even ones.
    """
    return np.floor(np.abs(initial.astype(np.float64)) * (BINS / bound)).astype(np.uint8)


def mask_bits(mask: NDArray[np.bool_], bins: NDArray[np.uint8]) -> tuple[float, float]:
    """Entropy of a layer's mask [free] in bits: with one density per bin, and with one for the layer."""
    counts = np.stack([np.bincount(bins[mask == value], minlength=BINS) for value in (False, True)])
    return float(_entropy(counts).sum()), float(_entropy(counts.sum(1)))


def _entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of binary choices of one density, of which [2, ...] counts were zeros and ones."""
    total = counts.sum(0)
    bits: NDArray[np.float64] = counts * np.log2(np.maximum(total, 1) / np.maximum(counts, 1))
    return bits.sum(0)
