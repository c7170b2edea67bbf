"""What a layer's initial scores say of its mask: the intervals of a `prior` mask (docs/format.md, section 5).

A searched mask remembers where its scores began, and those the seed gives again. The high planes of a score
and its sign form the number v of a cell; neighbouring cells are joined into intervals of one density each by
dynamic programming over the counts of kept and dropped weights per cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slt_infer import _core
from slt_infer.ticket import Source, unpack_bits

SCORE = 2  # stream
SIGN_PLANE = 16
MAX_PLANES = 8
MAX_INTERVALS = 16
SPARE = 1.001  # fewer planes decode faster


@dataclass(frozen=True)
class Prior:
    """planes, sign and intervals as a layer's header has them; bits: what intervals and mask ideally take."""

    planes: int
    sign: bool
    intervals: tuple[tuple[int, int], ...]
    bits: float

    def shortened(self) -> Prior | None:
        """The same without the low bits of v that no start has; None if a single interval is left."""
        planes, sign, starts = self.planes, self.sign, [start for start, _ in self.intervals]
        if len(starts) == 1:
            return None
        while all(start % 2 == 0 for start in starts):
            starts = [start // 2 for start in starts]
            planes, sign = (planes, False) if sign else (planes - 1, False)
        intervals = tuple((start, f) for start, (_, f) in zip(starts, self.intervals, strict=True))
        return Prior(planes, sign, intervals, self.bits)


def find_prior(
    source: Source, layer_id: int, free: int, mask: np.ndarray, planes: int = MAX_PLANES
) -> Prior | None:
    """The cheapest intervals over at most `planes` planes and perhaps the sign, or some that read fewer of
    these and take at most SPARE of their bits; None where one density for all is as cheap. mask: uint32
    words by free ordinal.
    """
    if planes == 0 or free == 0:
        return None
    signed = cell_counts(source, layer_id, free, mask, planes)
    found = []
    # The sign is the lowest bit of v, so with it fewer planes can be cut as more cannot.
    for used in range(planes + 1):
        cells = signed.reshape(2**used, -1, 2, 2).sum(axis=1)
        found.append(cut(cells.sum(axis=1), used, False))
        if used < MAX_PLANES:  # more than 256 cells gain nothing
            found.append(cut(cells.reshape(-1, 2), used, True))
    allowed = SPARE * min(prior.bits for prior in found)
    return next(prior for prior in found if prior.bits <= allowed).shortened()


def cell_counts(source: Source, layer_id: int, free: int, mask: np.ndarray, planes: int) -> np.ndarray:
    """int64 [2^(planes + 1), 2]: dropped and kept weights by v, the sign its lowest bit."""
    cells = np.zeros(free, dtype=np.uint16)
    for plane in (*range(planes), SIGN_PLANE):
        words = _core.plane(
            source.generator, source.rounds, source.seed, SCORE, layer_id, 0, plane, 0, -(-free // 128)
        )
        cells <<= 1
        cells |= unpack_bits(words, free)
    cells <<= 1
    cells |= unpack_bits(mask, free)
    return np.bincount(cells, minlength=2 ** (planes + 2)).reshape(-1, 2)


def cut(counts: np.ndarray, planes: int, sign: bool) -> Prior:
    """The cheapest at most MAX_INTERVALS runs of the cells of `counts` [n, 2] by run_costs."""
    cells = len(counts)
    costs, f = run_costs(counts)
    best = costs[0]  # [end]: of the cells before `end` in as many runs as there were rounds
    choices, totals = [], [best[cells]]
    for _ in range(1, min(MAX_INTERVALS, cells)):
        with_last = best[:, None] + costs  # [begin of the last run, end]
        choices.append(with_last.argmin(axis=0))
        best = with_last.min(axis=0)
        totals.append(best[cells])
    runs = 1 + int(np.argmin(totals))
    ends = [cells]
    for choice in reversed(choices[: runs - 1]):
        ends.append(int(choice[ends[-1]]))
    starts = [0, *reversed(ends[1:])]
    intervals = tuple((begin, int(f[begin, end])) for begin, end in zip(starts, reversed(ends), strict=True))
    return Prior(planes, sign, intervals, float(totals[runs - 1]))


def run_costs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits, float64 [n + 1, n + 1], and the f of every run of cells begin .. end - 1: what its weights are
    coded in, and its interval [begin, f] in the header. Infinite where a run is empty.
    """
    sums = np.concatenate([np.zeros((1, 2), dtype=np.int64), np.cumsum(counts, axis=0)])
    dropped, kept = (sums[None, :, i] - sums[:, None, i] for i in range(2))
    f = np.clip(np.rint(4096 * kept / np.maximum(dropped + kept, 1)), 1, 4095).astype(np.int64)
    bits = 12 - np.log2(np.arange(1, 4097))  # of an outcome of frequency i + 1
    costs = kept * bits[f - 1] + dropped * bits[4095 - f]
    costs += 8 * (1 + packed_bytes(np.arange(len(sums)))[:, None] + packed_bytes(f))
    costs[np.tri(len(sums), dtype=bool)] = np.inf
    return costs, f


def packed_bytes(numbers: np.ndarray) -> np.ndarray:
    """Of each number below 2^16, the bytes that MessagePack takes for it."""
    return 1 + (numbers >= 128) + (numbers >= 256)
