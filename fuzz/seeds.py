"""Sound inputs to start from, in the layouts that the C++ targets read, and sound files for reader.py."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.hostile import pieces as p  # noqa: E402
from tests.hostile.pieces import SOURCE, Pieces  # noqa: E402
from tests.hostile.sound import base, narrowed, prior, quantised, rich, wide  # noqa: E402
from tests.independent.decoder import lanes_of  # noqa: E402

VERSIONS = [
    ("philox4x32", 10),
    ("philox4x32", 7),
    ("threefry4x32", 20),
    ("threefry4x32", 13),
    ("threefry4x32", 12),
]


def files() -> Iterator[Pieces]:
    """Small sound files that between them have every mode, generator and kind of tile."""
    for i, version in enumerate(VERSIONS):
        yield base(*version, ("bernoulli", "mixed")[i % 2])
        yield narrowed(base(*version), 8 if i % 2 else 16)
        yield rich(*version)
        yield quantised(i % 2 == 1, 17 + i % 3, i == 2, *version)
        for planes, sign, starts in [(0, True, 2), (i + 1, False, 2), (8, True, 16), (4, i % 2 == 0, 9)]:
            yield prior(planes, sign, starts, [*version, 2**63 + i])
    for planes in (0, 3):
        yield wide(planes)


def _random(header: list[Any], layer: list[Any]) -> bytes:
    generator, rounds, seed = header[SOURCE][:3]
    return struct.pack("<BQI", VERSIONS.index((generator, rounds)), seed, layer[p.ID])


def _densities(layer: list[Any]) -> bytes:
    _, density, planes, sign, intervals = p.get(layer, p.MASK)
    intervals = intervals or [[0, min(max(density, 1), 4095)]]
    head = struct.pack("<BBB", planes, sign, len(intervals) - 1)
    # input.h reads f as (x + 4094) mod 4095 + 1, which gives back 1 to 4095
    return head + b"".join(struct.pack("<HH", start, f) for start, f in intervals)


def _lanes(bits: int) -> bytes:
    return bytes([lanes_of(bits) == 4])


def _layers() -> Iterator[tuple[list[Any], list[Any], list[p.Tile]]]:
    for file in files():
        for (layer, stream), tiles in zip(p.streams(file.header), file.tiles, strict=True):
            if stream is p.get(layer, p.MASK):  # all that the C++ targets know
                yield file.header, layer, tiles


def tile() -> Iterator[bytes]:
    for header, of, tiles in _layers():
        if p.get(of, p.MODE) not in ("static", "prior"):
            continue
        starts = [sum(before.free for before in tiles[:i]) for i in range(len(tiles))]
        coded = [(t, a) for t, a in zip(tiles, starts, strict=True) if not t.words >> 31 and t.free]
        for (one, first), (two, second) in zip(coded, coded[1:] + coded[:1], strict=True):
            places = struct.pack("<HIHI", one.free - 1, first, two.free - 1, second)
            words = struct.pack("<H", one.words)
            lanes = _lanes(sum(tile.free for tile in tiles))
            yield _random(header, of) + _densities(of) + lanes + places + words + one.payload + two.payload


def round_trip() -> Iterator[bytes]:
    numbers = random.Random(1)
    for number, (header, layer, _) in enumerate(_layers()):
        first = numbers.choice([0, 1, 31, 32, 127, 8191, 2**32 - 1])
        mask = bytes(numbers.randrange(256) & numbers.randrange(256) for _ in range(1 + 37 * number % 700))
        place = struct.pack("<BIB", number // 2 % 2, first, number % 8)  # lanes, and where the mask lies
        yield _random(header, layer) + _densities(layer) + place + mask


def layer() -> Iterator[bytes]:
    modes = {"static": 0, "prior": 0, "raw": 1}
    for header, of, tiles in _layers():
        mode = modes.get(p.get(of, p.MODE), 2 if p.get(of, p.DENSITY) else 3)
        columns = of[p.INPUTS] * of[p.ROWS] * of[p.COLUMNS]
        law = 4 if header[SOURCE][p.FREEZE] == "mixed" else 0
        shape = struct.pack("<BBHH", mode + law, 1, of[p.OUT] - 1, columns - 1)
        freeze = struct.pack("<BHHH", of[p.BITS], of[p.PRUNE], of[p.LOCK], of[p.TILE_ROWS])
        if of[p.OUT] > 40 or columns > 1024:
            continue
        words = [tile.words & 0x7FFF | tile.words >> 31 << 15 for tile in tiles]
        payload = b"".join(tile.payload + bytes(-len(tile.payload) % 4) for tile in tiles)
        index = struct.pack(f"<BB{len(words)}H", 1, of[p.OUT], *words)
        yield _random(header, of) + shape + freeze + _densities(of) + index + payload


def reader() -> Iterator[bytes]:
    return (file.build() for file in files())


SEEDS = {"tile": tile, "round_trip": round_trip, "layer": layer, "reader": reader}


def write(target: str, folder: Path) -> int:
    """Writes a target's seeds; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, data in enumerate(SEEDS[target](), start=1):
        (folder / f"seed-{count:03}").write_bytes(data)
    return count
