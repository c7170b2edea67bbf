"""The header's schema, one for reading and writing, and the fixed prefix before it (docs/format.md,
sections 4 and 6).
"""

from __future__ import annotations

import itertools
import struct
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from slt_infer.errors import TicketError
from slt_infer.ticket import (
    Freeze,
    Layer,
    LayerShape,
    Name,
    Network,
    Node,
    Preprocessing,
    Size,
    Source,
    Ticket,
    Window,
)

MAGIC = b"\x89SLT\r\n\x1a\n"
VERSION = 1
PREFIX = struct.Struct("<8sIIQII")  # magic, version, header_bytes, file_bytes, 0, CRC
TILE = struct.Struct("<III")  # free, words, CRC of the payload
MAX_HEADER = 2**20
MAX_FILE = 2**32
MAX_POSITIONS = 2**20  # summed over the layers, plus MAX_POSITIONS_PER_BYTE a byte of file
MAX_POSITIONS_PER_BYTE = 2**13
READING_BYTES = 2**23  # that reading may allocate, and READING_BYTES_PER_BYTE a byte of file
READING_BYTES_PER_BYTE = 16

Mode = Literal["const", "raw", "static", "prior"]
Count = Annotated[int, Meta(ge=0, le=2**32)]
Interval = tuple[Annotated[int, Meta(ge=0, le=2**9 - 1)], Annotated[int, Meta(ge=1, le=2**12 - 1)]]


class Input(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    channels: Annotated[int, Meta(ge=1, le=2**16)]
    height: Annotated[int, Meta(ge=1, le=2**14)]
    width: Annotated[int, Meta(ge=1, le=2**14)]
    mean: Annotated[tuple[float, ...], Meta(max_length=2**16)]
    std: Annotated[tuple[float, ...], Meta(max_length=2**16)]
    resize: Literal["exact", "stretch", "crop"]
    classes: Annotated[tuple[Name, ...], Meta(max_length=2**16)]


class StreamHeader(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Mask bits of a layer, or of a part of its weights, and how they are coded."""

    mode: Mode
    density: Annotated[int, Meta(ge=0, le=2**12)]
    planes: Annotated[int, Meta(ge=0, le=8)]
    sign: bool
    intervals: Annotated[tuple[Interval, ...], Meta(max_length=16)]

    def check(self, where: str) -> None:
        """What the types cannot say. Raises TicketError."""

        def need(holds: bool, message: str) -> None:
            if not holds:
                raise TicketError("bad-value", message, where)

        allowed = {"const": (0, 4096), "raw": (0,), "static": range(1, 4096), "prior": (0,)}[self.mode]
        need(self.density in allowed, f"density {self.density} in mode {self.mode}")
        if self.mode == "prior":
            starts, f = [start for start, _ in self.intervals], [f for _, f in self.intervals]
            cells = 2 ** (self.planes + self.sign)
            need(cells > 1, "a prior layer reads a plane at least")
            need(starts[:1] == [0], "the first interval must start at 0")
            need(all(a < b for a, b in itertools.pairwise(starts)), "intervals are not strictly ascending")
            need(starts[-1] < cells, f"an interval starts at {starts[-1]} of {cells}")
            need(all(a != b for a, b in itertools.pairwise(f)), "neighbouring intervals have one density")
        else:
            none = (self.planes, self.sign, self.intervals) == (0, False, ())
            need(none, f"planes, sign or intervals in mode {self.mode}")


class TaskHeader(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    kept: Annotated[int, Meta(ge=1, le=2**32)]
    coats: Annotated[tuple[StreamHeader, ...], Meta(min_length=1, max_length=15)]
    flips: Annotated[tuple[StreamHeader, ...], Meta(max_length=1)]

    @property
    def streams(self) -> tuple[StreamHeader, ...]:
        return self.coats + self.flips


class LayerHeader(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: Name
    id: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    out: Size
    inputs: Size
    rows: Window
    columns: Window
    groups: Size
    bits: Annotated[int, Meta(ge=0, le=16)]
    prune: Annotated[int, Meta(ge=0, le=2**16)]
    lock: Annotated[int, Meta(ge=0, le=2**16)]
    tile_rows: Size
    patches: Annotated[int, Meta(ge=0, le=2**32)]
    affine: Literal[0, 8, 16, 32]
    tasks: Annotated[tuple[TaskHeader, ...], Meta(max_length=256)]

    @property
    def shape(self) -> LayerShape:
        return LayerShape(
            self.name, self.out, self.inputs, (self.rows, self.columns), self.groups, self.affine > 0
        )

    @property
    def freeze(self) -> Freeze:
        return Freeze(self.bits, self.prune, self.lock)

    @property
    def streams(self) -> tuple[StreamHeader, ...]:
        """In the order of the file."""
        return tuple(itertools.chain.from_iterable(task.streams for task in self.tasks))

    def tiles(self, stream: StreamHeader) -> int:
        """Index entries of a stream."""
        return 0 if stream.mode == "const" else -(-self.out // self.tile_rows)

    def check(self, where: str) -> None:
        """What the types cannot say. Raises TicketError."""

        def need(holds: bool, message: str) -> None:
            if not holds:
                raise TicketError("bad-value", message, where)

        shape = self.shape
        need(self.out % self.groups == 0, f"{self.out} rows in {self.groups} groups")
        if shape.fan_in > 2**24 or self.out * shape.row_positions > 2**32:
            raise TicketError("limit", f"a matrix of {self.out} x {shape.fan_in}", where)
        steps = 2**self.bits
        need(self.prune + self.lock <= steps, f"thresholds {self.prune} + {self.lock} over {steps}")
        need(self.bits == 0 or self.prune % 2 == 1 or self.lock % 2 == 1, f"{self.bits} planes are too many")
        need(self.tile_rows <= self.out, f"{self.tile_rows} rows a tile of {self.out}")
        if self.patches:
            raise TicketError("unsupported", "patches of the freeze pattern", where)
        for stream in self.streams:
            stream.check(where)
        tiled = any(stream.mode != "const" for stream in self.streams)
        need(tiled or self.tile_rows == self.out, "a layer without tiles has tiles of all rows")
        if tiled and self.tile_rows > 1 and self.tile_rows * shape.row_positions > 2**20:
            raise TicketError("limit", f"tiles of {self.tile_rows} rows of {shape.row_positions}", where)


class Header(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: Name
    input: Input
    source: Source
    layers: Annotated[tuple[LayerHeader, ...], Meta(min_length=1, max_length=4096)]
    nodes: Annotated[tuple[Node, ...], Meta(min_length=1, max_length=16384)]
    quantisation: tuple[msgspec.Raw, ...]
    provenance: Annotated[tuple[tuple[Name, Name], ...], Meta(max_length=64)]

    @property
    def network(self) -> Network:
        image = (self.input.channels, self.input.height, self.input.width)
        return Network(self.name, image, tuple(layer.shape for layer in self.layers), self.nodes)

    @property
    def preprocessing(self) -> Preprocessing:
        given = self.input
        return Preprocessing(given.mean, given.std, given.resize, given.classes)

    def check(self, file_bytes: int) -> None:
        """Everything that docs/format.md asks of a header alone. Raises TicketError."""
        self.source.check()
        if file_bytes > MAX_FILE:
            raise TicketError("limit", f"a file of {file_bytes} bytes; {MAX_FILE} are allowed", "header")
        _check_input(self.input)
        self._check_strings()
        if self.quantisation:
            raise TicketError("unsupported", "a quantised ticket", "header")
        positions = 0
        for layer in self.layers:
            layer.check(f"header, layer {layer.name!r}")
            positions += layer.out * layer.shape.row_positions
            if [(len(task.coats), len(task.flips)) for task in layer.tasks] != [(1, 0)]:
                raise TicketError("unsupported", "tasks, coats, flips or a shared layer", "header")
        allowed = MAX_POSITIONS + MAX_POSITIONS_PER_BYTE * file_bytes
        if positions > allowed:
            message = f"{positions} weight positions; a file of {file_bytes} bytes may have {allowed}"
            raise TicketError("limit", message, "header")
        for what in ("name", "id"):
            if len({getattr(layer, what) for layer in self.layers}) != len(self.layers):
                raise TicketError("bad-value", f"two layers with one {what}", "header")
        keys = [key for key, _ in self.provenance]
        if any(a >= b for a, b in itertools.pairwise(keys)):
            raise TicketError("bad-value", "provenance keys are not strictly ascending", "header")
        self.network.shapes()

    def _check_strings(self) -> None:
        """The schema counts characters, docs/format.md bytes."""
        names = (self.name, *self.input.classes, *(layer.name for layer in self.layers))
        for text in (*names, *itertools.chain.from_iterable(self.provenance)):
            if len(text.encode()) > 256:
                raise TicketError(
                    "limit", f"a string of {len(text.encode())} bytes; 256 are allowed", "header"
                )


def _check_input(given: Input) -> None:
    lengths = {len(given.mean), len(given.std)}
    if lengths not in ({0}, {given.channels}):
        raise TicketError(
            "bad-value", f"mean and std want {given.channels} numbers each, or none", "header, input"
        )
    with np.errstate(over="ignore"):
        mean, std = (np.array(values, dtype=np.float32) for values in (given.mean, given.std))
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        message = "mean and std must be finite, std above 0, as float32"
        raise TicketError("bad-value", message, "header, input")


def header_of(ticket: Ticket) -> Header:
    """The header that a ticket is written with."""
    network, given = ticket.network, ticket.preprocessing
    layers = tuple(map(_layer_header, ticket.layers))
    image = Input(
        *network.input,
        tuple(map(float, given.mean)),
        tuple(map(float, given.std)),
        given.resize,
        tuple(given.classes),
    )
    return Header(network.name, image, ticket.source, layers, network.nodes, (), ticket.provenance)


def _layer_header(layer: Layer) -> LayerHeader:
    shape, code = layer.shape, layer.code
    stream = StreamHeader(code.mode, code.density, code.planes, code.sign, code.intervals)
    return LayerHeader(
        shape.name,
        layer.id,
        shape.out,
        shape.inputs,
        *shape.kernel,
        shape.groups,
        layer.freeze.bits,
        layer.freeze.prune,
        layer.freeze.lock,
        code.tile_rows,
        0,
        layer.affine_bits,  # type: ignore[arg-type]
        (TaskHeader(layer.kept, (stream,), ()),),
    )


def encode(header: Header) -> bytes:
    return msgspec.msgpack.encode(header)


def decode(data: bytes) -> Header:
    """A header from its canonical bytes; TicketError for anything else. Nothing is checked but types and
    bounds of single values.
    """
    try:
        header = msgspec.msgpack.decode(data, type=Header)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TicketError("bad-header", str(error), "header", PREFIX.size) from error
    if encode(header) != data:
        raise TicketError("bad-header", "not canonical MessagePack", "header", PREFIX.size)
    return header
