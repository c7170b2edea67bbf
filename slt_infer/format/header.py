"""The header's schema, one for reading and writing, and the fixed prefix before it (docs/format.md,
sections 4 and 6).
"""

from __future__ import annotations

import itertools
import operator
import struct
from functools import cached_property
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct

from slt_infer import quantise
from slt_infer.errors import TicketError
from slt_infer.ticket import (
    Freeze,
    Layer,
    LayerShape,
    MaskCode,
    Name,
    Network,
    Node,
    Preprocessing,
    Quantisation,
    Size,
    Source,
    Ticket,
    Window,
)

MAGIC = b"\x89SLT\r\n\x1a\n"
VERSION = 1
PREFIX = struct.Struct("<8sIIQII")  # magic, version, header_bytes, file_bytes, 0, CRC
TILE = struct.Struct("<III")  # free, words, CRC of the payload
NO_QUANTISATION = b"\x90"  # the empty array
INT8 = b"\x93\xa4int8"  # how an array of three begins whose first is "int8"
MAX_HEADER = 2**20
MAX_FILE = 2**32
MAX_POSITIONS = 2**20  # summed over the layers, plus MAX_POSITIONS_PER_BYTE a byte of file
MAX_POSITIONS_PER_BYTE = 2**13
MAX_STREAMS = 2**11  # of all layers and tasks, plus one per BYTES_PER_STREAM bytes of file
BYTES_PER_STREAM = 2**5
READING_BYTES = 2**23  # that reading may allocate, and READING_BYTES_PER_BYTE a byte of file
READING_BYTES_PER_BYTE = 16

Kind = TypeVar("Kind")
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
    def matrix(self) -> tuple[int, ...]:
        """What layers that share their weights have in common."""
        return (
            *(self.out, self.inputs, self.rows, self.columns, self.groups),
            *(self.bits, self.prune, self.lock, self.tile_rows),
        )

    @property
    def streams(self) -> tuple[StreamHeader, ...]:
        """In the order of the file; a shared layer has none."""
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
        if not self.tasks:
            return  # shared: its rows a tile are another layer's
        for stream in self.streams:
            stream.check(where)
        for task in self.tasks:
            prior = any(stream.mode == "prior" for stream in task.streams[1:])
            need(not prior, "a prior is for the mask alone, not for a further coat or flips")
        tiled = any(stream.mode != "const" for stream in self.streams)
        need(tiled or self.tile_rows == self.out, "a layer without tiles has tiles of all rows")
        if tiled and self.tile_rows > 1 and self.tile_rows * shape.row_positions > 2**20:
            raise TicketError("limit", f"tiles of {self.tile_rows} rows of {shape.row_positions}", where)


class Int8(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="int8"):
    """The slot `quantisation` of a quantised ticket. Ranges of codes are quantise.check's."""

    pow2: bool
    codes: Annotated[tuple[int, ...], Meta(max_length=quantise.MAX_CODES)]


class Header(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, dict=True):
    name: Name
    input: Input
    source: Source
    layers: Annotated[tuple[LayerHeader, ...], Meta(min_length=1, max_length=4096)]
    nodes: Annotated[tuple[Node, ...], Meta(min_length=1, max_length=16384)]
    quantisation: msgspec.Raw  # as it stands: what a later program put there is never made objects
    provenance: Annotated[tuple[tuple[Name, Name], ...], Meta(max_length=64)]

    @cached_property
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
        self._check_layers(file_bytes)
        keys = [key for key, _ in self.provenance]
        if any(a >= b for a, b in itertools.pairwise(keys)):
            raise TicketError("bad-value", "provenance keys are not strictly ascending", "header")
        self.network.shapes()
        self._check_quantisation()

    @property
    def quantised(self) -> Quantisation | None:
        """Raises TicketError where the slot has neither nothing nor int8."""
        slot = bytes(self.quantisation)
        if slot == NO_QUANTISATION:
            return None
        if not slot.startswith(INT8):
            array = 0x90 <= slot[0] <= 0x9F or slot[0] in (0xDC, 0xDD)
            message = "quantised otherwise than this program knows" if array else "quantisation is no array"
            raise TicketError("unsupported" if array else "bad-header", message, "header, quantisation")
        found = _decoded(slot, Int8, "header, quantisation")
        return Quantisation(found.codes, found.pow2)

    def _check_quantisation(self) -> None:
        quantisation = self.quantised
        if quantisation is None:
            return
        if self.tasks > 1:
            raise TicketError("bad-value", "a ticket of several tasks is quantised", "header, quantisation")
        coats = {layer.id: len(layer.tasks[0].coats) for layer in self.layers if layer.tasks}
        quantise.check(self.network, quantisation, [coats[layer.id] for layer in self.layers])

    @property
    def tasks(self) -> int:
        return len(self.layers[0].tasks)

    def _check_layers(self, file_bytes: int) -> None:
        """Each layer, what shared layers share, and the bounds on the whole."""
        owners: dict[int, LayerHeader] = {}
        positions = streams = 0
        for layer in self.layers:
            where = f"header, layer {layer.name!r}"
            layer.check(where)
            owner = owners.setdefault(layer.id, layer)
            if owner is layer:
                if not 1 <= len(layer.tasks) == self.tasks:
                    message = f"{len(layer.tasks)} tasks, where the first layer has {self.tasks}"
                    raise TicketError("bad-value", message, where)
                streams += len(layer.streams)
            else:
                if layer.tasks or layer.matrix != owner.matrix:
                    message = f"has the id of layer {owner.name!r}, but not its matrix, or tasks of its own"
                    raise TicketError("bad-value", message, where)
                streams += self.tasks
            positions += layer.out * layer.shape.row_positions * len(owner.streams)
        for what, number, allowed in (
            ("weight positions", positions, MAX_POSITIONS + MAX_POSITIONS_PER_BYTE * file_bytes),
            ("mask streams", streams, MAX_STREAMS + file_bytes // BYTES_PER_STREAM),
        ):
            if number > allowed:
                message = f"{number} {what}; a file of {file_bytes} bytes may have {allowed}"
                raise TicketError("limit", message, "header")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise TicketError("bad-value", "two layers with one name", "header")

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
    """The header that a ticket is written with. Raises TicketError where its tasks do not fit together, or
    layers of one id do not share all but names and affines.
    """
    network, given = ticket.network, ticket.preprocessing
    if {len(layers) for layers in ticket.tasks} != {len(network.layers)}:
        raise TicketError("bad-value", "a task wants all layers of the graph", "header")
    for shape, layer in zip(network.layers, ticket.layers, strict=True):
        if layer.shape != shape:
            raise TicketError("bad-value", "has another shape than in the graph", f"layer {shape.name}")
    owners = owners_of(ticket)
    by_layer = list(zip(*ticket.tasks, strict=True))
    for layers, owner in zip(by_layer, owners, strict=True):
        for layer, its in zip(layers, by_layer[owner], strict=True):
            if _matrix(layer) != _matrix(layers[0]) or layer.affine_bits != layers[0].affine_bits:
                raise TicketError("bad-value", "differs from task 0's", f"layer {layer.shape.name}")
            if its is not layer and not same_weights(layer, its):
                message = f"has the id of layer {its.shape.name}, but other weights"
                raise TicketError("bad-value", message, f"layer {layer.shape.name}")
    headers = tuple(
        _layer_header(layers, owner < number)
        for number, (layers, owner) in enumerate(zip(by_layer, owners, strict=True))
    )
    image = Input(
        *network.input,
        tuple(map(float, given.mean)),
        tuple(map(float, given.std)),
        given.resize,
        tuple(given.classes),
    )
    return Header(
        *(network.name, image, ticket.source, headers, network.nodes),
        _quantisation(ticket),
        ticket.provenance,
    )


def _quantisation(ticket: Ticket) -> msgspec.Raw:
    """The slot; what it may hold is checked where it is read."""
    given = ticket.quantisation
    if given is None:
        return msgspec.Raw(NO_QUANTISATION)
    try:
        codes = tuple(map(operator.index, given.codes))
        return msgspec.Raw(msgspec.msgpack.encode(Int8(bool(given.pow2), codes)))
    except (OverflowError, TypeError, ValueError) as error:
        raise TicketError("bad-value", f"a code cannot be written: {error}", "quantisation") from error


def owners_of(ticket: Ticket) -> list[int]:
    """Of each layer the first with its id: itself unless it is shared."""
    first: dict[int, int] = {}
    return [first.setdefault(layer.id, number) for number, layer in enumerate(ticket.layers)]


def _matrix(layer: Layer) -> tuple[object, ...]:
    return layer.shape, layer.id, layer.freeze


def same_weights(one: Layer, other: Layer) -> bool:
    """Whether two layers may have one id."""

    def fields(layer: Layer) -> tuple[object, ...]:
        shape = layer.shape
        return (
            shape.out,
            shape.inputs,
            shape.kernel,
            shape.groups,
            layer.freeze,
            layer.kept,
            layer.flips is None,
        )

    def bits(code: MaskCode) -> tuple[object, ...]:
        coding = (code.mode, code.density, code.planes, code.sign, code.intervals, code.tile_rows)
        return (*coding, code.free.tobytes(), code.words.tobytes(), code.payload)

    return fields(one) == fields(other) and list(map(bits, one.streams)) == list(map(bits, other.streams))


def _layer_header(layers: tuple[Layer, ...], shared: bool) -> LayerHeader:
    """layers: one layer of the graph in every task."""
    layer = layers[0]
    shape = layer.shape
    rows = {code.tile_rows for of in layers for code in of.streams if code.mode != "const"} or {shape.out}
    if len(rows) > 1:
        raise TicketError("bad-value", "streams of different rows a tile", f"layer {shape.name}")
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
        rows.pop(),
        0,
        layer.affine_bits,  # type: ignore[arg-type]
        () if shared else tuple(map(_task_header, layers)),
    )


def _task_header(layer: Layer) -> TaskHeader:
    coats = tuple(map(_stream_header, (layer.code, *layer.coats)))
    return TaskHeader(layer.kept, coats, () if layer.flips is None else (_stream_header(layer.flips),))


def _stream_header(code: MaskCode) -> StreamHeader:
    return StreamHeader(code.mode, code.density, code.planes, code.sign, code.intervals)


def encode(header: Header) -> bytes:
    return msgspec.msgpack.encode(header)


def decode(data: bytes | memoryview) -> Header:
    """A header from its canonical bytes; TicketError for anything else. Nothing is checked but types and
    bounds of single values.
    """
    return _decoded(data, Header, "header", PREFIX.size)


def _decoded(data: bytes | memoryview, kind: type[Kind], where: str, offset: int | None = None) -> Kind:
    try:
        found = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TicketError("bad-header", str(error), where, offset) from error
    if msgspec.msgpack.encode(found) != data:
        raise TicketError("bad-header", "not canonical MessagePack", where, offset)
    return found
