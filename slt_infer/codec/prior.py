"""What a layer's initial scores say of its mask: the intervals of a `prior` mask (docs/format.md, section 5).

A searched mask remembers where its scores began, and those the seed gives again. The high planes of a score
and its sign form the number v of a cell; neighbouring cells are joined into intervals of one density each by
dynamic programming over the counts of kept and dropped weights per cell (csrc/prior.cpp).
"""

from __future__ import annotations

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
    """uint64 [2^(planes + 1), 2]: dropped and kept weights by v, the sign its lowest bit."""
    return _core.count_cells(mask, free, source.generator, source.rounds, source.seed, layer_id, planes)


def cut(counts: np.ndarray, planes: int, sign: bool) -> Prior:
    """The cheapest at most 16 runs of the cells of `counts` [n, 2], the bytes of their [begin, f]
    in the header paid for.
    """
    intervals, bits = _core.cut_cells(np.ascontiguousarray(counts, dtype=np.uint64))
    return Prior(planes, sign, tuple(intervals), bits)
