"""The bytes of a `.slt` file to a ticket: everything is checked before anything is allocated for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slt_infer import _core, quantise
from slt_infer.codec import decoded_layer
from slt_infer.errors import TicketError
from slt_infer.format import affine
from slt_infer.format import header as h
from slt_infer.format.sizes import affine_bytes, align, tile_bytes
from slt_infer.ticket import Layer, LayerShape, MaskCode, Source, Ticket

NONE = np.zeros(0, dtype=np.uint32)
REMEDIES = {
    "truncated": "the copy is incomplete: copy or pack it again",
    "bad-checksum": "copy or pack it again",
    "bad-version": "pack it again with slt-export of this version",
}


def load(path: str | os.PathLike[str], max_memory: int | None = None) -> Ticket:
    """A whole, verified ticket. Raises TicketError for a refused file, OSError where it cannot be read.

    max_memory: bytes that reading may allocate (docs/format.md, section 6, says what it may need); a file
    that may need more is refused. `where` of a TicketError begins with the path.
    """
    size = Path(path).stat().st_size
    try:
        if size > h.MAX_FILE:
            raise TicketError("limit", f"{size} bytes; a ticket has at most {h.MAX_FILE}")
        _within(size, max_memory)
        with open(path, "rb") as file:
            start = file.read(h.PREFIX.size)
            _prefix(start, size)  # a huge file of another kind is refused before it is read
            return loads(start + file.read(size))
    except TicketError as error:
        error.where = f"{path}, {error.where}" if error.where else str(path)
        error.message = "; ".join(filter(None, (error.message, REMEDIES.get(error.code))))
        error.args = (f"{error.where}: {error.message}",)
        raise


def loads(data: bytes, max_memory: int | None = None) -> Ticket:
    """A whole, verified ticket from a file's bytes; max_memory as in `load`. Raises TicketError."""
    _within(len(data), max_memory)
    header_bytes = _prefix(data[: h.PREFIX.size], len(data))
    header = _header(data, header_bytes)
    cursor = _Cursor(data, h.PREFIX.size + header_bytes)
    cursor.pad(8, "header")
    codes = iter(_codes(cursor, header))
    affines = [_affines(cursor, layer, header.tasks) for layer in header.layers]
    if cursor.at != len(data):
        raise TicketError("trailing", f"{len(data) - cursor.at} bytes after the last part", "file", cursor.at)
    counts = Counter(layer.id for layer in header.layers)
    shared: dict[int, list[Layer]] = {}  # by id, in every task
    tasks: list[list[Layer]] = [[] for _ in range(header.tasks)]
    network = header.network
    for layer, shape, of_tasks in zip(header.layers, network.layers, affines, strict=True):
        weights = shared.get(layer.id) or _layers(header.source, layer, shape, codes)
        bits, decode = layer.affine, weights[0].decode  # one for all tasks
        for number, (one, values) in enumerate(zip(weights, of_tasks, strict=True)):
            own = replace(one, shape=shape, affine=values, affine_bits=bits, decode=decode)
            tasks[number].append(own)
            weights[number] = own
        if counts[layer.id] > 1:
            shared[layer.id] = weights
    first, *others = map(tuple, tasks)
    ticket = Ticket(
        network=network,
        source=header.source,
        layers=first,
        preprocessing=header.preprocessing,
        provenance=header.provenance,
        others=tuple(others),
        quantisation=header.quantised,
    )
    if ticket.quantisation is not None:
        quantise.check_multipliers(ticket)
    return ticket


def _within(size: int, max_memory: int | None) -> None:
    needed = h.READING_BYTES + h.READING_BYTES_PER_BYTE * size
    if max_memory is not None and needed > max_memory:
        message = (
            f"reading {size} bytes may take {needed} bytes of memory, max_memory allows {max_memory}: "
            f"allow {needed} (--max-memory)"
        )
        raise TicketError("limit", message)


def _prefix(start: bytes, size: int) -> int:
    """header_bytes, once the prefix is found sound for a file of `size` bytes."""
    if start[: len(h.MAGIC)] != h.MAGIC[: len(start)]:
        raise TicketError("bad-magic", "not a .slt file", "prefix", 0)
    if len(start) < h.PREFIX.size:
        raise TicketError(
            "truncated", f"{size} bytes are fewer than the prefix's {h.PREFIX.size}", "prefix", 0
        )
    _, version, header_bytes, file_bytes, zero, _ = h.PREFIX.unpack(start)
    if version != h.VERSION:
        message = f"version {version}; this program reads version {h.VERSION} only"
        raise TicketError("bad-version", message, "prefix", 8)
    if not 1 <= header_bytes <= h.MAX_HEADER:
        raise TicketError("limit", f"a header of {header_bytes} bytes", "prefix", 12)
    if file_bytes != size:
        code = "truncated" if size < file_bytes else "trailing"
        raise TicketError(code, f"{size} bytes, but {file_bytes} were written", "prefix", 16)
    if zero:
        raise TicketError("bad-value", "a reserved field is not 0", "prefix", 24)
    if h.PREFIX.size + header_bytes > size:
        raise TicketError("truncated", f"a header of {header_bytes} bytes does not fit", "prefix", 12)
    return header_bytes


def _header(data: bytes, header_bytes: int) -> h.Header:
    encoded = memoryview(data)[
        h.PREFIX.size : h.PREFIX.size + header_bytes
    ]  # not a copy: headers may be long
    crc = _core.crc32c(encoded, _core.crc32c(data[:28]))
    if crc.to_bytes(4, "little") != data[28:32]:
        raise TicketError("bad-checksum", "prefix or header is damaged", "header", 28)
    header = h.decode(encoded)
    header.check(len(data))
    return header


@dataclass
class _Cursor:
    """A place in the file; every step is checked against the end."""

    data: bytes
    at: int

    def take(self, size: int, segment: str) -> bytes:
        if size > len(self.data) - self.at:
            message = f"wants {size} bytes, {len(self.data) - self.at} are left"
            raise TicketError("truncated", message, segment, self.at)
        self.at += size
        return self.data[self.at - size : self.at]

    def pad(self, to: int, segment: str) -> None:
        start = self.at
        if any(self.take(align(self.at, to) - self.at, segment)):
            raise TicketError("bad-padding", "padding is not zero", segment, start)

    def checksummed(self, size: int, segment: str) -> bytes:
        """`size` bytes that their CRC follows."""
        start = self.at
        data = self.take(size, segment)
        if self.take(4, segment) != _core.crc32c(data).to_bytes(4, "little"):
            raise TicketError("bad-checksum", "damaged", segment, start)
        return data


def _index(cursor: _Cursor, header: h.Header) -> list[np.ndarray]:
    """Per stream uint32 [tiles, 3]: free, words, CRC."""
    counts = [layer.tiles(stream) for layer in header.layers for stream in layer.streams]
    data = cursor.checksummed(h.TILE.size * sum(counts), "index")
    cursor.pad(8, "index")
    entries = np.frombuffer(data, dtype="<u4").astype(np.uint32).reshape(-1, 3)
    return np.split(entries, np.cumsum(counts)[:-1])


def _codes(cursor: _Cursor, header: h.Header) -> list[MaskCode]:
    """All streams, checksums verified, not yet decoded."""
    entries = _index(cursor, header)
    streams = [(layer, stream) for layer in header.layers for stream in layer.streams]
    return [_mask(cursor, *of, tiles) for of, tiles in zip(streams, entries, strict=True)]


def _mask(cursor: _Cursor, layer: h.LayerHeader, stream: h.StreamHeader, tiles: np.ndarray) -> MaskCode:
    """A coded stream of a layer, its checksums verified, not yet decoded."""
    segment = f"mask of layer {layer.name}"
    start = cursor.at
    for number, (_, words, crc) in enumerate(tiles.tolist()):
        at = cursor.at
        if _core.crc32c(cursor.take(tile_bytes(words), segment)) != crc:
            raise TicketError("bad-checksum", f"tile {number} is damaged", segment, at)
        cursor.pad(4, segment)
    payload = cursor.data[start : cursor.at]
    cursor.pad(8, segment)
    free, words = (np.ascontiguousarray(tiles[:, i]) if len(tiles) else NONE for i in range(2))
    return MaskCode(
        stream.mode,
        stream.density,
        layer.out if stream.mode == "const" else layer.tile_rows,
        free,
        words,
        payload,
        stream.planes,
        stream.sign,
        stream.intervals,
    )


def _affines(cursor: _Cursor, layer: h.LayerHeader, tasks: int) -> list[np.ndarray | None]:
    """Per task the affine, float32 [2, out]."""
    if not layer.affine:
        return [None] * tasks
    segment, start = f"affine of layer {layer.name}", cursor.at
    data = cursor.checksummed(affine_bytes(layer.out, layer.affine, tasks) - 4, segment)
    cursor.pad(8, segment)
    size = len(data) // tasks
    forms = [data[i * size : (i + 1) * size] for i in range(tasks)]
    try:
        return [affine.decoded(form, layer.out, layer.affine) for form in forms]
    except TicketError as error:
        raise TicketError(error.code, error.message, segment, start) from error


def _layers(
    source: Source, layer: h.LayerHeader, shape: LayerShape, codes: Iterator[MaskCode]
) -> list[Layer]:
    """The layer of every task, verified, without affines."""
    layers = []
    for task in layer.tasks:
        mask, *coats = (next(codes) for _ in task.coats)
        flips = next(codes) if task.flips else None
        layers.append(
            decoded_layer(source, shape, layer.id, layer.freeze, mask, task.kept, tuple(coats), flips)
        )
    return layers
