"""A decoder of `.slt` files in plain Python, from docs/format.md alone; it shares no code with the package.

decode(data) gives every part of a file as plain numbers, or raises Refused. Slow and short: a second opinion.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import int8, messagepack
from .graph import check_graph
from .random_bits import ROUNDS, SCORE, SIGN, Source
from .refused import Refused, need

MAGIC = b"\x89SLT\r\n\x1a\n"

# Where each field lies in its array: the one place to change with the format.
HEADER = ("name", "input", "source", "layers", "nodes", "quantisation", "provenance")
INPUT = ("channels", "height", "width", "mean", "std", "resize", "classes")
SOURCE = ("generator", "rounds", "seed", "freeze", "value", "score")
LAYER = (
    *("name", "id", "out", "inputs", "rows", "columns", "groups"),
    *("bits", "prune", "lock", "tile_rows", "patches", "affine", "tasks"),
)
SHARED = LAYER[2:11]  # equal in layers of one id
TASK = ("kept", "coats", "flips")
STREAM = ("mode", "density", "planes", "sign", "intervals")
LAYER_RANGES = {
    "id": (0, 2**32 - 1),
    **dict.fromkeys(("out", "inputs", "groups"), (1, 2**20)),
    **dict.fromkeys(("rows", "columns"), (1, 64)),
    "bits": (0, 16),
    **dict.fromkeys(("prune", "lock"), (0, 2**16)),
    "tile_rows": (1, 2**20),
    "patches": (0, 0),
}
RAW = 1 << 31


@dataclass
class Layer:
    """A layer of one task. free, locked: the pattern, per row bits by column. mask: the first coat as one
    integer, bit o is free ordinal o's. coats: per coat and row bits by column, locked weights in all.
    negative: per row, bits by column. affine: (scales, shifts) or None.
    """

    fields: dict[str, Any]
    free: list[int]
    locked: list[int]
    mask: int
    coats: list[list[int]]
    negative: list[int]
    constant: float
    affine: tuple[list[float], list[float]] | None = None

    @property
    def kept(self) -> list[int]:
        return self.coats[0]


@dataclass
class File:
    """tasks: the layers of each."""

    header: dict[str, Any]
    tasks: list[list[Layer]]

    @property
    def layers(self) -> list[Layer]:
        return self.tasks[0]


@dataclass
class Coded:
    """A stream as it stands in the file: (bits, words, CRC) of each tile, and their payloads."""

    stream: dict[str, Any]
    tiles: list[tuple[int, int, int]]
    payloads: list[bytes]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC = [_crc_entry(i) for i in range(256)]


class _Parts:
    """The parts of a file in order; nothing is read twice or left out."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int, what: str) -> bytes:
        need(size <= len(self.data) - self.at, f"the file ends inside {what}")
        self.at += size
        return self.data[self.at - size : self.at]

    def zeros(self, multiple: int, what: str) -> None:
        need(not any(self.take(-self.at % multiple, what)), f"padding of {what} is not zero")

    def checked(self, size: int, what: str) -> bytes:
        part = self.take(size, what)
        need(self.take(4, what) == struct.pack("<I", crc32c(part)), f"CRC of {what}")
        return part


def decode(data: bytes) -> File:
    parts = _Parts(data)
    header = _header(parts)
    layers, tasks = header["layers"], len(header["layers"][0]["tasks"])
    streams = [(la, of) for la in layers for task in la["tasks"] for of in (*task["coats"], *task["flips"])]
    index = _index(parts, streams)
    coded = [
        Coded(of, tiles, _segment(parts, la, tiles)) for (la, of), tiles in zip(streams, index, strict=True)
    ]
    affines = [_affines(parts, layer, tasks) for layer in layers]
    need(parts.at == len(data), "bytes behind the last part")
    source = Source(*list(header["source"].values())[:4])
    rest, by_id, by_layer = iter(coded), {}, []
    for layer, of_tasks in zip(layers, affines, strict=True):
        if layer["id"] not in by_id:
            by_id[layer["id"]] = _layers(source, layer, rest)
        weights = zip(by_id[layer["id"]], of_tasks, strict=True)
        by_layer.append([replace(one, fields=layer, affine=affine) for one, affine in weights])
    int8.check_multipliers(header, [of_task[0] for of_task in by_layer])
    return File(header, [list(of_task) for of_task in zip(*by_layer, strict=True)])


def _header(parts: _Parts) -> dict[str, Any]:
    prefix = parts.take(32, "prefix")
    magic, version, header_bytes, file_bytes, zero, crc = struct.unpack("<8sIIQII", prefix)
    need(magic == MAGIC and version == 1, "magic or version")
    need(1 <= header_bytes <= 2**20 and file_bytes == len(parts.data) and zero == 0, "prefix")
    encoded = parts.take(header_bytes, "header")
    parts.zeros(8, "header")
    need(crc == crc32c(prefix[:28] + encoded), "CRC of the header")
    try:
        values = messagepack.read(encoded)
    except messagepack.NotCanonical as error:
        raise Refused(str(error)) from error
    header = _named(values, HEADER)
    header["input"] = _named(header["input"], INPUT)
    header["source"] = _named(header["source"], SOURCE)
    need(isinstance(header["layers"], list) and 1 <= len(header["layers"]) <= 4096, "layers")
    header["layers"] = [_named_layer(layer) for layer in header["layers"]]
    _check_text(header["name"])
    _check_input(header["input"])
    _check_source(header["source"])
    _check_layers(header["layers"], file_bytes)
    provenance = header["provenance"]
    need(isinstance(provenance, list) and len(provenance) <= 64, "provenance")
    for pair in provenance:
        need(isinstance(pair, list) and len(pair) == 2, "provenance")
        _check_text(pair[0])
        _check_text(pair[1])
    # code points order as their UTF-8 does
    need(all(a[0] < b[0] for a, b in itertools.pairwise(provenance)), "order of provenance")
    check_graph(header)
    int8.check_header(header)
    return header


def _named(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    need(isinstance(values, list) and len(values) == len(names), f"not an array of {len(names)}")
    return dict(zip(names, values, strict=True))


def _named_layer(values: Any) -> dict[str, Any]:
    layer = _named(values, LAYER)
    need(isinstance(layer["tasks"], list) and len(layer["tasks"]) <= 256, "tasks")
    layer["tasks"] = [_named(task, TASK) for task in layer["tasks"]]
    for task in layer["tasks"]:
        need(isinstance(task["coats"], list) and 1 <= len(task["coats"]) <= 15, "coats")
        need(isinstance(task["flips"], list) and len(task["flips"]) <= 1, "flips")
        for field in ("coats", "flips"):
            task[field] = [_named(stream, STREAM) for stream in task[field]]
    return layer


def _check_text(value: Any) -> None:
    need(isinstance(value, str) and len(value.encode()) <= 256, "a string is no string, or over 256 bytes")


def check_integer(value: Any, low: int, high: int, what: str) -> None:
    need(type(value) is int and low <= value <= high, f"{what} {value} is not in [{low}, {high}]")


def _rounded(value: float) -> float:
    """As float32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.inf


def _check_input(given: dict[str, Any]) -> None:
    check_integer(given["channels"], 1, 2**16, "channels")
    check_integer(given["height"], 1, 2**14, "height")
    check_integer(given["width"], 1, 2**14, "width")
    for field in ("mean", "std"):
        values = given[field]
        need(isinstance(values, list) and len(values) in (0, given["channels"]), field)
        need(all(type(value) is float and math.isfinite(_rounded(value)) for value in values), field)
    positive = all(_rounded(value) > 0 for value in given["std"])
    need(len(given["mean"]) == len(given["std"]) and positive, "mean and std")
    need(given["resize"] in ("exact", "stretch", "crop"), "resize")
    need(isinstance(given["classes"], list) and len(given["classes"]) <= 2**16, "classes")
    for name in given["classes"]:
        _check_text(name)


def _check_source(source: dict[str, Any]) -> None:
    need(isinstance(source["generator"], str) and source["generator"] in ROUNDS, "generator")
    need(type(source["rounds"]) is int and source["rounds"] in ROUNDS[source["generator"]], "rounds")
    check_integer(source["seed"], 0, 2**64 - 1, "seed")
    need(source["freeze"] in ("bernoulli", "mixed"), "freeze law")
    need([source["value"], source["score"]] == ["constant", "uniform"], "laws")


def _check_layers(layers: list[dict[str, Any]], file_bytes: int) -> None:
    owners: dict[int, dict[str, Any]] = {}
    positions = streams = 0
    tasks = len(layers[0]["tasks"])
    for layer in layers:
        _check_layer(layer)
        owner = owners.setdefault(layer["id"], layer)
        if owner is layer:
            need(1 <= tasks == len(layer["tasks"]), "the number of tasks")
        else:
            need(not layer["tasks"], "tasks of a shared layer")
            need(all(layer[field] == owner[field] for field in SHARED), "a shared layer of another matrix")
        number = sum(len(task["coats"]) + len(task["flips"]) for task in owner["tasks"])
        positions += number * layer["out"] * row_positions(layer)
        streams += number if owner is layer else tasks
    need(positions <= 2**20 + 2**13 * file_bytes, "too many positions for the file's length")
    need(streams <= 2**11 + file_bytes // 32, "too many streams for the file's length")
    need(len({layer["name"] for layer in layers}) == len(layers), "a name twice")


def _check_layer(layer: dict[str, Any]) -> None:
    _check_text(layer["name"])
    for field, (low, high) in LAYER_RANGES.items():
        check_integer(layer[field], low, high, field)
    need(type(layer["affine"]) is int and layer["affine"] in (0, 8, 16, 32), "affine")
    positions = row_positions(layer)
    need(layer["out"] % layer["groups"] == 0, "rows do not divide into groups")
    need(columns_of(layer) <= 2**24 and layer["out"] * positions <= 2**32, "a matrix over the bounds")
    bits, prune, lock = layer["bits"], layer["prune"], layer["lock"]
    need(prune + lock <= 2**bits and (bits == 0 or (prune | lock) & 1), "thresholds")
    need(layer["tile_rows"] <= layer["out"], "tile rows")
    tiled = False
    for task in layer["tasks"]:
        check_integer(task["kept"], 1, 2**32, "kept")
        for number, stream in enumerate((*task["coats"], *task["flips"])):
            _check_stream(stream)
            need(number == 0 or stream["mode"] != "prior", "a prior of a further stream")
            tiled |= stream["mode"] != "const"
    if not layer["tasks"]:
        return  # shared: as another layer
    if tiled:
        need(layer["tile_rows"] == 1 or layer["tile_rows"] * positions <= 2**20, "a tile over the bound")
    else:
        need(layer["tile_rows"] == layer["out"], "tile rows of a layer without tiles")


def _check_stream(stream: dict[str, Any]) -> None:
    mode, density = stream["mode"], stream["density"]
    _check_text(mode)
    check_integer(density, 0, 4096, "density")
    check_integer(stream["planes"], 0, 8, "planes")
    densities = {"const": (0, 4096), "raw": (0,), "static": range(1, 4096), "prior": (0,)}
    need(mode in densities and density in densities[mode], "mode and density")
    planes, sign, intervals = stream["planes"], stream["sign"], stream["intervals"]
    need(type(sign) is bool and isinstance(intervals, list), "sign and intervals")
    if mode != "prior":
        need(planes == 0 and not sign and not intervals, "planes, sign or intervals without a prior")
        return
    need(planes + sign >= 1 and 1 <= len(intervals) <= 16, "planes and intervals")
    for interval in intervals:
        need(isinstance(interval, list) and len(interval) == 2, "an interval")
        check_integer(interval[0], 0, 2 ** (planes + sign) - 1, "start")
        check_integer(interval[1], 1, 4095, "f")
    need(intervals[0][0] == 0, "the first start")
    need(all(a[0] < b[0] and a[1] != b[1] for a, b in itertools.pairwise(intervals)), "intervals")


def columns_of(layer: dict[str, Any]) -> int:
    return layer["rows"] * layer["columns"] * layer["inputs"]


def row_positions(layer: dict[str, Any]) -> int:
    return -(-columns_of(layer) // 128) * 128


def _index(
    parts: _Parts, streams: list[tuple[dict[str, Any], dict[str, Any]]]
) -> list[list[tuple[int, int, int]]]:
    """Per stream and tile: bits, words, CRC."""
    counts = [0 if of["mode"] == "const" else -(-la["out"] // la["tile_rows"]) for la, of in streams]
    entries = list(struct.iter_unpack("<III", parts.checked(12 * sum(counts), "index")))
    parts.zeros(8, "index")
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [entries[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _segment(parts: _Parts, layer: dict[str, Any], tiles: list[tuple[int, int, int]]) -> list[bytes]:
    """The payloads of a stream's tiles."""
    what, payloads = f"mask of {layer['name']}", []
    for _, words, crc in tiles:
        payloads.append(parts.take(2 * (words & ~RAW), what))
        need(crc == crc32c(payloads[-1]), f"CRC of {what}")
        parts.zeros(4, what)
    parts.zeros(8, what)
    return payloads


def _affines(
    parts: _Parts, layer: dict[str, Any], tasks: int
) -> list[tuple[list[float], list[float]] | None]:
    bits, out = layer["affine"], layer["out"]
    if not bits:
        return [None] * tasks
    size = 8 * out if bits == 32 else 2 * (8 + out * bits // 8)
    data = parts.checked(tasks * size, "affine")
    parts.zeros(8, "affine")
    halves = [_numbers(data[i : i + size // 2], bits) for i in range(0, len(data), size // 2)]
    return list(zip(halves[::2], halves[1::2], strict=True))


def _numbers(data: bytes, bits: int) -> list[float]:
    """The scales, or the shifts, of one affine."""
    if bits == 32:
        values = [value for (value,) in struct.iter_unpack("<f", data)]
        need(all(map(math.isfinite, values)), "a scale or shift is not finite")
        return values
    low, step = struct.unpack_from("<ff", data)
    codes = list(data[8:]) if bits == 8 else [code for (code,) in struct.iter_unpack("<H", data[8:])]
    need(math.isfinite(low) and math.isfinite(step), "low or step is not finite")
    values = [_float32(low + step * code) for code in codes]
    first, last, top = min(values), max(values), 2**bits - 1
    narrow = _float32((last - first) / top)
    nearest = [min(round((value - first) / narrow), top) if narrow else 0 for value in values]
    again = struct.pack("<ff", first + 0.0, narrow) + b"".join(
        q.to_bytes(bits // 8, "little") for q in nearest
    )
    need(again == data, "not the form that these numbers have")
    return values


def _float32(value: float) -> float:
    """The nearest float32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError as error:
        raise Refused("a scale or shift over the float32") from error


def _layers(source: Source, layer: dict[str, Any], coded: Iterator[Coded]) -> list[Layer]:
    """A layer of every task, without affines."""
    positions, columns = row_positions(layer), columns_of(layer)
    pattern = [pattern_of_row(source, layer, row * positions, columns) for row in range(layer["out"])]
    free, locked = [row[0] for row in pattern], [row[1] for row in pattern]
    sign = [source.run(SIGN, layer["id"], 0, row * positions, columns) for row in range(layer["out"])]
    layers = []
    for task in layer["tasks"]:
        outer, coats, masks = free, [], []
        for _ in task["coats"]:
            masks.append(_bits(source, layer, next(coded), outer))
            outer = placed(outer, masks[-1])
            coats.append([inner | always for inner, always in zip(outer, locked, strict=True)])
        kept, negative = coats[0], sign
        for _ in task["flips"]:
            within = [bits & ~always for bits, always in zip(kept, locked, strict=True)]
            flipped = placed(within, _bits(source, layer, next(coded), within))
            negative = [bits ^ flip for bits, flip in zip(sign, flipped, strict=True)]
        negative = [minus & bits for minus, bits in zip(negative, kept, strict=True)]
        need(sum(map(int.bit_count, kept)) == task["kept"], "the count of kept weights")
        density = task["kept"] / (layer["out"] * columns)
        constant = struct.unpack("<f", struct.pack("<f", math.sqrt(2 / columns) / math.sqrt(density)))[0]
        layers.append(Layer(layer, free, locked, masks[0], coats, negative, constant))
    return layers


def _bits(source: Source, layer: dict[str, Any], coded: Coded, outer: list[int]) -> int:
    """The bits of a stream, which has one for each set bit of `outer`, rows of bits by column."""
    counts = [row.bit_count() for row in outer]
    if coded.stream["mode"] != "const":
        return _tiles(source, layer, coded, counts)
    total = sum(counts)
    need(total > 0 or coded.stream["density"] == 0, "the density of a stream without bits")
    return (1 << total) - 1 if coded.stream["density"] else 0


def placed(outer: list[int], bits: int) -> list[int]:
    """Rows in which of the set bits of `outer`, in order, those remain whose bit is 1."""
    inner, ordinal = [], 0
    for row in outer:
        inner.append(_deposit(row, bits >> ordinal))
        ordinal += row.bit_count()
    return inner


def pattern_of_row(source: Source, layer: dict[str, Any], first: int, columns: int) -> tuple[int, int]:
    """Free and locked bits of the row that starts at position `first`."""
    bits, everywhere = layer["bits"], (1 << columns) - 1
    planes = source.freeze_planes(bits, layer["id"], first, columns)
    pruned = _below(planes, layer["prune"], everywhere)
    locked = everywhere & ~_below(planes, 2**bits - layer["lock"], everywhere)
    return everywhere & ~pruned & ~locked, locked


def _below(planes: list[int], threshold: int, everywhere: int) -> int:
    """Where the number that the planes form, the first the most significant, is below the threshold."""
    if threshold >> len(planes):
        return everywhere
    below, equal = 0, everywhere
    for i, plane in enumerate(planes):
        if threshold >> len(planes) - 1 - i & 1:
            below |= equal & ~plane
            equal &= plane
        else:
            equal &= ~plane
    return below


def _deposit(where: int, bits: int) -> int:
    """Bit i of `bits` in the place of the i-th set bit of `where`."""
    placed = 0
    while where:
        lowest = where & -where
        if bits & 1:
            placed |= lowest
        where ^= lowest
        bits >>= 1
    return placed


def _tiles(source: Source, layer: dict[str, Any], coded: Coded, counts: list[int]) -> int:
    """counts: bits of each row."""
    stream, mask, a, rows = coded.stream, 0, 0, layer["tile_rows"]
    lanes = lanes_of(sum(counts))
    for i, ((free, words, _), payload) in enumerate(zip(coded.tiles, coded.payloads, strict=True)):
        need(free == sum(counts[i * rows : (i + 1) * rows]), "free weights of a tile")
        need(stream["mode"] != "raw" or not words & RAW, "a raw flag in a raw layer")
        need(free > 0 or words == 0, "words of an empty tile")
        b = a + free
        if stream["mode"] == "raw" or words & RAW:
            mask |= _raw_tile(payload, a, b)
        else:
            f = frequencies(source, layer, stream, a, b)
            mask |= _coded_tile(payload, a, b, lanes, f) << a
        a = b
    return mask


def frequencies(source: Source, layer: dict[str, Any], stream: dict[str, Any], a: int, b: int) -> list[int]:
    """f of the free ordinals a ... b - 1, in 4096ths."""
    if stream["mode"] == "static":
        return [stream["density"]] * (b - a)
    starts = dict(stream["intervals"])
    table: list[int] = []
    for v in range(2 ** (stream["planes"] + stream["sign"])):
        table.append(starts[v] if v in starts else table[-1])
    first = a // 128 * 128
    numbers = [*range(stream["planes"]), *([16] if stream["sign"] else [])]
    planes = [source.run(SCORE, layer["id"], plane, first, b - first) >> a - first for plane in numbers]
    of_ordinal = [0] * (b - a)
    for plane in planes:
        for i, v in enumerate(of_ordinal):
            of_ordinal[i] = 2 * v + (plane >> i & 1)
    return [table[v] for v in of_ordinal]


def _raw_tile(payload: bytes, a: int, b: int) -> int:
    first = a // 32
    need(len(payload) == (4 * ((b - 1) // 32 - first + 1) if b > a else 0), "words of a raw tile")
    bits = int.from_bytes(payload, "little") << 32 * first
    need(bits >> b == 0 and bits & (1 << a) - 1 == 0, "bits outside a raw tile")
    return bits


def lanes_of(bits: int) -> int:
    return 32 if bits >> 15 else 4


def _coded_tile(payload: bytes, a: int, b: int, lanes: int, frequencies: list[int]) -> int:
    """Bit i is the tile's i-th mask bit; frequencies[i], in 4096ths, its probability of being 1."""
    if a == b:
        need(not payload, "words of an empty tile")
        return 0
    need(len(payload) >= 4 * lanes, "the states of a tile")
    states = list(struct.unpack(f"<{lanes}I", payload[: 4 * lanes]))
    need(min(states) >= 2**16, "a starting state")
    stream = struct.iter_unpack("<H", payload[4 * lanes :])
    bits = bytearray((b - a + 7) // 8)
    for i, f in enumerate(frequencies):
        lane = (a + i) % lanes
        x = states[lane]
        s = x % 4096
        if s < f:
            bits[i // 8] |= 1 << i % 8
            x = f * (x // 4096) + s
        else:
            x = (4096 - f) * (x // 4096) + s - f
        if x < 2**16:
            word = next(stream, None)
            if word is None:
                raise Refused("the words end before the last bit")
            x = x << 16 | word[0]
        states[lane] = x
    need(states == [2**16] * lanes, "a final state")
    need(next(stream, None) is None, "words behind the last bit")
    return int.from_bytes(bits, "little")
