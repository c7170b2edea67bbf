"""Damaged files: never a crash, a hang or a silent success. Also run under ASan and UBSan (make sanitize)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_infer import _core
from slt_infer.errors import TicketError
from slt_infer.format import dumps, loads
from slt_infer.format import header as h
from slt_infer.format.sizes import align

from .conftest import make_ticket

DATA = dumps(make_ticket())


def test_every_single_bit_flip_is_refused(tiny_ticket):
    data = bytearray(dumps(tiny_ticket))
    assert len(data) < 1200
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TicketError):
            loads(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    loads(bytes(data))


def test_every_truncation_is_refused(tiny_ticket):
    data = dumps(tiny_ticket)
    for size in range(len(data)):
        with pytest.raises(TicketError):
            loads(data[:size])


@given(st.binary(min_size=1, max_size=64))
def test_bytes_after_the_end_are_refused(tail):
    with pytest.raises(TicketError):
        loads(DATA + tail)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_is_refused(data):
    """Flips, cuts, insertions and copies, as many as a draw wants."""
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "copy", "fill"]))
        if kind == "flip" and damaged:
            damaged[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        elif kind == "copy":
            source = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
            damaged[at : at + 16] = damaged[source : source + 16]
        else:
            damaged[at : at + 8] = data.draw(st.sampled_from([b"\xff" * 8, b"\0" * 8]))
    if bytes(damaged) == DATA:
        return
    with pytest.raises(TicketError):
        loads(bytes(damaged))


def reseal(data: bytearray) -> bytes:
    """The file with every checksum and the length made right again, so that damage reaches what lies behind
    them.
    """
    header_bytes = int.from_bytes(data[12:16], "little")
    data[16:24] = len(data).to_bytes(8, "little")
    encoded = bytes(data[32 : 32 + header_bytes])
    header = h.decode(bytes(DATA[32 : 32 + header_bytes]))  # for the sizes, as they were
    at = align(32 + header_bytes, 8)
    tiles = [layer.tiles(stream) for layer in header.layers for stream in layer.streams]
    end = at + h.TILE.size * sum(tiles)
    segment = align(end + 4, 8)
    entry = at
    for count in tiles:
        for _ in range(count):
            size = 2 * (int.from_bytes(data[entry + 4 : entry + 8], "little") & 0x7FFFFFFF)
            crc = _core.crc32c(bytes(data[segment : segment + size]))
            data[entry + 8 : entry + 12] = crc.to_bytes(4, "little")
            entry += h.TILE.size
            segment = align(segment + size, 4)
        segment = align(segment, 8)
    data[end : end + 4] = _core.crc32c(bytes(data[at:end])).to_bytes(4, "little")
    data[28:32] = _core.crc32c(encoded, _core.crc32c(bytes(data[:28]))).to_bytes(4, "little")
    return bytes(data)


def test_resealing_changes_nothing_where_nothing_is_damaged():
    assert reseal(bytearray(DATA)) == DATA


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damage_with_right_checksums_is_refused_or_harmless(data):
    """A forger can make the checksums right: then the reader gives a typed error, or a ticket that is valid
    as it stands.
    """
    damaged = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(24, len(damaged) - 1))
        damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        ticket = loads(reseal(damaged))
    except TicketError:
        return
    assert loads(dumps(ticket)).kept == ticket.kept
    for layer in ticket.layers:
        assert layer.kept == layer.locked + int(np.bitwise_count(layer.mask).sum())
