"""The part of MessagePack that a header of docs/format.md may use, in its only allowed spelling."""

from __future__ import annotations

import struct
from typing import Any

DEPTH = 9  # no header nests deeper


class NotCanonical(ValueError):
    """Bytes that the canonical form does not give."""


def read(data: bytes) -> Any:
    """The one value that `data` spells; NotCanonical for any other bytes."""
    value, at = _value(data, 0, 0)
    if at != len(data):
        raise NotCanonical(f"{len(data) - at} bytes behind the value")
    return value


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    if at + size > len(data):
        raise NotCanonical("the bytes end inside a value")
    return int.from_bytes(data[at : at + size], "big"), at + size


def _unsigned(data: bytes, at: int, size: int, least: int) -> tuple[int, int]:
    """A number that no shorter form could hold: at least `least`."""
    number, at = _number(data, at, size)
    if number < least:
        raise NotCanonical(f"{number} is not in its shortest form")
    return number, at


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    tag, at = _number(data, at, 1)
    if tag < 0x80:
        return tag, at
    if tag >= 0xE0:
        return tag - 256, at
    if 0xD0 <= tag <= 0xD3:
        size = 1 << tag - 0xD0
        return _signed(data, at, size, -32 if size == 1 else -(1 << 4 * size - 1))
    if 0xA0 <= tag < 0xC0:
        return _text(data, at, tag & 31)
    if 0x90 <= tag < 0xA0:
        return _array(data, at, tag & 15, depth)
    if tag in (0xC2, 0xC3):
        return tag == 0xC3, at
    if tag == 0xCB:
        bits, at = _number(data, at, 8)
        return struct.unpack(">d", bits.to_bytes(8, "big"))[0], at
    if 0xCC <= tag <= 0xCF:
        size = 1 << tag - 0xCC
        return _unsigned(data, at, size, 128 if size == 1 else 1 << 4 * size)
    if tag in (0xD9, 0xDA, 0xDB):
        size = 1 << tag - 0xD9
        length, at = _unsigned(data, at, size, 32 if size == 1 else 1 << 4 * size)
        return _text(data, at, length)
    if tag in (0xDC, 0xDD):
        size = 2 << tag - 0xDC
        length, at = _unsigned(data, at, size, 16 if size == 2 else 1 << 16)
        return _array(data, at, length, depth)
    raise NotCanonical(f"tag {tag:02x}: no map, nil, bytes, extension or float32 is allowed")


def _signed(data: bytes, at: int, size: int, below: int) -> tuple[int, int]:
    """A negative number that no shorter form could hold: below `below`."""
    bits, at = _number(data, at, size)
    number = bits - (1 << 8 * size)
    if not -(1 << 8 * size - 1) <= number < below:
        raise NotCanonical(f"{number} is not in its shortest form, or not negative")
    return number, at


def _text(data: bytes, at: int, length: int) -> tuple[str, int]:
    if length > len(data) - at:
        raise NotCanonical("the bytes end inside a string")
    try:
        return data[at : at + length].decode("utf-8"), at + length
    except UnicodeDecodeError as error:
        raise NotCanonical(str(error)) from error


def _array(data: bytes, at: int, length: int, depth: int) -> tuple[list[Any], int]:
    if depth == DEPTH or length > len(data) - at:  # an element has a byte at least
        raise NotCanonical("too deep, or the bytes end inside an array")
    values = []
    for _ in range(length):
        value, at = _value(data, at, depth + 1)
        values.append(value)
    return values, at
