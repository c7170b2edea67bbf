"""A ticket to the bytes of a `.slt` file, and those to a disk, wholly or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from slt_infer import _core
from slt_infer.codec import with_affine
from slt_infer.errors import TicketError
from slt_infer.files import write_atomically
from slt_infer.format import affine
from slt_infer.format import header as h
from slt_infer.format.reader import loads
from slt_infer.format.sizes import align, parts, stored, tile_bytes
from slt_infer.ticket import Layer, MaskCode, Ticket


def dumps(ticket: Ticket) -> bytes:
    """The file's bytes. Raises TicketError where the ticket breaks a rule of docs/format.md."""
    header = h.header_of(ticket)
    header.source.check()
    try:
        encoded = h.encode(header)
    except UnicodeEncodeError as error:
        raise TicketError("bad-value", f"a name is not valid text: {error}", "header") from error
    except (OverflowError, TypeError) as error:
        raise TicketError("bad-value", f"a field cannot be written: {error}", "header") from error
    affines = [_affine_segment(layers) for layers in zip(*ticket.tasks, strict=True)]
    size = parts(ticket).total
    out = bytearray(h.PREFIX.pack(h.MAGIC, h.VERSION, len(encoded), size, 0, 0))
    out[28:32] = _core.crc32c(encoded, _core.crc32c(out[:28])).to_bytes(4, "little")
    out += encoded
    _pad(out)
    codes = [code for layer in stored(ticket) for code in layer.streams]
    index = b"".join(map(_index_entries, codes))
    out += index + _core.crc32c(index).to_bytes(4, "little")
    _pad(out)
    for segment in (*(code.payload for code in codes), *affines):
        out += segment
        _pad(out)
    data = bytes(out)
    loads(data)  # what a reader would refuse is not written
    return data


def _pad(out: bytearray) -> None:
    out += bytes(align(len(out), 8) - len(out))


def _affine_segment(layers: tuple[Layer, ...]) -> bytes:
    """One layer's affines in every task and their CRC; nothing where it has none."""
    segment = b"".join(map(_affine, layers))
    return segment and segment + _core.crc32c(segment).to_bytes(4, "little")


def _affine(layer: Layer) -> bytes:
    with_affine(layer, layer.affine, layer.affine_bits)  # checks it
    if layer.affine is None:
        return b""
    try:
        return affine.encoded(layer.affine, layer.affine_bits)
    except TicketError as error:
        raise TicketError(error.code, error.message, f"layer {layer.shape.name}") from error


def _index_entries(code: MaskCode) -> bytes:
    at, entries = 0, []
    for free, words in zip(code.free.tolist(), code.words.tolist(), strict=True):
        size = tile_bytes(words)
        entries.append(h.TILE.pack(free, words, _core.crc32c(code.payload[at : at + size])))
        at = align(at + size, 4)
    return b"".join(entries)


def save(ticket: Ticket, path: str | os.PathLike[str]) -> int:
    """Writes a ticket; returns the file's size in bytes.

    The file appears whole or not at all: it is written beside its place, synced, and renamed; interrupted
    at any byte, the old file stays as it was.
    """
    data = dumps(ticket)
    write_atomically(Path(path), lambda file: file.write(data))
    return len(data)
