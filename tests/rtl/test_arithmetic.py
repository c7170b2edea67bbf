"""rtl/adder_tile.sv and requantise.sv against integers of any size."""

from __future__ import annotations

import numpy as np
import pytest

from .benches import build, simulate


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (16, 32)])
@pytest.mark.parametrize("stalls", [0, 40])
def test_sums(rows: int, columns: int, stalls: int) -> None:
    random = np.random.default_rng(rows)
    steps = [int(n) for n in random.integers(1, 12, 60)]
    given, want = [stalls, rows, columns, len(steps)], []
    for number, n in enumerate(steps):
        q = np.full((n, columns), -127) if number == 0 else random.integers(-127, 128, (n, columns))
        kept = random.random((n, rows, columns)) < (1, 0.5, 0.1)[number % 3]
        minus = random.random((n, rows, columns)) < (0 if number == 0 else 0.5)
        want += np.einsum("nc,nrc->r", q, np.where(kept, np.where(minus, -1, 1), 0)).tolist()
        given.append(n)
        for step in range(n):
            given += [*(q[step] % 256), *kept[step].ravel(), *minus[step].ravel()]
    program = build("adder_tile", ROWS=rows, COLUMNS=columns)
    *sums, cycles = simulate(program, map(int, given))
    assert sums == want
    if not stalls:
        assert cycles == sum(steps) + 2


@pytest.mark.parametrize("stalls", [0, 40])
def test_rounding(stalls: int) -> None:
    random = np.random.default_rng(1)
    for s in (0, 1, 7, 15, 22):
        for relu, wide in ((0, 0), (1, 0), (0, 1), (1, 1)):
            rows = [(2**31 - 1, 127, 32767, 32767, 2**46), (-(2**31) + 1, -127, 32767, 32767, -(2**46))]
            rows += [(2**31 - 1, 127, -32767, -32767, -(2**46)), (0, 0, 0, 0, 0)]
            for size in range(100):
                reach, top = int(2 ** random.uniform(0, 31)), 2 ** (size % 46)
                acc, b = random.integers(-reach, reach), random.integers(-top, top + 1)
                m, m_r = random.integers(-32767, 32768, 2) >> random.integers(0, 16, 2)
                rows.append((int(acc), int(random.integers(-127, 128)), int(m), int(m_r), int(b)))
            widths = (32, 8, 16, 16, 48)
            numbers = [x % 2**w for row in rows for x, w in zip(row, widths, strict=True)]
            *y, cycles = simulate(build("requantise"), [stalls, s, relu, wide, len(rows), *numbers])
            low = 0 if relu else -(2**31) if wide else -127
            high = 2**31 - 1 if wide else 127
            exact = [(acc * m + r * m_r + b + ((1 << s) >> 1)) >> s for acc, r, m, m_r, b in rows]
            assert y == [min(max(n, low), high) for n in exact]
            if not stalls:
                assert cycles == len(rows) + 3
