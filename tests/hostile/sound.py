"""Sound files to spoil, written from docs/format.md with the independent decoder's parts."""

from __future__ import annotations

import random
import struct
from typing import Any

from ..independent.decoder import (
    LAYER,
    RAW,
    STREAM,
    columns_of,
    frequencies,
    lanes_of,
    pattern_of_row,
    placed,
    row_positions,
)
from ..independent.random_bits import Source
from .pieces import AFFINE, LAYERS, OUT, SOURCE, TASKS, Pieces, Tile, layer_of

# Of the values 0, 1, 3, 6, 8, 10, 11, 12, 13, 15, 17 and 19 of `quantised`, from what they are in f32.
QUANTISED_CODES = [-84, 62, 104, 128, 129, 132, 126, 142, 121, 145, 159, 150]
LAWS = ["bernoulli", "constant", "uniform"]


def coded_tile(bits: list[int], a: int, lanes: int, frequencies: list[int]) -> bytes:
    """Section 5's encoder: bits of the free ordinals from a, frequencies[i] of a 1 in 4096ths."""
    states, emitted = [2**16] * lanes, []
    for i in range(len(bits))[::-1]:
        x, bit, f = states[(a + i) % lanes], bits[i], frequencies[i]
        g = f if bit else 4096 - f
        if x >= g << 20:
            emitted.append(x % 2**16)
            x >>= 16
        states[(a + i) % lanes] = 4096 * (x // g) + x % g + (0 if bit else f)
    return struct.pack(f"<{lanes}I", *states) + struct.pack(f"<{len(emitted)}H", *emitted[::-1])


def raw_tile(bits: list[int], a: int) -> bytes:
    b = a + len(bits)
    word = sum(bit << i for i, bit in enumerate(bits)) << a % 32
    return word.to_bytes(4 * ((b - 1) // 32 - a // 32 + 1) if bits else 0, "little")


def make_tile(mode: str, bits: list[int], a: int, lanes: int, raw: bool, f: list[int]) -> Tile:
    if mode == "raw" or raw:
        payload = raw_tile(bits, a)
        return Tile(len(bits), len(payload) // 2 | (RAW if mode != "raw" else 0), payload)
    payload = coded_tile(bits, a, lanes, f) if bits else b""
    return Tile(len(bits), len(payload) // 2, payload)


def affine_form(numbers: random.Random, out: int, bits: int) -> bytes:
    """A random affine; narrow ones of several channels only."""
    if bits in (0, 32):
        count = 2 * out if bits else 0
        return struct.pack(f"<{count}f", *(numbers.uniform(0.5, 2) for _ in range(count)))
    form = b""
    for low, step in ((0.5, 2.0**-8), (-0.25, 2.0**-10)):  # powers of two, so that no value is rounded
        codes = [0, 2**bits - 1, *(numbers.randrange(2**bits) for _ in range(out - 2))]
        numbers.shuffle(codes)
        form += struct.pack(f"<ff{out}{'B' if bits == 8 else 'H'}", low, step, *codes)
    return form


def fill(header: list[Any], seed: int, raw_tiles: int = 0) -> Pieces:
    """The pieces of a file with that header, whose masks are random at each stream's density; kept is made
    right. Of each coded stream of several tiles the last `raw_tiles` are raw.
    """
    numbers, source = random.Random(seed), Source(*header[SOURCE][:4])
    pieces = Pieces(header, [], [])
    tasks = len(header[LAYERS][0][TASKS])
    for values in header[LAYERS]:
        layer = dict(zip(LAYER, values, strict=True))
        positions, columns = row_positions(layer), columns_of(layer)
        pattern = [pattern_of_row(source, layer, row * positions, columns) for row in range(layer["out"])]
        for task in values[TASKS]:
            _, coats, flips = task
            outer = [free for free, _ in pattern]
            inside = []
            for stream in coats:
                tiles, outer = _stream(numbers, source, layer, stream, outer, raw_tiles)
                pieces.tiles.append(tiles)
                inside.append(outer)
            for stream in flips:
                pieces.tiles.append(_stream(numbers, source, layer, stream, inside[0], raw_tiles)[0])
            task[0] = sum(map(int.bit_count, inside[0])) + sum(locked.bit_count() for _, locked in pattern)
        affines = [affine_form(numbers, layer["out"], values[AFFINE]) for _ in range(tasks)]
        pieces.affines.append(b"".join(affines))
    return pieces


def _stream(
    numbers: random.Random,
    source: Source,
    layer: dict[str, Any],
    values: list[Any],
    outer: list[int],
    raw_tiles: int,
) -> tuple[list[Tile], list[int]]:
    """The tiles of a stream that has a bit for each set bit of `outer`, and where its bits are set."""
    stream, rows = dict(zip(STREAM, values, strict=True)), layer["tile_rows"]
    mode, first = stream["mode"], 0
    lanes = lanes_of(sum(map(int.bit_count, outer)))
    tiles: list[Tile] = []
    every: list[int] = []
    for row in range(0, layer["out"], rows):
        last = first + sum(bits.bit_count() for bits in outer[row : row + rows])
        if mode in ("static", "prior"):
            f = frequencies(source, layer, stream, first, last)
        else:
            f = [stream["density"] if mode == "const" else 2048] * (last - first)
        bits = [int(numbers.randrange(4096) < share) for share in f]
        every += bits
        raw = 0 < row >= layer["out"] - rows * raw_tiles
        tiles.append(make_tile(mode, bits, first, lanes, raw, f))
        first = last
    return [] if mode == "const" else tiles, placed(outer, int("0" + "".join(map(str, every[::-1])), 2))


def base(generator: str = "philox4x32", rounds: int = 10, freeze: str = "bernoulli") -> Pieces:
    """Six layers: a grouped convolution (raw, affine), a 1x1 one (const), a linear layer of four coded tiles
    and a raw one (static, affine), two with a prior (planes and sign, four tiles and a raw one; the sign
    alone), a raw one of two tiles.
    """
    some = [[0, 3000], [3, 200], [9, 700], [15, 3900]]
    layers = [
        layer_of("conv", 0, 6, 2, 3, 2, 2, 2, 1, 1, 1, "raw", 0, 0, False, [], 6, 32),
        layer_of("point", 1, 6, 6, 1, 1, 1, 0, 0, 0, 1, "const", 4096, 0, False, [], 6, 0),
        layer_of("wide", 2, 118, 54, 1, 1, 1, 3, 1, 2, 1, "static", 320, 0, False, [], 25, 32),
        layer_of("hidden", 3, 30, 118, 1, 1, 1, 3, 2, 1, 1, "prior", 0, 3, True, some, 7, 0),
        layer_of("signs", 4, 20, 30, 1, 1, 1, 0, 0, 0, 1, "prior", 0, 0, True, [[0, 4000], [1, 90]], 20, 0),
        layer_of("head", 5, 3, 20, 1, 1, 1, 8, 63, 65, 1, "raw", 0, 0, False, [], 2, 0),
    ]
    nodes = [
        ["conv2d", 0, 0, 1, 1],
        ["relu", 1],
        ["conv2d", 2, 1, 1, 0],
        ["add", 2, 3],
        ["max_pool2d", 4, 3, 2, 1],
        ["flatten", 5],
        ["linear", 6, 2],
        ["relu", 7],
        ["linear", 8, 3],
        ["linear", 9, 4],
        ["linear", 10, 5],
    ]
    image = [4, 6, 5, [0.5, 0.25, 0.5, 0.5], [0.25] * 4, "stretch", ["a", "b", "c"]]
    header = [
        "base",
        image,
        [generator, rounds, 1, freeze, *LAWS[1:]],
        layers,
        nodes,
        [],
        [["made by", "a test"], ["of", "readers"]],
    ]
    return fill(header, 1, raw_tiles=1)


def narrowed(pieces: Pieces, bits: int) -> Pieces:
    """The same file with other affines, of 8 or 16 bits, where there are any."""
    pieces = pieces.copy()
    for i, layer in enumerate(pieces.header[LAYERS]):
        if layer[AFFINE]:
            layer[AFFINE] = bits
            pieces.affines[i] = affine_form(random.Random(i), layer[OUT], bits)
    return pieces


def rich(generator: str = "philox4x32", rounds: int = 10, freeze: str = "bernoulli") -> Pieces:
    """Two tasks; three coats and flips in the first; a shared convolution; every kind of affine."""
    some = [[0, 3000], [1, 900], [2, 2000]]
    convolution = [
        [1, [_coat("static", 2900), _coat("raw"), _coat("static", 1000)], [_coat("static", 300)]],
        [1, [["prior", 0, 1, True, some], _coat("const", 4096), _coat("static", 2048)], []],
    ]
    linear = [[1, [_coat("const", 4096)], [_coat("raw")]], [1, [_coat("raw")], [_coat("const")]]]
    head = [[1, [_coat("const", 4096)], []], [1, [_coat("const", 4096), _coat("const")], []]]
    layers = [
        ["conv", 3, 5, 5, 3, 3, 1, 3, 1, 2, 2, 0, 0, convolution],
        ["again", 3, 5, 5, 3, 3, 1, 3, 1, 2, 2, 0, 32, []],
        ["wide", 0, 9, 100, 1, 1, 1, 2, 1, 0, 4, 0, 16, linear],
        ["head", 2**32 - 1, 3, 9, 1, 1, 1, 0, 0, 0, 3, 0, 8, head],
    ]
    nodes = [
        ["conv2d", 0, 0, 1, 1],
        ["relu", 1],
        ["conv2d", 2, 1, 1, 1],
        ["add", 2, 3],
        ["flatten", 4],
        ["linear", 5, 2],
        ["linear", 6, 3],
    ]
    image = [5, 5, 4, [], [], "exact", []]
    source = [generator, rounds, 2**63 + 1, freeze, *LAWS[1:]]
    return fill(["rich", image, source, layers, nodes, [], []], 2, raw_tiles=1)


def quantised(
    pow2: bool = False,
    end: int = 19,
    coats: bool = False,
    generator: str = "philox4x32",
    rounds: int = 10,
    freeze: str = "bernoulli",
) -> Pieces:
    """A network in int8 with each operator, of its first `end` nodes: 19, or 17 for one whose output an add
    gives that a layer is joined to, or 18 for a relu's. Four adds: value 6, which a (shared) convolution is
    joined to; 10, which nothing is, as its later operand is a pool's; 12, of one value twice; and 17, which a
    linear layer is joined to. Two layers have no affine, and the shared one three coats and flips if `coats`.
    """

    def one(*streams: list[Any]) -> list[Any]:
        return [[1, list(streams), []]]

    twice = one(_coat("static", 2900))
    if coats:
        twice[0][1:] = [_coat("static", 2900), _coat("raw"), _coat("static", 3000)], [_coat("static", 300)]
    layers = [
        ["stem", 0, 6, 2, 3, 2, 2, 2, 1, 1, 2, 0, 16, one(_coat("raw"))],
        ["one", 1, 6, 6, 3, 3, 1, 0, 0, 0, 3, 0, 32, twice],
        ["two", 1, 6, 6, 3, 3, 1, 0, 0, 0, 3, 0, 8, []],
        ["short", 2, 6, 6, 1, 1, 1, 0, 0, 0, 6, 0, 0, one(_coat("const", 4096))],
        ["wide", 3, 5, 120, 1, 1, 1, 1, 1, 0, 2, 0, 32, one(_coat("raw"))],
        ["narrow", 4, 5, 6, 1, 1, 1, 0, 0, 0, 5, 0, 8, one(_coat("const", 4096))],
        ["head", 5, 3, 5, 1, 1, 1, 0, 0, 0, 3, 0, 0, one(_coat("const", 4096))],
    ]
    nodes = [
        ["conv2d", 0, 0, 1, 1],
        ["relu", 1],
        ["conv2d", 2, 1, 1, 1],
        ["relu", 3],
        ["conv2d", 4, 2, 1, 1],
        ["add", 5, 2],
        ["relu", 6],
        ["conv2d", 7, 3, 2, 0],
        ["max_pool2d", 7, 3, 2, 1],
        ["add", 9, 8],
        ["avg_pool2d", 10, 2, 1, 1],
        ["add", 11, 11],
        ["global_avg_pool2d", 12],
        ["flatten", 11],
        ["linear", 14, 4],
        ["linear", 13, 5],
        ["add", 16, 15],
        ["relu", 17],
        ["linear", 18, 6],
    ]
    codes = QUANTISED_CODES[: 12 - (end < 19)]
    if end != 18:
        codes[-1] = 48  # logits that int8 would not hold
    slot = ["int8", pow2, [-(-code // 16) * 16 if pow2 else code for code in codes]]
    image = [4, 6, 6, [], [], "exact", []]
    source = [generator, rounds, 77, freeze, *LAWS[1:]]
    header = ["int8", image, source, layers[: len(layers) - (end < 19)], nodes[:end], slot, []]
    return fill(header, 4)


def _coat(mode: str, density: int = 0) -> list[Any]:
    return [mode, density, 0, False, []]


def prior(planes: int, sign: bool, starts: int, source: list[Any]) -> Pieces:
    """One linear layer of two tiles whose mask is coded with `starts` intervals over planes and sign."""
    cells = 2 ** (planes + sign)
    # from the least to the largest f and towards the middle, all different
    intervals = [[i * cells // starts, 1 + 90 * i if i % 2 else 4095 - 90 * i] for i in range(starts)]
    layer = layer_of("f", 7, 9, 300, 1, 1, 1, 2, 1, 0, 1, "prior", 0, planes, sign, intervals, 5, 0)
    image = [300, 1, 1, [], [], "exact", []]
    return fill(
        ["prior", image, [*source, *LAWS], [layer], [["flatten", 0], ["linear", 1, 0]], [], []], planes
    )


def wide(planes: int) -> Pieces:
    """One linear layer of 2^15 free weights, so of 32 lanes, in tiles of a few hundred bytes: static where
    planes is 0.
    """
    law = ["prior", 0, planes, False, [[0, 60], [1, 20]]] if planes else ["static", 40, 0, False, []]
    layer = layer_of("w", 1, 32, 1024, 1, 1, 1, 0, 0, 0, 1, *law, 12, 0)
    image, source = [1024, 1, 1, [], [], "exact", []], ["threefry4x32", 12, 5, *LAWS]
    return fill(["wide", image, source, [layer], [["flatten", 0], ["linear", 1, 0]], [], []], planes)
