"""rtl/mask_decoder.sv, fed the bytes of .slt files, against the reference: bits, refusals and cycles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.ticket import Source

from .benches import build, simulate
from .files import Stream, Tile, streams

VECTORS = Path(__file__).parents[1] / "vectors" / "version-1"
THREEFRY = [p for p in sorted(VECTORS.glob("*.slt")) if b"threefry4x32" in p.read_bytes()]
SHORT, LOW_STATE, STARVED, LAST_STATE, LEFT, RAW_SIZE, RAW_BITS = range(1, 8)


def decoded(
    source: Source, stream: Stream, stalls: int = 0, width: int = 1
) -> list[tuple[list[int], int, int]]:
    """Of each tile: bits, what it was refused for, cycles."""
    given = [stalls, source.seed, source.rounds, *stream.numbers(), len(stream.tiles)]
    given += [number for tile in stream.tiles for number in tile.numbers()]
    out = simulate(build("mask_decoder_top", WIDTH=width), map(int, given))
    tiles = []
    while out:
        end = out[0] + 1
        tiles.append((out[1:end], out[end], out[end + 1]))
        out = out[end + 2 :]
    return tiles


def synthetic(
    source: Source, mode: str, counts: list[int], random: np.random.Generator, widest: bool = False
) -> Stream:
    """A stream of random bits with tiles of so many; with as many planes as there may be if `widest`."""
    total, lanes = sum(counts), reference.lanes_of(sum(counts))
    planes, sign = 0, False
    if mode == "prior":
        sign = widest or bool(random.integers(0, 2))
        planes = 8 if widest else int(random.integers(not sign, 9))
    cuts = random.choice(np.arange(1, 2 ** (planes + sign)), min(15, 2 ** (planes + sign) - 1), replace=False)
    intervals = [[int(s), int(random.integers(1, 4096))] for s in [0, *sorted(cuts)]]
    intervals = intervals if mode == "prior" else []
    density = int(random.integers(1, 4096)) if mode == "static" else 0
    layer = [f"{mode}", 3 + len(counts)]
    frequencies = [density] * total
    if mode == "prior":
        frequencies = reference.prior_frequencies(source, layer[1], total, planes, sign, intervals)
    likely = np.array(frequencies if mode != "raw" else [2048] * total)
    bits = (random.integers(0, 4096, total) < likely).astype(int).tolist()
    tiles, first = [], 0
    for i, count in enumerate(counts):
        mine = bits[first : first + count]
        raw = mode == "raw" or (i % 4 == 3 and count > 0)
        if count == 0:
            payload = b""
        elif raw:
            begin = first // 32 * 32
            whole = np.zeros(-(-(first + count) // 32) * 32 - begin, dtype=bool)
            whole[first - begin : first - begin + count] = mine
            payload = np.packbits(whole, bitorder="little").tobytes()
        else:
            payload = reference.encode_tile(mine, first, lanes, frequencies[first : first + count])
        tiles.append(Tile(first, count, raw, payload))
        first += count
    return Stream(layer, mode, density, planes, sign, intervals, tiles, bits)


def check(source: Source, stream: Stream, stalls: int, width: int) -> None:
    given = decoded(source, stream, stalls, width)
    assert [refused for _, refused, _ in given] == [0] * len(stream.tiles)
    assert [bit for bits, _, _ in given for bit in bits] == stream.bits


@pytest.mark.parametrize("path", THREEFRY, ids=lambda path: path.stem)
@pytest.mark.parametrize(("stalls", "width"), [(0, 1), (40, 1), (40, 4)])
def test_files(path: Path, stalls: int, width: int) -> None:
    source, every = streams(path.read_bytes())
    for stream in every:
        check(Source(*source), stream, stalls, width)


@pytest.mark.parametrize("mode", ["raw", "static", "prior"])
@pytest.mark.parametrize("rounds", [12, 13, 20])
@pytest.mark.parametrize("stalls", [0, 40])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_made_streams(mode: str, rounds: int, stalls: int, width: int) -> None:
    random = np.random.default_rng([rounds, stalls])
    source = Source("threefry4x32", rounds, 0x123456789ABCDEF0)
    for counts in ([1], [40, 0, 17, 130, 3, 15, 1, 16], [700, 300], [16000, 200, 17000, 33, 1]):
        check(source, synthetic(source, mode, counts, random), stalls, width)


@pytest.mark.parametrize("counts", [[1000], [33000]], ids=["4 lanes", "32 lanes"])
def test_refusals(counts: list[int]) -> None:
    random = np.random.default_rng(5)
    source = Source("threefry4x32", 13, 1)
    lanes = reference.lanes_of(sum(counts))
    for mode in ("static", "prior"):
        stream = synthetic(source, mode, counts, random)
        (tile,) = stream.tiles
        words = np.frombuffer(tile.payload, "<u2")
        low_state = words.copy()
        low_state[2 * lanes - 1] = 0
        other = words.copy()
        other[-1] ^= 1
        damaged = [
            (words[: 2 * lanes - 1], {SHORT}),
            (words[:0], {SHORT}),
            (low_state, {LOW_STATE}),
            (words[:-1], {STARVED}),
            (np.append(words, 0).astype("<u2"), {LEFT}),
            (other, {STARVED, LAST_STATE, LEFT}),
        ]
        good = tile.payload
        # Whatever came before, a sound tile is decoded.
        stream.tiles = []
        for payload, _ in damaged:
            stream.tiles += [Tile(0, tile.count, False, payload.tobytes()), Tile(0, tile.count, False, good)]
        given = decoded(source, stream)
        for (bits, refused, _), (_, codes) in zip(given[::2], damaged, strict=True):
            assert refused in codes
            assert len(bits) <= tile.count
        assert all((bits, refused) == (stream.bits, 0) for bits, refused, _ in given[1::2])


def test_refusals_of_raw_tiles() -> None:
    source = Source("threefry4x32", 20, 1)
    ones = b"\xff" * 4
    cases = [
        (Tile(0, 32, True, ones), 0),
        (Tile(0, 31, True, ones), RAW_BITS),
        (Tile(0, 16, True, b"\xff\xff\x00\x00"), 0),
        (Tile(0, 16, True, b"\xff\xff\x01\x00"), RAW_BITS),
        (Tile(20, 12, True, b"\x00\x00\xf0\xff"), 0),
        (Tile(20, 12, True, b"\x00\x00\xe0\xff"), 0),
        (Tile(20, 12, True, b"\x01\x00\xf0\xff"), RAW_BITS),
        (Tile(20, 12, True, b"\x00\x00\xf1\xff"), RAW_BITS),
        (Tile(20, 13, True, b"\x00\x00\xf0\xff"), RAW_SIZE),
        (Tile(20, 13, True, b"\x00\x00\xf0\xff\x01\x00\x00\x00"), 0),
        (Tile(31, 2, True, ones), RAW_SIZE),
        (Tile(0, 0, True, ones), RAW_SIZE),
        (Tile(0, 0, False, ones), LEFT),
        (Tile(0, 0, False, b""), 0),
    ]
    stream = Stream(["raw", 0], "raw", 0, 0, False, [], [tile for tile, _ in cases], [])
    assert [refused for _, refused, _ in decoded(source, stream)] == [refused for _, refused in cases]


@pytest.mark.parametrize("counts", [[5000], [40000]], ids=["4 lanes", "32 lanes"])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_cycles(counts: list[int], width: int) -> None:
    """2 L for the first states, `width` free weights a step, L / width for the last states, and 6; 4 lanes
    give 4 bits in 3 cycles at most. Planes are filled ahead where 128 / width cycles are enough for that.
    """
    random = np.random.default_rng(6)
    (free,), lanes = counts, reference.lanes_of(sum(counts))
    source = Source("threefry4x32", 13, 1)
    for mode in ("static", "prior"):
        stream = synthetic(source, mode, counts, random, widest=True)
        ((_, _, cycles),) = decoded(source, stream, width=width)
        steps = free / (4 / 3 if lanes == 4 and width > 1 else width)
        slack = 1 if width == 1 else 0.01 * steps  # where words are waited for
        if mode == "prior":
            fill = (stream.planes + stream.sign) * 13 + 3
            steps = max(steps, free / 128 * fill)
            slack += fill + 3
        extra = cycles - round(steps) - 2 * lanes - lanes // width - 6
        assert -2 <= extra < slack
