"""The integers of the formula against exact fractions and against an independent program."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slt_infer import quantise
from slt_infer.errors import SltError, TicketError
from slt_infer.format import dumps

from ..independent import decoder, int8
from ..independent.refused import Refused
from .nets import AFFINES, BARE, SCALES, ticket

FEW = settings(max_examples=60, deadline=None)
NEAR = st.lists(st.integers(-40, 40), min_size=SCALES, max_size=SCALES)
ANY = st.lists(st.integers(-1024, 1023), min_size=SCALES, max_size=SCALES)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMBERS = st.lists(st.one_of(st.floats(-4, 4, width=32), FLOATS), min_size=AFFINES, max_size=AFFINES)
ZEROS = SCALES * [0]


def powers(codes: list[int]) -> list[int]:
    return [code // 16 * 16 for code in codes]


@FEW
@given(codes=st.one_of(NEAR, ANY), numbers=NUMBERS, pow2=st.booleans())
@example(ZEROS, AFFINES * [0.0], False)
@example(ZEROS, AFFINES * [-0.0], True)
@example(ZEROS, [32767.0, -32767.0, 32767.49, -1e-45, *(AFFINES - 4) * [3.4028234663852886e38]], False)
@example([-1024, *(SCALES - 1) * [1023]], AFFINES * [1e-45], False)
@example(ZEROS, [0.7071067690849304, 0.7071068286895752, -0.7071067690849304, *(AFFINES - 3) * [3e-7]], True)
def test_they_are_those_of_an_independent_program(codes, numbers, pow2):
    """Or both refuse."""
    made = ticket(powers(codes) if pow2 else codes, pow2, numbers)
    try:
        found = quantise.rounding(made)
    except TicketError:
        with pytest.raises(TicketError, match="multiplier") as refusal:
            quantise.check_multipliers(made)
        assert refusal.value.code == "bad-value"
        with pytest.raises(TicketError, match="multiplier"):
            dumps(made)
        file = decoder.decode(dumps(BARE))
        file.header["quantisation"] = ["int8", pow2, list(made.quantisation.codes)]
        for layer, with_numbers in zip(file.layers, made.layers, strict=True):
            if with_numbers.affine is not None:
                layer.affine = tuple(row.tolist() for row in with_numbers.affine)
        with pytest.raises(Refused):
            int8.check_multipliers(file.header, file.layers)
        return
    file = decoder.decode(dumps(made))
    assert sorted(found) == int8.formulas(file.header) == [1, 3, 5, 6, 7, 8]
    for value, of in found.items():
        m, m_r, b, s = int8.integers(file.header, file.layers, value)
        assert (of.m.tolist(), of.m_r, of.b.tolist(), of.s) == (m, m_r, b, s)
        assert (of.m.dtype, of.b.dtype) == (np.int32, np.int64)


@FEW
@given(codes=NEAR, numbers=st.lists(st.floats(-4, 4, width=32), min_size=AFFINES, max_size=AFFINES))
def test_they_are_the_real_multipliers_to_15_bits(codes, numbers):
    """Against exact fractions, without the page's floats: as near as s allows, and s as large as it may be.
    2^-40 is more than the roundings of binary64 can make of numbers below 2^11.
    """
    made = ticket(codes, False, numbers)
    scale = [Fraction(x) if x is not None else None for x in quantise.scales(made.network, made.quantisation)]
    a, b, c = made.layers

    def real(affine: np.ndarray, s_in: Fraction, s_out: Fraction) -> tuple[list[Fraction], list[Fraction]]:
        times, plus = ([Fraction(float(x)) for x in row] for row in affine)
        return [x * s_in / s_out for x in times], [x / s_out for x in plus]

    zero = [Fraction(0)]
    wanted = {
        1: (*real(a.affine, scale[0], scale[1]), Fraction(0)),
        3: ([Fraction(float(b.constant)) * scale[0] / scale[3]] * 4, 4 * zero, scale[1] / scale[3]),
        5: ([scale[4] / scale[5] / 9], zero, Fraction(0)),
        6: ([scale[4] / scale[6]], zero, scale[5] / scale[6]),
        7: ([scale[6] / scale[7] / 12], zero, Fraction(0)),
        8: (*real(c.affine, scale[7], scale[8]), Fraction(0)),
    }
    for value, of in quantise.rounding(made).items():
        multipliers, biases, residual = wanted[value]
        largest = max(*map(abs, multipliers), residual)
        slack = Fraction(1, 2**40)
        assert 0 <= of.s <= 22
        assert max(int(abs(of.m).max()), of.m_r) <= 32767
        assert of.s == 22 or largest * 2 ** (of.s + 1) >= Fraction(65535, 2) - slack * 2**16
        step = Fraction(1, 2 ** (of.s + 1)) + slack
        for got, exact in [*zip(of.m.tolist(), multipliers, strict=True), (of.m_r, residual)]:
            assert abs(Fraction(got, 2**of.s) - exact) <= step
        for got, exact in zip(of.b.tolist(), biases, strict=True):
            assert abs(Fraction(got, 2**of.s) - exact) <= step


@FEW
@given(codes=NEAR, numbers=st.lists(st.floats(-4, 4, width=32), min_size=AFFINES, max_size=AFFINES))
def test_pow2_needs_no_multiplier(codes, numbers):
    """Every multiplier is a power of two, of the right sign, and the nearest by ratio: at most sqrt(2)
    off.
    """
    made = ticket(powers(codes), True, numbers)
    found = quantise.rounding(made)
    for of in found.values():
        every = [abs(m) for m in of.m.tolist()] + [of.m_r]
        assert all(m & (m - 1) == 0 for m in every)
    affine, of, scale = made.layers[0].affine, found[1], quantise.scales(made.network, made.quantisation)
    for factor, m in zip(affine[0].tolist(), of.m.tolist(), strict=True):
        exact = Fraction(factor) * Fraction(scale[0]) / Fraction(scale[1]) * 2**of.s
        if m:
            assert m * exact > 0
            assert exact**2 * Fraction(1, 2) <= (1 + Fraction(1, 2**50)) * m**2
            assert m**2 <= 2 * exact**2 * (1 + Fraction(1, 2**50))
        else:
            assert exact**2 < Fraction(1, 2) * (1 + Fraction(1, 2**50))


@FEW
@given(codes=NEAR, numbers=st.lists(st.floats(-4, 4, width=32), min_size=AFFINES, max_size=AFFINES))
def test_pow2_leaves_the_sum_at_which_a_channel_is_zero(codes, numbers):
    """b : m is shift : (scale * S_in), but for the rounding of b."""
    made = ticket(powers(codes), True, numbers)
    of, scale = quantise.rounding(made)[1], quantise.scales(made.network, made.quantisation)
    columns = zip(*made.layers[0].affine.tolist(), of.m.tolist(), of.b.tolist(), strict=True)
    for factor, shift, m, b in columns:
        if m:
            exact = Fraction(shift) * m / (Fraction(factor) * Fraction(scale[0]))
            assert abs(b - exact) <= Fraction(1, 2) + abs(exact) * Fraction(1, 2**50)
        elif factor == 0:
            assert abs(b - Fraction(shift) / Fraction(scale[1]) * 2**of.s) <= Fraction(1, 2)


def test_the_edges_of_s_and_b():
    def of(scale: float, shift: float = 0.0, codes: list[int] = ZEROS) -> quantise.Rounding:
        return quantise.rounding(ticket(codes, False, [*4 * [scale], *4 * [shift], *6 * [1.0]]))[1]

    def integers(rounding: quantise.Rounding) -> tuple[int, int]:
        return int(rounding.m[0]), rounding.s

    assert integers(of(0.0)) == (0, 22)
    assert integers(of(2.0**-23)) == (0, 22)  # a tie, to even
    assert integers(of(1.5 * 2.0**-22)) == (2, 22)
    assert integers(of(32767 * 2.0**-22)) == (32767, 22)
    assert integers(of(32767.49 * 2.0**-22)) == (32767, 22)
    assert integers(of(32767.5 * 2.0**-22)) == (16384, 21)
    assert integers(of(1.0)) == (16384, 14)
    assert integers(of(-1.0)) == (-16384, 14)
    assert integers(of(32767.25)) == (32767, 0)
    with pytest.raises(TicketError, match=r"layer a: a multiplier of 32767.5 in int8 is over 32767"):
        of(-32767.5)
    with pytest.raises(TicketError, match=r"node 4 \(avg_pool2d\)"):
        quantise.rounding(ticket([0, 0, 300, 0, 0, 0, 0]))
    assert int(of(1.0, 3e38).b[0]) == 2**46
    assert int(of(1.0, -3e38).b[0]) == -(2**46)
    assert int(of(1.0, 2.0**32).b[0]) == 2**46
    assert int(of(1.0, 2.0**-15).b[0]) == 0  # a tie
    assert int(of(1.0, 1.5 * 2.0**-14).b[0]) == 2


def test_a_ticket_without_scales_is_refused_with_a_remedy():
    with pytest.raises(SltError, match="pack it again") as refusal:
        quantise.rounding(BARE)
    assert refusal.value.code == "not-quantised"
