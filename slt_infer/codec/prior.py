"""What a layer's initial scores say of its mask: the intervals of a `prior` mask (docs/format.md, section 5).

A searched mask remembers where its scores began, and those the seed gives again. The high planes of a score
and its sign form the number v of a cell; neighbouring cells are joined into intervals of one density each by
dynamic programming over the counts of kept and dropped weights per cell (csrc/prior.cpp).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from slt_infer import _core
from slt_infer.ticket import Source

MAX_PLANES = 8
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

    def cells(used: int, sign: bool) -> np.ndarray:
        counts = signed.reshape(2**used, -1, 2, 2).sum(axis=1)
        return counts.reshape(-1, 2) if sign else counts.sum(axis=1)

    # The sign is the lowest bit of v, so with it fewer planes can be cut as more cannot; but more than 256
    # cells gain nothing.
    laws = list(itertools.product(range(planes + 1), (False, True)))[: 2 * MAX_PLANES + 1]
    least = min(_least_bits(cells(*law)) for law in laws[-2:])  # of which the others' cells are unions
    found: list[Prior] = []
    for law in laws:
        found.append(cut(cells(*law), *law))
        allowed = SPARE * min(prior.bits for prior in found)
        first = next(prior for prior in found if prior.bits <= allowed)
        if first.bits <= SPARE * least:
            break  # whatever the others take
    return first.shortened()


def _least_bits(cells: np.ndarray) -> float:
    """Bits that no cut of `cells` [n, 2] takes less than: each at a density of its own, and in the header the
    three bytes that an interval has at least.
    """
    counts = np.column_stack([cells, cells.sum(axis=1)])
    own = (counts * np.log2(np.maximum(counts, 1))).sum(axis=0)
    return 24 + float(own[2] - own[0] - own[1])


def cell_counts(source: Source, layer_id: int, free: int, mask: np.ndarray, planes: int) -> np.ndarray:
    """uint64 [2^(planes + 1), 2]: dropped and kept weights by v, the sign its lowest bit."""
    return _core.count_cells(mask, free, source.generator, source.rounds, source.seed, layer_id, planes)


def cut(counts: np.ndarray, planes: int, sign: bool) -> Prior:
    """The cheapest at most 16 runs of the cells of `counts` [n, 2], the bytes of their [begin, f]
    in the header paid for.
    """
    intervals, bits = _core.cut_cells(np.ascontiguousarray(counts, dtype=np.uint64))
    return Prior(planes, sign, tuple(intervals), bits)
