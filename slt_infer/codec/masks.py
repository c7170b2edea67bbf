"""One layer's mask: which coder is cheapest, its tiles, and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from slt_infer import _core
from slt_infer.codec.prior import MAX_PLANES, find_prior
from slt_infer.errors import TicketError
from slt_infer.ticket import Freeze, Layer, LayerShape, MaskCode, Source, pack_bits, unpack_bits

RAW_TILE = 1 << 31  # in an index entry's words: this tile of a static or prior layer is raw
INDEX_ENTRY = 12  # bytes
TILE_POSITIONS = 2**18  # a tile's planes then take 32 KiB each, what a first-level cache holds


def core_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    code: MaskCode,
    memory: _core.WeightMemory | None = None,
) -> _core.LayerCode:
    """The C++ object that regenerates this layer's rows; its memory is counted by `memory`.

    Raises TicketError if the code's sizes do not fit together.
    """
    try:
        return _core.LayerCode(
            generator=source.generator,
            rounds=source.rounds,
            seed=source.seed,
            law=source.freeze,
            id=layer_id,
            out=shape.out,
            fan_in=shape.fan_in,
            bits=freeze.bits,
            prune=freeze.prune,
            lock=freeze.lock,
            mode=code.mode,
            density=code.density,
            planes=code.planes,
            sign=code.sign,
            intervals=code.intervals,
            tile_rows=code.tile_rows,
            free=code.free,
            words=code.words,
            payload=code.payload,
            memory=memory or _core.WeightMemory(),
        )
    except ValueError as error:
        raise TicketError("bad-mask", str(error), f"mask of layer {shape.name}") from error


def _const(shape: LayerShape, density: int) -> MaskCode:
    none = np.zeros(0, dtype=np.uint32)
    return MaskCode("const", density, shape.out, none, none, b"")


def pattern(source: Source, shape: LayerShape, layer_id: int, freeze: Freeze) -> _core.LayerCode:
    """A layer of which only the freeze pattern is of interest."""
    return core_layer(source, shape, layer_id, freeze, _const(shape, 0))


def tile_rows(shape: LayerShape) -> int:
    """Rows of a tile as the writer cuts them: as many in each, since two tiles are decoded side by side."""
    tiles = -(-shape.out // max(1, TILE_POSITIONS // shape.row_positions))
    return -(-shape.out // tiles)


def entropy_bits(free: int, kept: int) -> float:
    """Bits of `free` mask bits of which `kept` are set, at one density: the i.i.d. bound for a layer."""
    if kept in (0, free):
        return 0.0
    p = kept / free
    return -free * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def coded_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    mask: np.ndarray,
    planes: int = MAX_PLANES,
    coats: Sequence[np.ndarray] = (),
    flips: np.ndarray | None = None,
) -> Layer:
    """A layer of a ticket from its mask: uint32 words by free ordinal, unused bits 0.

    Codes the mask as const, raw, static or prior, whichever is smallest. planes: how many of the initial
    score's (0 to 8) a prior mask may read; fewer decode faster. coats: the further ones, booleans [free]
    each, within the one before; flips: booleans [free], within the mask. Raises TicketError if the mask's
    length is not what the freeze pattern asks for, if a coat or flips are not within what they must be, or
    if nothing is kept.
    """
    where = f"layer {shape.name}"
    rows = tile_rows(shape)
    pruned, locked, free, counts = pattern(source, shape, layer_id, freeze).counts(tile_rows=rows)
    mask = np.ascontiguousarray(mask, dtype=np.uint32)
    if len(mask) != -(-free // 32) or (free % 32 and mask[-1] >> (free % 32)):
        raise TicketError("bad-mask", f"{32 * len(mask)} mask bits for {free} free weights", where)
    ones = int(np.bitwise_count(mask).sum(dtype=np.int64))
    if locked + ones == 0:
        raise TicketError(
            "empty-layer", "keeps no weight; lower the sparsity, or lock or free more of this layer", where
        )
    if ones in (0, free):
        code, size = _in_file(_const(shape, 4096 if ones and free else 0))
        code = replace(code, candidates={"const": size})
    else:
        code = _coded(source, layer_id, mask, counts, rows, ones, planes)
    decode = partial(decoded_mask, source, shape, layer_id, freeze)
    layer = Layer(shape, layer_id, freeze, code, pruned, locked, free, locked + ones, decode)
    return _with_coats(source, layer, counts, coats, flips) if len(coats) or flips is not None else layer


def _with_coats(
    source: Source, layer: Layer, counts: np.ndarray, coats: Sequence[np.ndarray], flips: np.ndarray | None
) -> Layer:
    """The layer with further coats, and flips. counts: free weights of each tile, [tiles]."""
    shape, rows = layer.shape, tile_rows(layer.shape)
    ends = np.cumsum(counts, dtype=np.int64)

    def coded(bits: np.ndarray, outer: np.ndarray) -> MaskCode:
        if bits.shape != outer.shape or (bits & ~outer).any():
            message = "a coat must lie within the coat before, flips within the mask"
            raise TicketError("bad-mask", message, f"layer {shape.name}")
        inside = bits[outer]
        ones = int(inside.sum())
        if ones in (0, len(inside)):
            return _const(shape, 4096 if ones else 0)
        sums = np.concatenate([[0], np.cumsum(outer, dtype=np.int64)])
        inner = np.diff(sums[ends], prepend=0)
        return _coded(source, layer.id, pack_bits(inside), inner, rows, ones, 0)

    within = unpack_bits(layer.mask, layer.free)
    outers = (within, *coats)
    return replace(
        layer,
        coats=tuple(coded(bits, outer) for bits, outer in zip(coats, outers, strict=False)),
        flips=None if flips is None else coded(flips, within),
    )


def _coded(
    source: Source,
    layer_id: int,
    mask: np.ndarray,
    counts: np.ndarray,
    rows: int,
    ones: int,
    planes: int,
) -> MaskCode:
    """The smallest of what the modes make of a stream of bits that is neither all zeros nor all ones.

    mask: uint32 words. counts: bits of each tile of `rows` rows, [tiles]. planes: 0 for no prior.
    """
    counts = counts.astype(np.uint32)
    free = int(counts.sum(dtype=np.int64))
    ends = np.cumsum(counts, dtype=np.int64)
    spans = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))
    raw = [_core.encode_raw(mask, first, last) for first, last in spans]
    codes = [_in_file(MaskCode("raw", 0, rows, counts, *_joined(raw, raw)))]
    density, lanes = min(max(round(4096 * ones / free), 1), 4095), _core.lanes_of(free)
    prior = find_prior(source, layer_id, free, mask, planes)
    if prior is not None:
        scores = (source.generator, source.rounds, source.seed, layer_id)
        planes, sign, intervals = prior.planes, prior.sign, prior.intervals
        coded = [
            _core.encode_prior(mask, first, last, lanes, *scores, planes, sign, intervals)
            for first, last in spans
        ]
        words, payload = _joined(coded, raw)
        codes.append(_in_file(MaskCode("prior", 0, rows, counts, words, payload, planes, sign, intervals)))
    # One density is coded last, and only where it may win: it does in few masks.
    _, least = _in_file(MaskCode("static", density, rows, counts, counts, b""))
    least += sum(_least_static(*tile, lanes, density) for tile in zip(raw, counts.tolist(), strict=True))
    if least <= min(size for _, size in codes):
        coded = [_core.encode_static(mask, first, last, lanes, density) for first, last in spans]
        codes.insert(1, _in_file(MaskCode("static", density, rows, counts, *_joined(coded, raw))))
    candidates = {"raw": codes[0][1], "static": least} | {code.mode: size for code, size in codes}
    best, _ = min(codes, key=lambda pair: pair[1])  # of equals the simplest, which stand first
    return replace(best, candidates=candidates)


def _least_static(raw: bytes, bits: int, lanes: int, density: int) -> int:
    """Bytes that a tile of `bits` bits takes at least, coded with one density or raw.

    A lane's state takes 32 bits and carries at most 16; the coder's roundings are worth far less than the
    thousandth of the ideal bits that is allowed for them.
    """
    ones = int(np.bitwise_count(np.frombuffer(raw, dtype=np.uint32)).sum(dtype=np.int64))
    ideal = 12 * bits - ones * math.log2(density) - (bits - ones) * math.log2(4096 - density)
    return min(len(raw), math.ceil((0.999 * ideal + 16 * lanes) / 8))


def _joined(tiles: list[bytes], raw: list[bytes]) -> tuple[np.ndarray, bytes]:
    """Index entries' words and payload: of each tile the shorter form, its coded one or the raw one."""
    best = [min(pair, key=len) for pair in zip(tiles, raw, strict=True)]
    words = [
        len(tile) // 2 | (0 if tile is coded else RAW_TILE) for tile, coded in zip(best, tiles, strict=True)
    ]
    return np.array(words, dtype=np.uint32), b"".join(tile + bytes(-len(tile) % 4) for tile in best)


def _in_file(code: MaskCode) -> tuple[MaskCode, int]:
    """A code and its bytes in the file: tiles, index entries and its own fields of the header."""
    fields = (code.mode, code.density, code.planes, code.sign, code.intervals)
    header = len(msgspec.msgpack.encode(fields)) - 1  # without the array around them
    return code, len(code.payload) + INDEX_ENTRY * len(code.free) + header


def decoded_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    code: MaskCode,
    kept: int,
    coats: tuple[MaskCode, ...] = (),
    flips: MaskCode | None = None,
) -> Layer:
    """A layer of a ticket from its coded mask, further coats and flips, with everything that the file claims
    verified. Raises TicketError.
    """
    where = f"mask of layer {shape.name}"
    codes = (code, *coats, *(() if flips is None else (flips,)))
    cores = [core_layer(source, shape, layer_id, freeze, code) for code in codes]
    tiled = next((core for core, of in zip(cores, codes, strict=True) if of.mode != "const"), cores[0])
    pruned, locked, free, counts = tiled.counts()
    ones = _ones(cores[0], code, counts, where)
    if locked + int(ones.sum(dtype=np.int64)) != kept or kept == 0:
        raise TicketError("bad-mask", f"the header's count of {kept} kept weights is not the mask's", where)
    inner = ones
    for number, coat in enumerate(coats, 1):
        inner = _ones(cores[number], coat, inner, f"coat {number} of layer {shape.name}")
    if flips is not None:
        _ones(cores[-1], flips, ones, f"flips of layer {shape.name}")
    decode = partial(decoded_mask, source, shape, layer_id, freeze)
    return Layer(shape, layer_id, freeze, code, pruned, locked, free, kept, decode, coats=coats, flips=flips)


def _ones(core: _core.LayerCode, code: MaskCode, counts: np.ndarray, where: str) -> np.ndarray:
    """Set bits of each tile of a stream that must have `counts` bits there. Raises TicketError."""
    if code.mode == "const":
        if code.density and not counts.any():
            raise TicketError("bad-mask", "a stream without bits has density 0", where)
        return counts if code.density else np.zeros_like(counts)
    wrong = counts != code.free
    if wrong.any():
        raise TicketError("bad-mask", f"tile {wrong.argmax()} claims another number of bits", where)
    if ((code.free == 0) & (code.words != 0)).any():
        raise TicketError("bad-mask", "a tile without bits has a payload", where)
    try:
        return core.tile_ones()
    except ValueError as error:
        raise TicketError("bad-mask", str(error), where) from error


def decoded_mask(
    source: Source, shape: LayerShape, layer_id: int, freeze: Freeze, code: MaskCode, bits: int
) -> np.ndarray:
    """uint32 words of a stream of `bits` bits that has been verified."""
    if code.mode == "const":
        words = np.full(-(-bits // 32), 2**32 - 1 if code.density else 0, dtype=np.uint32)
        if code.density and bits % 32:
            words[-1] = (1 << bits % 32) - 1
        return words
    return core_layer(source, shape, layer_id, freeze, code).mask()
