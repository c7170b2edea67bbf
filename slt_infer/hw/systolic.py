"""Systolic arrays by SCALE-Sim's closed forms (SCALE-Sim v2; found and checked on 24 of its layers and 3
products).

T output pixels, K = kernel rows x columns x input channels, N filters, R x C elements. Cycles are those that
SCALE-Sim reports, which are one below the sum of the folds (its issue 125).
"""

from __future__ import annotations

from slt_infer.hw.description import Array
from slt_infer.hw.workload import Work


def folds(array: Array, pixels: int, fan_in: int, filters: int) -> tuple[int, int]:
    """How often the array is filled anew, and cycles of each time."""
    rows, columns = array.rows, array.columns
    if array.dataflow == "ws":
        return _up(fan_in, rows) * _up(filters, columns), pixels + 2 * rows + columns - 2
    if array.dataflow == "os":
        return _up(pixels, rows) * _up(filters, columns), fan_in + rows + columns - 2
    return _up(fan_in, rows) * _up(pixels, columns), filters + 2 * rows + columns - 2


def cycles(array: Array, pixels: int, fan_in: int, filters: int) -> int:
    """Compute cycles of a layer, fill and drain of each fold among them, no stalls."""
    count, each = folds(array, pixels, fan_in, filters)
    return count * each - 1


def accesses(array: Array, work: Work) -> tuple[int, int, int]:
    """Words read of the input and of the filters, and written of the output: SCALE-Sim's SRAM counts."""
    t, k, n = work.pixels, work.fan_in, work.out
    rows, columns = array.rows, array.columns
    if array.dataflow == "ws":
        return t * k * _up(n, columns), k * n, t * n * _up(k, rows)
    if array.dataflow == "os":
        return t * k * _up(n, columns), k * n * _up(t, rows), t * n
    return t * k, k * n * _up(t, columns), t * n * _up(k, rows)


def _up(a: int, b: int) -> int:
    return -(-a // b)
