"""rtl/adder_tile.sv and requantise.sv against integers of any size."""

from __future__ import annotations

import numpy as np
import pytest

from .benches import build, simulate


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 32)])
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
@pytest.mark.parametrize("pow2", [0, 1])
def test_rounding(stalls: int, pow2: int) -> None:
    random = np.random.default_rng(1)
    for s in (0, 1, 7, 15, 22):
        for relu, logits in ((0, 0), (1, 0), (0, 1), (1, 1)):
            most = 2**14 if pow2 else 32767
            rows = [(2**31 - 1, 127, most, most, 2**46), (-(2**31) + 1, -127, most, most, -(2**46))]
            rows += [(2**31 - 1, 127, -most, -most, -(2**46)), (0, 0, 0, 0, 0)]
            for size in range(100):
                reach, top = int(2 ** random.uniform(0, 31)), 2 ** (size % 46)
                acc, b = random.integers(-reach, reach), random.integers(-top, top + 1)
                m, m_r = random.integers(-32767, 32768, 2) >> random.integers(0, 16, 2)
                if pow2:
                    m, m_r = random.choice([-1, 0, 1], 2) * 2 ** random.integers(0, 15, 2)
                rows.append((int(acc), int(random.integers(-127, 128)), int(m), int(m_r), int(b)))
            widths = (32, 8, 16, 16, 48)
            numbers = [x % 2**w for row in rows for x, w in zip(row, widths, strict=True)]
            program = build("requantise", POW2=pow2)
            *y, cycles = simulate(program, [stalls, s, relu, logits, len(rows), *numbers])
            low = 0 if relu else -(2**31) if logits else -127
            high = 2**31 - 1 if logits else 127
            exact = [(acc * m + r * m_r + b + ((1 << s) >> 1)) >> s for acc, r, m, m_r, b in rows]
            assert y == [min(max(n, low), high) for n in exact]
            if not stalls:
                assert cycles == len(rows) + 3
