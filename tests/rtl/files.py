"""The coded streams of a .slt file as bytes, straight from docs/format.md, section 4, for a test bench."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from msgspec import msgpack

from slt_infer import reference


@dataclass
class Tile:
    first: int
    count: int
    raw: bool
    payload: bytes

    def numbers(self) -> list[int]:
        """raw, first, count, size and words, as the test benches read them."""
        words = np.frombuffer(self.payload, "<u2").tolist()
        return [int(self.raw), self.first, self.count, len(words), *words]


@dataclass
class Stream:
    """A stream that has tiles."""

    layer: list  # as in the header
    mode: str
    density: int
    planes: int
    sign: bool
    intervals: list[list[int]]
    tiles: list[Tile]
    bits: list[int]

    @property
    def count(self) -> int:
        return sum(tile.count for tile in self.tiles)

    def numbers(self) -> list[int]:
        """Layer id, wide, planes, sign, starts and densities, as the test benches read them."""
        intervals = self.intervals or [[0, self.density]]
        full = intervals + [intervals[-1]] * (16 - len(intervals))
        starts, densities = [start for start, _ in full], [f for _, f in full]
        wide = int(reference.lanes_of(self.count) == 32)
        return [self.layer[1], wide, self.planes, int(self.sign), *starts, *densities]


def streams(data: bytes, decode: bool = True) -> tuple[list, list[Stream]]:
    """The source of a file and its streams that have tiles, with their bits by the reference if `decode`."""
    size = struct.unpack_from("<I", data, 12)[0]
    _, _, source, layers, *_ = msgpack.decode(data[32 : 32 + size])
    index = -(-(32 + size) // 8) * 8
    every = [
        (layer, stream)
        for layer in layers
        for _, *of_task in layer[13]
        for streams in of_task
        for stream in streams
    ]
    bits = [[] for _ in every]
    if decode:
        bits = [its for tasks in reference.read(data)["streams"] for task in tasks for its in task]
    tiles = [0 if stream[0] == "const" else -(-layer[2] // layer[10]) for layer, stream in every]
    at = -(-(index + 12 * sum(tiles) + 4) // 8) * 8
    found = []
    for (layer, stream), number, its_bits in zip(every, tiles, bits, strict=True):
        mode, first, its = stream[0], 0, []
        for _ in range(number):
            count, tagged, _ = struct.unpack_from("<III", data, index)
            length = 2 * (tagged % 2**31)
            its.append(Tile(first, count, mode == "raw" or tagged >= 2**31, data[at : at + length]))
            first, index, at = first + count, index + 12, -(-(at + length) // 4) * 4
        at = -(-at // 8) * 8
        if number:
            found.append(Stream(layer, *stream, its, its_bits))
    return source, found
