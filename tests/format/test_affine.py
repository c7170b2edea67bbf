"""The narrow forms of an affine (docs/format.md, section 4): what they give, and that they are exact."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.errors import TicketError
from slt_infer.format import affine as forms

GREATEST = np.finfo(np.float32).max
TINY = np.float32(2.0**-149)


def rows(kind: int, seed: int) -> np.ndarray:
    """float32 [2, out] of many magnitudes."""
    random = np.random.Generator(np.random.PCG64(seed))
    out = int(random.integers(1, 70))
    numbers = random.standard_normal((2, out))
    power = 10.0 ** random.integers(-9, 9, size=(2, 1))
    made = [
        numbers,
        1 + numbers * power,  # an offset, and a range far above or below it
        np.round(30 * numbers) * TINY,  # denormals: a step may be none
        numbers * 10.0 ** random.integers(-35, 35, size=(2, out)),
        np.round(2**20 * numbers) * power,
        np.zeros((2, out)) + numbers[:, :1],  # all equal
    ]
    return made[kind].astype(np.float32)


@pytest.mark.parametrize("bits", forms.WIDTHS)
@pytest.mark.parametrize("kind", range(6))
def test_a_form_gives_back_what_was_rounded(kind, bits):
    for seed in range(40):
        given = rows(kind, seed)
        affine = forms.rounded(given, bits)
        data, out = forms.encoded(affine, bits), given.shape[1]
        assert len(data) == forms.size(out, bits)
        assert np.array_equal(forms.decoded(data, out, bits), affine)
        assert np.array_equal(reference.decode_affine(data, out, bits), affine)
        assert np.array_equal(forms.rounded(affine, bits), affine)


@pytest.mark.parametrize("bits", forms.WIDTHS)
@pytest.mark.parametrize("kind", range(6))
def test_rounding_moves_a_number_by_half_a_step_at_most(kind, bits):
    for seed in range(40):
        given = rows(kind, seed)
        exact, got = given.astype(np.float64), forms.rounded(given, bits).astype(np.float64)
        step = np.ptp(exact, axis=1, keepdims=True) / (2**bits - 1)
        largest = np.abs(exact).max(axis=1, keepdims=True)
        # float32's own rounding of values and steps; a step below the least denormal is none
        spare = 2.0**-22 * largest + 2**bits * float(TINY)
        assert np.array_equal(got.min(axis=1), exact.min(axis=1))
        assert (np.abs(got - exact) <= (0 if bits == 32 else step / 2 + spare)).all()


def test_a_form_by_hand():
    data = struct.pack("<ff4B", -1.0, 0.5, 0, 255, 3, 4) + struct.pack("<ff4B", 2.0, 0.0, 0, 0, 0, 0)
    affine = forms.decoded(data, 4, 8)
    assert affine.tolist() == [[-1.0, 126.5, 0.5, 1.0], [2.0, 2.0, 2.0, 2.0]]
    assert affine.dtype == np.float32
    assert forms.encoded(affine, 8) == data
    assert [forms.size(4, bits) for bits in (0, 8, 16, 32)] == [0, 24, 32, 32]


def one_row(low: float, step: float, *codes: int) -> bytes:
    """Scales of this form over shifts that are all 0."""
    return struct.pack(f"<ff{len(codes)}B", low, step, *codes) + bytes(8 + len(codes))


MALFORMED = {
    "low is NaN": one_row(float("nan"), 0.5, 0, 255),
    "low is infinite": one_row(float("inf"), 0.0, 0, 0),
    "step is NaN": one_row(1.0, float("nan"), 0, 255),
    "step is infinite": one_row(1.0, float("inf"), 0, 255),
    "step is negative": one_row(1.0, -0.5, 0, 255),
    "step is -0": one_row(1.0, -0.0, 0, 0),
    "low is -0": one_row(-0.0, 0.5, 0, 255),
    "a value overflows": one_row(GREATEST, 1e37, 0, 255),
    "no code is 0": one_row(1.0, 0.5, 1, 255),
    "no code is the greatest": one_row(1.0, 0.5, 0, 254),
    "codes without a step": one_row(1.0, 0.0, 0, 255),
    "a step that is lost in rounding": one_row(1.0, 1e-12, 0, 255),
    "a code that is not the nearest": one_row(1.0, 1e-8, 0, 255, 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_form_is_refused(name):
    data = MALFORMED[name]
    out = len(data) // 2 - 8
    with pytest.raises(TicketError) as error:
        forms.decoded(data, out, 8)
    assert error.value.code == "bad-value"
    with pytest.raises(ValueError, match=r"form|finite"):
        reference.decode_affine(data, out, 8)


def test_numbers_that_were_not_rounded_are_not_written():
    affine = np.array([[0.0, 0.3, 1.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    for bits in (8, 16):
        with pytest.raises(TicketError) as error:
            forms.encoded(affine, bits)
        assert error.value.code == "bad-affine"


def test_numbers_that_overflow_when_rounded_are_refused():
    """The greatest number's step may be rounded up."""
    affine = np.array([[-GREATEST / 3, GREATEST], [0.0, 0.0]], dtype=np.float32)
    with pytest.raises(TicketError) as error:
        forms.rounded(affine, 16)
    assert error.value.code == "bad-affine"
