"""A layer's affine as the file has it: 32, 16 or 8 bits a number (docs/format.md, section 4).

The narrow forms have 2^bits even steps from the least to the greatest scale, and so for the shifts. A form's
numbers fix its bytes: what is read and written again is the same file.
"""

from __future__ import annotations

import numpy as np

from slt_infer.errors import TicketError

WIDTHS = (32, 16, 8)


def size(out: int, bits: int) -> int:
    """Bytes of the form for `out` channels, without a CRC; 0 for 0 bits."""
    if bits in (0, 32):
        return 2 * out * bits // 8
    return 2 * (8 + out * bits // 8)


def encoded(affine: np.ndarray, bits: int) -> bytes:
    """The form of float32 [2, out]. Raises TicketError (`bad-affine`) for other numbers than `rounded`
    gives.
    """
    data = b"".join(_encode(row, bits) for row in affine)
    if not np.array_equal(decoded(data, affine.shape[1], bits), affine):
        raise TicketError("bad-affine", f"holds numbers that {bits} bits cannot give: round them first")
    return data


def decoded(data: bytes, out: int, bits: int) -> np.ndarray:
    """float32 [2, out] of a form of size(out, bits) bytes. Raises TicketError (`bad-value`) where it is
    malformed.
    """
    half = len(data) // 2
    affine = np.stack([_decode(part, bits) for part in (data[:half], data[half:])])
    if not np.isfinite(affine).all():
        raise TicketError("bad-value", "a scale or shift is not finite")
    if bits < 32 and b"".join(_encode(row, bits) for row in affine) != data:
        raise TicketError("bad-value", f"its numbers have another form in {bits} bits")
    return affine


def rounded(affine: np.ndarray, bits: int) -> np.ndarray:
    """The affine, float32 [2, out], as a reader of its form of `bits` bits will see it.

    Raises TicketError (`bad-affine`) for numbers so large that their form is not finite.
    """
    return np.stack([_rounded(row, bits) for row in np.asarray(affine, dtype=np.float32)])


def _rounded(row: np.ndarray, bits: int) -> np.ndarray:
    """Rounding moves the greatest number, and that the step: until neither moves. It only ever moves one
    way, as each rounding is monotone.
    """
    while True:
        given, row = row, _decode(_encode(row, bits), bits)
        if not np.isfinite(row).all():
            raise TicketError("bad-affine", f"a scale or shift is not finite in {bits} bits")
        if np.array_equal(given, row):
            return row


def _encode(row: np.ndarray, bits: int) -> bytes:
    """float32 [out] to its bytes; numbers of no form to those of the nearest."""
    if bits == 32:
        return row.astype("<f4").tobytes()
    top = 2**bits - 1
    exact = row.astype(np.float64)
    low = exact.min() + 0.0  # -0 becomes 0
    step = np.float32((exact.max() - low) / top)
    codes = np.zeros(len(row)) if step == 0 else np.rint((exact - low) / np.float64(step))
    line = np.array([low, step], dtype="<f4").tobytes()
    return line + np.minimum(codes, top).astype(f"<u{bits // 8}").tobytes()


def _decode(data: bytes, bits: int) -> np.ndarray:
    """float32 [out] of bytes that no one has checked."""
    if bits == 32:
        return np.frombuffer(data, dtype="<f4").astype(np.float32)
    codes = np.frombuffer(data, dtype=f"<u{bits // 8}", offset=8)
    with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN too
        low, step = np.frombuffer(data, dtype="<f4", count=2).astype(np.float64)
        return (low + step * codes).astype(np.float32)
