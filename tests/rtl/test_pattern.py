"""rtl/pattern.sv, freeze.sv and mixed_plane.sv against the reference: free, locked and negative positions."""

from __future__ import annotations

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.ticket import Freeze, LayerShape, Source

from .benches import build, simulate

THRESHOLDS = [
    *((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (2, 1, 1), (3, 3, 4), (8, 77, 90), (8, 0, 3), (8, 255, 1)),
    *((10, 513, 100), (16, 13107, 20001), (16, 1, 65535), (16, 65535, 0)),
]


def planes(words: list[int]) -> np.ndarray:
    """Booleans [blocks, 3, 128]."""
    packed = np.array(words, dtype="<u4").reshape(-1, 3, 4)
    return np.unpackbits(packed.view(np.uint8), axis=2, bitorder="little").astype(bool)


@pytest.mark.parametrize("law", ["bernoulli", "mixed"])
@pytest.mark.parametrize("stalls", [0, 50])
def test_every_position(law: str, stalls: int) -> None:
    program = build("pattern_top")
    for number, thresholds in enumerate(THRESHOLDS):
        rounds = (12, 13, 20)[number % 3]
        source = Source("threefry4x32", rounds, 0xFEDCBA9876543210 + number, law)
        freeze, k = Freeze(*thresholds), (6, 128, 300, 129)[number % 4]
        shape, layer = LayerShape("l", 5, k, (1, 1), 1), 7 + 2**31 * (number % 2)
        given = [stalls, source.seed, rounds, layer, law == "mixed", *thresholds, 5, k]
        *words, cycles = simulate(program, map(int, given))
        across = -(-k // 128)
        by_row = planes(words).transpose(1, 0, 2).reshape(3, 5, across * 128)
        assert not by_row[:2, :, k:].any()
        free, locked, negative = by_row[:, :, :k]
        want = reference.pattern(source, layer, shape, freeze)
        assert (free == (want == 0)).all()
        assert (locked == (want == 1)).all()
        assert (negative == reference.negative(source, layer, shape)).all()
        if not stalls:
            bits = thresholds[0]
            calls, made = (3, bits - 2) if law == "mixed" and bits > 2 else (1 + bits, 0)
            assert cycles == 5 * across * (calls * rounds + made + 3)
