"""A `.slt` file taken apart and put together again, lies included; no code of the package writes here."""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field
from typing import Any

from ..independent import messagepack
from ..independent.decoder import MAGIC, RAW, crc32c

# Places in the header's arrays (docs/format.md, section 4): the one table to change with the format.
NAME, INPUT, SOURCE, LAYERS, NODES, QUANTISATION, PROVENANCE = range(7)
CHANNELS, HEIGHT, WIDTH, MEAN, STD, RESIZE, CLASSES = range(7)
GENERATOR, ROUNDS, SEED, FREEZE, VALUE, SCORE = range(6)
LAYER_NAME, ID, OUT, INPUTS, ROWS, COLUMNS, GROUPS = range(7)
BITS, PRUNE, LOCK, TILE_ROWS, PATCHES, AFFINE, TASKS = range(7, 14)
TASK = (TASKS, 0)
KEPT, COATS, FLIPS = ((*TASK, i) for i in range(3))
MASK = (*COATS, 0)
MODE, DENSITY, PLANES, SIGN, INTERVALS = ((*MASK, i) for i in range(5))


def layer_of(*values: Any) -> list[Any]:
    """A layer of one task and one coat from name, id, out, inputs, rows, columns, groups, B, p, l, then kept,
    mode, density, planes, sign, intervals, tile rows and the affine's bits.
    """
    kept, *stream, tile_rows, affine = values[10:]
    return [*values[:10], tile_rows, 0, affine, [[kept, [stream], []]]]


def get(values: list[Any], path: tuple[int, ...]) -> Any:
    for step in path:
        values = values[step]
    return values


def place(values: list[Any], path: tuple[int, ...], value: Any) -> None:
    get(values, path[:-1])[path[-1]] = value


@dataclass
class Tile:
    """An index entry and its payload; crc None is the right one. behind: instead of the zeros after it."""

    free: int
    words: int
    payload: bytes
    crc: int | None = None
    behind: bytes | None = None


@dataclass
class Pieces:
    """Everything a file is made of: tiles by stream, affines by layer. What is None is made right when the
    file is built.
    """

    header: list[Any]
    tiles: list[list[Tile]]
    affines: list[bytes]
    encoded: bytes | None = None
    magic: bytes = MAGIC
    version: int = 1
    header_bytes: int | None = None
    file_bytes: int | None = None
    reserved: int = 0
    header_crc: int | None = None
    header_behind: bytes | None = None
    index: bytes | None = None
    index_crc: int | None = None
    index_behind: bytes | None = None
    segment_behind: dict[int, bytes] = field(default_factory=dict)  # by stream
    affine_crcs: dict[int, int] = field(default_factory=dict)
    affine_behind: dict[int, bytes] = field(default_factory=dict)
    gaps: dict[str, bytes] = field(default_factory=dict)  # bytes put before a part
    cut: int | None = None  # the file's length, its file_bytes as if it were whole

    def copy(self) -> Pieces:
        return copy.deepcopy(self)

    def build(self) -> bytes:
        return self.build_parts()[0]

    def build_parts(self) -> tuple[bytes, dict[str, int]]:
        """The file, and the place where each part starts."""
        encoded = write(self.header) if self.encoded is None else self.encoded
        header_bytes = len(encoded) if self.header_bytes is None else self.header_bytes
        body, starts = self._body(encoded)
        length = 32 + len(body) if self.file_bytes is None else self.file_bytes
        start = struct.pack("<8sIIQI", self.magic, self.version, header_bytes, length, self.reserved)
        # over what a reader takes for the header
        crc = crc32c(start + body[:header_bytes]) if self.header_crc is None else self.header_crc
        return (start + struct.pack("<I", crc) + body)[: self.cut], starts

    def _body(self, encoded: bytes) -> tuple[bytes, dict[str, int]]:
        body, starts = bytearray(), {}

        def part(name: str, data: bytes, behind: bytes | None = None, multiple: int = 8) -> None:
            body.extend(self.gaps.get(name, b""))
            starts[name] = 32 + len(body)
            body.extend(data)
            body.extend(bytes(-len(body) % multiple) if behind is None else behind)

        part("header", encoded, self.header_behind)
        entries = [self._entry(tile) for tiles in self.tiles for tile in tiles]
        index = b"".join(entries) if self.index is None else self.index
        crc = crc32c(index) if self.index_crc is None else self.index_crc
        part("index", index + struct.pack("<I", crc), self.index_behind)
        for i, tiles in enumerate(self.tiles):
            for j, tile in enumerate(tiles):
                part(f"tile {i}.{j}", tile.payload, tile.behind, 4)
            if tiles:
                body.extend(self.segment_behind.get(i, bytes(-len(body) % 8)))
        for i, data in enumerate(self.affines):
            if data:
                crc = self.affine_crcs.get(i, crc32c(data))
                part(f"affine {i}", data + struct.pack("<I", crc), self.affine_behind.get(i))
        return bytes(body), starts

    @staticmethod
    def _entry(tile: Tile) -> bytes:
        crc = crc32c(tile.payload) if tile.crc is None else tile.crc
        return struct.pack("<III", tile.free, tile.words, crc)


def streams(header: list[Any]) -> list[tuple[list[Any], list[Any]]]:
    """(layer, stream) in the order of streams."""
    return [
        (layer, stream)
        for layer in header[LAYERS]
        for _, coats, flips in layer[TASKS]
        for stream in (*coats, *flips)
    ]


def affine_size(layer: list[Any]) -> int:
    """Bytes of one task's affine."""
    out, bits = layer[OUT], layer[AFFINE]
    return out * bits // 4 + (16 if bits in (8, 16) else 0)


def take_apart(data: bytes) -> Pieces:
    """The pieces of a sound file."""
    header_bytes = int.from_bytes(data[12:16], "little")
    header = messagepack.read(data[32 : 32 + header_bytes])
    at = -(-(32 + header_bytes) // 8) * 8
    tiles: list[list[Tile]] = []
    for layer, stream in streams(header):
        count = 0 if stream[0] == "const" else -(-layer[OUT] // layer[TILE_ROWS])
        entries = struct.iter_unpack("<III", data[at : at + 12 * count])
        tiles.append([Tile(free, words, b"") for free, words, _ in entries])
        at += 12 * count
    at = -(-(at + 4) // 8) * 8
    for of_stream in tiles:
        for tile in of_stream:
            size = 2 * (tile.words & ~RAW)
            tile.payload = data[at : at + size]
            at = -(-(at + size) // 4) * 4
        at = -(-at // 8) * 8
    affines = []
    for layer in header[LAYERS]:
        size = affine_size(layer) * len(header[LAYERS][0][TASKS])
        affines.append(data[at : at + size])
        at = -(-(at + size + 4) // 8) * 8 if size else at
    return Pieces(header, tiles, affines)


def write(value: Any) -> bytes:
    """Canonical MessagePack; nil too, which a header may not have."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, int):
        return _write_integer(value)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return _write_length(len(text), 0xA0, 32, (0xD9, 0xDA, 0xDB), (1, 2, 4)) + text
    length = _write_length(len(value), 0x90, 16, (0xDC, 0xDD), (2, 4))
    return length + b"".join(map(write, value))


def _write_integer(value: int) -> bytes:
    if -32 <= value < 0:
        return value.to_bytes(1, "big", signed=True)
    if value < 0:
        size = next(size for size in (1, 2, 4, 8) if value >= -(1 << 8 * size - 1))
        return bytes([0xD0 + size.bit_length() - 1]) + value.to_bytes(size, "big", signed=True)
    if value < 128:
        return bytes([value])
    size = next(size for size in (1, 2, 4, 8) if value >> 8 * size == 0)
    return bytes([0xCC + size.bit_length() - 1]) + value.to_bytes(size, "big")


def _write_length(
    length: int, short: int, shorts: int, tags: tuple[int, ...], sizes: tuple[int, ...]
) -> bytes:
    if length < shorts:
        return bytes([short | length])
    tag, size = next((t, s) for t, s in zip(tags, sizes, strict=True) if length >> 8 * s == 0)
    return bytes([tag]) + length.to_bytes(size, "big")
