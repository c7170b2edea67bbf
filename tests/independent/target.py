"""Images for chips in plain Python, from docs/target.md alone: a reader, and the network that the words
describe. It shares no code with the package.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass

from . import decoder, int8
from .random_bits import SIGN, Source
from .refused import need

HEADER = (
    *("magic", "version", "target", "words", "seed_low", "seed_high", "rounds", "mixed"),
    *("int8", "pow2", "steps", "values", "image_scale", "answer_scale"),
)
OPERATORS = (
    *("", "conv2d", "linear", "relu", "add"),
    *("max_pool2d", "avg_pool2d", "global_avg_pool2d", "flatten"),
)
STEP = (
    *("operator", "value", "operand", "residual", "relu", "wide"),
    *("channels", "height", "width", "out", "out_height", "out_width"),
    *("kernel_rows", "kernel_columns", "stride", "padding", "groups", "columns"),
    *("layer", "bits", "prune", "lock", "free", "kept", "mode", "ones", "lanes", "planes", "sign"),
    *("tile_rows", "tiles", "tiles_at", "mask_words", "mask_at", "roundings", "roundings_at", "s", "m_r"),
)
NO_VALUE = 0xFFFFFFFF
CONST, RAW, STATIC, PRIOR = range(4)


@dataclass
class Tile:
    first: int
    count: int
    raw: bool
    payload: bytes


@dataclass
class Step:
    """fields: words by name. intervals: the 16 pairs (start, f). roundings: (m, b) by row."""

    fields: dict[str, int]
    intervals: list[tuple[int, int]]
    tiles: list[Tile]
    roundings: list[tuple[int, int]]

    @property
    def operator(self) -> str:
        return OPERATORS[self.fields["operator"]]

    @property
    def has_weights(self) -> bool:
        return self.operator in ("conv2d", "linear")


@dataclass
class Image:
    header: dict[str, int]
    steps: list[Step]

    @property
    def source(self) -> Source:
        seed = self.header["seed_low"] | self.header["seed_high"] << 32
        law = "mixed" if self.header["mixed"] else "bernoulli"
        return Source("threefry4x32", self.header["rounds"], seed, law)


class _Words:
    """The words of an image; those that were asked for are marked."""

    def __init__(self, data: bytes) -> None:
        need(len(data) % 64 == 4, "the length")
        self.all = [word for (word,) in struct.iter_unpack("<I", data)]
        need(self.all[-1] == decoder.crc32c(data[:-4]), "the checksum")
        self.unused = set(range(len(self.all) - 1))

    def part(self, at: int, count: int) -> list[int]:
        need(at + count < len(self.all), "a place outside")
        self.unused.difference_update(range(at, at + count))
        return self.all[at : at + count]


def parse(data: bytes) -> Image:
    """Of a `.bin`. Refused where a word is not as the page says, also if nothing names it."""
    words = _Words(data)
    start = words.part(0, 16)
    header = dict(zip(HEADER, start, strict=False))
    first = [header[name] for name in ("magic", "version", "target", "words")]
    need(first == [int.from_bytes(b"SLTI", "little"), 1, 1, len(words.all)] and not any(start[14:]), "header")
    steps = [_step(words, 16 + 64 * number) for number in range(header["steps"])]
    _check_places(header, steps, len(words.all))
    need(not any(words.all[at] for at in words.unused), "words that nothing names")
    return Image(header, steps)


def _step(words: _Words, at: int) -> Step:
    found = words.part(at, 64)
    fields = dict(zip(STEP, found, strict=False))
    need(not any(found[len(STEP) : 48]), "a word without meaning")
    need(not any(word & 0xF000FE00 for word in found[48:]), "bits of an interval")
    intervals = [(word & 0x1FF, word >> 16) for word in found[48:]]
    entries = words.part(fields["tiles_at"], 4 * fields["tiles"])
    roundings = words.part(fields["roundings_at"], 2 * fields["roundings"])
    tiles, ordinal, place = [], 0, fields["mask_at"]
    for first, count, size, payload_at in zip(*(entries[i::4] for i in range(4)), strict=True):
        need((first, payload_at) == (ordinal, place), "a tile that does not follow the one before")
        halves, length = size & 0x7FFFFFFF, (size & 0x7FFFFFFF) + 1 >> 1
        payload = struct.pack(f"<{length}I", *words.part(place, length))
        need(not any(payload[2 * halves :]), "behind a payload")
        tiles.append(Tile(first, count, bool(size >> 31), payload[: 2 * halves]))
        ordinal, place = ordinal + count, place + length
    need(place - fields["mask_at"] == fields["mask_words"], "words of a mask")
    pairs = zip(roundings[::2], roundings[1::2], strict=True)
    rows = [(_signed(high >> 16, 16), _signed(low | (high & 0xFFFF) << 32, 48)) for low, high in pairs]
    return Step(fields, intervals, tiles, rows)


def _signed(number: int, bits: int) -> int:
    return number - (number >> bits - 1 << bits)


def _check_places(header: dict[str, int], steps: list[Step], total: int) -> None:
    """The parts follow each other, each at a multiple of 16."""
    owners = {step.fields["layer"]: step.fields for step in reversed(steps) if step.has_weights}
    at = 16 + 64 * len(steps)
    every = [step.fields for step in steps]
    for name, size, of in (
        ("tiles", 4, [fields for fields in every if owners.get(fields["layer"]) is fields]),
        ("roundings", 2, every),
        ("mask_words", 1, [fields for fields in every if owners.get(fields["layer"]) is fields]),
    ):
        at_name = "mask_at" if name == "mask_words" else f"{name}_at"
        for fields in of:
            need(fields[at_name] == (at if fields[name] else 0), at_name)
            at += size * fields[name]
        at += -at % 16
    need(at == total - 1, "the place of the checksum")
    for fields in every:
        if owners.get(fields["layer"], fields)["tiles"]:
            same = ("tiles", "tiles_at", "mask_words", "mask_at")
            owner = owners[fields["layer"]]
            need(fields["operator"] > 2 or all(fields[n] == owner[n] for n in same), "a shared mask")
    need(header["int8"] == any(fields["roundings"] for fields in every), "roundings")


def layer_of(image: Image, step: Step) -> decoder.Layer:
    """The weights of a layer's step."""
    fields, source = step.fields, image.source
    columns, rows = fields["columns"], fields["out"]
    layer = {
        **{name: fields[name] for name in ("out", "bits", "prune", "lock", "groups")},
        **{"id": fields["layer"], "inputs": fields["channels"] // fields["groups"]},
        **{"rows": fields["kernel_rows"], "columns": fields["kernel_columns"]},
    }
    need(layer["rows"] * layer["columns"] * layer["inputs"] == columns, "K")
    positions = -(-columns // 128) * 128
    pattern = [decoder.pattern_of_row(source, layer, row * positions, columns) for row in range(rows)]
    free, locked = [row[0] for row in pattern], [row[1] for row in pattern]
    counts = [row.bit_count() for row in free]
    need(
        sum(counts) == fields["free"] and fields["lanes"] == decoder.lanes_of(fields["free"]), "free weights"
    )
    mask = _mask(source, layer, step, counts)
    kept = [a | b for a, b in zip(decoder.placed(free, mask), locked, strict=True)]
    need(sum(map(int.bit_count, kept)) == fields["kept"], "kept weights")
    signs = [source.run(SIGN, layer["id"], 0, row * positions, columns) for row in range(rows)]
    negative = [minus & bits for minus, bits in zip(signs, kept, strict=True)]
    return decoder.Layer(layer, free, locked, mask, [kept], negative, math.nan)


def _mask(source: Source, layer: dict[str, int], step: Step, counts: list[int]) -> int:
    """Bit o is free ordinal o's; counts: free weights of each row."""
    fields, total = step.fields, sum(counts)
    if fields["mode"] == CONST:
        need(not step.tiles, "tiles of a const mask")
        return (1 << total) - 1 if fields["ones"] else 0
    every = range(0, len(counts), fields["tile_rows"])
    of_tiles = [sum(counts[row : row + fields["tile_rows"]]) for row in every]
    need([tile.count for tile in step.tiles] == of_tiles, "counts of tiles")
    need(fields["mode"] != RAW or all(tile.raw for tile in step.tiles), "a coded tile of a raw mask")
    # A static mask is a prior one that reads nothing.
    stream = {"mode": "prior", "planes": fields["planes"], "sign": bool(fields["sign"])}
    mask = 0
    for tile in step.tiles:
        a, b = tile.first, tile.first + tile.count
        if tile.raw:
            mask |= decoder._raw_tile(tile.payload, a, b)
        else:
            f = decoder.frequencies(source, layer, {**stream, "intervals": step.intervals}, a, b)
            mask |= decoder._coded_tile(tile.payload, a, b, fields["lanes"], f) << a
    return mask


def quantised(image: Image, pixels: list[float]) -> int8.Array:
    """The host's part: float32 in the order (channel, row, column) to the image's integers."""
    first = image.steps[0].fields
    assert first["operand"] == 0
    (scale,) = struct.unpack("<f", struct.pack("<I", image.header["image_scale"]))
    places = itertools.product(*(range(first[name]) for name in ("channels", "height", "width")))
    return {place: int8.clamp(round(x / scale)) for place, x in zip(places, pixels, strict=True)}


def run(image: Image, q: int8.Array) -> dict[int, int8.Array]:
    """Every value that a step gives, by its number; flat ones by (feature, 0, 0)."""
    values = {0: q}
    for step in image.steps:
        values[step.fields["value"]] = given_by(image, step, values)
    return values


def given_by(image: Image, step: Step, values: dict[int, int8.Array]) -> int8.Array:
    """What a step gives from the values before it."""
    fields, x = step.fields, values[step.fields["operand"]]
    shape = tuple(fields[name] for name in ("channels", "height", "width"))
    assert len(x) == math.prod(shape)
    kernel = fields["kernel_rows"], fields["kernel_columns"]
    acc = x
    if step.has_weights:
        node = ["conv2d", None, None, fields["stride"], fields["padding"]]
        acc = int8.layer_sums(layer_of(image, step), node, x, shape)
    elif step.operator in ("max_pool2d", "avg_pool2d"):
        pool = max if step.operator == "max_pool2d" else sum
        acc = {
            (c, *at): pool(x[(c, *pixel)] for _, *pixel in inside)
            for at, inside in int8.windows(shape, kernel, fields["stride"], fields["padding"])
            for c in range(shape[0])
        }
    elif step.operator == "global_avg_pool2d":
        acc = {(c, 0, 0): sum(n for place, n in x.items() if place[0] == c) for c in range(shape[0])}
    elif step.operator == "flatten":
        acc = {(i, 0, 0): x[place] for i, place in enumerate(itertools.product(*map(range, shape)))}
    elif step.operator == "relu":
        acc = {place: max(n, 0) for place, n in x.items()}
    given = _rounded(step, acc, values) if step.roundings else acc
    assert len(given) == fields["out"] * fields["out_height"] * fields["out_width"]
    return given


def _rounded(step: Step, acc: int8.Array, values: dict[int, int8.Array]) -> int8.Array:
    fields, roundings = step.fields, step.roundings
    r = values[fields["residual"]] if fields["residual"] != NO_VALUE else {}
    low, high = (-(2**31), 2**31 - 1) if fields["wide"] else (-127, 127)
    s, low = fields["s"], 0 if fields["relu"] else low
    given = {}
    for place, total in acc.items():
        m, b = roundings[place[0] if len(roundings) > 1 else 0]
        exact = total * m + r.get(place, 0) * fields["m_r"] + b
        given[place] = int8.clamp((exact + (1 << s >> 1)) >> s, low, high)
    return given
